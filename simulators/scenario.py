"""Scripted calls: a JSON file says what the caller does, step by step.

    {"name": "weather", "from": "+15557778888", "to": "+15551230000", "steps": [
      {"wait": "agent_turn"},
      {"say": "What is the weather in Lisbon?"},
      {"interrupt_after_ms": 800, "say": "Stop, wait."},
      {"dtmf": "1"}, {"pause_ms": 500}, {"play": "file.wav"}, {"wait": "ended"}, {"hang_up": true}
    ]}

Files that are played are looked for beside the scenario. Every step has a time limit.
"""

import asyncio
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from simulators.phone import CallEndedError, Phone

__all__ = ["Scenario", "ScenarioError", "Step", "StepError", "load_scenario", "run_scenario"]

_ACTIONS = ("wait", "say", "play", "dtmf", "pause_ms", "hang_up")
_MODIFIERS = {
    "interrupt_after_ms": ("say", "play"),
    "voice": ("say",),
    "quiet_ms": ("wait",),
    "timeout_s": ("wait", "say", "play"),
}

_ALLOWED = (
    'a step is one of {"wait": "agent_turn" | "agent_quiet" | "agent_speaking" | "ended"}, '
    '{"say": "..."}, {"play": "file.wav"}, {"dtmf": "12#"}, {"pause_ms": 500}, {"hang_up": true}; '
    "say and play may have interrupt_after_ms, say may have voice, wait may have quiet_ms, "
    "and these three may have timeout_s"
)

Name = Annotated[str, Field(min_length=1, max_length=200)]


class ScenarioError(ValueError):
    """A scenario file that cannot be used: names the file, the step, and what is allowed."""


class StepError(TimeoutError):
    """A step did not come true in its time."""


class Step(BaseModel):
    """One thing the caller does or waits for."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    wait: Literal["agent_turn", "agent_quiet", "agent_speaking", "ended"] | None = None
    say: str | None = Field(None, min_length=1, max_length=5000)
    play: Name | None = None
    dtmf: str | None = Field(None, pattern=r"^[0-9*#A-D]{1,64}$")
    pause_ms: int | None = Field(None, ge=0, le=600_000)
    hang_up: Literal[True] | None = None

    interrupt_after_ms: int | None = Field(None, ge=0, le=600_000)
    """Wait until so much of what the agent is saying was heard, then say or play this."""
    voice: Name = "caller"
    quiet_ms: int = Field(700, ge=100, le=60_000)
    timeout_s: float = Field(30.0, gt=0, le=600)

    @model_validator(mode="after")
    def _has_one_action(self) -> Self:
        given = [name for name in _ACTIONS if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"{' and '.join(given) or 'no action'} in one step")
        for modifier, actions in _MODIFIERS.items():
            if modifier in self.model_fields_set and given[0] not in actions:
                raise ValueError(f"{modifier} does not go with {given[0]}")
        return self


class Scenario(BaseModel):
    """A scripted call."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True)

    name: Name
    from_: Name = Field("+15557778888", alias="from")
    to: Name = "+15551230000"
    steps: list[Step] = Field(min_length=1, max_length=1000)


def load_scenario(path: Path | str) -> Scenario:
    """Read a scenario file; raise `ScenarioError` with everything that is wrong in it."""
    path = Path(path)
    try:
        scenario = Scenario.model_validate_json(path.read_bytes())
    except OSError as exc:
        raise ScenarioError(f"{path}: cannot be read: {exc.strerror}") from None
    except ValidationError as exc:
        raise ScenarioError(_explained(path, exc)) from None
    steps = list(scenario.steps)
    for index, step in enumerate(steps):
        if step.play is not None:
            file = path.parent / step.play
            if not file.is_file():
                raise ScenarioError(f"{path}: step {index + 1}: there is no file {file}")
            steps[index] = step.model_copy(update={"play": str(file)})
    return scenario.model_copy(update={"steps": steps})


async def run_scenario(phone: Phone, scenario: Scenario) -> None:
    """Dial, unless that was done, and perform the steps until they or the call are over.

    Raises `StepError` when something that a step waits for does not happen in time. Does not hang
    up by itself: a step says so, or whoever holds the phone does.
    """
    if not phone.dialled:
        await phone.dial()
    for number, step in enumerate(scenario.steps, start=1):
        try:
            await _perform(phone, step)
        except CallEndedError:
            return  # the recording and the outcome say what was reached
        except TimeoutError as exc:
            raise StepError(f"{scenario.name}: step {number}: {exc}") from None


async def _perform(phone: Phone, step: Step) -> None:
    if step.interrupt_after_ms is not None:
        await phone.wait_heard_ms(step.interrupt_after_ms, timeout_s=step.timeout_s)
    if step.wait is not None:
        await _wait(phone, step)
    elif step.say is not None:
        await phone.say(step.say, voice=step.voice)
    elif step.play is not None:
        await phone.play_wav(step.play)
    elif step.dtmf is not None:
        await phone.dtmf(step.dtmf)
    elif step.pause_ms is not None:
        await asyncio.sleep(step.pause_ms / 1000)
    else:
        await phone.hang_up()


async def _wait(phone: Phone, step: Step) -> None:
    match step.wait:
        case "agent_turn":
            await phone.wait_agent_turn(step.quiet_ms, step.timeout_s)
        case "agent_quiet":
            await phone.wait_agent_quiet(step.quiet_ms, step.timeout_s)
        case "agent_speaking":
            await phone.wait_agent_speaking(step.timeout_s)
        case _:
            await phone.wait_ended(step.timeout_s)


def _explained(path: Path, error: ValidationError) -> str:
    lines = []
    for problem in error.errors(include_url=False, include_input=False):
        location = list(problem["loc"])
        where = str(path)
        if len(location) >= 2 and location[0] == "steps" and isinstance(location[1], int):
            where += f": step {location[1] + 1}"
            location = location[2:]
        field = ".".join(str(part) for part in location)
        message = problem["msg"].removeprefix("Value error, ")
        lines.append(f"{where}: {field + ': ' if field else ''}{message}")
    if any(": step " in line for line in lines):
        lines.append(_ALLOWED)
    return "\n".join(lines)
