"""When hold music plays: whether the caller waits, since when, and what keeps it from starting.

Pure: no I/O; `now` is in seconds.
"""

from typing import Final, Literal

from services.session import events
from services.session.desk import Desk, milliseconds
from shared import messages
from shared.messages import AgentSettings

#: A new model socket is there within this in most cases; a longer pause is covered by music.
REDIAL_PATIENCE_S: Final = 1.5

Reason = Literal["agent", "caller", "leg", "ended", "failed"]


class Holding:
    """The hold music of one call.  Numbers count up; at most one hold is on."""

    def __init__(self, desk: Desk, agent: AgentSettings) -> None:
        self._desk = desk
        self._delay_s = agent.hold_delay_ms / 1000
        self._wanted = agent.hold_music
        self._track = agent.hold_track
        self._number = 0
        self._began_at = 0.0
        #: Music could not be had during this wait: silence until the next.
        self._given_up = False
        self.on = False

    def review(
        self, now: float, *, quiet: bool, tool_since: float | None, model_since: float | None
    ) -> None:
        """Start when the caller has waited long enough, for a tool or for a model, in silence."""
        if self.on:
            return
        due = self._due(tool_since, model_since)
        if due is None or not quiet:
            self._desk.timers.pop("hold", None)
        elif now < due:
            self._desk.timers["hold"] = due
        else:
            self._desk.timers.pop("hold", None)
            self._number += 1
            self.on, self._began_at = True, now
            self._desk.out.append(events.PlayMusic(self._number, self._track))

    def _due(self, tool_since: float | None, model_since: float | None) -> float | None:
        waits = []
        if tool_since is not None:
            waits.append(tool_since + self._delay_s)
        if model_since is not None:
            waits.append(model_since + REDIAL_PATIENCE_S)
        if not waits:
            self._given_up = False
        return min(waits, default=None) if self._wanted and not self._given_up else None

    def stop(self, reason: Reason, now: float) -> None:
        """Whatever plays, stops; for the agent's voice, before its first byte."""
        self._desk.timers.pop("hold", None)
        if not self.on:
            return
        self.on = False
        self._desk.out.append(events.StopMusic(self._number, reason))
        self._desk.tell(
            messages.HoldEnded,
            now,
            hold=self._number,
            reason=reason,
            duration_ms=milliseconds(now - self._began_at),
        )

    def silence(self) -> None:
        """As `stop`, without a word."""
        if self.on:
            self.on = False
            self._desk.out.append(events.StopMusic(self._number, "ended"))

    def answered(self, event: events.MusicAnswered, now: float) -> None:
        """It plays, or it cannot: then there is silence until the next wait."""
        if event.hold != self._number or not self.on:
            return  # it was stopped before it began
        if event.error:
            self._given_up = True
            self.stop("failed", now)
            return
        self._desk.tell(
            messages.HoldStarted,
            now,
            hold=event.hold,
            track=event.track,
            source=event.source,
            fallback=event.fallback,
        )
