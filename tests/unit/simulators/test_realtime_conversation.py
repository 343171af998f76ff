"""Whole conversations with the simulated model: what is said, called and sent, in which order."""

import base64
import json
from typing import Any

import pytest

from simulators import g711
from simulators.realtime.faults import Faults
from simulators.realtime.outbox import Abort, Close
from simulators.realtime.script import Call, Script, Step, Turn
from tests.unit.simulators.model_driver import (
    PHONE,
    Driver,
    kinds,
    said,
    silence,
    without_deltas,
)

pytestmark = pytest.mark.unit

Json = dict[str, Any]

WEATHER = Script(
    name="acme",
    greeting=Step(say="Hello, this is Acme. How can I help?"),
    turns=(
        Turn(
            hear="What's the weather in Oslo?",
            say="One moment.",
            call=(Call(name="get_weather", arguments={"location": "Oslo"}),),
            then=Step(say="It is {temp} degrees in Oslo.", on_error="The weather is closed."),
        ),
        Turn(
            hear="Where are my orders?",
            call=(Call(name="order", arguments={"id": 1}), Call(name="order", arguments={"id": 2})),
            then=Step(
                say="Order one is {one}.",
                call=(Call(name="note", arguments="{ }"),),
                then=Step(say="Noted."),
            ),
        ),
        Turn(hear="Thanks, bye.", say="Goodbye!"),
    ),
)

TOOLS = [{"type": "function", "name": name} for name in ("get_weather", "order", "note")]

AUDIO_BLOCK = [
    "response.created",
    "response.output_item.added",
    "conversation.item.added",
    "response.content_part.added",
    "response.output_audio.done",
    "response.output_audio_transcript.done",
    "response.content_part.done",
    "conversation.item.done",
    "response.output_item.done",
    "response.done",
]
TURN = [
    "input_audio_buffer.speech_started",
    "input_audio_buffer.speech_stopped",
    "input_audio_buffer.committed",
    "conversation.item.added",
    "conversation.item.done",
]


def answer(driver: Driver, call_id: str, output: Json) -> None:
    item = {"type": "function_call_output", "call_id": call_id, "output": json.dumps(output)}
    added, done = driver.send("conversation.item.create", item=item)
    assert kinds([added, done]) == ["conversation.item.added", "conversation.item.done"]
    assert "status" not in added["item"]


def calls_in(events: list[Json]) -> list[Json]:
    return [
        event["item"]
        for event in events
        if event["type"] == "response.output_item.done" and event["item"]["type"] != "message"
    ]


def spoken(events: list[Json]) -> str:
    name = "response.output_audio_transcript.done"
    return " ".join(event["transcript"] for event in events if event["type"] == name)


def test_session_created_shows_the_defaults() -> None:
    driver = Driver(configured=None)
    session = driver.events[0]["session"]
    assert driver.events[0]["type"] == "session.created"
    assert session["audio"]["input"]["format"] == {"type": "audio/pcm", "rate": 24000}
    assert session["expires_at"] == 1_795_348_800 + 3600


def test_the_greeting_is_a_complete_response_block() -> None:
    driver = Driver(WEATHER)
    events = driver.respond(metadata={"purpose": "greeting"})
    assert without_deltas(events) == AUDIO_BLOCK
    assert spoken(events) == "Hello, this is Acme. How can I help?"
    for kind in ("response.created", "response.done"):
        assert driver.last(kind)["response"]["metadata"] == {"purpose": "greeting"}
    assert kinds(events)[-1] == "rate_limits.updated"


def test_deltas_add_up_and_are_not_neat_frames() -> None:
    driver = Driver(WEATHER)
    events = driver.respond()
    text = "".join(
        e["delta"] for e in events if e["type"] == "response.output_audio_transcript.delta"
    )
    deltas = [
        base64.b64decode(e["delta"]) for e in events if e["type"] == "response.output_audio.delta"
    ]
    assert text == "Hello, this is Acme. How can I help?"
    assert g711.rms_dbfs(g711.decode(b"".join(deltas))) > -26
    assert len({len(delta) % 160 for delta in deltas}) > 3
    assert all("obfuscation" in e for e in events if "transcript.delta" in e["type"])


