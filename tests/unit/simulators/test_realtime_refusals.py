"""Every refusal: the code and the parameter the service names, and that nothing has changed."""

import base64
import copy
from typing import Any

import pytest

from simulators.realtime.script import Call, Script, Step
from tests.unit.simulators.model_driver import PHONE, Driver, kinds, silence

pytestmark = pytest.mark.unit

Json = dict[str, Any]


def update(**fields: Any) -> Json:
    return {"type": "realtime", **fields}


def audio_input(**fields: Any) -> Json:
    return update(audio={"input": fields})


def audio_output(**fields: Any) -> Json:
    return update(audio={"output": fields})


def turn_detection(**fields: Any) -> Json:
    return audio_input(turn_detection=fields)


BAD_UPDATES: list[tuple[Json, str | None, str | None]] = [
    ({"instructions": "no type"}, "missing_required_parameter", "session.type"),
    ({"type": "call"}, "invalid_value", "session.type"),
    ({"type": "transcription"}, "invalid_value", "session.type"),
    # The beta's fields.
    (update(modalities=["text", "audio"]), "unknown_parameter", "session.modalities"),
    (update(input_audio_format="g711_ulaw"), "unknown_parameter", "session.input_audio_format"),
    (update(output_audio_format="pcm16"), "unknown_parameter", "session.output_audio_format"),
    (update(voice="marin"), "unknown_parameter", "session.voice"),
    (update(turn_detection=None), "unknown_parameter", "session.turn_detection"),
    (
        update(input_audio_transcription={"model": "whisper-1"}),
        "unknown_parameter",
        "session.input_audio_transcription",
    ),
    (
        update(max_response_output_tokens=5),
        "unknown_parameter",
        "session.max_response_output_tokens",
    ),
    (update(temperature=0.8), "unknown_parameter", "session.temperature"),
    # Formats.
    (
        audio_input(format={"type": "audio/pcmu", "rate": 8000}),
        "unknown_parameter",
        "session.audio.input.format.rate",
    ),
    (
        audio_output(format={"type": "audio/pcmu", "rate": 8000}),
        "unknown_parameter",
        "session.audio.output.format.rate",
    ),
    (
        audio_input(format={"type": "audio/pcm"}),
        "missing_required_parameter",
        "session.audio.input.format.rate",
    ),
    (
        audio_input(format={"type": "audio/pcm", "rate": 8000}),
        "integer_below_min_value",
        "session.audio.input.format.rate",
    ),
    (audio_input(format="g711_ulaw"), "invalid_type", "session.audio.input.format"),
    (
        audio_input(format={"type": "g711_ulaw"}),
        "invalid_value",
        "session.audio.input.format.type",
    ),
    # The rest.
    (update(output_modalities=["text", "audio"]), "invalid_value", "session.output_modalities"),
    (update(output_modalities=["video"]), "invalid_value", "session.output_modalities[0]"),
    (audio_output(voice="nova"), "invalid_value", "session.audio.output.voice"),
    (audio_output(speed=2.0), "decimal_above_max_value", "session.audio.output.speed"),
    (audio_output(gain=2.0), "unknown_parameter", "session.audio.output.gain"),
    (
        audio_input(transcription={"model": "whisper-2"}),
        "invalid_value",
        "session.audio.input.transcription.model",
    ),
    (
        audio_input(noise_reduction={"type": "loud"}),
        "invalid_value",
        "session.audio.input.noise_reduction.type",
    ),
    (
        turn_detection(type="server_vad", threshold=1.5),
        "decimal_above_max_value",
        "session.audio.input.turn_detection.threshold",
    ),
    (
        turn_detection(type="server_vad", idle_timeout_ms=4000),
        "integer_below_min_value",
        "session.audio.input.turn_detection.idle_timeout_ms",
    ),
    (
        turn_detection(type="semantic_vad", silence_duration_ms=500),
        "unknown_parameter",
        "session.audio.input.turn_detection.silence_duration_ms",
    ),
    (
        turn_detection(type="semantic_vad", eagerness="eager"),
        "invalid_value",
        "session.audio.input.turn_detection.eagerness",
    ),
    (
        update(tools=[{"type": "function", "function": {"name": "a"}, "name": "a"}]),
        "unknown_parameter",
        "session.tools[0].function",
    ),
    (
        update(tools=[{"type": "function", "name": "a", "strict": True}]),
        "unknown_parameter",
        "session.tools[0].strict",
    ),
    (update(tools=[{"type": "function"}]), "missing_required_parameter", "session.tools[0].name"),
    (update(tool_choice="sometimes"), "invalid_value", "session.tool_choice"),
    (update(max_output_tokens=5000), "integer_above_max_value", "session.max_output_tokens"),
    (update(max_output_tokens="lots"), "invalid_value", "session.max_output_tokens"),
    (update(max_output_tokens=True), "invalid_type", "session.max_output_tokens"),
    (update(truncation="never"), "invalid_value", "session.truncation"),
    (update(model="gpt-realtime"), "invalid_value", "session.model"),
    (update(instructions=5), "invalid_type", "session.instructions"),
    (update(reasoning={"effort": "huge"}), "invalid_value", "session.reasoning.effort"),
]


