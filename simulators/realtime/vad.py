"""Voice activity detection on the energy of the caller's audio.

The clock is the audio appended. OpenAI: every `*_ms` of a speech event is an offset into the total
audio sent in the session; audio that stops coming is not silence, it is no time at all.
"""

import dataclasses
from typing import Any

import numpy as np

from simulators import g711

__all__ = ["Detector", "SpeechStarted", "SpeechStopped", "prefix_ms"]

Json = dict[str, Any]

_FRAME_MS = 20

_START_FRAMES = 3
"""Loud frames in a row that make speech: 60 ms, longer than a click on the line."""

_EAGERNESS_SILENCE_MS = {"low": 1500, "medium": 800, "auto": 800, "high": 400}
"""How long semantic_vad waits here. OpenAI: at most 8, 4 and 2 s, but it hears the sentence end,
which energy alone cannot, so shorter fixed waits are nearer to what a caller notices."""

_SEMANTIC_PREFIX_MS = 300


@dataclasses.dataclass(frozen=True)
class SpeechStarted:
    """The caller began to speak."""

    audio_start_ms: int
    """Where the turn begins, prefix padding included."""


@dataclasses.dataclass(frozen=True)
class SpeechStopped:
    """The caller has been silent for long enough."""

    audio_end_ms: int
    """Where the turn ends, the silence included."""


class Detector:
    """Hears when somebody speaks in audio that is appended piece by piece."""

    def __init__(self, settings: Json | None) -> None:
        self.settings = settings
        """The session's `turn_detection`; `None` listens to nothing."""

        self.speaking = False
        """Between `SpeechStarted` and `SpeechStopped`."""

        self.clock_ms = 0.0
        """The length of all audio appended since the session began."""

        self._heard_ms = 0.0  # as the clock, but of whole frames only
        self._rest: g711.Pcm = np.zeros(0, dtype=np.int16)  # less than a frame, waiting for more
        self._loud_frames = 0  # in a row, while not speaking
        self._quiet_ms = 0  # in a row, while speaking

    def configure(self, settings: Json | None) -> None:
        """Use these settings from here on; turning detection off ends open speech."""
        self.settings = settings
        if settings is None:
            self.reset()

    def reset(self) -> None:
        """Forget open speech without a word, as a manual commit or a clear does."""
        self.speaking = False
        self._loud_frames = 0
        self._quiet_ms = 0

    def append(self, samples: g711.Pcm, rate_hz: int) -> list[SpeechStarted | SpeechStopped]:
        """Listen to the next samples."""
        frame_samples = _FRAME_MS * rate_hz // 1000
        self.clock_ms += len(samples) * 1000 / rate_hz
        waiting = np.concatenate((self._rest, samples)) if len(self._rest) else samples
        whole = len(waiting) - len(waiting) % frame_samples
        self._rest = waiting[whole:]
        facts: list[SpeechStarted | SpeechStopped] = []
        for start in range(0, whole, frame_samples):
            self._heard_ms += _FRAME_MS
            if self.settings is None:
                continue
            level_dbfs = g711.rms_dbfs(waiting[start : start + frame_samples])
            fact = self._hear(self.settings, level_dbfs)
            if fact:
                facts.append(fact)
        return facts

    def _hear(self, settings: Json, level_dbfs: float) -> SpeechStarted | SpeechStopped | None:
        loud = level_dbfs > _level_dbfs(settings)
        if not self.speaking:
            self._loud_frames = self._loud_frames + 1 if loud else 0
            if self._loud_frames < _START_FRAMES:
                return None
            self.speaking = True
            self._quiet_ms = 0
            began_ms = self._heard_ms - self._loud_frames * _FRAME_MS
            self._loud_frames = 0
            return SpeechStarted(max(0, round(began_ms - prefix_ms(settings))))
        self._quiet_ms = 0 if loud else self._quiet_ms + _FRAME_MS
        if self._quiet_ms < _silence_ms(settings):
            return None
        self.reset()
        return SpeechStopped(round(self._heard_ms))


def prefix_ms(settings: Json) -> int:
    """Return how much audio before the first loud sound belongs to the turn."""
    return int(settings.get("prefix_padding_ms", _SEMANTIC_PREFIX_MS))


def _silence_ms(settings: Json) -> int:
    if settings["type"] == "semantic_vad":
        return _EAGERNESS_SILENCE_MS[settings["eagerness"]]
    return max(_FRAME_MS, int(settings["silence_duration_ms"]))


def _level_dbfs(settings: Json) -> float:
    """Map `threshold` 0..1 to -55..-25 dBFS; 0.5 lies between a line's noise and speech."""
    return -55.0 + 30.0 * float(settings.get("threshold", 0.5))
