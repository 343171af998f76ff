"""Twilio's Media Streams messages, read and written: the wire format and nothing else.

Audio, 50 messages a second each way, takes a fast path: the payload is cut out of the message at
its known shape, and put between two constants prepared once a stream.  Anything that does not have
exactly that shape is parsed as JSON.  Both ways give the same result; a test says so.

Twilio: text frames with one JSON object each; key order differs between captures; numbers in
`sequenceNumber`, `chunk` and `timestamp` are strings; unknown fields may appear.  What we send must
have exactly the documented fields, one more is an error 31951.

Pure: no I/O.
"""

import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from shared.messages import DtmfPressed, MarkReturned

Kind = Literal["not_json", "shape", "audio", "unknown_event", "other_stream", "second_start"]

#: Twilio's is `MZ` and 32 hex digits.  It becomes part of what we send, so it must need no escape.
STREAM_SID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
#: A stream of 30,000 years; a longer number is not a time, and costs time to convert.
TIMESTAMP_MAX_CHARS: Final = 15
NUMBER_MAX_CHARS: Final = 256
#: Ours have this form; it is told to the owner, so free text from a stranger must not pass.
NOTE: Final = re.compile(r"[a-z0-9:_-]{1,64}")
KEYS: Final = frozenset("0123456789*#ABCD")

_BEGIN: Final = b'{"event":"media","sequenceNumber":"'
_BEGIN_LENGTH: Final = len(_BEGIN)
_CHUNK: Final = b'","media":{"track":"inbound","chunk":"'
_CHUNK_LENGTH: Final = len(_CHUNK)
_TIMESTAMP: Final = b'","timestamp":"'
_TIMESTAMP_LENGTH: Final = len(_TIMESTAMP)
_PAYLOAD: Final = b'","payload":"'
_PAYLOAD_LENGTH: Final = len(_PAYLOAD)
#: No number before the payload has more digits: bounds the search in a hostile message.
_HEAD_MAX: Final = 160


class WireError(Exception):
    """A message that is not one of Twilio's.  Holds no part of it."""

    def __init__(self, kind: Kind) -> None:
        super().__init__(kind)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Connected:
    """The first message; says nothing that we need."""


@dataclass(frozen=True, slots=True)
class Start:
    """Which call this socket belongs to."""

    stream: str
    call: str
    account: str
    caller: str
    """`<Parameter name="from">`, as static TwiML may give it: Twilio does not say it by itself."""
    dialled: str
    """`<Parameter name="to">`."""
    mulaw_8k: bool
    """Twilio: always true."""
    note: str = ""
    """`<Parameter name="note">`: why there is a new stream, in our own words (see twiml.py)."""


@dataclass(frozen=True, slots=True)
class Media:
    """The caller's audio."""

    timestamp_ms: int | None
    """Milliseconds since the stream began; None when left out."""
    audio: bytes


@dataclass(frozen=True, slots=True)
class Ignored:
    """A message that is fine and says nothing that we need."""


@dataclass(frozen=True, slots=True)
class Stop:
    """The call is over or was moved by REST."""


Inbound = Connected | Start | Media | MarkReturned | DtmfPressed | Ignored | Stop


# --- from Twilio ---------------------------------------------------------------------------------


def parse(data: bytes) -> Inbound:
    """Any message, whatever its key order; raises `WireError`."""
    return _read(_load(data))


def _load(data: bytes) -> dict[str, Any]:
    try:
        message = json.loads(data)
    except (ValueError, RecursionError):  # RecursionError: 64 KiB of "["
        raise WireError("not_json") from None
    if not isinstance(message, dict):
        raise WireError("shape")
    return message


def _read(message: dict[str, Any]) -> Inbound:
    match message:
        case {"event": "media", "media": dict(media)}:
            return _media(media)
        case {"event": "mark", "mark": {"name": str(name)}} if len(name) <= 128:
            return MarkReturned(name=name)
        case {"event": "dtmf", "dtmf": {"digit": str(digit)}} if digit in KEYS:
            return DtmfPressed(digit=digit)
        case {"event": "start", "start": dict(start)}:
            return _start(message, start)
        case {"event": "connected"}:
            return Connected()
        case {"event": "stop"}:
            return Stop()
        case {"event": "media" | "mark" | "dtmf" | "start"}:
            raise WireError("shape")
        case {"event": str()}:
            raise WireError("unknown_event")
        case _:
            raise WireError("shape")


def _media(media: Mapping[str, Any]) -> Inbound:
    match media:
        case {"track": "outbound"}:
            return Ignored()  # a one-way stream (`<Start><Stream>`) sends both sides
        case {"payload": str(payload)}:
            return Media(_timestamp(media.get("timestamp")), _decode(payload))
        case _:
            raise WireError("shape")


