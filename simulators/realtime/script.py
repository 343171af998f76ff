"""What the simulated model says, hears and calls, written like a screenplay.

    {"name": "acme",
     "greeting": {"say": "Hello, this is Acme. How can I help?"},
     "turns": [
       {"hear": "What's the weather in Oslo?",
        "say": "One moment.",
        "call": [{"name": "get_weather", "arguments": {"location": "Oslo"}}],
        "then": {"say": "It is {temp} degrees in Oslo."}},
       {"hear": "Thanks, bye.", "say": "Goodbye!"}],
     "otherwise": {"hear": "(simulated transcript)", "say": "I heard you."},
     "think_ms": 300}

`{key}` is filled from the JSON outputs of the calls, `{a.b}` from inside them, `{output}` with the
text of an output that is not a JSON object. An unknown key stays as it is, readable.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pydantic

__all__ = ["DEFAULT_SCRIPTS", "Call", "Script", "Step", "Turn", "failed", "filled", "load"]

_SCRIPT_BYTES_MAX = 1_000_000


class _Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


class Call(_Model):
    """One function call of a step."""

    name: str
    arguments: dict[str, Any] | str = pydantic.Field(default_factory=dict)
    """A string is sent as it stands, JSON or not."""

    def arguments_text(self) -> str:
        """Return the arguments as the model writes them.

        OpenAI: the string may hold spaces and newlines; parse it, do not compare it.
        """
        if isinstance(self.arguments, str):
            return self.arguments
        return json.dumps(self.arguments, indent=1, ensure_ascii=False)


class Step(_Model):
    """One response: something said, something called, or both."""

    say: str = ""
    call: tuple[Call, ...] = ()
    then: "Step | None" = None
    """The response after the outputs of `call`."""

    on_error: str | None = None
    """In a `then`: said instead when an output holds an `error`."""

    audio_ms: int | None = pydantic.Field(default=None, ge=0, le=600_000)
    """Repeat or cut the speech to exactly this length."""

    phase: Literal["commentary", "final_answer"] | None = None
    think_ms: int | None = pydantic.Field(default=None, ge=0, le=600_000)
    """Wait before the first word; else the script's."""


class Turn(Step):
    """What the caller is heard to say, and the response to it."""

    hear: str = "(simulated transcript)"


class Script(_Model):
    """A whole conversation, and the model name it answers to."""

    name: str = "gpt-realtime-2.1"
    greeting: Step = Step(say="Hello, how can I help you?")
    """The response to a `response.create` before anything was said."""

    turns: tuple[Turn, ...] = ()
    """The n-th turn of the caller is answered by the n-th of these."""

    otherwise: Turn = Turn(say="I heard you. This is the simulated model.")
    """Every turn after the last, and every response nobody asked for."""

    idle: Step = Step(say="Are you still there?")
    """When the idle timeout fires."""

    out_of_band: Step = Step(say="The caller asked for help, and was helped.")
    """A response outside the conversation, such as a summary."""

    waiting: Step = Step(say="One moment please, I am still waiting for the answer.")
    """A response asked for while the outputs of calls are missing."""

    think_ms: int = pydantic.Field(default=300, ge=0, le=600_000)


Step.model_rebuild()
Turn.model_rebuild()
Script.model_rebuild()


def load(path: Path) -> Script:
    """Read a script; raises `ValueError` that says what is wrong with it."""
    if path.stat().st_size > _SCRIPT_BYTES_MAX:
        raise ValueError(f"{path}: a script of more than {_SCRIPT_BYTES_MAX} bytes")
    return Script.model_validate_json(path.read_bytes())


_PLACEHOLDER = re.compile(r"\{([A-Za-z_][\w.]*)\}")


def filled(text: str, outputs: Sequence[str]) -> str:
    """Fill the `{key}` placeholders of a text from the outputs of the calls before it."""
    values: dict[str, Any] = {}
    for output in outputs:
        values.update(_parsed(output))

    def value(match: re.Match[str]) -> str:
        found: Any = values
        for key in match[1].split("."):
            if not isinstance(found, dict) or key not in found:
                return match[0]
            found = found[key]
        return found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)

    return _PLACEHOLDER.sub(value, text)


def failed(outputs: Sequence[str]) -> bool:
    """Say whether one of the outputs reports an error."""
    return any(_parsed(output).get("error") for output in outputs)


def _parsed(output: str) -> dict[str, Any]:
    try:
        value = json.loads(output)
    except ValueError:
        return {"output": output}
    return value if isinstance(value, dict) else {"output": value}


_RECEPTIONIST = Script(
    greeting=Step(say="Hello, you have reached the front desk. How can I help you today?"),
    turns=(
        Turn(
            hear="Hi, what are your opening hours?",
            say="We are open from nine to five, Monday to Friday. Is there anything else?",
        ),
        Turn(
            hear="Do you have parking?",
            say="Yes, there is free parking behind the building. It has twenty spaces.",
        ),
        Turn(
            hear="Sorry, one moment. And can I come without an appointment?",
            say="You can, but please allow for a short wait in the mornings.",
        ),
        Turn(hear="Great, that is all.", say="You are welcome. Have a nice day!"),
        Turn(hear="Bye.", say="Goodbye!"),
    ),
)

DEFAULT_SCRIPTS = {
    name: _RECEPTIONIST.model_copy(update={"name": name})
    for name in ("gpt-realtime-2.1", "gpt-realtime-2.1-mini")
}
"""A short, friendly receptionist without tools, for whoever brings no script."""
