"""The input audio buffer, voice detection on it, the idle timeout; all on the audio clock."""

import dataclasses
from typing import Any

from simulators.realtime.config import bytes_per_ms
from simulators.realtime.speaking import samples_of
from simulators.realtime.vad import Detector, SpeechStarted, SpeechStopped, prefix_ms

__all__ = ["IdleTimeout", "Listener"]

Json = dict[str, Any]

_BUFFER_BYTES_MAX = 15 * 2**20
"""Half an hour of mu-law in one turn; what is older is dropped and counted."""


@dataclasses.dataclass(frozen=True)
class IdleTimeout:
    """Nobody spoke for `idle_timeout_ms` after the assistant's last word was played."""

    audio_start_ms: int
    audio_end_ms: int


class Listener:
    """Takes the caller's audio and says what happened in it."""

    def __init__(self, session: Json) -> None:
        self._buffer = bytearray()
        self._format: Json = session["audio"]["input"]["format"]
        self._detector = Detector(session["audio"]["input"]["turn_detection"])
        self._idle_from_ms: float | None = None
        self.dropped_bytes = 0
        self.speech_ms = 0.0
        """How long the open speech has lasted so far."""

    def configure(self, session: Json) -> None:
        """Use these settings from here on; audio in another format cannot be kept."""
        settings = session["audio"]["input"]
        if settings["format"] != self._format:
            self.clear()
        self._format = settings["format"]
        self._detector.configure(settings["turn_detection"])

    @property
    def clock_ms(self) -> float:
        """The length of all audio appended in this session."""
        return self._detector.clock_ms

    @property
    def speaking(self) -> bool:
        """The caller is speaking."""
        return self._detector.speaking

    @property
    def buffered_ms(self) -> float:
        """The length of the audio not committed yet."""
        return len(self._buffer) / bytes_per_ms(self._format)

    def append(self, audio: bytes) -> list[SpeechStarted | SpeechStopped | IdleTimeout]:
        """Listen to the next bytes, in the session's input format."""
        self._buffer += audio
        samples, rate_hz = samples_of(audio, self._format)
        facts: list[SpeechStarted | SpeechStopped | IdleTimeout] = [
            *self._detector.append(samples, rate_hz)
        ]
        for fact in facts:
            self._idle_from_ms = None
            if isinstance(fact, SpeechStarted):
                self.speech_ms = 0.0
        if self.speaking:
            self.speech_ms += len(audio) / bytes_per_ms(self._format)
        self._trim(keep_all=bool(facts) or self.speaking)
        timeout = None if facts else self._idle()
        return [*facts, timeout] if timeout else facts

    def take(self) -> tuple[bytes, float]:
        """Return the buffered audio and its length in ms, and begin anew."""
        audio, length_ms = bytes(self._buffer), self.buffered_ms
        self._buffer.clear()
        return audio, length_ms

    def clear(self) -> None:
        """Drop the buffer and any open speech."""
        self._buffer.clear()
        self._detector.reset()

    def end_speech(self) -> None:
        """Close open speech without a `speech_stopped`. OpenAI: so does a manual commit."""
        self._detector.reset()

    def response_started(self) -> None:
        """Stop waiting for the caller: the assistant has the word."""
        self._idle_from_ms = None

    def response_done(self, audio_ms: float) -> None:
        """Wait for the caller.

        OpenAI: the idle timeout counts from the end of playback as the server computes it,
        `response.done` plus the length of the audio.
        """
        if not self.speaking:
            self._idle_from_ms = self.clock_ms + audio_ms

    def _idle(self) -> IdleTimeout | None:
        timeout_ms = (self._detector.settings or {}).get("idle_timeout_ms")
        if timeout_ms is None or self._idle_from_ms is None or self.speaking:
            return None
        if self.clock_ms < self._idle_from_ms + timeout_ms:
            return None
        start_ms, self._idle_from_ms = self._idle_from_ms, None
        return IdleTimeout(round(start_ms), round(self.clock_ms))

    def _trim(self, *, keep_all: bool) -> None:
        keep_bytes = _BUFFER_BYTES_MAX
        if self._detector.settings is not None and not keep_all:
            # While nobody speaks only the padding of the next turn is worth keeping, and the
            # few loud frames that may turn out to be its beginning.
            kept_ms = prefix_ms(self._detector.settings) + 100
            keep_bytes = kept_ms * bytes_per_ms(self._format)
        excess = len(self._buffer) - keep_bytes
        if excess > 0:
            del self._buffer[:excess]
            self.dropped_bytes += excess if keep_bytes == _BUFFER_BYTES_MAX else 0
