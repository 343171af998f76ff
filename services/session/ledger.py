"""What the phone was given, and what of it was heard.

Twilio: sent is not heard; it buffers and plays in order at real-time speed, and only a returned
`mark` tells progress.  A `clear` empties the buffer and returns all outstanding marks at once, so a
mark that was outstanding at a clear never counts.

Everything queued since the last clear lies on one line of bytes, item after item.  The player's
position on it is the last returned mark plus the time since, never beyond what was sent.

Pure: no I/O; `now` is in seconds.
"""

import collections
from dataclasses import dataclass
from typing import Final

from shared.audio import AudioFormat

#: A mark per 200 ms: fine enough to correct the clock several times a sentence, and few enough not
#: to flood the phone (one mark per delta is reported to cause delays).
MARK_EVERY_MS: Final = 200
#: Marks that a phone may owe us: ten minutes of audio, which is also all that Twilio buffers.
MARKS_LIMIT: Final = 10 * 60 * 1000 // MARK_EVERY_MS
#: Items kept without a mark that says they were heard: a phone that returns no marks at all.  Ten
#: are queued at most in a real call (an answer is one or two items).
ITEMS_LIMIT: Final = 64
RUNS_LIMIT: Final = 4 * ITEMS_LIMIT
#: An item's id inside a mark's name.  OpenAI's ids have 26 characters; treat them as opaque.
MARK_ITEM_CHARS: Final = 64


@dataclass(slots=True)
class Spoken:
    """One item of the agent's speech, in bytes of the call's format."""

    item: str
    sent: int = 0
    heard: int = 0
    #: All its audio was generated.
    complete: bool = False


@dataclass(frozen=True, slots=True)
class Cut:
    """An item that was not heard to its end, at an interruption."""

    item: str
    heard_ms: int
    sent_ms: int


