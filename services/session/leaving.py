"""How a call ends or changes hands because the model wants it: `end_call`, `transfer_call`,
`send_dtmf`.

Ending and transferring wait until the agent's last words were heard.  Twilio: moving a call stops
its stream, so while the phone is being moved a stopped stream is no hang-up.

Pure: no I/O; `now` is in seconds.
"""

import json
from dataclasses import dataclass
from typing import Any, Final, Literal

from services.session import events, skills
from services.session.desk import Desk
from services.session.errands import Errands
from services.session.toolcalls import ArgumentsError, parse_arguments
from shared import messages
from shared.messages import AgentSettings

#: How long last words may take to be heard; then the call ends, or is transferred, all the same.
FAREWELL_LIMIT_S: Final = 15.0
#: Twilio's REST API answers within a second; the gateway's own limit is shorter than this.
PHONE_UPDATE_LIMIT_S: Final = 20.0
#: 32 keys that are all waits of a second, and Twilio's own pauses between keys.
KEYS_LIMIT_S: Final = 60.0

GOODBYE_NOTE: Final = "The call ends now. Say goodbye in one short sentence."
_DONE: Final = json.dumps({"ok": True})


@dataclass(slots=True)
class Farewell:
    """Something that waits until the agent's last words were heard."""

    kind: Literal["end", "transfer"]
    call_id: str
    #: The name of who is to be reached.
    to: str = ""
    #: The agent was asked for a goodbye, because it had said none.
    prompted: bool = False


@dataclass(frozen=True, slots=True)
class Move:
    """Twilio was asked to move the call; `what` is a name to reach, or keys."""

    kind: Literal["transfer", "digits"]
    call_id: str
    what: str


class Leaving:
    """One call's."""

    def __init__(self, desk: Desk, agent: AgentSettings, errands: Errands) -> None:
        self._desk = desk
        self._skills = skills.offered(agent)
        self._destinations = skills.destinations(agent)
        self._errands = errands
        self.farewell: Farewell | None = None
        self.move: Move | None = None

    @property
    def under_way(self) -> bool:
        """Whether the model has nothing to say until this is over."""
        return self.farewell is not None or self.move is not None

    def can(self, name: str) -> bool:
        """Whether this is a skill of this agent."""
        return name in self._skills

    def called(self, event: events.FunctionCalled, now: float) -> None:
        """The model uses a skill."""
        if not self._errands.began(event, now):
            return
        try:
            arguments = parse_arguments(event.arguments)
        except ArgumentsError as error:
            self._errands.refuse(event.call_id, error.code, str(error), now)
            return
        if self.under_way:
            self._errands.refuse(event.call_id, "busy", "Another such step is under way.", now)
        elif event.name == skills.END_CALL:
            self._await_words(Farewell("end", event.call_id), now)
        elif event.name == skills.TRANSFER_CALL:
            self._start_transfer(event.call_id, arguments.get("to"), now)
        else:
            self._send_digits(event.call_id, arguments.get("digits"), now)

    # --- last words -------------------------------------------------------------------------

    def _await_words(self, farewell: Farewell, now: float) -> None:
        self.farewell = farewell
        self._desk.timers["farewell"] = now + FAREWELL_LIMIT_S

    def prompt_goodbye(self, now: float) -> None:
        """The agent ends the call without a word: answer, so that a goodbye can be asked for."""
        assert self.farewell is not None, "the caller of this looked"
        self.farewell.prompted = True
        self._errands.answer(self.farewell.call_id, _DONE, now)

    def call_off(self, code: str, text: str, now: float) -> None:
        """The caller spoke over the last words, or is not there: the call goes on."""
        if self.farewell is not None:
            self._errands.refuse(self.take_farewell().call_id, code, text, now)

    def take_farewell(self) -> Farewell:
        """The last words were heard (or their time is up): do it now."""
        assert self.farewell is not None, "the caller of this looked"
        farewell, self.farewell = self.farewell, None
        self._desk.timers.pop("farewell", None)
        return farewell

    # --- the phone is moved -----------------------------------------------------------------

    def _start_transfer(self, call_id: str, to: Any, now: float) -> None:
        if isinstance(to, str) and to in self._destinations:
            self._await_words(Farewell("transfer", call_id, to), now)
        else:
            names = ", ".join(sorted(self._destinations))
            self._errands.refuse(call_id, "invalid_arguments", f"`to` is one of: {names}.", now)

    def transfer(self, farewell: Farewell, now: float) -> None:
        """Ask for the caller to be connected with somebody else."""
        self._begin(Move("transfer", farewell.call_id, farewell.to), now)
        self._desk.out.append(events.TransferLeg(self._destinations[farewell.to]))

    def _send_digits(self, call_id: str, digits: Any, now: float) -> None:
        if isinstance(digits, str) and skills.DIGITS.fullmatch(digits):
            self._begin(Move("digits", call_id, digits), now)
            self._desk.out.append(events.SendDigits(digits))
        else:
            text = "`digits` is 1 to 32 of 0-9*#wW."
            self._errands.refuse(call_id, "invalid_arguments", text, now)

    def _begin(self, move: Move, now: float) -> None:
        self.move = move
        self._desk.timers["move"] = now + PHONE_UPDATE_LIMIT_S

    def _end(self) -> Move:
        assert self.move is not None, "the caller of this looked"
        move, self.move = self.move, None
        self._desk.timers.pop("move", None)
        return move

    def updated(self, event: events.PhoneUpdated, now: float) -> None:
        """Twilio took the change, or did not.

        A transfer that was taken is answered when the caller comes back, if ever; keys at once,
        but the agent speaks again only when the phone is back.
        """
        if self.move is None or event.what != self.move.kind:
            return
        if not event.ok:
            self._failed(event.code or "failed", now)
        elif self.move.kind == "digits":
            self._desk.timers["move"] = now + KEYS_LIMIT_S
            self._pressed(self.move, now)

    def _pressed(self, move: Move, now: float) -> None:
        self._desk.tell(messages.DigitsSent, now, digits=move.what)
        self._errands.answer(move.call_id, _DONE, now)

    def gone(self, now: float) -> None:
        """The phone left for a transfer."""
        assert self.move is not None, "the caller of this looked"
        self._desk.tell(messages.TransferStarted, now, to=self.move.what)

    def back(self, note: str, now: float) -> None:
        """The phone is back: after keys, or from a transfer that came to nothing."""
        if self.move is None:
            return
        if self.move.kind == "transfer":
            self._failed(note.removeprefix("dial:") or "failed", now)
        elif self._errands.awaits(self.move.call_id):
            self._pressed(self._end(), now)  # nobody said so, but here it is
        else:
            self._end()

    def overdue(self, now: float) -> None:
        """Nobody said what became of it, or the phone did not move."""
        if self.move is not None:
            self._failed("timeout", now)

    def _failed(self, code: str, now: float) -> None:
        """It did not work: the model is told, and the caller stays."""
        move = self._end()
        if move.kind == "transfer":
            self._desk.tell(messages.TransferFailed, now, to=move.what, code=code)
        self._errands.refuse(move.call_id, code, f"The {_CALLED[move.kind]} did not work.", now)


_CALLED: Final = {"transfer": "transfer", "digits": "pressing of keys"}
