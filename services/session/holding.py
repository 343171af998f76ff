"""When hold music plays: whether the caller waits, since when, and what keeps it from starting.

Pure: no I/O; `now` is in seconds.
"""

from dataclasses import dataclass
from typing import Final

#: A new model socket is there within this in most cases; a longer pause is covered by music.
REDIAL_PATIENCE_S: Final = 1.5


@dataclass(slots=True)
class Holding:
    """The hold music of one call.  Numbers count up; at most one hold is on."""

    delay_s: float
    wanted: bool = True
    number: int = 0
    on: bool = False
    began_at: float = 0.0
    #: Music could not be had during this wait: silence until the next.
    given_up: bool = False

    def due(self, tool_since: float | None, model_lost_at: float | None) -> float | None:
        """When the wait has been long enough; None: the caller waits for nothing."""
        waits = []
        if tool_since is not None:
            waits.append(tool_since + self.delay_s)
        if model_lost_at is not None:
            waits.append(model_lost_at + REDIAL_PATIENCE_S)
        if not waits:
            self.given_up = False
        return min(waits, default=None) if self.wanted and not self.given_up else None

    def begin(self, now: float) -> int:
        """Music starts now; returns the number of this hold."""
        self.number += 1
        self.on = True
        self.began_at = now
        return self.number

    def end(self) -> bool:
        """Music stops now.  False: there was none."""
        was_on, self.on = self.on, False
        return was_on
