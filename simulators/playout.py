"""Twilio's side of the agent's voice: the buffer that audio waits in until it has been heard.

Pure: no clock and no socket; every method is told the time (`now`, in seconds since the call
began) and the buffer works out what must have been played by then. After any call, fetch what
happened with `take_audio()` and `take_marks()`.

Twilio: what the server sends is queued and played in order at real-time speed. A mark comes back
when everything queued before it has been played. `clear` empties the buffer and returns all
outstanding marks at once. Audio beyond ten minutes is discarded.
"""

from collections import deque
from dataclasses import dataclass, field

from simulators.g711 import SAMPLE_RATE

__all__ = ["LIMIT_BYTES", "Clear", "Mark", "PlayoutBuffer"]

LIMIT_BYTES = 10 * 60 * SAMPLE_RATE
"""Twilio, warning 31931: more than 10 minutes (at one byte a sample) is discarded."""

_HISTORY = 10_000
"""Marks and clears remembered for tests: ten marks a second for over a quarter of an hour."""


@dataclass(slots=True)
class Mark:
    """A bookmark in the audio, and what became of it."""

    name: str
    queued_ms: float
    played_ms: float | None = None
    """When everything before it had been played; None while it waits, and if it was cleared."""
    cleared: bool = False
    """True if `clear` returned it before the audio was heard."""
    _due: int = field(default=0, repr=False)
    """Bytes that must have left the buffer before this mark is due."""


@dataclass(frozen=True, slots=True)
class Clear:
    """What one `clear` found: the truth about what the caller had heard by then."""

    at_ms: float
    played_bytes: int
    """On this stream, in all."""
    played_since_empty_bytes: int
    """Since the buffer last ran empty: usually, of the answer that was interrupted."""
    dropped_bytes: int
    marks: tuple[str, ...]
    """Names of the marks returned without having been played."""


class PlayoutBuffer:
    """A FIFO of mu-law audio that empties itself at 8 bytes per millisecond."""

    def __init__(self, *, now: float) -> None:
        self.queued_bytes = 0
        """Accepted so far. Always equal to played + dropped + pending."""
        self.played_bytes = 0
        self.dropped_bytes = 0
        """Thrown away by `clear`."""
        self.refused_bytes = 0
        """Never accepted, because ten minutes were waiting already."""
        self.played_since_empty_bytes = 0
        self.marks: deque[Mark] = deque(maxlen=_HISTORY)
        self.clears: deque[Clear] = deque(maxlen=_HISTORY)

        self._clock = _sample(now)  # sample number up to which time has been accounted for
        self._chunks: deque[bytes] = deque()
        self._offset = 0  # bytes of the first chunk already played
        self._waiting: deque[Mark] = deque()
        self._returned: list[Mark] = []
        self._sounded: list[tuple[int, bytes]] = []

    @property
    def pending_bytes(self) -> int:
        """Accepted and not yet heard."""
        return self.queued_bytes - self.played_bytes - self.dropped_bytes

    @property
    def waiting_marks(self) -> int:
        """Marks that have not been returned yet."""
        return len(self._waiting)

    # Receiving

    def queue(self, audio: bytes, now: float) -> int:
        """Append audio. Returns how many bytes there was no room for."""
        self.advance(now)
        if not self.pending_bytes:
            self.played_since_empty_bytes = 0
        accepted = audio[: LIMIT_BYTES - self.pending_bytes]
        if accepted:
            self._chunks.append(accepted)
            self.queued_bytes += len(accepted)
        refused = len(audio) - len(accepted)
        self.refused_bytes += refused
        return refused

    def mark(self, name: str, now: float) -> None:
        """Append a mark. With nothing before it to be played, it is returned immediately."""
        self.advance(now)
        mark = Mark(name, queued_ms=_ms(self._clock), _due=self.queued_bytes)
        self.marks.append(mark)
        self._waiting.append(mark)
        self._return_due_marks(began=self._clock)

    def clear(self, now: float) -> Clear:
        """Throw away what has not been heard, and return every mark."""
        self.advance(now)
        clear = Clear(
            at_ms=_ms(self._clock),
            played_bytes=self.played_bytes,
            played_since_empty_bytes=self.played_since_empty_bytes,
            dropped_bytes=self.pending_bytes,
            marks=tuple(mark.name for mark in self._waiting),
        )
        self.dropped_bytes += self.pending_bytes
        self._chunks.clear()
        self._offset = 0
        for mark in self._waiting:
            mark.cleared = True
        self._returned.extend(self._waiting)
        self._waiting.clear()
        self.clears.append(clear)
        return clear

    def advance(self, now: float) -> None:
        """Play what time has passed for."""
        began = self._clock
        self._clock = max(began, _sample(now))
        wanted = min(self._clock - began, self.pending_bytes)
        if not wanted:
            return
        self._sounded.append((began, self._take(wanted)))
        # A mark is due when the byte before it was played, not when somebody looked.
        self.played_bytes += wanted
        self.played_since_empty_bytes += wanted
        self._return_due_marks(began=began, just_played=wanted)

    # Fetching what happened

    def take_audio(self) -> list[tuple[int, bytes]]:
        """Return what was played since the last call: sample number on the timeline, bytes."""
        sounded, self._sounded = self._sounded, []
        return sounded

    def take_marks(self) -> list[Mark]:
        """Return the marks that came back since the last call, in order."""
        returned, self._returned = self._returned, []
        return returned

    # Private

    def _take(self, count: int) -> bytes:
        pieces = []
        while count:
            chunk = self._chunks[0]
            piece = chunk[self._offset : self._offset + count]
            pieces.append(piece)
            count -= len(piece)
            self._offset += len(piece)
            if self._offset == len(chunk):
                self._chunks.popleft()
                self._offset = 0
        return b"".join(pieces)

    def _return_due_marks(self, *, began: int, just_played: int = 0) -> None:
        gone = self.played_bytes + self.dropped_bytes
        while self._waiting and self._waiting[0]._due <= gone:
            mark = self._waiting.popleft()
            mark.played_ms = _ms(began + just_played - (gone - mark._due))
            self._returned.append(mark)


def _sample(now: float) -> int:
    return round(now * SAMPLE_RATE)


def _ms(sample: int) -> float:
    return sample * 1000 / SAMPLE_RATE