@pytest.mark.parametrize(("session", "code", "param"), BAD_UPDATES)
def test_a_bad_update_is_refused_as_a_whole(
    session: Json, code: str | None, param: str | None
) -> None:
    driver = Driver()
    before = copy.deepcopy(driver.session.config)
    with_something_good = {"instructions": "Never applied."} | session
    event = driver.configure(with_something_good, event_id="cli_1")
    assert event["type"] == "error"
    assert event["error"]["type"] == "invalid_request_error"
    assert (event["error"]["code"], event["error"]["param"]) == (code, param)
    assert event["error"]["event_id"] == "cli_1"
    assert driver.session.config == before


def test_reasoning_is_refused_by_older_models_without_naming_the_event() -> None:
    driver = Driver(model="gpt-realtime-1.5")
    event = driver.configure(update(reasoning={"effort": "low"}), event_id="cli_1")
    assert event["error"]["param"] is None
    assert event["error"]["event_id"] is None


def test_the_voice_is_fixed_after_the_first_audio() -> None:
    driver = Driver()
    assert driver.configure(audio_output(voice="cedar"))["type"] == "session.updated"
    driver.respond()
    update_with_more = {**audio_output(voice="marin"), "instructions": "Lost as well."}
    event = driver.configure(update_with_more)
    assert event["error"]["code"] == "cannot_update_voice"
    assert driver.session.config["instructions"] == PHONE["instructions"]
    assert driver.configure(audio_output(voice="cedar"))["type"] == "session.updated"
    (refused,) = driver.send("response.create", response={"audio": {"output": {"voice": "ash"}}})
    assert refused["error"]["code"] == "cannot_update_voice"


def test_only_the_fields_present_change() -> None:
    driver = Driver()
    before = copy.deepcopy(driver.session.config)
    driver.configure(turn_detection(type="server_vad", threshold=0.7))
    expected = copy.deepcopy(before)
    expected["audio"]["input"]["turn_detection"]["threshold"] = 0.7
    assert driver.session.config == expected
    driver.configure(update(tools=None, instructions=None))
    assert driver.session.config["tools"] == []
    assert driver.session.config["instructions"] == ""


def refused(driver: Driver, kind: str, **fields: Any) -> tuple[str | None, str | None]:
    before = [entry.item for entry in driver.session.conversation]
    (event,) = driver.send(kind, event_id="cli_9", **fields)
    assert event["type"] == "error"
    assert event["error"]["event_id"] == "cli_9"
    assert [entry.item for entry in driver.session.conversation] == before
    return event["error"]["code"], event["error"]["param"]


@pytest.mark.parametrize(
    ("message", "code"),
    [("{not json", "invalid_json"), ("[]", "invalid_event"), (b"{}", "invalid_event")],
)
def test_frames_that_are_no_events(message: str | bytes, code: str) -> None:
    (event,) = Driver().send_raw(message)
    assert event["error"]["code"] == code
    assert event["error"]["event_id"] is None


def test_events_the_service_does_not_know() -> None:
    driver = Driver()
    assert refused(driver, "input_audio_buffer.flush") == ("invalid_value", "type")
    assert refused(driver, "output_audio_buffer.clear") == ("invalid_value", "type")
    (event,) = driver.send_raw("{}")
    assert event["error"]["param"] == "type"
    assert refused(driver, "response.cancel", reason="x") == ("unknown_parameter", "reason")


