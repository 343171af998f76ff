"""A call's story as a person reads it."""

import pytest

from cli import story
from shared import messages

pytestmark = pytest.mark.unit


def test_a_time_is_minutes_seconds_and_tenths() -> None:
    assert story.stamp(0) == "00:00.0"
    assert story.stamp(62_340) == "01:02.3"


def test_what_was_said_is_told_with_its_speaker() -> None:
    fields = {"who": "caller", "text": "Hello?", "item": "i", "interrupted": False}
    assert story.line("transcript", fields) == ("caller", "Hello?")


def test_an_interrupted_sentence_ends_with_a_dash() -> None:
    fields = {"who": "agent", "text": "We are open", "item": "i", "interrupted": True}
    assert story.line("transcript", fields) == ("agent", "We are open —")


@pytest.mark.parametrize("kind", messages.EVENTS, ids=lambda kind: str(kind.NAME))
def test_every_event_of_the_contract_can_be_told(kind: type[messages.Event]) -> None:
    extra = kind.model_config["json_schema_extra"]
    assert isinstance(extra, dict)
    examples = extra["examples"]
    assert isinstance(examples, list)
    fields = kind.model_validate(examples[0]).model_dump(mode="json")
    told = story.line(kind.NAME, fields)
    assert told is None or (told[0] in ("", "caller", "agent", "tool", "music") and told[1])


def test_an_event_of_a_newer_version_is_passed_over() -> None:
    assert story.line("something_new", {}) is None