def test_audio_comes_much_faster_than_real_time_but_not_at_once() -> None:
    driver = Driver(WEATHER)
    driver.send("response.create")
    driver.until_event("response.output_audio.delta")
    began = driver.now
    driver.until_event("response.output_audio.done")
    audio_s = sum(entry.audio_ms for entry in driver.session.conversation) / 1000
    assert audio_s / 9 < driver.now - began < audio_s / 6


def test_usage_counts_audio_by_the_published_rates() -> None:
    driver = Driver(WEATHER)
    driver.respond()
    driver.turn()
    driver.finish()
    first, second = (event["response"]["usage"] for event in driver.of("response.done"))
    (greeting, caller, _answer, *_) = driver.session.conversation
    assert first["output_token_details"]["audio_tokens"] == pytest.approx(
        greeting.audio_ms / 50, abs=1
    )
    assert second["input_token_details"]["audio_tokens"] == pytest.approx(
        greeting.audio_ms / 50 + caller.audio_ms / 100, abs=1
    )
    for usage in (first, second):
        details, out = usage["input_token_details"], usage["output_token_details"]
        assert details["text_tokens"] + details["audio_tokens"] == usage["input_tokens"]
        assert out["text_tokens"] + out["audio_tokens"] == usage["output_tokens"]
        assert details["cached_tokens"] <= usage["input_tokens"]


def test_the_repeated_part_of_the_input_is_cached_until_the_instructions_change() -> None:
    driver = Driver(configured={**PHONE, "instructions": "Be brief. " * 100})
    for _ in range(2):
        driver.turn()
        driver.finish()
    driver.configure({"type": "realtime", "instructions": "Be long. " * 100})
    driver.turn()
    driver.finish()
    cached = [
        event["response"]["usage"]["input_token_details"]["cached_tokens"]
        for event in driver.of("response.done")
    ]
    assert cached[0] == 0
    assert cached[1] >= 192
    assert cached[2] == 0


def test_a_turn_by_voice_is_answered_by_the_script() -> None:
    driver = Driver()
    events = driver.turn() + driver.finish()
    assert without_deltas(events) == TURN + AUDIO_BLOCK
    item_id = events[0]["item_id"]
    committed = driver.last("input_audio_buffer.committed")
    user = next(e for e in events if e["type"] == "conversation.item.added")
    assert item_id == committed["item_id"] == user["item"]["id"]
    assert user["item"]["content"] == [{"type": "input_audio", "transcript": None}]
    completed = driver.last("conversation.item.input_audio_transcription.completed")
    assert completed["item_id"] == item_id
    assert completed["transcript"] == "(simulated transcript)"
    assert completed["usage"]["type"] == "duration"


def test_transcript_deltas_join_to_the_transcript_and_may_come_during_speech() -> None:
    driver = Driver(WEATHER)
    events = driver.turn("Could you please tell me what the weather in Oslo is today?")
    driver.finish()
    name = "conversation.item.input_audio_transcription.delta"
    assert name in kinds(events)
    assert "".join(e["delta"] for e in driver.of(name)) == "What's the weather in Oslo?"


@pytest.mark.parametrize(
    ("model", "kind"),
    [("gpt-4o-mini-transcribe", "tokens"), ("gpt-transcribe", "duration"), (None, None)],
)
def test_transcription_is_billed_by_its_model(model: str | None, kind: str | None) -> None:
    settings = {"model": model} if model else None
    driver = Driver()
    driver.configure({"type": "realtime", "audio": {"input": {"transcription": settings}}})
    driver.turn()
    driver.finish()
    completed = driver.of("conversation.item.input_audio_transcription.completed")
    assert [event["usage"]["type"] for event in completed] == ([kind] if kind else [])


