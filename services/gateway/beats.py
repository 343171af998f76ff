"""Which session workers are alive, by their beats.

A worker that dies cannot say so; its callers would sit in silence on a socket that is fine.  Beats
that stop tell it.
"""

from typing import Final

from nats.aio.msg import Msg
from pydantic import ValidationError

from services.gateway import metrics
from shared.messages import Beat

#: Workers beat every 500 ms.  Five missed ones: a busy machine may swallow two or three, and a call
#: must not be given up for that.
DEAD_AFTER_S: Final = 2.5
#: Workers remembered; the longest silent are forgotten first.
WORKERS_MAX: Final = 10_000


class Beats:
    """When each worker was last heard.  `now` is in seconds on any clock that never goes back."""

    def __init__(self, now: float) -> None:
        self._heard: dict[str, float] = {}
        #: Since when a silent worker would have been heard; later after an outage of the bus.
        self._listening_since = now

    def heard(self, worker: str, now: float) -> None:
        """A worker is alive."""
        self._heard.pop(worker, None)
        self._heard[worker] = now  # the end of the dictionary is the newest
        if len(self._heard) > WORKERS_MAX:
            del self._heard[next(iter(self._heard))]

    def deaf(self, now: float) -> None:
        """The bus is away: nobody's silence means anything."""
        self._listening_since = now

    def is_dead(self, worker: str, now: float) -> bool:
        """Whether `worker` should have been heard and was not."""
        silent_since = max(self._heard.get(worker, 0.0), self._listening_since)
        return now - silent_since > DEAD_AFTER_S

    def read(self, msg: Msg, now: float) -> None:
        """Take a beat from the bus."""
        try:
            beat = Beat.decode(msg.data)
        except ValidationError:
            metrics.GARBAGE.labels("beat").inc()
            return
        self.heard(beat.worker, now)
