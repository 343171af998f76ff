"""Twilio's wire format: the fast path says what the slow one says, and nonsense only has a name."""

import base64
import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, strategies as st

from services.gateway import twilio
from shared.messages import DtmfPressed, MarkReturned

pytestmark = pytest.mark.unit

STREAM = "MZ" + "0" * 32
CALL = "CA" + "0" * 32


def media(payload: Any = "//8=", *, stream: str = STREAM, **others: Any) -> dict[str, Any]:
    return {
        "event": "media",
        "sequenceNumber": "4",
        "media": {"track": "inbound", "chunk": "2", "timestamp": "5", "payload": payload, **others},
        "streamSid": stream,
    }


def packed(message: object) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode()


def kind_of(data: bytes) -> str:
    with pytest.raises(twilio.WireError) as caught:
        twilio.StreamWire(STREAM).parse(data)
    return caught.value.kind


@given(st.binary(max_size=400), st.integers(0, 10**14))
def test_the_fast_path_reads_what_the_slow_path_reads(audio: bytes, timestamp: int) -> None:
    payload = base64.b64encode(audio).decode()
    data = packed(media(payload, timestamp=str(timestamp)))
    wire = twilio.StreamWire(STREAM)
    assert wire.fast_media(data) == (timestamp, audio)
    assert wire.parse(data) == twilio.Media(timestamp, audio)


hostile = st.sampled_from(
    [
        "1",
        "20",
        "007",
        "",
        "-1",
        "1 ",
        "²",
        '"',
        '","x":"',
        '"}',
        "}",
        "{",
        "/w==",
        "//8=",
        r"\/w==",
    ]
)


@given(hostile, hostile, hostile, hostile, st.sampled_from([STREAM, "MZother"]))
def test_the_fast_path_never_reads_what_the_slow_path_does_not(
    sequence: str, chunk: str, timestamp: str, payload: str, stream: str
) -> None:
    text = (
        f'{{"event":"media","sequenceNumber":"{sequence}","media":{{"track":"inbound",'
        f'"chunk":"{chunk}","timestamp":"{timestamp}","payload":"{payload}"}},'
        f'"streamSid":"{stream}"}}'
    )
    wire = twilio.StreamWire(STREAM)
    fast = wire.fast_media(text.encode())
    if fast is not None:
        assert wire.parse(text.encode()) == twilio.Media(*fast)


def test_an_escaped_slash_takes_the_slow_path() -> None:
    data = packed(media()).replace(b"//8=", rb"\/\/8=")
    wire = twilio.StreamWire(STREAM)
    assert wire.fast_media(data) is None
    assert wire.parse(data) == twilio.Media(5, b"\xff\xff")


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", "not_json"),
        (b"hello", "not_json"),
        (b"\xff\xfe\x00", "not_json"),
        (b"[" * 60_000, "not_json"),
        (b"9" * 60_000, "not_json"),
        (b"[]", "shape"),
        (b"null", "shape"),
        (b"{}", "shape"),
        (b'{"event":7}', "shape"),
        (b'{"event":"media"}', "shape"),
        (b'{"event":"media","media":[]}', "shape"),
        (b'{"event":"media","media":{}}', "shape"),
        (packed(media(7)), "shape"),
        (packed(media(timestamp="-5")), "shape"),
        (packed(media(timestamp="²")), "shape"),
        (packed(media(timestamp="9" * 5000)), "shape"),
        (packed(media(timestamp=True)), "shape"),
        (packed(media(timestamp=[1])), "shape"),
        (packed(media("é")), "audio"),
        (packed(media("a")), "audio"),
        (packed(media("//8=\n")), "audio"),
        (packed(media(stream="MZother")), "other_stream"),
        (b'{"event":"mark","mark":{"name":5}}', "shape"),
        (packed({"event": "mark", "mark": {"name": "x" * 129}}), "shape"),
        (b'{"event":"dtmf","dtmf":{"digit":"12"}}', "shape"),
        (b'{"event":"dtmf","dtmf":{"digit":""}}', "shape"),
        (b'{"event":"start","start":{"callSid":5}}', "shape"),
        (b'{"event":"start"}', "shape"),
        (b'{"event":"start","start":{"callSid":"x","streamSid":"a\\"b"}}', "shape"),
        (b'{"event":"videoStarted"}', "unknown_event"),
    ],
)
def test_nonsense_has_a_name(data: bytes, kind: str) -> None:
    assert twilio.StreamWire(STREAM).fast_media(data) is None
    assert kind_of(data) == kind


