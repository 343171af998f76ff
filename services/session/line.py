"""The phone's side of a call: its legs, one at a time, and how long each may take to come.

Pure: no I/O; `now` is in seconds.
"""

from typing import Final

from services.session import events
from services.session.desk import Desk
from services.session.states import Phone
from shared import messages

#: Twilio opens the stream within a second or two of our answer; a caller who hung up never does.
ATTACH_TIMEOUT_S: Final = 30.0
#: The gateway says `started` a round trip after it got its leg.
START_TIMEOUT_S: Final = 10.0
#: Twilio asks `/twiml/after` at once when a socket is lost; 15 s covers its own time-out.
REATTACH_TIMEOUT_S: Final = 15.0
#: Twilio sends 50 frames a second, also of silence: a phone without any for so long is gone, and
#: the gateway that should have said so is gone as well.
LINE_TIMEOUT_S: Final = 5.0
#: A conversation with somebody else; Twilio's own longest call is about this.
AWAY_TIMEOUT_S: Final = 4 * 3600.0


class Line:
    """One call's."""

    def __init__(self, desk: Desk, max_call_s: float) -> None:
        self._desk = desk
        self._max_call_s = max_call_s
        self._gateway = ""
        self.state = Phone.RINGING
        #: When the first leg was heard.
        self.started_at: float | None = None

    def ring(self, now: float) -> None:
        """The phone rings, or whoever has it is about to open a socket."""
        self._desk.timers["attach"] = now + ATTACH_TIMEOUT_S

    def refuse(self, code: str, text: str) -> None:
        """No leg."""
        refused = messages.Refused.model_validate({"code": code, "message": text})
        self._desk.out.append(events.Answer(refused))

    def attach(self, gateway: str, now: float) -> None:
        """A gateway holds a socket: give it the next leg; it listens soon."""
        record = self._desk.record
        leg = record.leg + 1
        if self.state is Phone.AWAY:
            self._desk.timers["max_call"] = now + self._max_call_s
        self._gateway = gateway
        self.state = Phone.ATTACHED
        for name in ("attach", "reattach", "line", "away"):
            self._desk.timers.pop(name, None)
        self._desk.timers["start"] = now + START_TIMEOUT_S
        self._desk.out.append(events.ListenLeg(leg))
        if leg > 1:
            self._desk.out.append(events.MoveLeg(leg))
        attached = messages.LegAttached(leg=leg, epoch=record.epoch, worker=record.worker)
        self._desk.out.append(events.Answer(attached))
        self._desk.save(leg=leg, state="live")

    def started(self, now: float) -> None:
        """The gateway listens."""
        self.state = Phone.TALKING
        self._desk.timers.pop("start", None)
        self._desk.timers["line"] = now + LINE_TIMEOUT_S
        leg = self._desk.record.leg
        if self.started_at is None:
            self.started_at = now
            self._desk.timers["max_call"] = now + self._max_call_s
            self._desk.tell(messages.CallStarted, now, leg=leg, gateway=self._gateway)
        else:
            self._desk.tell(messages.LegReplaced, now, leg=leg, gateway=self._gateway)

    def watch(self, heard_at: float, now: float) -> bool:
        """Whether audio came lately; if so, look again in time."""
        due = heard_at + LINE_TIMEOUT_S
        if due <= now:
            return False
        self._desk.timers["line"] = due
        return True

    def lost(self, reason: str, now: float, *, patience_s: float = 0.0) -> None:
        """The socket is gone; the caller may come back, `patience_s` later than usual."""
        self.state = Phone.DETACHED
        self._desk.timers.pop("start", None)
        self._desk.timers.pop("line", None)
        self._desk.timers["reattach"] = now + REATTACH_TIMEOUT_S + patience_s
        self._desk.tell(messages.LegDropped, now, leg=self._desk.record.leg, reason=reason)

    def away(self, now: float) -> None:
        """The caller talks to somebody else, and may come back."""
        self.state = Phone.AWAY
        self._desk.timers.clear()
        self._desk.timers["away"] = now + AWAY_TIMEOUT_S
