"""Silence where Twilio's timestamps jump, so that position in bytes is time.

Everything behind the gateway counts bytes to know when something was said.  Twilio sends no frame
for audio that it never got; without a filling, all later audio would be early by the gap.

Twilio: the first timestamp is not 0 (102 to 171 ms were seen), and frames are 20 ms apart on
average only: captures show single milliseconds of jitter and a drift to 19.97 ms a frame.  So the
expected time follows the timestamps slowly, and only a jump of a frame or more is a gap.

Pure: no I/O, no clock.
"""

from dataclasses import dataclass, field
from typing import Final

from shared.audio import FRAME_MS, AudioFormat

#: Filled at once, at most.  A longer hole is an outage, and 5 s of silence end any turn.
FILL_MAX_MS: Final = 5_000
#: Beyond this a timestamp is nonsense rather than late: nothing is filled.
ABSURD_MS: Final = 60_000
#: How fast the expected time follows the timestamps: 2.5 ms a second, above any clock's drift
#: (0.03 ms in 20 is 1.5 ms a second), and so slow that no gap of a frame is followed away.
FOLLOW_MS_PER_MS: Final = 0.0025
#: Earlier than expected by more: the timestamps were set back, so they are followed at once.
#: Silence that we put in by mistake (a lone late timestamp) leaves us early by that much.
BACKWARDS_MS: Final = FILL_MAX_MS + 1_000


@dataclass(slots=True)
class Gaps:
    """The timestamps of one stream."""

    audio: AudioFormat
    filled_ms: int = 0
    backwards: int = 0
    """Timestamps set back by more than `BACKWARDS_MS`."""
    absurd: int = 0
    """Timestamps ahead by more than `ABSURD_MS`."""
    cut: int = 0
    """Gaps longer than `FILL_MAX_MS`."""
    _expected_ms: float | None = field(default=None, init=False)

    def before(self, timestamp_ms: int, size_bytes: int) -> int:
        """Bytes of silence (whole frames) that belong before this audio; nearly always 0."""
        length_ms = size_bytes / self.audio.bytes_per_ms
        if self._expected_ms is None:
            self._expected_ms = timestamp_ms + length_ms
            return 0
        late_ms = timestamp_ms - self._expected_ms
        if late_ms >= FRAME_MS:
            return self._jumped(timestamp_ms, late_ms, length_ms)
        if late_ms < -BACKWARDS_MS:
            self.backwards += 1
            self._expected_ms = timestamp_ms + length_ms
            return 0
        follow_ms = length_ms * FOLLOW_MS_PER_MS
        self._expected_ms += length_ms + max(-follow_ms, min(late_ms, follow_ms))
        return 0

    def _jumped(self, timestamp_ms: int, late_ms: float, length_ms: float) -> int:
        assert self._expected_ms is not None
        if late_ms > ABSURD_MS:
            self.absurd += 1
            self._expected_ms = timestamp_ms + length_ms
            return 0
        if late_ms > FILL_MAX_MS:
            self.cut += 1
            fill_ms = FILL_MAX_MS
            self._expected_ms = timestamp_ms + length_ms
        else:
            fill_ms = int(late_ms // FRAME_MS) * FRAME_MS
            self._expected_ms += fill_ms + length_ms
        self.filled_ms += fill_ms
        return fill_ms * self.audio.bytes_per_ms