class Ledger:
    """Accounts of the agent's audio towards one phone."""

    def __init__(self, audio: AudioFormat) -> None:
        self._audio = audio
        #: Counts clears; part of every mark's name, so that an old mark is known by its name.
        self.generation = 0
        self._items: dict[str, Spoken] = {}
        #: Runs of one item on the line: (item, start, end); `None` is padding.
        self._runs: collections.deque[tuple[str | None, int, int]] = collections.deque()
        self._marks: dict[str, int] = {}
        #: Marks made since the last clear; part of every mark's name, so that no name comes twice.
        self._marked = 0
        self._end = 0
        self._anchor = 0
        self._anchor_at = 0.0
        self._next_mark = 0
        #: Bytes of an unfinished frame, sent with the item's next audio.
        self._rest: dict[str, bytes] = {}

    # --- sending ----------------------------------------------------------------------------

    def play(self, item: str, audio: bytes, now: float) -> list[bytes | str]:
        """Account for the next audio of `item`.

        Returns what to send to the phone, in order: pieces of whole frames of at most
        `MARK_EVERY_MS` (bytes) and names of marks (str).
        """
        out: list[bytes | str] = []
        if not audio:
            return out
        spoken = self._items.get(item)
        if spoken is None:
            self._rest_of_others(item, out, now)
            self._make_room(now)
            spoken = self._items[item] = Spoken(item)
        spoken.complete = False
        if self._rest:
            audio = self._rest.pop(item, b"") + audio
        whole = len(audio) - len(audio) % self._audio.frame_bytes
        if whole < len(audio):
            self._rest[item] = audio[whole:]
            audio = audio[:whole]
        if audio:
            if spoken.sent == 0:
                # Comes back when the item begins to be played: the clock's first fixed point.
                self._settle(now)
                self._mark(spoken, out)
            for piece in self._audio.cut(audio, MARK_EVERY_MS):
                self._put(spoken, piece, out, now)
        return out

    def _make_room(self, now: float) -> None:
        """Too many items that no mark spoke of: believe the clock about those it has passed."""
        if len(self._items) >= ITEMS_LIMIT:
            self._forget_heard(self._position(now))
        while len(self._items) >= ITEMS_LIMIT:
            oldest = next(iter(self._items))
            del self._items[oldest]
            self._rest.pop(oldest, None)

    def complete(self, item: str, now: float) -> list[bytes | str]:
        """All audio of `item` was given: send the rest, padded to a frame, and its last mark."""
        spoken = self._items.get(item)
        if spoken is None or spoken.complete:
            return []
        out: list[bytes | str] = []
        self._finish_frame(spoken, out, now)
        spoken.complete = True
        if not (out and isinstance(out[-1], str)):
            # Also when all was heard before: this mark's return is what says so.
            self._mark(spoken, out)
        return out

    def _rest_of_others(self, item: str, out: list[bytes | str], now: float) -> None:
        """Another item begins: what is left of the one before must not come after it."""
        for other in [name for name in self._rest if name != item]:
            self._finish_frame(self._items[other], out, now)

    def _finish_frame(self, spoken: Spoken, out: list[bytes | str], now: float) -> None:
        rest = self._rest.pop(spoken.item, b"")
        if not rest:
            return
        if spoken.sent == 0:
            self._settle(now)
            self._mark(spoken, out)
        missing = self._audio.frame_bytes - len(rest)
        padding = self._audio.silent_sample * -(-missing // self._audio.sample_bytes)
        self._put(spoken, rest, out, now, padding[:missing])

    def _put(
        self, spoken: Spoken, piece: bytes, out: list[bytes | str], now: float, padding: bytes = b""
    ) -> None:
        self._settle(now)
        if len(self._runs) >= RUNS_LIMIT:
            self._forget_heard(self._position(now))
        start, self._end = self._end, self._end + len(piece)
        if self._runs and self._runs[-1][0] == spoken.item:
            self._runs[-1] = (spoken.item, self._runs[-1][1], self._end)
        else:
            self._runs.append((spoken.item, start, self._end))
        if padding:
            start, self._end = self._end, self._end + len(padding)
            self._runs.append((None, start, self._end))
        spoken.sent += len(piece)
        out.append(piece + padding)
        if self._end >= self._next_mark:
            self._mark(spoken, out)

    def _mark(self, spoken: Spoken, out: list[bytes | str]) -> None:
        if len(self._marks) >= MARKS_LIMIT:
            return
        self._marked += 1
        item, sent_ms = spoken.item[:MARK_ITEM_CHARS], self._audio.ms(spoken.sent)
        name = f"{self.generation}.{self._marked}.{item}.{sent_ms}"
        self._marks[name] = self._end
        self._next_mark = self._end + MARK_EVERY_MS * self._audio.bytes_per_ms
        out.append(name)

    # --- hearing ----------------------------------------------------------------------------

    def returned(self, name: str, now: float) -> list[tuple[str, int]]:
        """A mark came back.  Returns items that were now heard to their end: (item, heard ms).

        Unknown names (of an earlier generation, or not ours) change nothing.
        """
        position = self._marks.pop(name, None)
        if position is None:
            return []
        for passed in [other for other, at in self._marks.items() if at < position]:
            del self._marks[passed]
        self._anchor, self._anchor_at = position, now
        return self._forget_heard(position)

    def _forget_heard(self, position: int) -> list[tuple[str, int]]:
        """Drop what lies before `position` on the line, and items heard to their end."""
        while self._runs and self._runs[0][1] < position:
            item, start, end = self._runs.popleft()
            if item is not None and item in self._items:
                self._items[item].heard += min(end, position) - start
            if end > position:
                self._runs.appendleft((item, position, end))
                break
        done = [
            spoken
            for spoken in self._items.values()
            if spoken.complete and spoken.heard >= spoken.sent > 0
        ]
        for spoken in done:
            del self._items[spoken.item]
        return [(spoken.item, self._audio.ms(spoken.sent)) for spoken in done]

    def _position(self, now: float) -> int:
        """Where the player is, in bytes on the line."""
        elapsed_ms = max(0.0, now - self._anchor_at) * 1000
        return min(self._end, self._anchor + round(elapsed_ms * self._audio.bytes_per_ms))

    def _settle(self, now: float) -> None:
        """If the player has run dry, what is sent next starts to play now."""
        if self._position(now) >= self._end:
            self._anchor, self._anchor_at = self._end, now

    def unheard(self, now: float) -> bool:
        """Whether something sent was not played yet, or more of an item is to come."""
        if self._position(now) < self._end or self._rest:
            return True
        return any(not spoken.complete for spoken in self._items.values())

    def told_heard(self, now: float, grace_s: float) -> bool:
        """Whether the phone said that it has played everything, or had `grace_s` to say so."""
        if self.unheard(now):
            return False
        left_s = self._audio.ms(self._end - self._anchor) / 1000
        return not self._marks or now - self._anchor_at - left_s >= grace_s

    def unheard_ms(self, now: float) -> int:
        """How much the phone still has to play."""
        return self._audio.ms(self._end - self._position(now))

    def interrupt(self, now: float) -> list[Cut]:
        """Forget what is queued (a `clear` goes to the phone, or the phone is gone).

        Returns each item that was not heard to its end, in order, with what was heard of it.
        """
        position = self._position(now)
        heard = {item: spoken.heard for item, spoken in self._items.items()}
        for item, start, end in self._runs:
            if item is not None and item in heard and start < position:
                heard[item] += min(end, position) - start
        cuts = [
            Cut(item, self._audio.ms(min(heard[item], spoken.sent)), self._audio.ms(spoken.sent))
            for item, spoken in self._items.items()
            if not (spoken.complete and heard[item] >= spoken.sent)
        ]
        self.generation += 1
        self._items.clear()
        self._runs.clear()
        self._marks.clear()
        self._rest.clear()
        self._end = self._anchor = self._next_mark = self._marked = 0
        self._anchor_at = now
        return cuts
