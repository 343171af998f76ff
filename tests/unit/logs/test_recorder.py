"""A story becomes one record, whatever order its lines come in and however often."""

import json
import pathlib
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from services.logs import kept as limits
from services.logs.kept import Kept
from services.logs.recorder import Recorder
from services.logs.telling import story, summary
from shared.messages import EVENTS, CallStory, Tokens
from tests.unit.logs.stories import BEGAN, CALL, Line, ended, line, offered, usage, whole

pytestmark = pytest.mark.unit

HERE = pathlib.Path(__file__).parent
LIMIT_BYTES = 256 * 1024


def fold(lines: list[Line], kept: Kept | None = None) -> Recorder:
    recorder = Recorder(CALL, kept)
    for name, payload in lines:
        recorder.add(name, payload)
    return recorder


def told(lines: list[Line]) -> CallStory:
    return story(fold(lines).kept)


# --- any story -----------------------------------------------------------------------------------


def values(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """What a field of an event may hold."""
    if "anyOf" in schema:
        return st.one_of(*(values(one) for one in schema["anyOf"]))
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "pattern" in schema:
        return st.from_regex(schema["pattern"], fullmatch=True)
    if "$ref" in schema:
        counts = st.integers(0, 1000)
        return st.fixed_dictionaries({}, optional=dict.fromkeys(Tokens.model_fields, counts))
    match schema["type"]:
        case "string":
            return st.sampled_from(["item_1", "item_2", "", "x" * schema.get("maxLength", 3)])
        case "integer":
            return st.integers(schema.get("minimum", 0), 4)
        case "number":
            return st.floats(0, 100, allow_nan=False)
        case "boolean":
            return st.booleans()
        case _:
            return st.none()


@st.composite
def events(draw: st.DrawFn) -> Line:
    kind = draw(st.sampled_from(EVENTS))
    fields = {
        name: draw(values(shape))
        for name, shape in kind.model_json_schema()["properties"].items()
        if name not in ("call", "epoch", "at", "ms")
    }
    epoch, ms = draw(st.integers(1, 3)), draw(st.integers(0, 5000))
    written = line(kind.NAME, ms, epoch=epoch, **fields)
    kind.model_validate_json(written[1])  # a valid one
    return written


STORIES = st.lists(events(), max_size=25)


@settings(max_examples=60, deadline=None)
@given(STORIES, st.data())
def test_what_comes_again_in_any_order_changes_nothing(
    lines: list[Line], data: st.DataObject
) -> None:
    once = fold(lines)
    again = data.draw(st.permutations(lines))
    cut = data.draw(st.integers(0, len(lines)))
    # A prefix was written and read back; then everything comes, twice, in another order.
    before = Kept.model_validate_json(fold(lines[:cut]).encode(LIMIT_BYTES))
    recorder = fold([*again, *lines], before)
    assert story(recorder.kept) == story(once.kept)
    assert {recorder.add(name, payload) for name, payload in again} <= {"repeated"}
    assert story(recorder.kept) == story(once.kept)


@settings(max_examples=60, deadline=None)
@given(STORIES)
def test_totals_are_the_sums_of_what_was_told(lines: list[Line]) -> None:
    record = told([offered(), *lines])
    bills = [
        json.loads(payload)
        for payload in {body for name, body in lines if name == "usage_reported"}
    ]
    for kind in Tokens.model_fields:
        wanted = sum(one["tokens"].get(kind, 0) for one in bills)
        assert getattr(record.tokens, kind) == wanted
        assert sum(getattr(one.tokens, kind) for one in record.usage) == wanted
    assert record.cost_usd == pytest.approx(sum(one["cost_usd"] or 0 for one in bills), abs=1e-6)
    assert sum(one.reports for one in record.usage) == len(bills)
    assert record.events == len({*lines, offered()})


@settings(max_examples=40, deadline=None)
@given(STORIES)
def test_lines_of_another_call_are_not_folded(lines: list[Line]) -> None:
    other = "CA" + "f" * 32
    recorder = fold(lines)
    before = recorder.encode(LIMIT_BYTES)
    for name, payload in lines:
        strange = json.dumps({**json.loads(payload), "call": other}).encode()
        assert recorder.add(name, strange) == "unreadable"
    assert recorder.encode(LIMIT_BYTES) == before


@given(st.binary(max_size=40) | st.text(max_size=40).map(str.encode), st.text(max_size=10))
def test_garbage_is_survived(payload: bytes, name: str) -> None:
    recorder = Recorder(CALL)
    assert recorder.add(name, payload) == "unreadable"
    assert Recorder.decode(CALL, payload).kept == recorder.kept


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("usage_reported", {"cost_usd": 1e308, "seconds": 1e308, "tokens": {"audio_out": 10**30}}),
        ("transcript", {"who": "caller", "text": "\ud800", "item": "\udfff"}),
        ("transcript", {"who": "nobody", "text": 5}),
        ("ended", {"reason": "x" * 100_000, "duration_ms": 10**40, "cost_usd": 0}),
        ("strange", {"deep": [[[[[[1]]]]]], "nan": float("nan")}),
    ],
)
def test_strange_values_are_kept_or_left_out_and_never_raise(
    name: str, fields: dict[str, Any]
) -> None:
    usual = {"source": "response", "model": "m", "reason": "r"}
    recorder = fold([line(name, 5, **{**usual, **fields})])
    data = recorder.encode(LIMIT_BYTES)
    assert len(data) < 20_000
    assert story(Kept.model_validate_json(data)).events == 1