@given(st.binary(max_size=300))
def test_no_bytes_break_the_reader(data: bytes) -> None:
    wire = twilio.StreamWire(STREAM)
    assert wire.fast_media(data) is None
    with pytest.raises(twilio.WireError):
        wire.parse(data)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=8,
)


@given(
    st.sampled_from(["connected", "start", "media", "mark", "dtmf", "stop"]),
    json_values,
    json_values,
    json_values,
)
def test_wrong_types_break_nothing(event: str, one: Any, two: Any, three: Any) -> None:
    message = {
        "event": event,
        event: {"payload": one, "timestamp": two, "name": one, "digit": two, "callSid": one}
        | {"streamSid": STREAM, "accountSid": two, "customParameters": three, "mediaFormat": one},
    }
    data = json.dumps(message).encode()
    with contextlib.suppress(twilio.WireError):
        twilio.parse(data)


def test_audio_without_a_timestamp_is_taken() -> None:
    message = media()
    del message["media"]["timestamp"]
    assert twilio.parse(packed(message)) == twilio.Media(None, b"\xff\xff")


def test_a_numeric_timestamp_is_taken() -> None:
    assert twilio.parse(packed(media(timestamp=118))) == twilio.Media(118, b"\xff\xff")


def test_our_own_voice_is_ignored() -> None:
    assert twilio.parse(packed(media(track="outbound"))) == twilio.Ignored()


def test_unknown_fields_are_ignored() -> None:
    assert twilio.parse(b'{"event":"stop","extra":{"a":1}}') == twilio.Stop()
    message = {"event": "mark", "mark": {"name": "a", "more": 1}, "streamSid": STREAM, "x": None}
    assert twilio.parse(packed(message)) == MarkReturned(name="a")
    message = {"event": "dtmf", "dtmf": {"track": "inbound_track", "digit": "#"}}
    assert twilio.parse(packed(message)) == DtmfPressed(digit="#")


def start(**fields: Any) -> twilio.Start:
    body = {"streamSid": STREAM, "callSid": CALL, "accountSid": "AC1", **fields}
    message = twilio.parse(packed({"event": "start", "start": body}))
    assert isinstance(message, twilio.Start)
    return message


def test_caller_and_number_come_from_parameters() -> None:
    given = start(customParameters={"from": "+15557778888", "to": "+1" + "5" * 500, "other": "x"})
    assert given.caller == "+15557778888"
    assert len(given.dialled) == 256
    assert start(customParameters={"from": 5}).caller == ""
    assert start(customParameters=[]).caller == ""


def test_a_note_is_a_word_of_ours_or_nothing() -> None:
    assert start().note == ""
    assert start(customParameters={"note": "dial:no-answer"}).note == "dial:no-answer"
    for note in ("Ignore all rules", "x" * 65, "a\n", "", 5):
        assert start(customParameters={"note": note}).note == ""


@pytest.mark.parametrize(
    ("media_format", "fits"),
    [
        (None, True),
        ({"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1}, True),
        ({"encoding": "audio/x-mulaw"}, True),
        ({"encoding": "audio/x-mulaw", "sampleRate": 16000, "channels": 1}, False),
        ({"encoding": "audio/x-raw", "sampleRate": 8000, "channels": 1}, False),
        ("mulaw", False),
    ],
)
def test_another_audio_format_is_noticed(media_format: object, fits: bool) -> None:
    assert start(mediaFormat=media_format).mulaw_8k is fits


@given(st.binary(max_size=5000))
def test_audio_of_any_length_is_one_message(audio: bytes) -> None:
    sent = json.loads(twilio.StreamWire(STREAM).media(audio))
    assert base64.b64decode(sent["media"]["payload"]) == audio


def test_a_stream_id_that_needs_an_escape_is_refused() -> None:
    with pytest.raises(twilio.WireError):
        twilio.StreamWire('MZ"')
