"""The reference transcripts, replayed: every client event of theirs, and the order that follows.

Ids are translated as they appear. Deltas, transcripts of the caller and rate limits may stand
anywhere and are left out of the comparison; times and texts are the script's own.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simulators.realtime.model_side import UNLISTED_EVENT
from simulators.realtime.script import Call, Script, Step, Turn
from tests.unit.simulators.model_driver import Driver, said, silence

pytestmark = pytest.mark.unit

Json = dict[str, Any]

FIXTURES = Path(__file__).parents[2] / "fixtures"
ROWS = [json.loads(line) for line in (FIXTURES / "openai-scenarios.jsonl").read_text().splitlines()]

ACME = Script(
    greeting=Step(say="Acme Plumbing, how can I help?"),
    turns=(
        Turn(hear="Are you open on Sunday?", say="Yes, from nine to five."),
        Turn(
            hear="Where is order A-1042?",
            call=(Call(name="lookup_order", arguments={"order_number": "A-1042"}),),
            then=Step(say="It is {status}, arriving around four thirty."),
        ),
        Turn(
            hear="And B-7 and B-8?",
            say="Let me look those up.",
            call=tuple(
                Call(name="lookup_order", arguments={"order_number": number})
                for number in ("B-7", "B-8")
            ),
            then=Step(on_error="B-7 was delivered; I cannot find B-8."),
        ),
        Turn(hear="What are your prices?", say="Our prices start at eighty.", audio_ms=40_000),
    ),
)

APART = (".delta", "input_audio_transcription", "rate_limits.updated", UNLISTED_EVENT)
"""What may come at any time."""

TOLD_ELSEWHERE = {
    "connect",  # the first event of every driver
    "fatal_errors_then_close",  # test_realtime_server
    "failed_and_incomplete_responses",  # test_realtime_conversation
    "transcription_variants",
}

BAD_FRAMES: dict[tuple[str, str | None], str | bytes] = {
    ("unknown_parameter", "session.input_audio_format"): json.dumps(
        {"type": "session.update", "session": {"type": "realtime", "input_audio_format": "pcm16"}}
    ),
    **{
        (code, "session.audio.input.format.rate"): json.dumps(
            {
                "type": "session.update",
                "session": {
                    "type": "realtime",
                    "audio": {"input": {"format": {"type": "audio/pcm", **rate}}},
                },
            }
        )
        for code, rate in (
            ("missing_required_parameter", {}),
            ("integer_below_min_value", {"rate": 8000}),
        )
    },
    ("invalid_value", "type"): json.dumps({"type": "input_audio_buffer.flush"}),
    ("invalid_event", None): b"\x00",
    ("invalid_json", None): "{",
}
"""Frames for the errors whose cause the transcripts do not hold."""


class Replay:
    """Plays the client of the transcripts against one driver and compares what comes back."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.read = 0  # events of the driver's already compared
        self.ids: dict[str, str] = {}  # theirs: ours

    def client(self, event: Json) -> None:
        event = json.loads(self._translated(json.dumps(event)))
        if event["type"] == "input_audio_buffer.append":
            if self.driver.session.config["audio"]["input"]["turn_detection"] is None:
                self.driver.append(silence(300))  # the transcripts hold shortened audio
            return  # else speech is appended when the transcript says that it was heard
        if event["type"] == "conversation.item.truncate" and event["audio_end_ms"] < 9000:
            entry = self.driver.session.conversation.get(event["item_id"])
            assert entry is not None
            event["audio_end_ms"] = min(event["audio_end_ms"], int(entry.audio_ms))
        self.driver.send_raw(json.dumps(event))

    def server(self, expected: Json) -> None:
        if any(word in expected["type"] for word in APART):
            return
        ours = self.next(self._cause(expected))
        assert ours["type"] == expected["type"]
        if ours["type"] == "error":
            for key in ("code", "param", "type"):
                assert ours["error"][key] == expected["error"][key], expected
        if ours["type"] == "response.done":
            assert ours["response"]["status"] == expected["response"]["status"]
            assert ours["response"]["status_details"] == expected["response"]["status_details"]
        self._learn(expected, ours)

    def next(self, cause: Callable[[], object] | None = None) -> Json:
        """Return the next event that counts, after making it happen."""
        for _ in range(4000):
            while self.read < len(self.driver.events):
                event = self.driver.events[self.read]
                self.read += 1
                if not any(word in event["type"] for word in APART):
                    return event
            if cause is None:
                self.driver.run(0.02)
            else:
                cause()
        raise AssertionError("nothing came")

    def _cause(self, expected: Json) -> Callable[[], object] | None:
        match expected["type"]:
            case "input_audio_buffer.speech_started":
                loud = said("Hello there, hello there.")[800:2400]
                return lambda: self.driver.append(loud)
            case "input_audio_buffer.speech_stopped" | "input_audio_buffer.timeout_triggered":
                return lambda: self.driver.append(silence(100))
            case _:
                return None

    def _learn(self, expected: Json, ours: Json) -> None:
        for key, value in expected.items():
            if isinstance(value, dict) and isinstance(ours.get(key), dict):
                self._learn(value, ours[key])
            elif key in ("id", "item_id", "call_id", "response_id") and value and key in ours:
                self.ids[value] = ours[key]

    def _translated(self, text: str) -> str:
        for theirs, ours in self.ids.items():
            text = text.replace(f'"{theirs}"', f'"{ours}"')
        return text