# --- whole stories -------------------------------------------------------------------------------


def test_a_whole_story_is_recorded_as_it_always_was() -> None:
    record = told(whole())
    golden = HERE / "story.json"
    assert json.loads(record.model_dump_json()) == json.loads(golden.read_text())


def test_times_of_voices_are_joined_with_what_was_said() -> None:
    record = told(whole())
    question, answer = record.transcript[1:3]
    assert (question.who, question.ms, question.end_ms) == ("caller", 4000, 5600)
    assert (answer.ms, answer.latency_ms, answer.heard_ms) == (9800, 4200, 1200)
    assert (answer.text, answer.interrupted) == ("Seven degrees", True)
    assert record.latencies.first_audio_ms == 600
    assert record.latencies.replies_ms == [4200, 700]
    assert (record.latencies.median_reply_ms, record.latencies.worst_reply_ms) == (700, 4200)


def test_the_state_follows_the_story() -> None:
    lines = whole()
    assert told(lines[:1]).state == "ringing"
    assert told(lines[:3]).state == "live"
    assert told(lines).state == "ended"


def test_a_story_without_its_beginning_has_the_totals_of_its_last_line() -> None:
    record = told([usage(5000, 0.02, audio_out=20), ended(6000)])
    assert record.tokens == Tokens(audio_out=120, text_in=300)
    assert record.cost_usd == 0.03
    assert record.caller == ""
    assert record.offered_at > BEGAN


def test_an_interruption_before_the_words_came_keeps_the_words_that_came() -> None:
    spoken = line("agent_started_speaking", 1, item="i", after="other", latency_ms=None)
    cut = line("interrupted", 9, item="i", heard_ms=5, sent_ms=9, text="")
    words = line("transcript", 12, who="agent", text="We are", item="i", interrupted=True)
    (only,) = told([spoken, cut, words]).transcript
    assert (only.text, only.interrupted, only.heard_ms) == ("We are", True, 5)


# --- limits --------------------------------------------------------------------------------------


def test_a_long_call_keeps_its_newest_lines_within_the_limit() -> None:
    recorder = Recorder(CALL)
    recorder.add(*offered())
    for number in range(6000):
        said = line("transcript", number * 1000, who="caller", text="é" * 50, item=f"item_{number}")
        recorder.add(*said)
    data = recorder.encode(64 * 1024)
    assert len(data) <= 64 * 1024
    kept = Kept.model_validate_json(data)
    record = story(kept)
    assert record.transcript[-1].item == "item_5999"
    assert record.cut["spoken"] + len(record.transcript) == 6000
    assert record.caller == "+15557778888"
    # What was folded long ago is known by its time, though its mark is forgotten.
    assert len(kept.seen) <= limits.SEEN_MAX + limits.SEEN_SPARE
    again = Recorder(CALL, kept)
    old = line("transcript", 0, who="caller", text="é" * 50, item="item_0")
    assert again.add(*old) == "repeated"


def test_every_part_has_a_limit() -> None:
    recorder = Recorder(CALL)
    for number in range(2500):
        long = "y" * 9000
        recorder.add(*line("tool_called", number, call_id=f"c{number}", name="t", arguments=long))
        recorder.add(*line("hold_started", number, hold=number + 1, track=long, source=long))
        recorder.add(*line("leg_dropped", number, leg=number + 1, reason=long))
        recorder.add(*line(f"new_{number}", number, text=long))
    assert len(recorder.encode(LIMIT_BYTES)) <= LIMIT_BYTES
    record = story(recorder.kept)
    assert record.events == 10_000
    assert record.cut["tools"] >= 2000
    assert set(record.cut) >= {"tools", "holds", "legs", "other"}
    assert len(recorder.encode(32 * 1024)) <= 32 * 1024


def test_a_summary_is_small() -> None:
    long = "\u00e9" * 9000
    recorder = fold([offered(caller=long, agent=long, dialled=long), ended(9, reason=long)])
    assert len(json.dumps(summary(recorder.kept).model_dump(mode="json"))) < 24_000
