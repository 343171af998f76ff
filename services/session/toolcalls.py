"""The function calls of a conversation: which run, which were answered, and with what.

A call is dispatched once (OpenAI repeats it in several events), and the model gets exactly one
output for it: the tool's, or one short JSON error it can speak about.

Pure: no I/O; `now` is in seconds.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from shared.messages import ToolInfo

#: What a tool may say: some 4000 tokens, each paid for with every later response.
OUTPUT_LIMIT_BYTES: Final = 16 * 1024
#: Function calls kept to tell repetitions apart.
REMEMBERED: Final = 1000
#: Function calls that may run at the same time; a model that asks for more is in a loop.
RUNNING_LIMIT: Final = 16
#: An answer that is on its way at the deadline: the tool's own limit runs out first.
GRACE_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Running:
    """A function call whose output is awaited."""

    call_id: str
    name: str
    arguments: str
    asked_at: float
    deadline: float
    #: Music may play meanwhile.
    music: bool


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Run this tool."""

    tool: ToolInfo
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Do not run anything; this is the output."""

    code: str
    message: str


def error_output(code: str, message: str) -> str:
    """The one form in which the model learns that a tool did not work."""
    return json.dumps({"error": code, "message": message[:300]})


class ToolCalls:
    """The function calls of one call."""

    def __init__(self, tools: Mapping[str, ToolInfo]) -> None:
        self._tools = tools
        self._running: dict[str, Running] = {}
        self._seen: dict[str, None] = {}

    def schemas(self) -> list[dict[str, Any]]:
        """The tools as the model wants them.  OpenAI: flat, without a nested `function`."""
        return [
            {
                "type": "function",
                "name": tool.name,
                "description": tool.description,
                "parameters": tool.parameters,
            }
            for tool in self._tools.values()
        ]

    def called(
        self, call_id: str, name: str, arguments: str, now: float
    ) -> Dispatch | Refusal | None:
        """The model calls `name`.  None: it was told of this call before."""
        if call_id in self._seen:
            return None
        self._seen[call_id] = None
        if len(self._seen) > REMEMBERED:
            del self._seen[next(iter(self._seen))]
        tool = self._tools.get(name)
        if tool is None:
            known = ", ".join(self._tools) or "none"
            return self._refused(
                call_id, name, arguments, now, "unknown_tool", f"The tools are: {known}."
            )
        if len(self._running) >= RUNNING_LIMIT:
            return self._refused(
                call_id, name, arguments, now, "too_many", "Too many tools run already."
            )
        try:
            # OpenAI: arguments are text, may be odd, and need not satisfy the schema.
            parsed = json.loads(arguments or "{}")
        except ValueError as error:
            return self._refused(call_id, name, arguments, now, "invalid_json", str(error))
        if not isinstance(parsed, dict):
            return self._refused(
                call_id, name, arguments, now, "invalid_json", "The arguments are not an object."
            )
        self._running[call_id] = Running(
            call_id,
            name,
            arguments,
            now,
            now + tool.timeout_ms / 1000 + GRACE_S,
            tool.hold_music,
        )
        return Dispatch(tool, parsed)

    def _refused(
        self, call_id: str, name: str, arguments: str, now: float, code: str, message: str
    ) -> Refusal:
        self._running[call_id] = Running(call_id, name, arguments, now, now, music=False)
        return Refusal(code, message)

    def began(self, call_id: str, name: str, arguments: str, now: float, limit_s: float) -> bool:
        """A call that the session itself answers, within `limit_s`.  False: known already."""
        if call_id in self._seen:
            return False
        self._seen[call_id] = None
        self._running[call_id] = Running(call_id, name, arguments, now, now + limit_s, music=False)
        return True

    def answered(self, call_id: str) -> Running | None:
        """An output came.  None: nobody waits for it (any more)."""
        return self._running.pop(call_id, None)

    def overdue(self, now: float) -> list[str]:
        """Ids of calls whose tool did not answer in time."""
        return [one.call_id for one in self._running.values() if one.deadline <= now]

    def next_deadline(self) -> float | None:
        """When to ask for `overdue`."""
        return min((one.deadline for one in self._running.values()), default=None)

    @property
    def running(self) -> bool:
        """Whether an output is awaited."""
        return bool(self._running)

    def waiting_since(self) -> float | None:
        """Since when the caller waits for a tool during which music may play."""
        return min((one.asked_at for one in self._running.values() if one.music), default=None)

    def pending(self) -> list[Running]:
        """Calls without an output, oldest first."""
        return list(self._running.values())


def checked_output(output: str) -> tuple[str, str]:
    """(output, error code): what goes to the model; an oversized output becomes an error."""
    size = len(output.encode())
    if size > OUTPUT_LIMIT_BYTES:
        code = "output_too_large"
        return error_output(code, f"The tool answered {size} bytes."), code
    return output, ""
