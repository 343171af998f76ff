"""Where a session puts what is to happen: now, or later on its own clock."""

import dataclasses
import heapq
import itertools
from collections import Counter
from collections.abc import Callable
from typing import Any

from simulators.realtime.faults import Faults
from simulators.realtime.ids import Ids

__all__ = ["Abort", "Close", "Outbox", "Output", "Send"]

Json = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Send:
    """Send this server event."""

    event: Json
    audio_ms: float = 0.0
    """The length of the audio in it, if it is an audio delta."""


@dataclasses.dataclass(frozen=True)
class Close:
    """Close the WebSocket."""

    code: int
    reason: str


@dataclasses.dataclass(frozen=True)
class Abort:
    """Cut the TCP connection without a close frame."""


Output = Send | Close | Abort


class Outbox:
    """Collects outputs in order and keeps the timers; nothing follows a `Close` or an `Abort`."""

    def __init__(self, ids: Ids, faults: Callable[[], Faults]) -> None:
        self.ended = False
        self._ids = ids
        self._faults = faults
        self._outputs: list[Output] = []
        self._timers: list[tuple[float, int, Callable[[float], None]]] = []
        self._order = itertools.count()  # timers of the same moment run in the order they were set
        self._sent: Counter[str] = Counter()

    def send(self, event: Json, audio_ms: float = 0.0) -> None:
        """Send an event now, with an id of its own."""
        if self.ended:
            return
        kind = event["type"]
        named = {"type": kind, "event_id": self._ids.new("event"), **event}
        self._outputs.append(Send(named, audio_ms))
        faults = self._faults()
        if faults.drop_on == kind:
            self._sent[kind] += 1
            if self._sent[kind] == faults.drop_on_nth:
                self.finish(Abort())

    def send_later(self, at: float, event: Json, audio_ms: float = 0.0) -> None:
        """Send an event when its time has come."""
        self.do_later(at, lambda _now: self.send(event, audio_ms))

    def do_later(self, at: float, action: Callable[[float], None]) -> None:
        """Call `action(at)` when its time has come."""
        heapq.heappush(self._timers, (at, next(self._order), action))

    def finish(self, how: Close | Abort) -> None:
        """End the connection; the first way wins."""
        if not self.ended:
            self._outputs.append(how)
            self.ended = True

    def drained(self) -> list[Output]:
        """Return what is to happen now, and forget it."""
        outputs, self._outputs = self._outputs, []
        return outputs

    @property
    def next_timer(self) -> float | None:
        """When the next timer is due."""
        return self._timers[0][0] if self._timers else None

    def run_timer(self) -> None:
        """Do what the next timer is for."""
        at, _order, action = heapq.heappop(self._timers)
        action(at)
