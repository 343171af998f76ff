"""The function calls of a conversation: which run, which were answered, and with what.

A call is dispatched once (OpenAI repeats it in several events), and the model gets exactly one
output for it: the tool's, or one short JSON error it can speak about.

Pure: no I/O; `now` is in seconds.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from services.session.events import FunctionCalled
from shared.messages import ToolInfo

#: What a tool may say: some 4000 tokens, each paid for with every later response.
OUTPUT_LIMIT_BYTES: Final = 16 * 1024
#: What an error may say about itself: a sentence or two.
ERROR_LIMIT_CHARS: Final = 300
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
    #: Which response made the call: one answer is asked for when all its calls have outputs.
    response: str
    name: str
    asked_at: float
    #: Infinite for the session's own skills, which have limits of their own.
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


class ToolCalls:
    """The function calls of one call."""

    def __init__(self, tools: Mapping[str, ToolInfo]) -> None:
        self._tools = dict(tools)
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

    def drop(self, place: int) -> str | None:
        """Offer the tool at this place of `schemas` no more.  None: there is none."""
        names = list(self._tools)
        if not 0 <= place < len(names):
            return None
        del self._tools[names[place]]
        return names[place]

    def called(self, event: FunctionCalled, now: float) -> Dispatch | Refusal | None:
        """The model calls a function.  None: it was told of this call before."""
        tool = self._tools.get(event.name)
        limit_s = tool.timeout_ms / 1000 + GRACE_S if tool is not None else 0.0
        full = len(self._running) >= RUNNING_LIMIT
        music = tool is not None and tool.hold_music
        if not self.began(event, now, limit_s, music=music):
            return None
        if tool is None:
            known = ", ".join(self._tools) or "none"
            return Refusal("unknown_tool", f"The tools are: {known}.")
        if full:
            return Refusal("too_many", "Too many tools run already.")
        try:
            return Dispatch(tool, parse_arguments(event.arguments))
        except ArgumentsError as error:
            return Refusal(error.code, str(error))

    def began(
        self,
        event: FunctionCalled,
        now: float,
        limit_s: float = math.inf,
        *,
        music: bool = False,
    ) -> bool:
        """An output is awaited from now on, for `limit_s`.  False: it was told before."""
        if event.call_id in self._seen:
            return False
        self._seen[event.call_id] = None
        if len(self._seen) > REMEMBERED:
            del self._seen[next(iter(self._seen))]
        self._running[event.call_id] = Running(
            event.call_id, event.response, event.name, now, now + limit_s, music
        )
        return True

    def answered(self, call_id: str) -> Running | None:
        """An output came.  None: nobody waits for it (any more)."""
        return self._running.pop(call_id, None)

    def overdue(self, now: float) -> list[str]:
        """Ids of calls whose tool did not answer in time."""
        return [one.call_id for one in self._running.values() if one.deadline <= now]

    def next_deadline(self) -> float | None:
        """When to ask for `overdue`."""
        deadlines = [one.deadline for one in self._running.values()]
        return min(filter(math.isfinite, deadlines), default=None)

    @property
    def running(self) -> bool:
        """Whether an output is awaited."""
        return bool(self._running)

    def awaits(self, call_id: str) -> bool:
        """Whether this call has no output yet."""
        return call_id in self._running

    def awaited(self) -> set[str]:
        """The responses of which an output is awaited."""
        return {one.response for one in self._running.values()}

    def waiting_since(self) -> float | None:
        """Since when the caller waits for a tool during which music may play."""
        return min((one.asked_at for one in self._running.values() if one.music), default=None)


# --- texts ---------------------------------------------------------------------------------------


class ArgumentsError(ValueError):
    """Arguments that cannot be sent to a tool; a code, and a sentence for the model."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


def parse_arguments(text: str) -> dict[str, Any]:
    """The arguments the model wrote; nothing at all counts as none.

    OpenAI: they are text, may be odd, and need not satisfy the schema.  Raises `ArgumentsError`.
    """
    if not text.strip():
        return {}
    try:
        found = json.loads(text, parse_constant=_refuse_constant)
        # Half a character, or a depth that can be read but not written.
        json.dumps(found, ensure_ascii=False).encode()
    except RecursionError as error:
        raise ArgumentsError("invalid_json", "The arguments are nested too deeply.") from error
    except UnicodeEncodeError as error:
        raise ArgumentsError("invalid_json", "The arguments hold half a character.") from error
    except ValueError as error:
        raise ArgumentsError("invalid_json", f"The arguments are not JSON: {error}") from error
    if not isinstance(found, dict):
        raise ArgumentsError("invalid_arguments", "The arguments are not a JSON object.")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _whole(text: str) -> str:
    """Text that can be written as UTF-8: a tool in another language may cut an emoji in two."""
    return text if text.isascii() else text.encode(errors="replace").decode()


def error_output(code: str, message: str) -> str:
    """The one form in which the model learns that a tool did not work."""
    message = _whole(message)[:ERROR_LIMIT_CHARS]
    return json.dumps({"error": _whole(code), "message": message}, ensure_ascii=False)


def checked_output(output: str) -> tuple[str, str]:
    """(output, error code): what goes to the model; an oversized output becomes an error."""
    output = _whole(output)
    size = len(output.encode())
    if size > OUTPUT_LIMIT_BYTES:
        code = "output_too_large"
        return error_output(code, f"The tool answered {size} bytes."), code
    return output, ""
