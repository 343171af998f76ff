"""A call's record as a file: JSON for machines, text as a person reads it.

Pure: no I/O.
"""

from collections.abc import Iterator
from typing import Final, Literal

from shared.messages import CallMove, CallStory, HoldSpan, LegSpan, SpokenLine, ToolUse

#: What of an output a reader wants to see in one line, in characters.
SHOWN_MAX: Final = 300


def export(story: CallStory, form: Literal["json", "text"]) -> str:
    """The whole record, ending with a line break."""
    if form == "json":
        return story.model_dump_json(indent=2) + "\n"
    return "\n".join([*_head(story), "", *_body(story), "", *_foot(story)]) + "\n"


def stamp(ms: int) -> str:
    """`01:02.3` for 62300 ms."""
    return f"{ms // 60000:02d}:{ms // 1000 % 60:02d}.{ms // 100 % 10}"


def seconds(ms: int | None) -> str:
    """`0.64 s` for 640 ms."""
    return "unknown" if ms is None else f"{ms / 1000:.2f} s"


def _head(story: CallStory) -> Iterator[str]:
    yield f"Call {story.call}"
    yield f"from     {story.caller or 'unknown'}"
    yield f"to       {story.dialled or 'unknown'} ({story.direction or 'direction unknown'})"
    yield f"agent    {story.agent or 'unknown'}"
    yield f"offered  {story.offered_at:%Y-%m-%d %H:%M:%S} UTC"
    if story.state == "ended":
        detail = f" ({story.detail})" if story.detail else ""
        yield f"ended    {story.reason}{detail}, after {seconds(story.duration_ms)}"
    else:
        yield f"state    {story.state}, {seconds(story.duration_ms)} so far"


#: When, who, what.
Line = tuple[int, str, str]


def _body(story: CallStory) -> list[str]:
    """Everything that happened, in order."""
    lines: list[Line] = [
        (one.ms, "", f"model {one.model} ready after {seconds(one.dial_ms)}")
        for one in story.models
    ]
    lines += [line for leg in story.legs for line in _leg(leg)]
    lines += [line for tool in story.tools for line in _tool(tool)]
    lines += [line for hold in story.holds for line in _hold(hold)]
    lines += [
        (one.ms, "", f"interrupted: {seconds(one.heard_ms)} of {seconds(one.sent_ms)} were heard")
        for one in story.interruptions
    ]
    lines += [(one.ms, one.who, _said(one)) for one in story.transcript]
    lines += [_moved(move) for move in story.moves]
    lines += [
        (one.ms, "", f"model: {one.code} {one.message} ({one.effect})") for one in story.failures
    ]
    lines += [(one.ms, "", f"{one.name} {_short(one.fields)}") for one in story.other]
    lines.sort(key=lambda one: one[0])
    return [f"{stamp(ms)}  {who:7} {what}".rstrip() for ms, who, what in lines]


def _leg(leg: LegSpan) -> Iterator[Line]:
    if leg.from_ms is not None:
        came = "picked up" if leg.leg == 1 else f"phone back on leg {leg.leg}"
        yield (leg.from_ms, "", came)
    if leg.to_ms is not None:
        yield (leg.to_ms, "", f"phone lost: {leg.reason}")


def _hold(hold: HoldSpan) -> Iterator[Line]:
    if hold.from_ms is not None:
        instead = f" instead: {hold.fallback}" if hold.fallback else ""
        yield (hold.from_ms, "music", f"{hold.track} ({hold.source}){instead}")
    if hold.to_ms is not None:
        stopped = f"stopped for the {hold.reason}" if hold.reason != "failed" else "none to be had"
        yield (hold.to_ms, "music", stopped)


def _said(line: SpokenLine) -> str:
    words = " ".join(line.text.split()) or ("[not heard]" if line.interrupted else "[no words]")
    return words + (" —" if line.interrupted else "")


def _tool(tool: ToolUse) -> Iterator[Line]:
    begun = tool.called_ms or 0
    yield (begun, "tool", f"{tool.name} {_short(tool.arguments)}")
    if tool.duration_ms is not None:
        failed = f" FAILED ({tool.error})" if tool.error else ""
        answer = f"answered after {seconds(tool.duration_ms)}{failed}: {_short(tool.output)}"
        yield (begun + tool.duration_ms, "tool", f"{tool.name} {answer}")


def _moved(move: CallMove) -> Line:
    match move.what:
        case "transfer_started":
            return (move.ms, "", f"the caller is being connected with {move.target}")
        case "transfer_failed":
            return (move.ms, "", f"no connection with {move.target}: {move.code}")
        case "digits_sent":
            return (move.ms, "agent", f"[presses {move.target}]")
        case "key_pressed":
            return (move.ms, "caller", f"[presses {move.target}]")


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= SHOWN_MAX else line[: SHOWN_MAX - 1] + "…"


def _foot(story: CallStory) -> Iterator[str]:
    waits = story.latencies
    yield f"first agent audio  {seconds(waits.first_audio_ms)} after pick-up"
    if waits.replies_ms:
        median, worst = seconds(waits.median_reply_ms), seconds(waits.worst_reply_ms)
        yield f"replies            {len(waits.replies_ms)}: median {median}, worst {worst}"
    used = ", ".join(f"{name} {count}" for name, count in story.tokens if count)
    yield f"tokens             {used or 'none'}"
    unpriced = sum(one.unpriced for one in story.usage)
    missing = f" (bills of unknown price: {unpriced})" if unpriced else ""
    yield f"model cost         ${story.cost_usd:.4f} at list prices{missing}"
    if len(story.owners) > 1:
        yield f"owners             {len(story.owners)}"
    if story.dropped_audio_ms:
        yield f"audio dropped      {seconds(story.dropped_audio_ms)}"
    for part, number in story.cut.items():
        yield f"left out           {number} of {part}"
