"""Chooses the script's next line by looking at the conversation, and only at it.

Nothing is remembered between responses. So a conversation replayed as items on a new socket goes on
where it stopped: at the next turn, at the answer to a call, or in the middle of a sentence.
"""

import dataclasses

from simulators.realtime.conversation import Conversation, Entry
from simulators.realtime.script import Call, Script, Step, Turn, failed, filled

__all__ = ["Line", "heard_text", "line_for", "out_of_band_line", "turn_of"]

_DID_NOT_WORK = "I am sorry, that did not work."


@dataclasses.dataclass(frozen=True)
class Line:
    """One response, with nothing left to decide."""

    say: str
    calls: tuple[Call, ...]
    phase: str
    think_ms: int
    audio_ms: int | None = None


def turn_of(script: Script, conversation: Conversation, text: str | None = None) -> int:
    """Return which turn a new item of the caller is; a replayed text finds its own place."""
    turns = [entry.turn for entry in conversation if entry.turn is not None]
    next_turn = max(turns, default=-1) + 1
    if text is not None:
        for index, turn in enumerate(script.turns[next_turn:], start=next_turn):
            if turn.hear == text:
                return index
    return next_turn


def heard_text(script: Script, turn: int | None) -> str:
    """Return what the caller is heard to say in a turn; nothing in a silence."""
    return "" if turn is None else _turn(script, turn).hear


def line_for(script: Script, conversation: Conversation, *, calls_allowed: bool = True) -> Line:
    """Return the response to the conversation as it stands."""
    step, outputs, said = _step_for(script, conversation)
    text = filled(step.say, outputs)
    if outputs and failed(outputs):
        text = filled(step.on_error or _DID_NOT_WORK, outputs)
    if said:
        text = _rest_of(text, said) or script.otherwise.say
    calls = step.call if calls_allowed and not said else ()
    return _line(script, step, text, calls)


def out_of_band_line(script: Script) -> Line:
    """Return a response that stands outside the conversation."""
    return _line(script, script.out_of_band, script.out_of_band.say, ())


def _line(script: Script, step: Step, text: str, calls: tuple[Call, ...]) -> Line:
    # OpenAI: what is said before a call is "commentary", the answer proper is "final_answer".
    phase = step.phase or ("commentary" if calls and text else "final_answer")
    think_ms = script.think_ms if step.think_ms is None else step.think_ms
    return Line(text, calls, phase, think_ms, step.audio_ms)


def _turn(script: Script, index: int) -> Turn:
    return script.turns[index] if index < len(script.turns) else script.otherwise


def _step_for(script: Script, conversation: Conversation) -> tuple[Step, list[str], str]:
    """Return the step, the outputs that fill it, and what of it was already said."""
    entries = [entry for entry in conversation if entry.role != "system"]
    if not entries:
        return script.greeting, [], ""
    last = entries[-1]
    if last.role == "user":
        return (script.idle if last.turn is None else _turn(script, last.turn)), [], ""
    if last.role == "function_call":
        return script.waiting, [], ""
    if last.role == "function_call_output":
        return _step_after_output(script, entries, last)
    return _step_half_said(script, entries, last)


def _step_after_output(
    script: Script, entries: list[Entry], last: Entry
) -> tuple[Step, list[str], str]:
    call = next(
        i
        for i, entry in enumerate(entries)
        if entry.role == "function_call" and entry.item["call_id"] == last.item["call_id"]
    )
    step, outputs, missing = _walk(script, entries, call)
    return (script.waiting if missing else step), outputs, ""


def _step_half_said(
    script: Script, entries: list[Entry], last: Entry
) -> tuple[Step, list[str], str]:
    """Go on with a sentence that broke off, if it is one of this script's."""
    step, outputs, _missing = _walk(script, entries, len(entries) - 1)
    said = last.text
    if said and _rest_of(filled(step.say, outputs), said):
        return step, outputs, said
    return script.otherwise, [], ""


def _rest_of(text: str, said: str) -> str:
    said = said.strip().rstrip(".,;:…- ")
    return text[len(said) :].lstrip(" .,;:…-") if said and text.startswith(said) else ""


def _walk(script: Script, entries: list[Entry], index: int) -> tuple[Step, list[str], bool]:
    """Return the step reached in the turn that `entries[index]` belongs to.

    Every answered batch of calls since that turn began leads one `then` further. The last value
    says whether the step reached is still waiting for some of its outputs.
    """
    began = next((i for i in range(index, -1, -1) if entries[i].role == "user"), None)
    turn = entries[began].turn if began is not None else None
    if began is None:
        step: Step = script.greeting
    else:
        step = script.idle if turn is None else _turn(script, turn)
    answers = {e.item["call_id"]: e for e in entries if e.role == "function_call_output"}
    made = []
    for entry in entries[0 if began is None else began + 1 :]:
        if entry.role == "user":
            break
        if entry.role == "function_call":
            made.append(entry.item["call_id"])
    outputs: list[str] = []
    while step.call and len(made) >= len(step.call):
        batch, made = made[: len(step.call)], made[len(step.call) :]
        outputs = [str(answers[call_id].item["output"]) for call_id in batch if call_id in answers]
        if len(outputs) < len(batch):
            return step, outputs, True
        step = step.then or script.otherwise
    return step, outputs, False