def test_a_call_with_a_preamble_interleaves_and_its_then_uses_the_output() -> None:
    driver = Driver(WEATHER, configured={**PHONE, "tools": TOOLS})
    driver.turn()
    events = driver.finish()
    assert without_deltas(events) == [
        "response.output_item.added",
        "conversation.item.added",
        "response.content_part.added",
        "response.output_item.added",
        "conversation.item.added",
        "response.output_audio.done",
        "response.output_audio_transcript.done",
        "response.content_part.done",
        "conversation.item.done",
        "response.output_item.done",
        "response.function_call_arguments.done",
        "conversation.item.done",
        "response.output_item.done",
        "response.done",
    ]
    (call,) = calls_in(events)
    assert json.loads(call["arguments"]) == {"location": "Oslo"}
    output = driver.last("response.done")["response"]["output"]
    assert [item.get("phase") for item in output] == ["commentary", None]
    answer(driver, call["call_id"], {"temp": 7})
    assert spoken(driver.respond()) == "It is 7 degrees in Oslo."
    assert driver.session.model_side.warnings == type(driver.session.model_side.warnings)()


def test_parallel_calls_wait_for_all_outputs_and_then_may_call_again() -> None:
    driver = Driver(WEATHER, configured={**PHONE, "tools": TOOLS})
    driver.turn()
    (call,) = calls_in(driver.finish())
    answer(driver, call["call_id"], {"temp": 7})
    driver.respond()
    driver.turn()
    first, second = calls_in(driver.finish())
    answer(driver, second["call_id"], {"two": "lost"})
    assert "still waiting" in spoken(driver.respond())
    answer(driver, first["call_id"], {"one": "on its way"})
    events = driver.respond()
    assert spoken(events) == "Order one is on its way."
    (note,) = calls_in(events)
    answer(driver, note["call_id"], {})
    assert spoken(driver.respond()) == "Noted."
    driver.turn()
    assert spoken(driver.finish()) == "Goodbye!"


def test_a_failed_tool_is_spoken_about() -> None:
    driver = Driver(WEATHER)
    driver.turn()
    (call,) = calls_in(driver.finish())
    answer(driver, call["call_id"], {"error": "timeout"})
    assert spoken(driver.respond()) == "The weather is closed."
    assert "get_weather" in driver.session.model_side.warnings[0]


def test_no_calls_are_made_when_the_client_forbids_them() -> None:
    driver = Driver(WEATHER, configured={**PHONE, "tool_choice": "none"})
    driver.turn()
    events = driver.finish()
    assert not calls_in(events)
    assert spoken(events) == "One moment."


def test_speech_during_a_response_cancels_it_and_audio_comes_late() -> None:
    driver = Driver(WEATHER)
    driver.send("response.create")
    driver.until_event("response.output_audio.delta", nth=2)
    item_id = driver.last("response.output_audio.delta")["item_id"]
    events = driver.append(said("Stop, stop it please.")[:1600])
    assert without_deltas(events) == [
        "input_audio_buffer.speech_started",
        "response.output_audio.done",
        "response.output_audio_transcript.done",
        "response.content_part.done",
        "conversation.item.done",
        "response.output_item.done",
        "response.done",
    ]
    done = driver.last("response.done")["response"]
    assert done["status"] == "cancelled"
    assert done["status_details"] == {"type": "cancelled", "reason": "turn_detected"}
    assert done["output"][0]["status"] == "incomplete"
    after = kinds(events)[kinds(events).index("response.done") :]
    assert "response.output_audio.delta" in after
    (truncated,) = driver.send(
        "conversation.item.truncate", item_id=item_id, content_index=0, audio_end_ms=80
    )
    assert truncated["audio_end_ms"] == 80


def test_late_deltas_can_be_switched_off_and_the_done_can_be_late() -> None:
    driver = Driver(WEATHER, faults=Faults(late_deltas=False, late_done_ms=400))
    driver.send("response.create")
    driver.until_event("response.output_audio.delta", nth=2)
    driver.append(said("Stop.")[:800])
    assert not driver.of("response.done")
    deltas = len(driver.of("response.output_audio.delta"))
    created = driver.send("response.create")
    driver.until_event("response.done")
    assert kinds(created) == ["response.created"]
    assert driver.last("response.done")["response"]["id"] != created[0]["response"]["id"]
    assert deltas <= 4


