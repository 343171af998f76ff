"""The record as a file."""

import datetime
import pathlib

import pytest

from services.logs.export import export
from services.logs.recorder import Recorder
from services.logs.telling import NO_END, OPEN_LIMIT, aged, story
from shared import messages
from shared.messages import CallStory
from tests.unit.logs.stories import BEGAN, CALL, Line, offered, whole

pytestmark = pytest.mark.unit

HERE = pathlib.Path(__file__).parent


def told(lines: list[Line]) -> CallStory:
    recorder = Recorder(CALL)
    for one in lines:
        recorder.add(*one)
    return story(recorder.kept)


def test_a_whole_story_reads_as_it_always_did() -> None:
    assert export(told(whole()), "text") == (HERE / "story.txt").read_text()


def test_json_is_the_record() -> None:
    record = told(whole())
    assert CallStory.model_validate_json(export(record, "json")) == record


def test_what_a_caller_said_or_dialled_is_marked_private_in_a_record() -> None:
    for kind, names in (
        (messages.SpokenLine, {"text"}),
        (messages.ToolUse, {"arguments", "output"}),
        (messages.Interruption, {"text"}),
        (messages.CallMove, {"target"}),
        (messages.OtherLine, {"fields"}),
        (messages.CallStory, {"caller"}),
        (messages.CallExported, {"text"}),
        (messages.ListCalls, {"caller", "text"}),
    ):
        shapes = kind.model_json_schema()["properties"]
        assert {name for name in shapes if shapes[name].get("private")} == names


def test_a_call_that_rings_can_be_exported() -> None:
    text = export(told([offered()]), "text")
    assert "ringing" in text
    assert "unknown after pick-up" in text


def test_a_story_whose_end_is_overdue_will_get_none() -> None:
    record = told([offered()])
    assert aged(record, BEGAN + datetime.timedelta(hours=1)) == record
    late = aged(record, BEGAN + OPEN_LIMIT)
    assert (late.state, late.reason) == ("ended", NO_END)
