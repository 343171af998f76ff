"""The reference transcripts of the vendor's interface, through the parser and the machine."""

import json
from pathlib import Path
from typing import Any

import pytest

from services.session import events, realtime
from services.session.states import Phone
from tests.unit.session.watched import Watched, purposes, sent, told

pytestmark = pytest.mark.contract

FIXTURES = Path(__file__).parents[1] / "fixtures"
SERVER_EVENTS = (FIXTURES / "openai-server-events.jsonl").read_bytes().splitlines()


def scenarios() -> dict[str, list[dict[str, Any]]]:
    """What the server sends in each, in order."""
    found: dict[str, list[dict[str, Any]]] = {}
    for text in (FIXTURES / "openai-scenarios.jsonl").read_text().splitlines():
        entry = json.loads(text)
        events_of = found.setdefault(entry["scenario"], [])
        if entry["dir"] == "s2c":
            events_of.append(entry["event"])
    return found


SCENARIOS = scenarios()


def play(watched: Watched, server: list[dict[str, Any]], seconds: float = 0.02) -> None:
    """Feed the server's events; the machine's own client events are what it thinks right."""
    for one in server:
        event = realtime.parse(json.dumps(one).encode())
        if event is not None:
            watched.feed(event)
        watched.listen(seconds)


def test_the_fixture_is_complete() -> None:
    assert len(SERVER_EVENTS) == 333
    assert len(SCENARIOS) == 20


@pytest.mark.parametrize("raw", SERVER_EVENTS, ids=range(len(SERVER_EVENTS)))
def test_every_server_event_is_understood_or_ignored(raw: bytes) -> None:
    event = realtime.parse(raw)
    data = json.loads(raw)
    known = data["type"] in realtime._READERS
    if data["type"] == "response.output_item.done":
        known = data["item"]["type"] == "function_call"  # messages are read piece by piece
    if data["type"] == "conversation.item.added":
        known = data["item"]["type"] == "function_call_output"
    assert (event is not None) == known
    if isinstance(event, events.AudioReceived):
        assert event == realtime._parse_delta(raw), "audio takes the short way"
        assert event == realtime._audio_delta(json.loads(raw))


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_scenario_is_survived_by_a_call_in_progress(name: str) -> None:
    watched = Watched().talking()
    play(watched, SCENARIOS[name])
    if watched.call.phone is not Phone.ENDED:
        watched.feed(events.LegStopped(1))
    assert watched.rules.finished == 1
    assert watched.surprises["LocalError"] == 0


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_scenario_is_survived_by_a_call_that_begins(name: str) -> None:
    watched = Watched()
    watched.attach()
    play(watched, SCENARIOS[name])
    watched.feed(events.HangUpRequested("operator"))
    assert watched.rules.finished == 1
    assert watched.surprises["LocalError"] == 0


def test_a_call_that_connects_configures_and_is_greeted_tells_its_story() -> None:
    watched = Watched()
    watched.attach()
    for name in ("connect", "configure", "assistant_speaks_first", "server_vad_turn"):
        play(watched, SCENARIOS[name])
    assert not watched.surprises
    story = told(watched.actions)
    for line in ("model_ready", "agent_started_speaking", "caller_stopped_speaking", "transcript"):
        assert line in story
    assert "usage_reported" in story
    assert "model_failed" not in story
    assert purposes(watched.actions) == ["greeting"]


def test_an_interruption_cuts_the_items_that_the_reference_cuts() -> None:
    """First while the answer is made, then while the next answer is only heard."""
    names = ("interruption_during_generation", "interruption_during_playback")
    watched = Watched().talking()
    before = len(watched.actions)
    for name in names:
        # The fixture's audio is one frame a delta; no time passes, so that it is still queued.
        play(watched, SCENARIOS[name], seconds=0.0)
    cuts = sent(watched.actions[before:], "conversation.item.truncate")
    assert [one["item_id"] for one in cuts] == [
        item for name in names for item in truncations(name)
    ]
    assert sent(watched.actions[before:], "response.cancel") == []


def truncations(name: str) -> list[str]:
    """The items that the client of the reference cuts."""
    entries = map(json.loads, (FIXTURES / "openai-scenarios.jsonl").read_text().splitlines())
    return [
        one["event"]["item_id"]
        for one in entries
        if one["scenario"] == name and one["event"]["type"] == "conversation.item.truncate"
    ]


def test_fatal_errors_end_the_call_or_cost_the_socket() -> None:
    for error in SCENARIOS["fatal_errors_then_close"]:
        watched = Watched()
        watched.attach()
        watched.configure()
        event = realtime.parse(json.dumps(error).encode())
        assert event is not None
        watched.feed(event, events.ModelClosed(3000, "invalid_request_error"))
        expired = error["error"]["code"] == "session_expired"
        assert (watched.call.phone is Phone.ENDED) != expired


def test_nonfatal_errors_end_nothing() -> None:
    watched = Watched().talking()
    play(watched, SCENARIOS["nonfatal_errors"])
    assert watched.call.phone is Phone.TALKING