def rows_of(scenario: str) -> list[Json]:
    return [row for row in ROWS if row["scenario"] == scenario]


def play(replay: Replay, scenario: str) -> None:
    for row in rows_of(scenario):
        (replay.client if row["dir"] == "c2s" else replay.server)(row["event"])


def test_one_call_after_the_other_as_recorded() -> None:
    replay = Replay(Driver(ACME, configured=None))
    assert replay.next()["type"] == "session.created"
    for scenario in (
        "configure",
        "assistant_speaks_first",
        "server_vad_turn",
        "function_call",
        "function_call_with_preamble_and_parallel_calls",
        "interruption_during_generation",
        "interruption_during_playback",
        "client_cancel",
    ):
        play(replay, scenario)
    play_nonfatal_errors(replay)
    play(replay, "manual_turn")
    turns = {"type": "server_vad", "silence_duration_ms": 500, "idle_timeout_ms": 15000}
    replay.driver.configure({"type": "realtime", "audio": {"input": {"turn_detection": turns}}})
    assert replay.next()["type"] == "session.updated"
    replay.driver.respond()
    while replay.next()["type"] != "response.done":
        pass
    play(replay, "idle_timeout")


def play_nonfatal_errors(replay: Replay) -> None:
    driver, rows = replay.driver, rows_of("nonfatal_errors")
    driver.send("response.create")
    assert replay.next()["type"] == "response.created"
    for row in rows[:2]:
        (replay.client if row["dir"] == "c2s" else replay.server)(row["event"])
    while replay.next()["type"] != "response.done":
        pass
    for row in rows[2:]:
        event = row["event"]
        if row["dir"] == "c2s":
            replay.client(event)
            continue
        error = event["error"]
        if frame := BAD_FRAMES.get((error["code"], error["param"])):
            driver.send_raw(frame)
        elif error["type"] != "invalid_request_error":
            driver.keep(driver.session.send_error(error, driver.now))
        replay.server(event)


def test_a_new_session_takes_the_old_conversation() -> None:
    replay = Replay(Driver(ACME, configured=None))
    for scenario in ("resume_on_new_session", "text_response_out_of_band", "item_housekeeping"):
        play(replay, scenario)
    play(replay, "more_client_shapes")
    updated = replay.next()
    assert updated["session"]["audio"]["input"]["turn_detection"]["eagerness"] == "low"
    refused = replay.next()
    assert refused["error"]["param"] == "session.type"  # another kind of session
    assert [replay.next()["type"] for _ in range(3)] == [
        "conversation.item.added",
        "conversation.item.done",
        "response.created",
    ]
    play_refused(replay)


def play_refused(replay: Replay) -> None:
    (row,) = (row for row in rows_of("other_transports_and_mcp") if row["dir"] == "c2s")
    while replay.next()["type"] != "response.done":
        pass
    replay.client(row["event"])
    assert replay.next()["error"]["param"] == "type"


def test_no_scenario_is_forgotten() -> None:
    source = Path(__file__).read_text()
    assert all(f'"{row["scenario"]}"' in source for row in ROWS)
    assert TOLD_ELSEWHERE.issubset(row["scenario"] for row in ROWS)