def test_interruption_while_only_the_caller_still_hears_it_cancels_nothing() -> None:
    driver = Driver(WEATHER)
    driver.respond()
    events = driver.append(said("Excuse me.")[:1600])
    assert without_deltas(events) == ["input_audio_buffer.speech_started"]


def test_without_interrupt_response_the_next_automatic_response_can_fail() -> None:
    driver = Driver(Script(greeting=Step(say="A long story. " * 20, audio_ms=60_000)))
    turns = {"type": "server_vad", "interrupt_response": False, "silence_duration_ms": 200}
    driver.configure({"type": "realtime", "audio": {"input": {"turn_detection": turns}}})
    driver.send("response.create")
    driver.until_event("response.output_audio.delta")
    driver.turn("Hello.")
    assert driver.last("error")["error"]["code"] == "conversation_already_has_active_response"


def test_the_client_can_cancel_by_id_or_without() -> None:
    driver = Driver(WEATHER, faults=Faults(late_deltas=False))
    for fields in ({}, {"response_id": "active"}):
        (created,) = driver.send("response.create")
        driver.until_event("response.output_audio.delta")
        if fields:
            fields = {"response_id": created["response"]["id"]}
        events = driver.send("response.cancel", **fields)
        assert "response.done" in kinds(events)
        details = driver.last("response.done")["response"]["status_details"]
        assert details == {"type": "cancelled", "reason": "client_cancelled"}


def test_a_call_that_is_cut_off_is_incomplete() -> None:
    driver = Driver(Script(greeting=Step(call=(Call(name="order", arguments={"id": 12345}),))))
    driver.send("response.create")
    driver.until_event("response.function_call_arguments.delta")
    events = driver.send("response.cancel")
    assert kinds(events)[0] == "response.function_call_arguments.done"
    assert events[-1]["response"]["output"][0]["status"] == "incomplete"


def test_silence_after_the_assistant_triggers_the_idle_timeout() -> None:
    driver = Driver()
    turns = {"type": "server_vad", "idle_timeout_ms": 5000}
    driver.configure({"type": "realtime", "audio": {"input": {"turn_detection": turns}}})
    driver.respond()
    heard_ms = driver.session.conversation.get(
        driver.last("response.output_item.done")["item"]["id"]
    )
    assert heard_ms is not None
    events = driver.append(silence(round(heard_ms.audio_ms) + 5100))
    assert without_deltas(events)[:5] == [
        "input_audio_buffer.timeout_triggered",
        *TURN[2:],
        "response.created",
    ]
    driver.finish()
    assert spoken(driver.events).endswith("Are you still there?")
    completed = driver.last("conversation.item.input_audio_transcription.completed")
    assert completed["transcript"] == ""
    driver.turn()
    assert spoken(driver.finish()).startswith("I heard you.")


def test_a_manual_turn_needs_commit_and_create() -> None:
    driver = Driver()
    driver.configure({"type": "realtime", "audio": {"input": {"turn_detection": None}}})
    assert kinds(driver.send("input_audio_buffer.clear")) == ["input_audio_buffer.cleared"]
    assert driver.append(said("Hello there.", silence_ms=2000)) == []
    assert kinds(driver.send("input_audio_buffer.commit")) == TURN[2:]
    events = driver.respond()
    assert without_deltas(events) == AUDIO_BLOCK


def test_a_manual_commit_ends_open_speech_without_a_speech_stopped() -> None:
    driver = Driver()
    driver.append(said("Hello there, how are you?")[:6000])
    started = driver.last("input_audio_buffer.speech_started")
    events = driver.send("input_audio_buffer.commit")
    assert kinds(events) == TURN[2:]
    assert events[0]["item_id"] == started["item_id"]