def test_audio_that_is_none() -> None:
    driver = Driver()
    assert refused(driver, "input_audio_buffer.append", audio="*") == ("invalid_value", "audio")
    assert refused(driver, "input_audio_buffer.append") == ("missing_required_parameter", "audio")
    code, _ = refused(driver, "input_audio_buffer.commit")
    assert code == "input_audio_buffer_commit_empty"
    driver.append(silence(80))
    (event,) = driver.send("input_audio_buffer.commit")
    assert "80.00ms" in event["error"]["message"]


def test_a_second_response_while_one_runs() -> None:
    driver = Driver()
    (created,) = driver.send("response.create")
    (event,) = driver.send("response.create")
    assert event["error"]["code"] == "conversation_already_has_active_response"
    assert created["response"]["id"] in event["error"]["message"]
    driver.finish()
    assert kinds(driver.send("response.create")) == ["response.created"]


def test_cancelling_what_does_not_run() -> None:
    driver = Driver()
    assert refused(driver, "response.cancel")[0] == "response_cancel_not_active"
    driver.send("response.create")
    code, _ = refused(driver, "response.cancel", response_id="resp_other")
    assert code == "response_cancel_not_active"


@pytest.mark.parametrize(
    ("response", "code", "param"),
    [
        ({"modalities": ["audio"]}, "unknown_parameter", "response.modalities"),
        ({"output_modalities": ["audio", "text"]}, "invalid_value", "response.output_modalities"),
        ({"temperature": 1}, "unknown_parameter", "response.temperature"),
        ({"metadata": {"k": 1}}, "invalid_type", "response.metadata.k"),
        ({"metadata": {"k": "v" * 513}}, "string_above_max_length", "response.metadata.k"),
        (
            {"metadata": {str(n): "v" for n in range(17)}},
            "object_above_max_properties",
            "response.metadata",
        ),
        (
            {"audio": {"output": {"format": {"type": "audio/pcm"}}}},
            "missing_required_parameter",
            "response.audio.output.format.rate",
        ),
        (
            {"input": [{"type": "item_reference", "id": "gone"}]},
            "invalid_value",
            "response.input[0].id",
        ),
    ],
)
def test_responses_nobody_can_give(response: Json, code: str, param: str) -> None:
    assert refused(Driver(), "response.create", response=response) == (code, param)


def test_truncations_that_cannot_be() -> None:
    driver = Driver(Script(greeting=Step(say="Hm.", audio_ms=1000)))
    driver.respond()
    item_id = driver.last("response.output_item.done")["item"]["id"]

    def truncate(item_id: str, ms: int, index: int = 0) -> tuple[str | None, str | None]:
        fields = {"item_id": item_id, "content_index": index, "audio_end_ms": ms}
        return refused(driver, "conversation.item.truncate", **fields)

    assert truncate(item_id, 1001) == ("invalid_value", "audio_end_ms")
    assert truncate(item_id, 500, index=1) == ("invalid_value", "content_index")
    assert truncate(item_id, -1) == ("integer_below_min_value", "audio_end_ms")
    assert truncate("item_gone", 0) == ("item_truncate_invalid_item_id", "item_id")
    text = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]}
    driver.send("conversation.item.create", item={**text, "id": "mine"})
    assert truncate("mine", 0) == (None, None)
    fields = {"item_id": item_id, "content_index": 0}
    for ms in (1000, 400, 0):
        (event,) = driver.send("conversation.item.truncate", audio_end_ms=ms, **fields)
        assert event["type"] == "conversation.item.truncated"
    assert truncate(item_id, 1) == ("invalid_value", "audio_end_ms")


def test_truncation_during_generation_is_bounded_by_what_was_sent() -> None:
    driver = Driver(Script(greeting=Step(say="Hm.", audio_ms=60_000)))
    driver.send("response.create")
    driver.until_event("response.output_audio.delta", nth=3)
    deltas = driver.of("response.output_audio.delta")
    sent_ms = sum(len(base64.b64decode(event["delta"])) for event in deltas) / 8
    item_id = deltas[0]["item_id"]
    fields = {"item_id": item_id, "content_index": 0}
    code, param = refused(
        driver, "conversation.item.truncate", audio_end_ms=int(sent_ms) + 1, **fields
    )
    assert (code, param) == ("invalid_value", "audio_end_ms")
    (event,) = driver.send("conversation.item.truncate", audio_end_ms=int(sent_ms), **fields)
    assert event["type"] == "conversation.item.truncated"


