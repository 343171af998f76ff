"""Whose turn it is: who speaks, which response runs, is due, asked for, or tried again.

One model session at a time; what belongs to one does not outlive it.

Pure: no I/O; `now` is in seconds.
"""

from typing import Final

from services.session import events, realtime
from services.session.desk import UNAVAILABLE, CallOver, Desk
from services.session.leaving import GOODBYE_NOTE
from services.session.realtime import Reaction
from services.session.responses import Responses
from shared.messages import AgentSettings

#: A response that gives no sign of life: the slowest reasoning effort answers within this.
STALL_TIMEOUT_S: Final = 20.0
#: Failed responses in a row before the call is given up, and the wait before each retry.
RETRY_WAITS_S: Final = (0.5, 1.5, 3.0)

RESUME_NOTE: Final = "The line was cut for a moment. Carry on without greeting again."


class Turns:
    """One call's."""

    def __init__(self, desk: Desk, agent: AgentSettings) -> None:
        self._desk = desk
        self._agent = agent
        self._failures = 0
        #: What is asked for when the timer `retry` is due.
        self.retry_purpose = ""
        #: When the caller last finished, until the agent answers.
        self.speech_ended_at: float | None = None
        self.forget_session()

    def forget_session(self) -> None:
        """The model's socket is gone, and every response with it."""
        self.responses = Responses()
        #: Between the two events of voice detection.  It will start a response of its own.
        self.caller_speaks = False
        #: The caller has spoken, and that response has not started yet.
        self._answer_due = False
        for name in ("stall", "retry"):
            self._desk.timers.pop(name, None)

    @property
    def unsaid(self) -> bool:
        """Whether a response runs or is to come: the agent has yet to speak."""
        return self.responses.busy or self._answer_due or "retry" in self._desk.timers

    @property
    def busy(self) -> bool:
        """Whether somebody speaks, or is about to."""
        return self.unsaid or self.caller_speaks

    # --- the caller -------------------------------------------------------------------------

    def speech_started(self, now: float) -> None:
        """The caller speaks.

        OpenAI cancels the running response by itself; a `response.cancel` of ours could hit the
        next one.  The answer to what the caller says now comes without our asking.
        """
        self.speech_ended_at = None
        self.caller_speaks, self._answer_due = True, False
        self.responses.mute_active()
        self.responses.take_wanted()
        self._desk.timers.pop("retry", None)
        self.watch(now)

    def speech_stopped(self, now: float) -> None:
        """The caller has finished, and is answered without our asking."""
        self.speech_ended_at = now
        self.caller_speaks, self._answer_due = False, True
        self.watch(now)

    # --- responses --------------------------------------------------------------------------

    def ask(self, purpose: str, now: float) -> bool:
        """Ask for a response, now or when the running one is done: one at a time.

        Returns whether it was asked for now.
        """
        if self.caller_speaks:
            return False  # voice detection will start one
        if not self.responses.may_ask(purpose):
            return False
        event = realtime.response_create(purpose, self._instructions_for(purpose))
        self.responses.asked(purpose, self._desk.send(event))
        self.watch(now)
        return True

    def _instructions_for(self, purpose: str) -> str | None:
        notes = {
            "greeting": self._agent.greeting,
            "resume": RESUME_NOTE,
            "goodbye": GOODBYE_NOTE,
        }
        note = notes.get(purpose)
        return f"{self._agent.instructions}\n\n{note}" if note is not None else None

    def watch(self, now: float) -> None:
        """While one is due, asked for or running, the next sign of life must come in time."""
        if self.responses.busy or self._answer_due:
            self._desk.timers["stall"] = now + STALL_TIMEOUT_S
        else:
            self._desk.timers.pop("stall", None)

    def alive(self, now: float) -> None:
        """A response gave a sign of life."""
        self._desk.timers["stall"] = now + STALL_TIMEOUT_S

    def started(self, event: events.ResponseStarted, now: float) -> None:
        """A response runs: the one we asked for, or one that voice detection started."""
        self.responses.started(event.response, event.purpose)
        self._answer_due = False
        # Whatever was to be tried again: this one answers it, or fails and is tried again.
        self._desk.timers.pop("retry", None)
        self.watch(now)

    def finished(self, event: events.ResponseFinished, now: float, *, spoke: bool) -> str | None:
        """A response is done and did not fail.  Returns what to ask for now.

        `spoke`: something of it was sent to the phone.
        """
        if event.status == "completed":
            self._failures = 0
        wanted = self.responses.take_wanted()
        self.watch(now)
        if wanted == "tools":
            return None  # which outputs it had is known better elsewhere
        # Somebody may have spoken for us meanwhile: then there is nothing left to say.
        return None if spoke and event.status != "cancelled" else wanted

    def failed(self, purpose: str, code: str, text: str, now: float) -> None:
        """Try again after a while; the same thing is said, by the same rules.

        Raises `CallOver` when it was tried often enough.
        """
        if realtime.reaction(code) is Reaction.GIVE_UP or self._failures >= len(RETRY_WAITS_S):
            raise CallOver(UNAVAILABLE, detail=code, text=text)
        self._desk.tell_failure(code, text, "retried", now)
        self._retry(purpose or "retry", RETRY_WAITS_S[self._failures], now)
        self._failures += 1

    def put_off(self, now: float) -> None:
        """Ours was refused because another one runs; it may be done by now."""
        self.responses.put_off()
        if not self.responses.running and (wanted := self.responses.take_wanted()) is not None:
            self._retry(wanted, RETRY_WAITS_S[0], now)
        self.watch(now)

    def _retry(self, purpose: str, wait_s: float, now: float) -> None:
        self.retry_purpose = purpose
        self._desk.timers["retry"] = now + wait_s
        self.watch(now)
