"""The messages of a Twilio media stream: those Twilio sends, and those it accepts.

Pure. `Sender` words what Twilio sends, `parse` judges what the server sends, as strictly as
Twilio does: a missing field or one too many is an invalid message.
"""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Clear", "FromServer", "InvalidMessage", "Mark", "Media", "Sender", "parse"]


class InvalidMessage(ValueError):  # noqa: N818 - Twilio's own words for it
    """Twilio, warning 31951: not JSON, unknown event, missing or extra field, wrong stream."""


@dataclass(frozen=True, slots=True)
class Media:
    """Audio to be played, mu-law at 8000 Hz."""

    audio: bytes


@dataclass(frozen=True, slots=True)
class Mark:
    """Tell me when everything before this has been played."""

    name: str


@dataclass(frozen=True, slots=True)
class Clear:
    """Throw away what has not been played."""


FromServer = Media | Mark | Clear

_FIELDS = {
    "media": {"event", "streamSid", "media"},
    "mark": {"event", "streamSid", "mark"},
    "clear": {"event", "streamSid"},
}


def parse(text: str, stream_sid: str) -> FromServer:
    """Return what the server asks for, or raise `InvalidMessage`."""
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        raise InvalidMessage("not JSON") from None
    if not isinstance(message, dict):
        raise InvalidMessage("not a JSON object")
    event = message.get("event")
    if not isinstance(event, str) or event not in _FIELDS:
        raise InvalidMessage(f"unknown event {event!r:.40}; allowed: {', '.join(_FIELDS)}")
    _check_fields(event, message, _FIELDS[event])
    if message["streamSid"] != stream_sid:
        raise InvalidMessage(f"{event}: streamSid {message['streamSid']!r:.60} is not this stream")
    match event:
        case "media":
            return Media(_base64(_text_of(message, "media", "payload")))
        case "mark":
            return Mark(_text_of(message, "mark", "name"))
        case _:
            return Clear()


def _check_fields(where: str, found: Mapping[str, Any], wanted: set[str]) -> None:
    missing, extra = wanted - found.keys(), found.keys() - wanted
    if missing:
        raise InvalidMessage(f"{where}: missing field {', '.join(sorted(missing))}")
    if extra:
        raise InvalidMessage(f"{where}: extra field {', '.join(sorted(extra))}")


def _text_of(message: Mapping[str, Any], event: str, name: str) -> str:
    body = message[event]
    if not isinstance(body, dict):
        raise InvalidMessage(f"{event}: {event} is not an object")
    _check_fields(event, body, {name})
    value = body[name]
    if not isinstance(value, str):
        raise InvalidMessage(f"{event}: {event}.{name} is not a string")
    return value


def _base64(payload: str) -> bytes:
    try:
        return base64.b64decode(payload, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidMessage("media: media.payload is not base64") from None


class Sender:
    """Words Twilio's messages of one stream, and counts them as Twilio does.

    Twilio: `sequenceNumber`, `chunk` and `timestamp` are strings that hold numbers, while
    `sampleRate` and `channels` are numbers. Everything after `connected` is numbered.
    """

    def __init__(
        self, *, account_sid: str, call_sid: str, stream_sid: str, parameters: Mapping[str, str]
    ) -> None:
        self._account_sid = account_sid
        self._call_sid = call_sid
        self._stream_sid = stream_sid
        self._parameters = dict(parameters)
        self._sequence_number = 0
        self._chunk = 0

    def connected(self) -> str:
        return json.dumps({"event": "connected", "protocol": "Call", "version": "1.0.0"})

    def start(self) -> str:
        start = {
            "accountSid": self._account_sid,
            "streamSid": self._stream_sid,
            "callSid": self._call_sid,
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
            "customParameters": self._parameters,
        }
        return self._numbered("start", start)

    def media(self, audio: bytes, timestamp_ms: int) -> str:
        self._chunk += 1
        media = {
            "track": "inbound",
            "chunk": str(self._chunk),
            "timestamp": str(timestamp_ms),
            "payload": base64.b64encode(audio).decode("ascii"),
        }
        return self._numbered("media", media)

    def dtmf(self, digit: str) -> str:
        # Twilio: "inbound_track" here, "inbound" in media.
        return self._numbered("dtmf", {"track": "inbound_track", "digit": digit})

    def mark(self, name: str) -> str:
        return self._numbered("mark", {"name": name})

    def stop(self) -> str:
        return self._numbered("stop", {"accountSid": self._account_sid, "callSid": self._call_sid})

    def _numbered(self, event: str, body: Mapping[str, Any]) -> str:
        self._sequence_number += 1
        message = {
            "event": event,
            "sequenceNumber": str(self._sequence_number),
            event: body,
            "streamSid": self._stream_sid,
        }
        return json.dumps(message, separators=(",", ":"))
