"""The model's socket: dialled, configured, told what was said, lost, dialled again, given up.

Pure: no I/O; `now` is in seconds.
"""

from typing import Any, Final

from services.session import events, realtime
from services.session.desk import UNAVAILABLE, CallOver, Desk, milliseconds
from services.session.history import History, ToolTurn
from services.session.states import Model
from services.session.turns import RESUME_NOTE
from shared import messages
from shared.messages import AgentSettings

#: From dialling to configured.  2 s were seen from far away; 70 to 260 ms for the update.
CONFIGURE_TIMEOUT_S: Final = 8.0
#: Dials in a row without a finished response between them; waits before each: at once, then longer.
REDIAL_WAITS_S: Final = (0.0, 0.5, 1.0, 2.0, 4.0)


class Link:
    """One call's way to the model."""

    def __init__(self, desk: Desk, agent: AgentSettings, history: History) -> None:
        self._desk = desk
        self._agent = agent
        self._history = history
        self.state = Model.DIALLING
        #: Since when there was no session in mid-call; None while there is one.
        self.lost_at: float | None = None
        self._dials = 0
        self._dialled_at = 0.0
        self._server_errors = 0

    def dial(self, now: float) -> None:
        """Open a socket."""
        self.state = Model.DIALLING
        self._dials += 1
        self._dialled_at = now
        self._server_errors = 0
        self._desk.timers["configure"] = now + CONFIGURE_TIMEOUT_S
        self._desk.out.append(events.DialModel(self._agent.model))

    def configure(self, tools: list[dict[str, Any]]) -> None:
        """The service answered: say how we want to talk."""
        self.state = Model.CONFIGURING
        self._desk.send(realtime.session_update(self._agent, self._desk.record.audio, tools))

    def configured(self, event: events.SessionUpdated, now: float) -> None:
        """The settings are in force: tell what was said.

        Raises `CallOver` when they are not what we asked for.
        """
        for reported in (event.input_format, event.output_format):
            if not realtime.same_format(reported, self._desk.record.audio):
                # It would send noise to the phone, or never hear a turn end.
                raise CallOver(UNAVAILABLE, detail="format_mismatch")
        self.state = Model.READY
        self.lost_at = None
        self._desk.timers.pop("configure", None)
        self._desk.tell(
            messages.ModelReady,
            now,
            model=self._agent.model,
            voice=self._agent.voice,
            dial_ms=milliseconds(now - self._dialled_at),
            attempt=self._dials,
        )
        self._replay()

    def _replay(self) -> None:
        """Tell a new session what was said, and what tools were asked and answered."""
        said = self._history.replay()
        if said:
            self._desk.send(realtime.message("system", RESUME_NOTE))
        for turn in said:
            if isinstance(turn, ToolTurn):
                call = realtime.function_call(turn.call_id, turn.name, turn.arguments)
                self._desk.send(call)
                if turn.output is not None:
                    self._desk.send(realtime.function_output(turn.call_id, turn.output))
            else:
                self._desk.send(realtime.message(*turn))

    def worked(self) -> None:
        """A response was completed: this socket is as good as any."""
        self._dials = 0

    def another_server_error(self) -> bool:
        """Whether it was one too many.

        OpenAI: an internal error is worth one more try; then a new session.
        """
        self._server_errors += 1
        return self._server_errors > 1

    def lost(self, code: str, text: str, now: float) -> None:
        """The socket is gone or useless: dial again.

        Raises `CallOver` when it was tried often enough.
        """
        if self._dials >= len(REDIAL_WAITS_S):
            raise CallOver(UNAVAILABLE, detail=code, text=text)
        self._desk.tell_failure(code, text, "redialled", now)
        if self.lost_at is None:
            self.lost_at = now
        self.state = Model.DOWN
        self._desk.timers.pop("configure", None)
        self._desk.timers["redial"] = now + REDIAL_WAITS_S[self._dials]
        self._desk.out.append(events.CloseModel())

    def close(self) -> None:
        """No session is needed, and none is paid for."""
        self.state = Model.DOWN
        self.lost_at = None
        self._dials = 0
        self._desk.out.append(events.CloseModel())

    def dial_again(self, now: float) -> None:
        """The phone is back after a `close`."""
        self.lost_at = now
        self.dial(now)
