"""What a tool is: one decorated function with a typed model for its arguments.

Everything that can be decided without waiting is decided here: the JSON schema that the model of
OpenAI sees, whether its arguments fit, and what the output looks like on the wire.  Pure: no I/O.
"""

import dataclasses
import inspect
import json
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Final, Literal, Self, TypeVar, cast, get_type_hints

import pydantic_core
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from shared.messages import ToolInfo, ToolRequest

#: What the model has to read while the caller waits; 16 kB are about 4000 tokens.
OUTPUT_MAX_BYTES: Final = 16 * 1024
#: One sentence.  It travels in a header, and the model reads it aloud in its own words.
MESSAGE_MAX_CHARACTERS: Final = 400
#: Problems named in that sentence: enough for the model to mend its call in one go.
PROBLEMS_MAX: Final = 3

#: Why a request has no output.  `docs/tools.md` explains each.
Code = Literal[
    "invalid_request",
    "invalid_arguments",
    "timeout",
    "unavailable",
    "failed",
    "busy",
    "output_too_large",
]

_NOT_PLAIN: Final = re.compile(r"[^\x20-\x7e]+")
_MARK: Final = "__switchboard_tool__"


class ToolError(Exception):
    """A tool gives no output, and this is what the model is told instead.

    Raise it in a tool with the code `unavailable`, and a message without private data.
    """

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(code)
        self.code: Code = code
        # A header's value is one line, and its parsers agree on ASCII only.
        self.message = _NOT_PLAIN.sub(" ", message).strip()[:MESSAGE_MAX_CHARACTERS]


