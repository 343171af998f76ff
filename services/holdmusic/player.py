"""One hold that plays: which bytes are due, by an absolute schedule.

Position in bytes is time since the start.  The schedule is a function of `now` alone, never of how
often or how punctually it is asked, so twenty players do not drift apart in an hour.

Pure: no I/O, no clock.
"""

from typing import Final

import numpy as np

from services.holdmusic import waves
from shared.audio import FRAME_MS, AudioFormat

#: Music beyond real time that may wait in the phone: enough for a late tick, little enough that a
#: `clear` need not throw much away.
LEAD_MS: Final = 200
#: How often a player should be asked.  Two ticks fit into the lead: one may come late.
TICK_MS: Final = 100
#: Later than this, music is passed over and goes on where it would be by now: the process was
#: suspended, and a flood of old music would only fill the phone's buffer.
STALL_MS: Final = 1000
#: Music does not begin with a bang.
FADE_MS: Final = 800


def fade_in(audio: bytes, format_: AudioFormat, fade_ms: int = FADE_MS) -> bytes:
    """The first `fade_ms` of a looped `audio`, rising linearly from silence to full."""
    size = format_.bytes_per_ms * fade_ms
    head = (audio * -(-size // len(audio)))[:size]
    pcm = waves.to_pcm(head, format_)
    gain = np.arange(1, len(pcm) + 1, dtype=np.float32) / max(1, len(pcm))
    return waves.to_audio(np.rint(pcm * gain).astype(np.int16), format_)


class Player:
    """Plays `audio` in a loop from `now` on, for at most `limit_s`."""

    def __init__(
        self, audio: bytes, format_: AudioFormat, now: float, *, limit_s: float, lead_ms: int = 0
    ) -> None:
        """`lead_ms`: 0 takes `LEAD_MS`.  `audio` must hold whole samples, at least one."""
        if not audio or len(audio) % format_.sample_bytes:
            raise ValueError(f"a track of {len(audio)} bytes is not whole samples")
        self._audio = audio
        self._format = format_
        self._started = now
        self._lead_ms = lead_ms or LEAD_MS
        self._limit_ms = int(limit_s * 1000) // FRAME_MS * FRAME_MS
        self._head = fade_in(audio, format_)
        #: Milliseconds of the schedule that were handed out or passed over; whole frames.
        self.position_ms = 0
        #: Milliseconds that were passed over, because nobody asked for so long.
        self.skipped_ms = 0

    @property
    def over(self) -> bool:
        """Whether the limit is reached: nothing will ever be due again."""
        return self.position_ms >= self._limit_ms

    def due(self, now: float) -> bytes:
        """The bytes to send now: whole frames, up to `lead_ms` ahead of real time; may be empty."""
        elapsed_ms = max(0, int((now - self._started) * 1000 + 1e-6))
        whole_ms = elapsed_ms // FRAME_MS * FRAME_MS
        late_ms = min(whole_ms, self._limit_ms) - self.position_ms
        if late_ms > STALL_MS:
            self.skipped_ms += late_ms
            self.position_ms += late_ms
        until_ms = (elapsed_ms + self._lead_ms) // FRAME_MS * FRAME_MS
        size_ms = min(until_ms, self._limit_ms) - self.position_ms
        if size_ms <= 0:
            return b""
        start = self.position_ms * self._format.bytes_per_ms
        self.position_ms += size_ms
        return self._read(start, size_ms * self._format.bytes_per_ms)

    def _read(self, start: int, size: int) -> bytes:
        pieces = []
        while size > 0:
            if start < len(self._head):
                piece = self._head[start : start + size]
            else:
                at = start % len(self._audio)
                piece = self._audio[at : at + size]
            pieces.append(piece)
            start += len(piece)
            size -= len(piece)
        return b"".join(pieces)
