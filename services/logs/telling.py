"""What a reader gets of a call: its story and its summary, made from what is kept.

Pure: no I/O; the time is an argument.
"""

import datetime
from typing import Any, Final

from services.logs.kept import NANO, Held, Kept, Leg, Spoken, Tool, Usage
from services.logs.recorder import add_tokens
from shared.messages import (
    CallState,
    CallStory,
    CallSummary,
    HoldSpan,
    Interruption,
    Latencies,
    LegSpan,
    Message,
    SpokenLine,
    Tokens,
    ToolUse,
    UsageShare,
)

#: The longest call an agent may be allowed (4 h), and some time to end it: a story that began
#: earlier and has no end will get none.
OPEN_LIMIT: Final = datetime.timedelta(hours=4, minutes=10)
#: How such a story is said to have ended.
NO_END: Final = "unknown"
NO_END_DETAIL: Final = "the story has no last line"

_ZERO: Final = datetime.datetime.fromtimestamp(0, datetime.UTC)


def summary(kept: Kept) -> CallSummary:
    """One call in a list, as of its last line; see `aged`."""
    return CallSummary.model_validate(_summary(kept))


def story(kept: Kept) -> CallStory:
    """The whole record, as of its last line; see `aged`."""
    lines = _lines(kept)
    usage = sorted((_share(one) for one in kept.usage), key=lambda one: (one.source, one.model))
    return CallStory(
        **_summary(kept),
        transcript=lines,
        tools=sorted((_tool(one) for one in kept.tools), key=_tool_time),
        holds=sorted(map(_hold, kept.holds), key=lambda one: (one.epoch, one.hold)),
        interruptions=_sorted(kept.interruptions),
        legs=sorted(map(_leg, kept.legs), key=lambda one: one.leg),
        owners=sorted(kept.owners, key=lambda one: one.epoch),
        models=_sorted(kept.models),
        failures=_sorted(kept.failures),
        moves=_sorted(kept.moves),
        latencies=_latencies(kept),
        tokens=_tokens(kept),
        usage=usage,
        dropped_audio_ms=_once(kept, "ended").get("dropped_audio_ms", 0),
        other=_sorted(kept.other),
        events=kept.events,
        cut=dict(sorted(kept.cut.items())),
    )


def aged(told: CallSummary, now: datetime.datetime) -> CallSummary:
    """`told` as it must be read at `now`: a story whose end is overdue will get none."""
    if told.state == "ended" or now - told.offered_at < OPEN_LIMIT:
        return told
    return told.model_copy(
        update={
            "state": "ended",
            "reason": NO_END,
            "detail": NO_END_DETAIL,
            "ended_at": told.updated_at,
        }
    )


def text_matches(kept: Kept, wanted: str) -> bool:
    """Whether `wanted` was said, or is in a tool call; no matter the case."""
    needle = wanted.casefold()
    for spoken in kept.spoken:
        if spoken.said is not None and needle in spoken.said[1].casefold():
            return True
    facts = [fact for tool in kept.tools for fact in (tool.called, tool.answered) if fact]
    return any(
        needle in part.casefold() for fact in facts for part in fact if isinstance(part, str)
    )


# --- the summary ---------------------------------------------------------------------------------


def _once(kept: Kept, name: str) -> dict[str, Any]:
    return kept.once.get(name, {})


def _summary(kept: Kept) -> dict[str, Any]:
    offered, started, ended = (_once(kept, name) for name in ("offered", "started", "ended"))
    first = kept.first_at or _ZERO
    last = kept.last_at or first
    state: CallState = "ended" if ended else "live" if started or kept.legs else "ringing"
    since = started.get("ms")
    until = max((one.to_ms for one in kept.owners), default=0)
    so_far = max(0, until - since) if since is not None else 0
    return {
        "call": kept.call,
        "state": state,
        "caller": offered.get("caller", ""),
        "dialled": offered.get("dialled", ""),
        "direction": offered.get("direction", ""),
        "agent": offered.get("agent", ""),
        "offered_at": offered.get("at", first),
        "started_at": started.get("at"),
        "ended_at": ended.get("at"),
        "updated_at": last,
        "duration_ms": ended.get("duration_ms", so_far),
        "reason": ended.get("reason", ""),
        "detail": ended.get("detail", ""),
        "cost_usd": _cost(kept),
        "lines": sum(one.said is not None for one in kept.spoken),
        "tools_used": len(kept.tools),
        "interrupted": len(kept.interruptions),
    }