class Arguments(BaseModel):
    """Base of all arguments: strict about names, forgiving about "3" for 3 and null for unset."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        str_strip_whitespace=True,
        coerce_numbers_to_str=True,
        allow_inf_nan=False,
        # They are a caller's words: not even a traceback shows them.
        hide_input_in_errors=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _null_is_unset(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        fields = cls.model_fields
        return {
            name: value
            for name, value in values.items()
            if value is not None or name not in fields or fields[name].is_required()
        }


@dataclasses.dataclass(frozen=True, slots=True)
class Context:
    """What the session knows of the call: none of it can be made up by the model."""

    call: str
    call_id: str
    caller: str = ""
    dialled: str = ""
    direction: Literal["inbound", "outbound", "browser"] = "inbound"
    agent: str = ""

    @classmethod
    def of(cls, request: ToolRequest) -> Self:
        """The context of `request`."""
        told = request.context
        return cls(
            call=request.call,
            call_id=request.call_id,
            caller=told.caller,
            dialled=told.dialled,
            direction=told.direction,
            agent=told.agent,
        )


Handler = Callable[..., Awaitable[Any]]
HandlerT = TypeVar("HandlerT", bound=Handler)


@dataclasses.dataclass(frozen=True, slots=True)
class _Told:
    """What the decorator says beyond what the function says of itself."""

    name: str | None
    description: str
    timeout_ms: int
    idempotent: bool
    hold_music: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Tool:
    """A registered tool: what the bus is told of it, and the function."""

    info: ToolInfo
    arguments: type[Arguments]
    handler: Handler

    def read(self, arguments: Mapping[str, Any]) -> Arguments:
        """The arguments as the handler wants them; raises `ToolError`: `invalid_arguments`."""
        try:
            return self.arguments.model_validate(arguments)
        except ValidationError as error:
            raise ToolError("invalid_arguments", _sentence(error, self.arguments)) from None

    def metadata(self) -> dict[str, str]:
        """What `$SRV.INFO` tells: strings, as `shared.tools` reads them."""
        info = self.info
        return {
            "description": info.description,
            "parameters": json.dumps(info.parameters, separators=(",", ":")),
            "timeout_ms": str(info.timeout_ms),
            "idempotent": str(info.idempotent).lower(),
            "hold_music": str(info.hold_music).lower(),
        }


def tool(
    *,
    description: str,
    timeout_ms: int = 10_000,
    idempotent: bool = False,
    hold_music: bool = True,
    name: str | None = None,
) -> Callable[[HandlerT], HandlerT]:
    """Make an async function `(arguments: Arguments, context: Context) -> output` a tool.

    `idempotent`: running it again does no harm.  `hold_music`: the caller may hear music while it
    runs.  `name`: the function's own by default.  It becomes a tool of the bus in a `Registry`.
    """
    told = _Told(name, description, timeout_ms, idempotent, hold_music)

    def mark(function: HandlerT) -> HandlerT:
        setattr(function, _MARK, told)
        return function

    return mark


class Registry:
    """Tools by name, made from decorated functions and from objects with decorated methods."""

    def __init__(self, *sources: object) -> None:
        self._tools: dict[str, Tool] = {}
        for source in sources:
            self.add(source)

    def add(self, source: object) -> None:
        """Register a decorated function, or all decorated methods of an object.

        Raises `TypeError` or `ValueError` for what cannot be a tool: at start, not in a call.
        """
        found = [source] if hasattr(source, _MARK) else list(_methods(source))
        if not found:
            raise TypeError(f"{source!r} is no tool: decorate a function with @tool(...)")
        for handler in found:
            made = _make(cast("Handler", handler))
            if made.info.name in self._tools:
                raise ValueError(f"two tools are called {made.info.name}")
            self._tools[made.info.name] = made

    def __iter__(self) -> Iterator[Tool]:
        return iter(self._tools.values())

    def __getitem__(self, name: str) -> Tool:
        return self._tools[name]


def encode(output: object) -> bytes:
    """`output` as JSON, once; a string becomes a JSON string.

    Raises `ToolError`: `output_too_large`, or `failed` for what JSON cannot say.
    """
    try:
        data = pydantic_core.to_json(output, inf_nan_mode="null")
    except (pydantic_core.PydanticSerializationError, ValueError, RecursionError):
        kind = type(output).__name__
        raise ToolError("failed", f"the tool's output ({kind}) cannot be written as JSON") from None
    if len(data) > OUTPUT_MAX_BYTES:
        raise ToolError(
            "output_too_large",
            f"the tool's output has {len(data)} bytes, and {OUTPUT_MAX_BYTES} are allowed: "
            "ask for less",
        )
    return data


def _methods(source: object) -> Iterator[object]:
    for name, member in inspect.getmembers_static(type(source)):
        if hasattr(member, _MARK):
            yield getattr(source, name)


def _make(handler: Handler) -> Tool:
    told: _Told = getattr(handler, _MARK)
    function = inspect.unwrap(handler)
    name = told.name or getattr(function, "__name__", "")
    if not inspect.iscoroutinefunction(function):
        raise TypeError(f"tool {name}: an async function is needed")
    parameters = list(inspect.signature(function).parameters)
    if len(parameters) != 2:
        raise TypeError(f"tool {name}: it takes (arguments, context)")
    arguments = get_type_hints(function).get(parameters[0])
    if not (isinstance(arguments, type) and issubclass(arguments, Arguments)):
        raise TypeError(
            f"tool {name}: the type of {parameters[0]!r} must be a subclass of Arguments"
        )
    info = ToolInfo(
        name=name,
        description=told.description,
        parameters=schema(arguments),
        timeout_ms=told.timeout_ms,
        idempotent=told.idempotent,
        hold_music=told.hold_music,
    )
    return Tool(info, arguments, handler)


def schema(arguments: type[Arguments]) -> dict[str, Any]:
    """The JSON schema of a model's arguments, without what only costs the model tokens."""
    made = cast("dict[str, Any]", _without_titles(arguments.model_json_schema()))
    made.pop("description", None)  # the class's docstring: the tool has a description of its own
    made.setdefault("properties", {})
    return made


def _without_titles(node: object) -> object:
    """`node`, a schema or part of one, without pydantic's `title`; a field may be called so."""
    if isinstance(node, list):
        return [_without_titles(each) for each in node]
    if not isinstance(node, dict):
        return node
    made: dict[str, object] = {}
    for key, value in node.items():
        if key in ("properties", "$defs"):
            made[key] = {name: _without_titles(each) for name, each in value.items()}
        elif key in ("default", "const", "enum", "examples"):
            made[key] = value  # values, not schemas
        elif key != "title":
            made[key] = _without_titles(value)
    return made


def _sentence(error: ValidationError, arguments: type[Arguments]) -> str:
    """One sentence that names each field and what is wrong with it, for the model to mend it."""
    problems = []
    for fault in error.errors(include_url=False, include_input=False):
        field = ".".join(str(part)[:40] for part in fault["loc"]) or "arguments"
        if fault["type"] == "extra_forbidden":
            known = ", ".join(arguments.model_fields) or "none"
            problems.append(f"{field}: there is no such argument, only: {known}")
        elif fault["type"] == "missing":
            problems.append(f"{field}: it is required")
        else:
            problems.append(f"{field}: {fault['msg'].removeprefix('Value error, ')}")
    more = len(problems) - PROBLEMS_MAX
    tail = f"; and {more} more" if more > 0 else ""
    return "; ".join(problems[:PROBLEMS_MAX]) + tail