def _timestamp(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**15:
        return value
    if isinstance(value, str) and len(value) <= TIMESTAMP_MAX_CHARS and _is_number(value):
        return int(value)
    raise WireError("shape")


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()  # isdigit alone also likes superscripts


def _decode(payload: str | bytes) -> bytes:
    try:
        return binascii.a2b_base64(payload, strict_mode=True)
    except ValueError:  # binascii.Error is one; not ASCII is the other
        raise WireError("audio") from None


def _start(message: Mapping[str, Any], start: Mapping[str, Any]) -> Start:
    stream = start.get("streamSid", message.get("streamSid"))
    call = start.get("callSid")
    account = start.get("accountSid", "")
    if not (isinstance(stream, str) and isinstance(call, str) and isinstance(account, str)):
        raise WireError("shape")
    if STREAM_SID.fullmatch(stream) is None:
        raise WireError("shape")
    return Start(
        stream=stream,
        call=call,
        account=account,
        caller=_parameter(start, "from"),
        dialled=_parameter(start, "to"),
        note=_note(start),
        mulaw_8k=_is_mulaw_8k(start.get("mediaFormat")),
    )


def _parameter(start: Mapping[str, Any], name: str) -> str:
    parameters = start.get("customParameters")
    value = parameters.get(name) if isinstance(parameters, dict) else None
    return value[:NUMBER_MAX_CHARS] if isinstance(value, str) else ""


def _note(start: Mapping[str, Any]) -> str:
    note = _parameter(start, "note")
    return note if NOTE.fullmatch(note) else ""


def _is_mulaw_8k(media_format: object) -> bool:
    match media_format:
        case None:
            return True
        case {"encoding": "audio/x-mulaw", **others}:
            return others.get("sampleRate", 8000) == 8000 and others.get("channels", 1) == 1
        case _:
            return False


class StreamWire:
    """Reading and writing for one stream, with the parts that never change prepared."""

    def __init__(self, stream: str) -> None:
        if STREAM_SID.fullmatch(stream) is None:
            raise WireError("shape")
        self.stream = stream
        self._media_head = b'{"event":"media","streamSid":"%b","media":{"payload":"' % (
            stream.encode()
        )
        self._media_end = b'"},"streamSid":"%b"}' % stream.encode()
        self._media_end_length = len(self._media_end)
        #: Empties Twilio's play buffer, and returns all marks at once.
        self.clear: Final = b'{"event":"clear","streamSid":"%b"}' % stream.encode()

    def fast_media(self, data: bytes) -> tuple[int, bytes] | None:
        """Timestamp and audio of a media message in the usual shape; None: use `parse`."""
        if not data.startswith(_BEGIN) or not data.endswith(self._media_end):
            return None
        chunk = data.find(_CHUNK, _BEGIN_LENGTH, _HEAD_MAX)
        time = data.find(_TIMESTAMP, chunk, _HEAD_MAX)
        body = data.find(_PAYLOAD, time, _HEAD_MAX)
        if chunk < 0 or time < 0 or body < 0:
            return None
        number = data[time + _TIMESTAMP_LENGTH : body]
        # Only digits between the fixed parts: so there is no other key, quote or escape hidden.
        if not (
            number.isdigit()
            and len(number) <= TIMESTAMP_MAX_CHARS
            and data[_BEGIN_LENGTH:chunk].isdigit()
            and data[chunk + _CHUNK_LENGTH : time].isdigit()
        ):
            return None
        try:
            audio = binascii.a2b_base64(
                data[body + _PAYLOAD_LENGTH : -self._media_end_length], strict_mode=True
            )
        except ValueError:
            return None  # an escaped slash, say: JSON knows
        return int(number), audio

    def parse(self, data: bytes) -> Inbound:
        """As the function `parse`, and only for this stream."""
        message = _load(data)
        if message.get("streamSid", self.stream) != self.stream:
            raise WireError("other_stream")
        return _read(message)

    # --- to Twilio ------------------------------------------------------------------------------

    def media(self, audio: bytes) -> bytes:
        """Audio of any length.  Twilio buffers up to 10 minutes and plays it in real time."""
        return b"".join((self._media_head, binascii.b2a_base64(audio, newline=False), b'"}}'))

    def mark(self, name: str) -> bytes:
        """Comes back when everything before it was played."""
        message = {"event": "mark", "streamSid": self.stream, "mark": {"name": name}}
        return json.dumps(message, separators=(",", ":")).encode()