def _complete(kept: Kept) -> bool:
    """Whether the story was heard from its beginning, so that its lines add up to its totals."""
    return "offered" in kept.once


def _cost(kept: Kept) -> float:
    told = _once(kept, "ended").get("cost_usd")
    if told is not None and not _complete(kept):
        return float(told)
    return sum(one.cost_nano for one in kept.usage) / NANO


def _tokens(kept: Kept) -> Tokens:
    told = _once(kept, "ended").get("tokens")
    if told is not None and not _complete(kept):
        return Tokens.model_validate(told)
    total = Tokens()
    for one in kept.usage:
        total = add_tokens(total, one.tokens)
    return total


# --- parts ---------------------------------------------------------------------------------------


def _sorted(entries: list[Any]) -> list[Any]:
    def key(one: Message) -> tuple[int, bytes]:
        return (getattr(one, "ms", 0), one.encode())

    return sorted(entries, key=key)


def _lines(kept: Kept) -> list[SpokenLine]:
    cuts: dict[str, Interruption] = {}
    for cut in _sorted(kept.interruptions):
        cuts[cut.item] = cut
    lines = [_line(one, cuts) for one in kept.spoken]
    return sorted(lines, key=lambda one: (one.ms, one.who, one.item))


def _line(one: Spoken, cuts: dict[str, Interruption]) -> SpokenLine:
    said_ms, text, interrupted = one.said or (0, "", False)
    cut = cuts.get(one.item) if one.who == "agent" else None
    if cut is not None:
        if one.said is None or (not interrupted and cut.ms >= said_ms):
            text = cut.text  # all the words had come before it was known how much is heard
        interrupted = True
    heard = one.ended[1] if one.ended is not None else -1
    latency = one.begun[2] if one.begun is not None else -1
    known = [fact[0] for fact in (one.begun, one.said, one.ended) if fact is not None]
    return SpokenLine(
        who=one.who,
        item=one.item,
        ms=one.begun[0] if one.begun is not None else min(known),
        end_ms=one.ended[0] if one.ended is not None else None,
        text=text,
        interrupted=interrupted,
        heard_ms=heard if heard >= 0 else None,
        latency_ms=latency if latency >= 0 else None,
    )


def _tool(one: Tool) -> ToolUse:
    called, answered = one.called, one.answered
    return ToolUse(
        call_id=one.call_id,
        name=called[1] if called is not None else answered[1] if answered is not None else "",
        arguments=called[2] if called is not None else "",
        output=answered[2] if answered is not None else "",
        error=answered[3] if answered is not None else "",
        called_ms=called[0] if called is not None else None,
        duration_ms=answered[4] if answered is not None else None,
    )


def _tool_time(one: ToolUse) -> tuple[int, str]:
    return (one.called_ms or 0, one.call_id)


def _hold(one: Held) -> HoldSpan:
    begun, ended = one.begun, one.ended
    return HoldSpan(
        epoch=one.epoch,
        hold=one.hold,
        track=begun[1] if begun is not None else "",
        source=begun[2] if begun is not None else "",
        fallback=(begun[3] or None) if begun is not None else None,
        from_ms=begun[0] if begun is not None else None,
        to_ms=ended[0] if ended is not None else None,
        reason=ended[1] if ended is not None else "",
    )


def _leg(one: Leg) -> LegSpan:
    return LegSpan(
        leg=one.leg,
        gateway=one.begun[1] if one.begun is not None else "",
        from_ms=one.begun[0] if one.begun is not None else None,
        to_ms=one.dropped[0] if one.dropped is not None else None,
        reason=one.dropped[1] if one.dropped is not None else "",
    )


def _latencies(kept: Kept) -> Latencies:
    begun = sorted(one.begun for one in kept.spoken if one.begun is not None and one.begun[2] >= 0)
    first = next((latency for _, after, latency in begun if after == "greeting"), None)
    replies = [latency for _, after, latency in begun if after == "caller"]
    ordered = sorted(replies)
    return Latencies(
        first_audio_ms=first,
        replies_ms=replies,
        median_reply_ms=ordered[(len(ordered) - 1) // 2] if ordered else None,
        worst_reply_ms=ordered[-1] if ordered else None,
    )


def _share(one: Usage) -> UsageShare:
    return UsageShare(
        source=one.source,
        model=one.model,
        reports=one.reports,
        tokens=one.tokens,
        seconds=one.milliseconds / 1000,
        cost_usd=one.cost_nano / NANO,
        unpriced=one.unpriced,
    )