def message(role: str, **part: Any) -> Json:
    return {"type": "message", "role": role, "content": [part]}


@pytest.mark.parametrize(
    ("item", "code", "param"),
    [
        (
            message("assistant", type="output_audio", audio=""),
            "invalid_value",
            "item.content[0].type",
        ),
        (message("assistant", type="text", text="a"), "invalid_value", "item.content[0].type"),
        (message("user", type="output_text", text="a"), "invalid_value", "item.content[0].type"),
        (message("tool", type="input_text", text="a"), "invalid_value", "item.role"),
        (message("user", type="input_audio", audio="*"), "invalid_value", "item.content[0].audio"),
        ({"type": "message"}, "missing_required_parameter", "item.role"),
        ({"type": "item"}, "invalid_value", "item.type"),
        (
            {"type": "function_call_output", "call_id": "call_x", "output": "1"},
            "invalid_tool_call_id",
            "item.call_id",
        ),
        (
            {"type": "function_call_output", "call_id": "call_x", "output": {"a": 1}},
            "invalid_type",
            "item.output",
        ),
        (
            {"type": "function_call", "call_id": "c" * 33, "name": "a", "arguments": ""},
            "string_above_max_length",
            "item.call_id",
        ),
    ],
)
def test_items_that_cannot_be_created(item: Json, code: str, param: str) -> None:
    assert refused(Driver(), "conversation.item.create", item=item) == (code, param)


def test_items_that_are_not_there() -> None:
    driver = Driver()
    item = message("user", type="input_text", text="Hi")
    for kind in ("retrieve", "delete"):
        code, param = refused(driver, f"conversation.item.{kind}", item_id="gone")
        assert (code, param) == (f"item_{kind}_invalid_item_id", "item_id")
    code, param = refused(driver, "conversation.item.create", item=item, previous_item_id="gone")
    assert param == "previous_item_id"
    driver.send("conversation.item.create", item={**item, "id": "once"})
    code, _ = refused(driver, "conversation.item.create", item={**item, "id": "once"})
    assert code == "item_already_exists"


def test_items_go_where_they_are_put_and_come_back() -> None:
    driver = Driver()
    item = message("user", type="input_text", text="Hi")
    audio = base64.b64encode(silence(200)).decode()
    for item_id, previous in (("b", None), ("c", None), ("a", "root"), ("b2", "b")):
        fields = {"previous_item_id": previous} if previous else {}
        added, _done = driver.send(
            "conversation.item.create", item={**item, "id": item_id}, **fields
        )
        assert added["previous_item_id"] == {"b": None, "c": "b", "a": None, "b2": "b"}[item_id]
    assert [entry.id for entry in driver.session.conversation] == ["a", "b", "b2", "c"]
    heard = {**message("user", type="input_audio", audio=audio), "id": "heard"}
    added, _done = driver.send("conversation.item.create", item=heard)
    assert added["item"]["content"] == [{"type": "input_audio", "transcript": None}]
    (event,) = driver.send("conversation.item.retrieve", item_id="heard")
    assert event["item"]["content"][0]["audio"] == audio
    (event,) = driver.send("conversation.item.delete", item_id="b2")
    assert event["type"] == "conversation.item.deleted"
    assert [entry.id for entry in driver.session.conversation] == ["a", "b", "c", "heard"]


def test_a_function_output_is_accepted_before_the_response_is_done() -> None:
    script = Script(greeting=Step(call=(Call(name="a"), Call(name="b"))))
    driver = Driver(script)
    driver.send("response.create")
    item = driver.until_event("response.output_item.done")["item"]
    output = {"type": "function_call_output", "call_id": item["call_id"], "output": "{}"}
    assert len(driver.send("conversation.item.create", item=output)) == 2
    code, _ = refused(driver, "response.create")
    assert code == "conversation_already_has_active_response"