def test_a_turn_without_an_automatic_response_waits_for_the_client() -> None:
    driver = Driver(WEATHER)
    turns = {"type": "server_vad", "create_response": False}
    driver.configure({"type": "realtime", "audio": {"input": {"turn_detection": turns}}})
    assert without_deltas(driver.turn()) == TURN
    assert spoken(driver.respond()) == "One moment."


def test_a_response_out_of_band_leaves_the_conversation_alone() -> None:
    driver = Driver()
    driver.send("response.create")
    events = driver.send(
        "response.create",
        response={"conversation": "none", "output_modalities": ["text"], "tools": []},
    )
    driver.until_event("response.done", nth=2)
    out = events[0]["response"]["id"]
    mine = [e for e in driver.events if out in json.dumps(e)]
    assert without_deltas(mine) == [
        "response.created",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.done",
    ]
    assert events[0]["response"]["conversation_id"] is None
    assert len(list(driver.session.conversation)) == 1


def test_a_response_too_long_is_incomplete() -> None:
    driver = Driver(WEATHER)
    events = driver.respond(max_output_tokens=20)
    response = driver.last("response.done")["response"]
    assert response["status"] == "incomplete"
    assert response["status_details"] == {"type": "incomplete", "reason": "max_output_tokens"}
    assert 0 < len(spoken(events)) < len(WEATHER.greeting.say)


def test_a_conversation_replayed_on_a_new_session_goes_on_where_it_stopped() -> None:
    driver = Driver(WEATHER)
    replay: list[Json] = [
        {"type": "message", "role": "system", "content": [_text("The line was cut.")]},
        _assistant("Hello, this is Acme. How can I help?"),
        {"type": "message", "role": "user", "content": [_text("What's the weather in Oslo?")]},
        _assistant("One moment."),
        {"type": "function_call", "call_id": "call_1", "name": "get_weather", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_1", "output": '{"temp": 7}'},
    ]
    for item in replay:
        assert kinds(driver.send("conversation.item.create", item=item)) == [
            "conversation.item.added",
            "conversation.item.done",
        ]
    assert spoken(driver.respond()) == "It is 7 degrees in Oslo."
    driver.turn()
    assert len(calls_in(driver.finish())) == 2


def test_a_replayed_half_sentence_is_finished() -> None:
    driver = Driver(WEATHER)
    driver.send("conversation.item.create", item=_assistant("Hello, this is Acme."))
    assert spoken(driver.respond()) == "How can I help?"


def test_events_behind_an_update_wait_for_it() -> None:
    driver = Driver(configured=None)
    driver.send("session.update", session=PHONE)
    item = {"type": "message", "role": "user", "content": [_text("Hello")]}
    assert driver.send("conversation.item.create", item=item) == []
    driver.send("response.create")
    driver.finish()
    assert kinds(driver.events)[1:5] == [
        "session.updated",
        "conversation.item.added",
        "conversation.item.done",
        "response.created",
    ]
    assert driver.last("response.created")["response"]["audio"]["output"]["format"] == {
        "type": "audio/pcmu"
    }


@pytest.mark.parametrize(
    "audio_format", [{"type": "audio/pcm", "rate": 24000}, {"type": "audio/pcma"}]
)
def test_other_formats_are_heard_and_spoken(audio_format: Json) -> None:
    driver = Driver()
    audio = {"input": {"format": audio_format}, "output": {"format": audio_format}}
    driver.configure({"type": "realtime", "audio": audio})
    samples = g711.decode(said("Hello there, can you hear me?", silence_ms=800))
    if audio_format["type"] == "audio/pcm":
        heard = g711.resample(samples, 8000, 24000).astype("<i2").tobytes()
    else:
        heard = g711.encode_alaw(samples)
    driver.append(heard, frame_bytes=960)
    driver.until(lambda: bool(driver.of("response.done")))
    events = driver.of("response.output_audio.delta")
    deltas = b"".join(base64.b64decode(event["delta"]) for event in events)
    length_ms = len(deltas) / (48 if audio_format["type"] == "audio/pcm" else 8)
    entries = list(driver.session.conversation)
    assert entries[-1].audio_ms == pytest.approx(length_ms)
    assert 1000 < length_ms < 8000


def test_audio_ms_makes_speech_of_exactly_that_length() -> None:
    driver = Driver(Script(greeting=Step(say="Hm.", audio_ms=12_345)))
    driver.respond()
    (entry,) = driver.session.conversation
    assert entry.audio_ms == 12_345


def test_an_unknown_event_type_is_sent_now_and_then() -> None:
    driver = Driver()
    for _ in range(2):
        driver.respond()
    assert "session.unlisted" in kinds(driver.events)


# --- Faults ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fail_code", "code", "type_"),
    [
        ("rate_limit_exceeded", "rate_limit_exceeded", "server_error"),
        ("server_error", None, "server_error"),
    ],
)
def test_the_nth_response_can_fail(fail_code: str, code: str | None, type_: str) -> None:
    driver = Driver(WEATHER, faults=Faults(fail_response=2, fail_code=fail_code))
    driver.respond()
    events = driver.respond()
    assert without_deltas(events) == ["response.created", "response.done"]
    response = events[1]["response"]
    assert response["status"] == "failed"
    assert response["status_details"]["error"]["code"] == code
    assert response["status_details"]["error"]["type"] == type_
    assert response["usage"]["total_tokens"] == 0
    driver.turn()
    assert spoken(driver.finish()) == "One moment."


