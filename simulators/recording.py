"""What was said and what was heard in a call, on one timeline that begins with the call.

Two tracks of mu-law, one byte a sample: what the caller said (left), and what the caller heard
(right: the agent's audio at the moment it was played, `<Say>`, and silence). Nothing here runs in
real time; the line writes, tests and summaries read.
"""

import wave
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from simulators import g711

__all__ = ["THRESHOLD_DBFS", "Channel", "Recording", "Segment", "sound_segments"]

Pcm = NDArray[np.int16]
Segment = tuple[int, int]
"""Start and end of a stretch of sound, in milliseconds on the timeline."""

Channel = Literal["said", "heard", "agent"]
"""`agent` is `heard` without Twilio's own voice (`<Say>`)."""

THRESHOLD_DBFS = -45.0
"""Louder than this is sound: speech on a phone is at about -20, line noise below -60."""

LIMIT_S = 60 * 60
"""One hour, 29 MB a track, then no more is kept; a simulated call is minutes long."""

_LIMIT_BYTES = LIMIT_S * g711.SAMPLE_RATE


class Recording:
    """Both directions of a call."""

    def __init__(self) -> None:
        self._said = bytearray()
        self._heard = bytearray()
        self._announced: list[tuple[int, int]] = []

    # Writing

    def write_said(self, position: int, audio: bytes) -> None:
        """Write what the caller said at this sample number."""
        _write(self._said, position, audio)

    def write_heard(self, position: int, audio: bytes, *, announcement: bool = False) -> None:
        """Write what the caller heard; an announcement is Twilio's voice, not the agent's."""
        _write(self._heard, position, audio)
        if announcement:
            self._announced.append((position, position + len(audio)))

    # Reading

    @property
    def said(self) -> Pcm:
        """The caller's voice, 16 bits at 8000 Hz."""
        return g711.decode(bytes(self._padded(self._said)))

    @property
    def heard(self) -> Pcm:
        """Everything that reached the caller's ear; as long as `said`."""
        return g711.decode(bytes(self._padded(self._heard)))

    @property
    def agent(self) -> Pcm:
        """What was heard of the agent alone: `heard` with `<Say>` silenced."""
        samples = self.heard
        for start, end in self._announced:
            samples[start:end] = 0
        return samples

    @property
    def duration_ms(self) -> int:
        return max(len(self._said), len(self._heard)) * 1000 // g711.SAMPLE_RATE

    def loudness(self, channel: Channel, frame: int) -> float:
        """Return how loud one 20 ms frame is, in dBFS. Cheap: for asking during the call."""
        start = frame * g711.FRAME_BYTES
        end = start + g711.FRAME_BYTES
        if channel == "agent" and self._announced and self._announced[-1][1] > start:
            return g711.SILENCE_DBFS
        track = self._said if channel == "said" else self._heard
        return g711.rms_dbfs(g711.decode(bytes(track[start:end])))

    def segments(
        self, channel: Channel, threshold_dbfs: float = THRESHOLD_DBFS, min_gap_ms: int = 200
    ) -> list[Segment]:
        """Return where there is sound, in milliseconds; shorter gaps do not divide it."""
        samples = {"said": self.said, "heard": self.heard, "agent": self.agent}[channel]
        return sound_segments(samples, threshold_dbfs, min_gap_ms)

    def write_wav(self, path: Path | str) -> None:
        """Write a stereo file at 8000 Hz: left is said, right is heard."""
        stereo = np.column_stack((self.said, self.heard))
        with wave.open(str(path), "wb") as file:
            file.setnchannels(2)
            file.setsampwidth(2)
            file.setframerate(g711.SAMPLE_RATE)
            file.writeframes(stereo.astype("<i2").tobytes())

    def _padded(self, track: bytearray) -> bytearray:
        missing = max(len(self._said), len(self._heard)) - len(track)
        return track + bytes([g711.SILENCE]) * missing


def sound_segments(samples: Pcm, threshold_dbfs: float, min_gap_ms: int) -> list[Segment]:
    """Return where 8000 Hz samples are louder than the threshold, judged in 20 ms frames."""
    frames = len(samples) // g711.FRAME_BYTES
    if not frames:
        return []
    squares = np.square(samples[: frames * g711.FRAME_BYTES].astype(np.float64))
    power = squares.reshape(frames, g711.FRAME_BYTES).mean(axis=1)
    loud = np.flatnonzero(power > 32768.0**2 * 10 ** (threshold_dbfs / 10))
    segments: list[Segment] = []
    for frame in loud.tolist():
        start, end = frame * g711.FRAME_MS, (frame + 1) * g711.FRAME_MS
        if segments and start - segments[-1][1] < min_gap_ms:
            segments[-1] = (segments[-1][0], end)
        else:
            segments.append((start, end))
    return segments


def _write(track: bytearray, position: int, audio: bytes) -> None:
    if position + len(audio) > _LIMIT_BYTES:
        return
    if position > len(track):
        track.extend(bytes([g711.SILENCE]) * (position - len(track)))
    track[position : position + len(audio)] = audio
