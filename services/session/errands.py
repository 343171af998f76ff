"""The model's function calls, where they meet the model and the story.

Which run and with what limits is in `toolcalls.py`, what the session itself can do in `leaving.py`,
which outputs a response has in `outputs.py`.

Pure: no I/O; `now` is in seconds.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from services.session import events, realtime
from services.session.desk import Desk, milliseconds
from services.session.history import History
from services.session.outputs import Outputs
from services.session.toolcalls import Dispatch, Refusal, ToolCalls, checked_output, error_output
from shared import messages
from shared.messages import ToolInfo

#: How OpenAI names the tool that it refuses: `session.tools[3].parameters`.
_REFUSED_TOOL: Final = re.compile(r"session\.tools\[(\d{1,4})\]")


class Errands:
    """One call's."""

    def __init__(self, desk: Desk, tools: Mapping[str, ToolInfo], history: History) -> None:
        self._desk = desk
        self._history = history
        self._calls = ToolCalls(tools)
        self.outputs = Outputs()
        #: Whether the model's session takes outputs now; what comes before is in its history.
        self.model_ready = False

    def schemas(self) -> list[dict[str, Any]]:
        """The tools for `session.update`."""
        return self._calls.schemas()

    def drop_refused_tool(self, param: str) -> str | None:
        """The model refused its settings for a tool in them: do without.  None: it was no tool."""
        refused = _REFUSED_TOOL.match(param)
        return self._calls.drop(int(refused[1])) if refused else None

    @property
    def running(self) -> bool:
        """Whether an output is awaited."""
        return self._calls.running

    def awaits(self, call_id: str) -> bool:
        """Whether this call has no output yet."""
        return self._calls.awaits(call_id)

    @property
    def music_since(self) -> float | None:
        """Since when the caller waits for a tool during which music may play."""
        return self._calls.waiting_since()

    @property
    def answer_due(self) -> bool:
        """Whether a response is wanted about outputs: one, when all of a response are there."""
        return self.outputs.due(self._calls.awaited())

    # --- function calls ---------------------------------------------------------------------

    def called(self, event: events.FunctionCalled, now: float, *, interrupted: bool) -> None:
        """The model calls a function.  `interrupted`: the caller spoke over its response."""
        outcome = self._calls.called(event, now)
        if outcome is None:
            return
        self._tell_called(event, now)
        if interrupted:
            # Not run, but answered: the history must hold no dangling call.
            outcome = Refusal("interrupted", "The caller spoke; it was not run.")
        match outcome:
            case Dispatch(tool, arguments):
                self._desk.out.append(
                    events.RunTool(event.call_id, tool.name, arguments, tool.timeout_ms)
                )
                self._watch()
            case Refusal(code, message):
                self.refuse(event.call_id, code, message, now)

    def began(self, event: events.FunctionCalled, now: float) -> bool:
        """A call that the session answers itself, when it likes.  False: it was told before."""
        if not self._calls.began(event, now):
            return False
        self._tell_called(event, now)
        return True

    def finished(self, event: events.ToolFinished, now: float) -> None:
        """A tool answered."""
        if event.error:
            self.refuse(event.call_id, event.error, event.output, now)
        else:
            output, error = checked_output(event.output)
            self.answer(event.call_id, output, now, error=error)

    def overdue(self, now: float) -> None:
        """Tools that did not answer in time."""
        for call_id in self._calls.overdue(now):
            self.refuse(call_id, "timeout", "The tool did not answer in time.", now)
        self._watch()

    def refuse(self, call_id: str, code: str, message: str, now: float) -> None:
        """The call's output is an error."""
        self.answer(call_id, error_output(code, message), now, error=code)

    def answer(self, call_id: str, output: str, now: float, *, error: str = "") -> None:
        """The call's output; nothing happens when it has one already."""
        running = self._calls.answered(call_id)
        if running is None:
            return  # late, or twice
        self._history.tool_answered(call_id, output)
        self.outputs.given(call_id, running.response)
        if self.model_ready:
            self._desk.send(realtime.function_output(call_id, output))
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

    def session_lost(self) -> None:
        """The model's socket is gone; what it was given is given to the next one."""
        self.model_ready = False
        self.outputs.session_lost()

    def _tell_called(self, event: events.FunctionCalled, now: float) -> None:
        self._history.tool(event.call_id, event.name, event.arguments)
        self._desk.tell(
            messages.ToolCalled,
            now,
            call_id=event.call_id,
            name=event.name,
            arguments=event.arguments,
        )

    def _watch(self) -> None:
        due = self._calls.next_deadline()
        if due is None:
            self._desk.timers.pop("tools", None)
        else:
            self._desk.timers["tools"] = due