def test_an_update_can_be_refused_and_leaves_everything_as_it_was() -> None:
    driver = Driver(configured=None, faults=Faults(reject_update=1))
    before = driver.events[0]["session"]
    assert driver.configure(PHONE, event_id="mine")["error"]["event_id"] == "mine"
    assert driver.session.config == before
    assert driver.configure(PHONE)["type"] == "session.updated"


def test_an_update_can_come_back_with_another_format() -> None:
    driver = Driver(faults=Faults(wrong_format=True))
    for direction in driver.last("session.updated")["session"]["audio"].values():
        assert direction["format"] == {"type": "audio/pcm", "rate": 24000}


def test_the_session_can_be_cut_after_a_while_or_on_an_event() -> None:
    driver = Driver(faults=Faults(drop_after_ms=2000))
    driver.run(1.0)
    assert driver.session.next_timer() is not None
    driver.run(1.0)
    assert driver.ending == Abort()
    driver = Driver(faults=Faults(drop_on="response.output_audio.delta", drop_on_nth=3))
    driver.send("response.create")
    driver.run(10)
    assert driver.ending == Abort()
    assert kinds(driver.events)[-1] == "response.output_audio.delta"
    assert len(driver.of("response.output_audio.delta")) == 3


def test_a_session_expires_with_an_error_and_a_close() -> None:
    driver = Driver(faults=Faults(session_ms=60_000))
    driver.run(61)
    assert driver.last("error")["error"]["code"] == "session_expired"
    text = "Your session hit the maximum duration of 1 minutes."
    assert driver.ending == Close(1001, text)
    assert driver.session.next_timer() is None


def test_error_events_come_when_they_are_told_to() -> None:
    driver = Driver(faults=Faults(error_events=[(500, {"code": "rate_limit_exceeded"})]))
    driver.run(1)
    error = driver.last("error")["error"]
    assert error["code"] == "rate_limit_exceeded"
    assert error["type"] == "server_error"


def test_a_stall_delays_the_first_audio_only() -> None:
    driver = Driver(faults=Faults(stall_response_ms=5000))
    (created,) = driver.send("response.create")
    driver.run(5.0)
    assert kinds(driver.events)[-1] == created["type"]
    driver.until_event("response.output_audio.delta")


def _text(text: str) -> Json:
    return {"type": "input_text", "text": text}


def _assistant(text: str) -> Json:
    content = [{"type": "output_text", "text": text}]
    return {"type": "message", "role": "assistant", "content": content}
