"""What one connection was like, for tests and for people: bounded, and without audio bytes."""

import base64
import dataclasses
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from simulators.realtime.outbox import Send
from simulators.realtime.session import Session

__all__ = ["Connection"]

Json = dict[str, Any]

_EVENTS_MAX = 4000
"""An hour's call without its audio; appends in a row count as one."""

_CALLER_AUDIO_BYTES_MAX = 2**20
"""The newest two minutes of mu-law: enough to hear what the model was told last."""


def _events() -> deque[Json]:
    return deque(maxlen=_EVENTS_MAX)


@dataclasses.dataclass(eq=False)
class Connection:
    """One client's connection, from the upgrade to the close, and its remote control."""

    model: str
    """The `model` of the URL; empty if there was none."""

    headers: Mapping[str, str] = dataclasses.field(repr=False)
    """Of the upgrade, names in lower case."""

    received: deque[Json] = dataclasses.field(default_factory=_events, repr=False)
    """Client events. Appends in a row are one entry: `{"type", "appends", "audio_bytes"}`."""

    sent: deque[Json] = dataclasses.field(default_factory=_events, repr=False)
    """Server events; audio deltas hold `audio_bytes` and `audio_ms` instead of `delta`."""

    errors: deque[Json] = dataclasses.field(default_factory=_events, repr=False)
    """The `error` objects sent, oldest first."""

    truncations: list[tuple[str, int]] = dataclasses.field(default_factory=list)
    """(item id, audio_end_ms) of each truncation accepted."""

    audio_sent_ms: dict[str, float] = dataclasses.field(default_factory=dict, repr=False)
    """Item id: the ms of audio sent of it, late deltas included."""

    caller_audio: bytearray = dataclasses.field(default_factory=bytearray, repr=False)
    """The newest audio appended, as bytes of the input format."""

    appended_bytes: int = 0
    closed: bool = False
    close_code: int | None = None
    """1006 when the TCP connection broke without a close frame, by either side."""

    close_reason: str = ""
    session: Session | None = dataclasses.field(default=None, repr=False)
    """The session's mind; `None` when the connection was refused."""

    actions: dict[str, Callable[..., None]] = dataclasses.field(default_factory=dict, repr=False)
    """Filled by the server while the connection lives."""

    # --- What it knows ------------------------------------------------------------------

    @property
    def config(self) -> Json:
        """The session's configuration now."""
        return self.session.config if self.session else {}

    @property
    def transcript(self) -> list[tuple[str, str]]:
        """("caller" or "assistant", text) in the order of the conversation's items."""
        if self.session is None:
            return []
        said = dict(self.session.caller_side.said)
        lines = []
        for entry in self.session.conversation:
            if entry.role in ("user", "assistant"):
                text = said.get(entry.id, "") if entry.role == "user" else entry.text
                lines.append(("caller" if entry.role == "user" else "assistant", text))
        return [(who, text) for who, text in lines if text]

    @property
    def warnings(self) -> list[str]:
        """What the service would allow and yet looks like a mistake of the client's."""
        return list(self.session.model_side.warnings) if self.session else []

    def received_of(self, kind: str) -> list[Json]:
        """Return the client events of this type."""
        return [event for event in self.received if event.get("type") == kind]

    def sent_of(self, kind: str) -> list[Json]:
        """Return the server events of this type."""
        return [event for event in self.sent if event["type"] == kind]

    # --- What can be done to it -----------------------------------------------------------

    def abort(self) -> None:
        """Cut the TCP connection without a close frame, now."""
        self._act("abort")

    def expire(self) -> None:
        """End the session as after 60 minutes, now."""
        self._act("expire")

    def send_error(self, error: Json) -> None:
        """Send an `error` event, now."""
        self._act("send_error", error)

    def _act(self, name: str, *args: Any) -> None:
        if name in self.actions:
            self.actions[name](*args)

    # --- Keeping it -----------------------------------------------------------------------

    def note_received(self, event: Json) -> None:
        """Remember a client event."""
        if event.get("type") != "input_audio_buffer.append":
            self.received.append(event)
            return
        audio = _bytes_of(event.get("audio"))
        self.appended_bytes += len(audio)
        self.caller_audio += audio
        del self.caller_audio[:-_CALLER_AUDIO_BYTES_MAX]
        last = self.received[-1] if self.received else {}
        if last.get("type") == event["type"]:
            last["appends"] += 1
            last["audio_bytes"] += len(audio)
        else:
            summary = {"type": event["type"], "appends": 1, "audio_bytes": len(audio)}
            self.received.append(summary)

    def note_sent(self, output: Send) -> None:
        """Remember a server event."""
        event = output.event
        match event["type"]:
            case "response.output_audio.delta":
                item_id = event["item_id"]
                before_ms = self.audio_sent_ms.get(item_id, 0.0)
                self.audio_sent_ms[item_id] = before_ms + output.audio_ms
                audio_bytes = len(_bytes_of(event["delta"]))
                event = {**event, "audio_bytes": audio_bytes, "audio_ms": output.audio_ms}
                del event["delta"]
            case "error":
                self.errors.append(event["error"])
            case "conversation.item.truncated":
                self.truncations.append((event["item_id"], event["audio_end_ms"]))
            case _:
                pass
        self.sent.append(event)


def _bytes_of(text: Any) -> bytes:
    try:
        return base64.b64decode(text)
    except (TypeError, ValueError):
        return b""
