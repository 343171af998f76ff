"""Audio formats of a call, and helpers for frames.

Audio on the bus is raw bytes in the call's own format, a gapless stream: position in bytes *is*
time, so a frame needs no header.  Phones speak G.711 mu-law at 8 kHz, browsers PCM at 24 kHz.

Pure: no I/O.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

#: One frame is what a phone sends at a time.  Twilio: 20 ms, 160 bytes of mu-law.
FRAME_MS: Final = 20

FormatName = Literal["pcmu", "pcm24k"]


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """How bytes are time: `rate_hz` samples a second of `sample_bytes` bytes, mono."""

    name: FormatName
    rate_hz: int
    sample_bytes: int
    #: One sample of silence.  Zero bytes are LOUD in mu-law: 0x00 decodes to -32124.
    silent_sample: bytes

    @property
    def bytes_per_ms(self) -> int:
        """8 for mu-law, 48 for PCM at 24 kHz."""
        return self.rate_hz * self.sample_bytes // 1000

    @property
    def frame_bytes(self) -> int:
        """Bytes in one frame of `FRAME_MS`: 160 for mu-law, 960 for PCM at 24 kHz."""
        return self.bytes_per_ms * FRAME_MS

    def ms(self, size_bytes: int) -> int:
        """Whole milliseconds that `size_bytes` bytes last (rounded down)."""
        return size_bytes // self.bytes_per_ms

    def silence(self, duration_ms: int) -> bytes:
        """Bytes of silence lasting `duration_ms`; empty for zero or less."""
        samples = max(0, duration_ms) * self.rate_hz // 1000
        return self.silent_sample * samples

    def cut(self, audio: bytes, piece_ms: int) -> Iterator[bytes]:
        """Pieces of at most `piece_ms` (the last may be shorter), in order, none lost."""
        step = self.bytes_per_ms * piece_ms
        for start in range(0, len(audio), step):
            yield audio[start : start + step]


PCMU: Final = AudioFormat("pcmu", rate_hz=8000, sample_bytes=1, silent_sample=b"\xff")
PCM24K: Final = AudioFormat("pcm24k", rate_hz=24000, sample_bytes=2, silent_sample=b"\x00\x00")

FORMATS: Final[dict[FormatName, AudioFormat]] = {"pcmu": PCMU, "pcm24k": PCM24K}
