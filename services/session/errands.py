"""What the agent does besides talking: function calls, skills of the session, music meanwhile.

The function calls themselves are in `toolcalls.py`, the rules of music in `holding.py`; here they
meet the model, the phone and the story.  `machine.Call` tells what happened and asks what is due.

Pure: no I/O; `now` is in seconds.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from services.session import events, realtime, skills
from services.session.desk import Desk, milliseconds
from services.session.history import History
from services.session.holding import Holding
from services.session.toolcalls import Dispatch, Refusal, ToolCalls, checked_output, error_output
from shared import messages
from shared.messages import AgentSettings, ToolInfo

#: How long a goodbye may take to be heard; then the call ends all the same.
FAREWELL_LIMIT_S: Final = 12.0
#: Twilio's REST API answers within a second; the gateway's own limit is shorter than this.
PHONE_UPDATE_LIMIT_S: Final = 20.0

GOODBYE_NOTE: Final = "The call ends now. Say goodbye in one short sentence."


@dataclass(slots=True)
class Farewell:
    """Something that waits until the agent's last words were heard."""

    kind: Literal["end", "transfer"]
    call_id: str
    target: str = ""
    #: The agent was asked for a goodbye, because it had said none.
    prompted: bool = False


class Errands:
    """One call's."""

    def __init__(
        self,
        desk: Desk,
        agent: AgentSettings,
        tools: Mapping[str, ToolInfo] | None,
        history: History,
    ) -> None:
        self._desk = desk
        self._agent = agent
        self._history = history
        chosen = {
            name: tool
            for name, tool in (tools or {}).items()
            if agent.tools is None or name in agent.tools
        }
        self._skills = skills.offered(agent)
        # A skill of ours wins over a stranger's tool of the same name.
        self._calls = ToolCalls({**chosen, **self._skills})
        self.holding = Holding(agent.hold_delay_ms / 1000, wanted=agent.hold_music)
        self.farewell: Farewell | None = None
        #: Twilio was asked to move the call: a `stop` on the stream is part of it.
        self.moving: Literal["", "transfer", "digits"] = ""
        self._moving_call = ""
        self._moving_to = ""
        #: An output that no response has used yet.
        self.output_unused = False
        #: Whether the model's session takes outputs now.
        self.model_ready = False

    def schemas(self) -> list[dict[str, Any]]:
        """The tools for `session.update`."""
        return self._calls.schemas()

    @property
    def running(self) -> bool:
        """Whether an output is awaited."""
        return self._calls.running

    # --- function calls ---------------------------------------------------------------------

    def called(self, event: events.FunctionCalled, now: float, *, cancelled: bool) -> None:
        """The model calls a function.  `cancelled`: its response was interrupted."""
        if event.name in self._skills and not cancelled:
            self._skill(event, now)
            return
        outcome = self._calls.called(event.call_id, event.name, event.arguments, now)
        if outcome is None:
            return
        self._called(event, now)
        if cancelled:
            # Not run, but answered: the history must hold no dangling call.
            outcome = Refusal("interrupted", "The caller spoke; it was not run.")
        match outcome:
            case Dispatch(tool, arguments):
                self._desk.out.append(
                    events.RunTool(event.call_id, tool.name, arguments, tool.timeout_ms)
                )
                self._watch()
            case Refusal(code, message):
                self._refuse(event.call_id, code, message, now)
        if cancelled:
            self.output_unused = False  # the caller speaks: an answer to that comes anyway

    def finished(self, event: events.ToolFinished, now: float) -> None:
        """A tool answered."""
        if event.error:
            self._refuse(event.call_id, event.error, event.output, now)
        else:
            output, error = checked_output(event.output)
            self._answer(event.call_id, output, error, now)

    def overdue(self, now: float) -> None:
        """Tools that did not answer in time."""
        for call_id in self._calls.overdue(now):
            if call_id == self._moving_call:
                self._moved("timeout", now)
            else:
                self._refuse(call_id, "timeout", "The tool did not answer in time.", now)
        self._watch()

    def _called(self, event: events.FunctionCalled, now: float) -> None:
        self._history.tool(event.call_id, event.name, event.arguments)
        self._desk.tell(
            messages.ToolCalled,
            now,
            call_id=event.call_id,
            name=event.name,
            arguments=event.arguments,
        )

    def _refuse(self, call_id: str, code: str, message: str, now: float) -> None:
        self._answer(call_id, error_output(code, message), code, now)

    def _answer(self, call_id: str, output: str, error: str, now: float) -> None:
        running = self._calls.answered(call_id)
        if running is None:
            return  # it was answered already: late, or twice
        self._history.tool_answered(call_id, output)
        if self.model_ready:
            self._desk.send(realtime.function_output(call_id, output))
            self.output_unused = True
        self._desk.tell(
            messages.ToolAnswered,
            now,
            call_id=call_id,
            name=running.name,
            output=output,
            duration_ms=milliseconds(now - running.asked_at),
            error=error,
        )
        self._watch()

    def _watch(self) -> None:
        due = self._calls.next_deadline()
        if due is None:
            self._desk.timers.pop("tools", None)
        else:
            self._desk.timers["tools"] = due

    # --- skills -----------------------------------------------------------------------------

    def _skill(self, event: events.FunctionCalled, now: float) -> None:
        limit_s = FAREWELL_LIMIT_S + PHONE_UPDATE_LIMIT_S
        if not self._calls.began(event.call_id, event.name, event.arguments, now, limit_s):
            return
        self._called(event, now)
        self._watch()
        arguments = _object(event.arguments)
        if self.farewell is not None or self.moving:
            self._refuse(event.call_id, "busy", "Another such step is under way.", now)
        elif event.name == skills.END_CALL:
            self._await_silence(Farewell("end", event.call_id), now)
        elif event.name == skills.TRANSFER_CALL:
            self._start_transfer(event.call_id, str(arguments.get("to", "")), now)
        else:
            self._send_digits(event.call_id, str(arguments.get("digits", "")), now)

    def _start_transfer(self, call_id: str, target: str, now: float) -> None:
        if target in self._agent.transfer_to:
            self._await_silence(Farewell("transfer", call_id, target), now)
        else:
            names = ", ".join(sorted(self._agent.transfer_to))
            self._refuse(call_id, "invalid_arguments", f"`to` is one of: {names}.", now)

    def _send_digits(self, call_id: str, digits: str, now: float) -> None:
        if skills.DIGITS.fullmatch(digits):
            self.moving, self._moving_call, self._moving_to = "digits", call_id, digits
            self._desk.out.append(events.SendDigits(digits))
        else:
            self._refuse(call_id, "invalid_arguments", "`digits` is 1 to 32 of 0-9*#wW.", now)

    def _await_silence(self, farewell: Farewell, now: float) -> None:
        self.farewell = farewell
        self._desk.timers["farewell"] = now + FAREWELL_LIMIT_S

    def prompt_goodbye(self, now: float) -> None:
        """The agent ends the call without a word: answer, so that a goodbye can be asked for."""
        assert self.farewell is not None, "the caller of this looked"
        self.farewell.prompted = True
        self._answer(self.farewell.call_id, json.dumps({"ok": True}), "", now)
        self.output_unused = False  # the goodbye is asked for by its own request

    def interrupted(self, now: float) -> None:
        """The caller spoke over the goodbye: the call goes on."""
        if self.farewell is None:
            return
        farewell, self.farewell = self.farewell, None
        self._desk.timers.pop("farewell", None)
        self._refuse(farewell.call_id, "interrupted", "The caller spoke; go on.", now)
        self.output_unused = False  # voice detection starts the answer

    def take_farewell(self) -> Farewell:
        """The last words were heard (or their time is up): do it now."""
        assert self.farewell is not None, "the caller of this looked"
        farewell, self.farewell = self.farewell, None
        self._desk.timers.pop("farewell", None)
        return farewell

    # --- the phone is moved -----------------------------------------------------------------

    def transfer(self, farewell: Farewell) -> None:
        """Ask for the caller to be connected with somebody else."""
        self.moving, self._moving_call = "transfer", farewell.call_id
        self._moving_to = farewell.target
        self._desk.out.append(events.TransferLeg(self._agent.transfer_to[farewell.target]))

    def updated(self, event: events.PhoneUpdated, now: float) -> None:
        """Twilio took the change, or did not.

        A transfer that was taken is answered when the caller comes back, if ever.
        """
        if event.what != self.moving:
            return
        if not event.ok:
            self._moved(event.code or "failed", now)
        elif self.moving == "digits":
            self._desk.tell(messages.DigitsSent, now, digits=self._moving_to)
            self._answer(self._moving_call, json.dumps({"ok": True}), "", now)

    def gone(self, now: float) -> None:
        """The phone left for a transfer."""
        self._desk.tell(messages.TransferStarted, now, to=self._moving_to)

    def back(self, note: str, now: float) -> None:
        """The phone is back: after digits, or from a transfer that came to nothing."""
        if self.moving == "transfer":
            self._moved(note.removeprefix("dial:") or "failed", now)
        self.moving, self._moving_call = "", ""

    def _moved(self, code: str, now: float) -> None:
        """It did not work: the model is told, and the caller stays."""
        what, call_id = self.moving, self._moving_call
        if what == "transfer":
            self._desk.tell(messages.TransferFailed, now, to=self._moving_to, code=code)
        self.moving, self._moving_call = "", ""
        self._refuse(call_id, code, f"The {what} did not work.", now)

    # --- a new model session ----------------------------------------------------------------

    def session_lost(self) -> bool:
        """The model's socket is gone.  Whether a word is owed for an output it did not use."""
        self.model_ready = False
        unused, self.output_unused = self.output_unused, False
        return unused or self.running

    # --- music ------------------------------------------------------------------------------

    def review_hold(self, now: float, *, quiet: bool, model_lost_at: float | None) -> None:
        """Start music when the caller has waited long enough in silence."""
        if self.holding.on:
            return
        waiting = None if self.moving else self._calls.waiting_since()
        due = self.holding.due(waiting, model_lost_at)
        if due is None or not quiet:
            self._desk.timers.pop("hold", None)
        elif now >= due:
            self._desk.timers.pop("hold", None)
            number = self.holding.begin(now)
            self._desk.out.append(events.PlayMusic(number, self._agent.hold_track))
        else:
            self._desk.timers["hold"] = due

    def stop_music(self, reason: str, now: float) -> None:
        """Whatever plays, stops; for the agent's voice, before its first byte."""
        self._desk.timers.pop("hold", None)
        if self.holding.end():
            self._desk.out.append(events.StopMusic(self.holding.number, reason))
            self._desk.tell(
                messages.HoldEnded,
                now,
                hold=self.holding.number,
                reason=reason,
                duration_ms=milliseconds(now - self.holding.began_at),
            )

    def music_answered(self, event: events.MusicAnswered, now: float) -> None:
        """It plays, or it cannot: then there is silence until the next wait."""
        if event.hold != self.holding.number or not self.holding.on:
            return
        if event.error:
            self.holding.given_up = True
            self.stop_music("failed", now)
            return
        self._desk.tell(
            messages.HoldStarted,
            now,
            hold=event.hold,
            track=event.track,
            source=event.source,
            fallback=event.fallback,
        )


def _object(arguments: str) -> dict[str, Any]:
    try:
        found = json.loads(arguments or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
