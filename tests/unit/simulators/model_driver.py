"""Drives a simulated model's session without a socket and on a clock of its own."""

import base64
import json
import random
from collections.abc import Callable
from typing import Annotated, Any

from openai.types.realtime.realtime_server_event import RealtimeServerEvent
from pydantic import Field, TypeAdapter

from simulators import g711, speech
from simulators.realtime.faults import Faults
from simulators.realtime.model_side import UNLISTED_EVENT
from simulators.realtime.outbox import Abort, Close, Output, Send
from simulators.realtime.script import Script
from simulators.realtime.session import Session

Json = dict[str, Any]

SERVER_EVENT: TypeAdapter[Any] = TypeAdapter(
    Annotated[RealtimeServerEvent, Field(discriminator="type")]
)

PHONE: Json = {
    "type": "realtime",
    "instructions": "You answer phone calls for Acme.",
    "audio": {
        "input": {
            "format": {"type": "audio/pcmu"},
            "transcription": {"model": "gpt-realtime-whisper"},
            "turn_detection": {"type": "server_vad", "silence_duration_ms": 500},
        },
        "output": {"format": {"type": "audio/pcmu"}, "voice": "marin"},
    },
}

RAN_S_MAX = 120.0
"""Virtual seconds until a session that never falls silent is a failure."""


def said(text: str, *, silence_ms: int = 0, voice: str = "caller") -> bytes:
    """Return mu-law speech with silence after it."""
    spoken = g711.encode(speech.speak(text, voice=voice, rate_hz=8000))
    return spoken + bytes([g711.SILENCE]) * (silence_ms * 8)


def silence(ms: int) -> bytes:
    return bytes([g711.SILENCE]) * (ms * 8)


class Driver:
    """A client with its own clock; every server event is checked against the SDK's types."""

    def __init__(
        self,
        script: Script | None = None,
        *,
        model: str = "gpt-realtime-2.1",
        faults: Faults | None = None,
        configured: Json | None = PHONE,
    ) -> None:
        self.now = 1000.0
        self.events: list[Json] = []
        self.ending: Close | Abort | None = None
        self.faults = faults or Faults()
        self.session = Session(
            model=model,
            script=script or Script(),
            faults=lambda: self.faults,
            unix_time=1_795_348_800,
            rng=random.Random(7),
        )
        self.keep(self.session.start(self.now))
        if configured is not None:
            self.configure(configured)
            assert self.events[-1]["type"] == "session.updated"

    # --- Acting -------------------------------------------------------------------------

    def send(self, kind: str, **fields: Any) -> list[Json]:
        """Send a client event; return what comes back at once."""
        return self.send_raw(json.dumps({"type": kind, **fields}))

    def send_raw(self, message: str | bytes) -> list[Json]:
        before = len(self.events)
        self.keep(self.session.receive(message, self.now))
        return self.events[before:]

    def configure(self, session: Json, **fields: Any) -> Json:
        """Send `session.update` and return its answer."""
        before = len(self.events)
        self.send("session.update", session=session, **fields)
        self.until(lambda: len(self.events) > before)
        return self.events[before]

    def append(self, audio: bytes, frame_bytes: int = g711.FRAME_BYTES) -> list[Json]:
        """Append audio frame by frame, as time passes; return what happened meanwhile."""
        before = len(self.events)
        for start in range(0, len(audio), frame_bytes):
            frame = audio[start : start + frame_bytes]
            self.send("input_audio_buffer.append", audio=base64.b64encode(frame).decode())
            self.run(len(frame) / 8000)
        return self.events[before:]

    def turn(self, text: str = "Hello there, can you help me?") -> list[Json]:
        """Let the caller say something and fall silent for just long enough."""
        before = len(self.events)
        for frame in range(0, len(audio := said(text, silence_ms=2000)), 160):
            seen = self.append(audio[frame : frame + 160])
            if "input_audio_buffer.speech_stopped" in kinds(seen):
                return self.events[before:]
        raise AssertionError("the turn never ended")

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        while (at := self.session.next_timer()) is not None and at <= end:
            self.now = at
            self.keep(self.session.handle_timer(at))
        self.now = end

    def until(self, check: Callable[[], bool]) -> None:
        """Let time pass from timer to timer until the check holds."""
        end = self.now + RAN_S_MAX
        while not check():
            at = self.session.next_timer()
            assert at is not None, "nothing more will happen"
            assert at < end, f"not within {RAN_S_MAX} s"
            self.now = max(self.now, at)
            self.keep(self.session.handle_timer(self.now))

    def until_event(self, kind: str, nth: int = 1) -> Json:
        """Let time pass until the n-th event of this type from now on."""
        before = len(self.events)
        self.until(lambda: kinds(self.events[before:]).count(kind) >= nth)
        return [event for event in self.events[before:] if event["type"] == kind][nth - 1]

    def finish(self) -> list[Json]:
        """Let the running response end and everything after it come; return it all."""
        before = len(self.events)
        self.until_event("rate_limits.updated")
        self.run(0.5)
        return self.events[before:]

    def respond(self, **response: Any) -> list[Json]:
        """Ask for a response and wait for its end."""
        before = len(self.events)
        self.send("response.create", response=response)
        self.finish()
        return self.events[before:]

    # --- Looking ------------------------------------------------------------------------

    def of(self, kind: str) -> list[Json]:
        return [event for event in self.events if event["type"] == kind]

    def last(self, kind: str) -> Json:
        return self.of(kind)[-1]

    def keep(self, outputs: list[Output]) -> None:
        for output in outputs:
            assert self.ending is None, "an output after the end"
            if isinstance(output, Send):
                self.events.append(output.event)
                check_server_event(output.event)
            else:
                self.ending = output


def check_server_event(event: Json) -> None:
    """Fail unless the SDK's types know this event just as it is."""
    assert event["event_id"].startswith("event_")
    if event["type"] != UNLISTED_EVENT:
        parsed = SERVER_EVENT.validate_python(event)
        assert parsed.model_dump(exclude_unset=True) == event


def kinds(events: list[Json]) -> list[str]:
    return [event["type"] for event in events]


def without_deltas(events: list[Json]) -> list[str]:
    """Return the types in order, without deltas and what may come at any time."""
    apart = ("input_audio_transcription", "rate_limits", UNLISTED_EVENT)
    return [
        kind
        for kind in kinds(events)
        if not kind.endswith(".delta") and not any(word in kind for word in apart)
    ]
