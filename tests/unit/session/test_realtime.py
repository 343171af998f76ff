"""OpenAI's wire format, both ways."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given, strategies as st

from services.session import events, realtime
from services.session.realtime import MalformedEvent, Reaction, parse
from shared.messages import AgentSettings, Tokens, TurnDetection

pytestmark = pytest.mark.unit


def wire(kind: str, **fields: Any) -> bytes:
    return json.dumps({"type": kind, "event_id": "event_1", **fields}).encode()


# --- where to ------------------------------------------------------------------------------------


def test_the_model_is_put_into_the_address_and_the_rest_of_it_is_kept() -> None:
    assert (
        realtime.url_for("wss://api.openai.com/v1/realtime", "gpt-realtime-2.1")
        == "wss://api.openai.com/v1/realtime?model=gpt-realtime-2.1"
    )
    assert (
        realtime.url_for("wss://host/realtime?model=old&x=1", "a b&c")
        == "wss://host/realtime?x=1&model=a+b%26c"
    )


def test_openai_gets_a_bearer_token_and_azure_its_own_header_and_nobody_the_beta_header() -> None:
    assert realtime.headers_for("wss://api.openai.com/v1/realtime", "k") == {
        "Authorization": "Bearer k"
    }
    azure = "wss://acme.openai.azure.com/openai/v1/realtime?model=x"
    assert realtime.headers_for(azure, "k") == {"api-key": "k"}


def test_a_host_that_only_looks_like_azure_does_not_get_azures_header() -> None:
    host = "wss://azure.com.evil.example/v1/realtime"
    assert "api-key" not in realtime.headers_for(host, "k")


# --- out -----------------------------------------------------------------------------------------


@given(st.binary(max_size=2000))
def test_appended_audio_is_json_with_the_same_bytes_in_it(audio: bytes) -> None:
    event = json.loads(realtime.append(audio))
    assert event["type"] == "input_audio_buffer.append"
    assert base64.b64decode(event["audio"], validate=True) == audio


def test_each_kind_of_voice_detection_sends_only_its_own_fields() -> None:
    server = realtime.session_update(AgentSettings(), "pcmu")["session"]["audio"]["input"]
    assert set(server["turn_detection"]) == {
        "type",
        "create_response",
        "interrupt_response",
        "threshold",
        "prefix_padding_ms",
        "silence_duration_ms",
        "idle_timeout_ms",
    }
    agent = AgentSettings(turn_detection=TurnDetection(type="semantic_vad", eagerness="low"))
    semantic = realtime.session_update(agent, "pcmu")["session"]["audio"]["input"]
    assert semantic["turn_detection"] == {
        "type": "semantic_vad",
        "create_response": True,
        "interrupt_response": True,
        "eagerness": "low",
    }


def test_mu_law_has_no_rate_and_pcm_needs_one() -> None:
    for name, expected in (
        ("pcmu", {"type": "audio/pcmu"}),
        ("pcm24k", {"type": "audio/pcm", "rate": 24000}),
    ):
        audio = realtime.session_update(AgentSettings(), name)["session"]["audio"]  # type: ignore[arg-type]
        assert audio["input"]["format"] == audio["output"]["format"] == expected


def test_what_is_off_is_left_out_because_the_types_of_the_sdk_take_no_null() -> None:
    agent = AgentSettings(transcription_model=None, language="en", noise_reduction=None)
    audio = realtime.session_update(agent, "pcmu")["session"]["audio"]
    assert set(audio["input"]) == {"format", "turn_detection"}


def test_an_assistants_history_is_output_text() -> None:
    item = realtime.message("assistant", "Hello.")["item"]
    assert item["content"] == [{"type": "output_text", "text": "Hello."}]


# --- in ------------------------------------------------------------------------------------------

IDS = st.text(min_size=1, max_size=30)
#: What a service might put around the fields that matter.
EXTRAS = st.dictionaries(
    st.sampled_from(["obfuscation", "output_index", "content_index", "x", "event_id"]),
    st.one_of(st.integers(), st.text(max_size=20), st.none(), st.just('"item_id":"no"')),
    max_size=4,
)


@given(
    IDS,
    IDS,
    st.binary(max_size=500),
    EXTRAS,
    st.randoms(use_true_random=False),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_the_short_way_for_audio_finds_what_the_long_way_finds(
    response: str,
    item: str,
    audio: bytes,
    extras: dict[str, Any],
    order: Any,
    type_first: bool,
    escaped: bool,
    spaced: bool,
) -> None:
    fields = {
        "type": "response.output_audio.delta",
        "response_id": response,
        "item_id": item,
        "delta": base64.b64encode(audio).decode(),
        **extras,
    }
    names = list(fields)
    order.shuffle(names)
    if type_first:
        names.sort(key=lambda name: name != "type")
    separators = (", ", ": ") if spaced else (",", ":")
    text = json.dumps({name: fields[name] for name in names}, separators=separators)
    if escaped:
        text = text.replace("/", "\\/")
    assert parse(text.encode()) == realtime._audio_delta(json.loads(text))
    assert parse(text.encode()) == events.AudioReceived(response, item, audio)


def test_usual_audio_takes_the_short_way() -> None:
    raw = (
        b'{"type":"response.output_audio.delta","event_id":"e","response_id":"r","item_id":"i",'
        b'"output_index":0,"content_index":0,"delta":"//8="}'
    )
    assert realtime._parse_delta(raw) == events.AudioReceived("r", "i", b"\xff\xff")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"{",
        b"\xff\xfe",
        b"{}",
        b'{"type":[]}',
        b"[" * 100_000,
        b'{"type":"response.output_audio.delta"',
        b'{"type":"response.output_audio.delta","response_id":"r","item_id":"i","delta":"//8',
        wire("response.output_audio.delta", response_id="r", item_id="i", delta="abc"),
        wire("response.output_audio.delta", response_id=1, item_id="i", delta=""),
        wire("response.output_audio.delta", response_id="r", item_id=["i"], delta=""),
        wire("response.created", response={"id": None}),
        wire("response.created"),
        wire("response.done", response={"id": "r", "status": None}),
        wire("session.updated", session={"audio": {"input": None, "output": None}}),
        wire("session.updated", session={"audio": {"input": {"format": "pcmu"}, "output": {}}}),
        wire("input_audio_buffer.speech_started", item_id={}),
        wire("response.output_audio_transcript.delta", response_id="r", item_id="i", delta=5),
        wire("error", error="text"),
    ],
)
def test_what_is_no_event_of_the_service_is_refused_and_never_worse(raw: bytes) -> None:
    with pytest.raises(MalformedEvent):
        parse(raw)


@given(
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5)),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.dictionaries(
                st.sampled_from(
                    [
                        "id",
                        "status",
                        "usage",
                        "error",
                        "code",
                        "message",
                        "status_details",
                        "metadata",
                        "purpose",
                        "audio",
                        "input",
                        "output",
                        "format",
                        "input_token_details",
                        "text_tokens",
                        "seconds",
                        "type",
                        "reason",
                    ]
                ),
                inner,
                max_size=5,
            ),
        ),
        max_leaves=12,
    ),
    st.sampled_from(sorted(realtime._READERS)),
)
def test_garbage_in_a_known_event_is_refused_or_understood(value: Any, kind: str) -> None:
    fields = ("response", "session", "error", "usage", "item_id", "response_id", "delta")
    raw = wire(kind, **dict.fromkeys((*fields, "transcript"), value))
    try:
        event = parse(raw)
    except MalformedEvent:
        return
    assert isinstance(event, events.ModelEvent)


def test_unknown_events_and_fields_are_ignored() -> None:
    assert parse(wire("response.something_new", x=1)) is None
    assert parse(wire("session.created", session={}, brand_new=True)) == events.SessionCreated()


def test_half_a_character_cannot_break_what_is_made_of_the_text() -> None:
    raw = (
        b'{"type":"response.output_audio_transcript.done","response_id":"r","item_id":"i",'
        b'"transcript":"fine \\ud83d"}'
    )
    event = parse(raw)
    assert isinstance(event, events.AgentTranscript)
    assert event.text == "fine \ufffd"
    whole = raw.replace(b"\\ud83d", b"\\ud83d\\ude00")
    assert parse(whole) == events.AgentTranscript("r", "i", "fine \U0001f600", final=True)


def test_keys_quoted_in_errors_are_masked() -> None:
    text = "Incorrect API key provided: sk-proj-********abcd."
    event = parse(wire("error", error={"code": "invalid_api_key", "message": text}))
    assert isinstance(event, events.ModelErrored)
    assert event.message == "Incorrect API key provided: [key]."


def test_an_error_without_a_code_is_known_by_its_type() -> None:
    event = parse(wire("error", error={"type": "server_error", "code": None, "message": "m"}))
    assert event == events.ModelErrored("server_error", "m", "", "")


def test_why_a_response_was_cut_or_failed_is_kept() -> None:
    cut = {"type": "cancelled", "reason": "turn_detected"}
    failed = {
        "type": "failed",
        "error": {"type": "x", "code": "rate_limit_exceeded", "message": "m"},
    }
    for status, details, code in (
        ("cancelled", cut, "turn_detected"),
        ("failed", failed, "rate_limit_exceeded"),
        ("completed", None, ""),
    ):
        response = {"id": "r", "status": status, "status_details": details, "usage": None}
        event = parse(wire("response.done", response=response))
        assert isinstance(event, events.ResponseFinished)
        assert (event.status, event.code) == (status, code)


def test_tokens_are_told_apart_by_kind() -> None:
    usage = {
        "total_tokens": 253,
        "input_tokens": 132,
        "output_tokens": 121,
        "input_token_details": {
            "text_tokens": 119,
            "audio_tokens": 13,
            "image_tokens": 0,
            "cached_tokens": 64,
            "cached_tokens_details": {"text_tokens": 64, "audio_tokens": 0, "image_tokens": 0},
        },
        "output_token_details": {"text_tokens": 30, "audio_tokens": 91, "reasoning_tokens": 5},
    }
    event = parse(
        wire("response.done", response={"id": "r", "status": "completed", "usage": usage})
    )
    assert isinstance(event, events.ResponseFinished)
    assert event.tokens == Tokens(
        text_in=119, cached_text_in=64, audio_in=13, text_out=30, audio_out=91
    )


@pytest.mark.parametrize(
    "usage", [None, [], 5, {"input_tokens": -5}, {"input_token_details": {"text_tokens": "x"}}]
)
def test_a_bill_without_sense_is_no_bill_and_the_response_is_still_done(usage: Any) -> None:
    event = parse(
        wire("response.done", response={"id": "r", "status": "completed", "usage": usage})
    )
    assert isinstance(event, events.ResponseFinished)
    assert event.tokens == Tokens()


def test_transcription_is_billed_by_time_or_by_tokens() -> None:
    kind = "conversation.item.input_audio_transcription.completed"
    by_time = parse(
        wire(kind, item_id="u", transcript="hi", usage={"type": "duration", "seconds": 3})
    )
    assert by_time == events.CallerTranscript("u", "hi", Tokens(), 3.0)
    usage = {
        "type": "tokens",
        "input_tokens": 17,
        "output_tokens": 4,
        "input_token_details": {"audio_tokens": 14, "text_tokens": 3},
    }
    by_tokens = parse(wire(kind, item_id="u", transcript="hi", usage=usage))
    assert by_tokens == events.CallerTranscript(
        "u", "hi", Tokens(audio_in=14, text_in=3, text_out=4), 0.0
    )
    endless = wire(kind, item_id="u", transcript="hi", usage={"type": "duration", "seconds": 1e400})
    assert parse(endless) == events.CallerTranscript("u", "hi", Tokens(), 0.0)


# --- judged --------------------------------------------------------------------------------------


def test_a_format_is_the_same_with_additions_but_not_with_another_rate() -> None:
    assert realtime.same_format({"type": "audio/pcmu", "channels": 1}, "pcmu")
    assert realtime.same_format({"type": "audio/pcm", "rate": 24000}, "pcm24k")
    assert not realtime.same_format({"type": "audio/pcm", "rate": 16000}, "pcm24k")
    assert not realtime.same_format({"type": "audio/pcm"}, "pcm24k")
    assert not realtime.same_format({}, "pcmu")


@pytest.mark.parametrize(
    ("code", "param", "expected"),
    [
        ("conversation_already_has_active_response", "", Reaction.WAIT_FOR_RESPONSE),
        ("response_cancel_not_active", "", Reaction.IGNORE),
        ("invalid_value", "audio_end_ms", Reaction.IGNORE),
        ("invalid_value", "type", Reaction.REPORT),
        ("rate_limit_exceeded", "", Reaction.RETRY),
        ("session_expired", "", Reaction.REDIAL),
        ("invalid_api_key", "", Reaction.GIVE_UP),
        ("never_seen", "", Reaction.REPORT),
    ],
)
def test_an_error_is_judged_by_its_code(code: str, param: str, expected: Reaction) -> None:
    assert realtime.reaction(code, param) is expected


def test_only_configuration_errors_close_for_good() -> None:
    assert [
        code for code in (0, 1000, 1001, 1006, 1011, 3000, 4000) if realtime.close_is_final(code)
    ] == [3000, 4000]
