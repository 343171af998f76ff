"""Folds the story of one call into its record.

    recorder = Recorder(call, kept)      # what the bucket has, or None
    recorder.add(name, payload)          # each line, in any order, as often as it comes
    recorder.encode()                    # what to write

The same lines give the same record in whatever order and however often they come, as long as no
limit is reached.  Nothing a line holds can raise.

Pure: no I/O.
"""

import hashlib
import json
import math
from typing import Any, Final, Literal, TypeVar

from pydantic import ValidationError

from services.logs import kept as limits
from services.logs.kept import NANO, Entry, Held, Kept, Leg, Spoken, Tool, Usage
from shared import messages
from shared.messages import (
    CallMove,
    Event,
    Interruption,
    ModelDial,
    ModelTrouble,
    OtherLine,
    OwnerSpan,
    Tokens,
)

KINDS: Final = {kind.NAME: kind for kind in messages.EVENTS}
#: No call's clock reaches it (three years), nor its epochs: a wrong one stays a number to write.
NUMBER_MAX: Final = 100_000_000_000
#: When the record is too large it is cut to this share of the limit, not a line at a time.
CUT_SHARE: Final = 0.875
#: What tool calls are cut to first when the record is too large, in characters.
SHORT_MAX: Final = 200

#: What became of a line.
Folded = Literal["folded", "repeated", "unreadable"]

EntryT = TypeVar("EntryT", bound=Entry)
ItemT = TypeVar("ItemT")


class Recorder:
    """The record of one call while lines are added to it."""

    def __init__(self, call: str, kept: Kept | None = None) -> None:
        self.kept = kept if kept is not None else Kept(call=call)
        self._seen = set(self.kept.seen)
        self._spoken = {(one.who, one.item): one for one in self.kept.spoken}
        self._tools = {one.call_id: one for one in self.kept.tools}
        self._holds = {(one.epoch, one.hold): one for one in self.kept.holds}
        self._legs = {one.leg: one for one in self.kept.legs}
        self._usage = {(one.source, one.model): one for one in self.kept.usage}

    @classmethod
    def decode(cls, call: str, data: bytes | None) -> "Recorder":
        """Go on with what the bucket has; a record that cannot be read is begun anew."""
        try:
            kept = Kept.model_validate_json(data) if data else None
        except ValidationError:
            kept = None
        return cls(call, kept if kept is not None and kept.call == call else None)

    @property
    def ended(self) -> bool:
        """Whether the last line has come."""
        return "ended" in self.kept.once

    def add(self, name: str, payload: bytes) -> Folded:
        """Fold one line."""
        fields = _object(payload)
        base = _valid(Event, fields)
        if base is None or base.call != self.kept.call or max(base.ms, base.epoch) > NUMBER_MAX:
            return "unreadable"
        if not self._is_new(name, base.ms, fields):
            return "repeated"
        self.kept.events += 1
        self._times(base)
        kind = KINDS.get(name)
        event = _valid(kind, fields) if kind is not None else None
        if event is None:
            self._other(name, base, fields)
        else:
            self._fold(event, fields)
        return "folded"

    def encode(self, limit_bytes: int) -> bytes:
        """The record as the bucket keeps it, never more than `limit_bytes`."""
        data = self.kept.encode()
        return data if len(data) <= limit_bytes else self._cut_to(limit_bytes)

    # --- once -------------------------------------------------------------------------------

    def _is_new(self, name: str, ms: int, fields: object) -> bool:
        text = json.dumps([name, fields], sort_keys=True, ensure_ascii=True)
        mark = f"{ms:x}.{hashlib.blake2b(text.encode(), digest_size=5).hexdigest()}"
        if ms <= self.kept.forgotten_ms or mark in self._seen:
            return False
        self._seen.add(mark)
        self.kept.seen.append(mark)
        if len(self.kept.seen) > limits.SEEN_MAX + limits.SEEN_SPARE:
            self._forget(len(self.kept.seen) - limits.SEEN_MAX)
        return True

    def _forget(self, number: int) -> None:
        """Forget the `number` oldest; those of the same millisecond go with them."""
        last = sorted(_ms_of(one) for one in self.kept.seen)[number - 1]
        self.kept.forgotten_ms = last
        self.kept.seen = [one for one in self.kept.seen if _ms_of(one) > last]
        self._seen = set(self.kept.seen)

    # --- parts ------------------------------------------------------------------------------

    def _fold(self, event: Event, fields: object) -> None:  # noqa: C901 - a case an event
        match event:
            case messages.CallOffered() | messages.CallStarted() | messages.CallEnded():
                self._once(event)
                if isinstance(event, messages.CallStarted):
                    self._leg_begun(event.leg, event.ms, event.gateway)
            case messages.LegReplaced():
                self._leg_begun(event.leg, event.ms, event.gateway)
            case messages.LegDropped():
                leg = self._entry("legs", self._legs, event.leg, Leg(leg=event.leg))
                leg.dropped = _latest(
                    leg.dropped, (event.ms, _cut(event.reason, limits.REASON_MAX))
                )
            case messages.ModelReady():
                self._model_ready(event)
            case messages.Transcript():
                spoken = self._spoke(event.who, event.item, event.ms)
                said = (event.ms, _cut(event.text), event.interrupted)
                spoken.said = _latest(spoken.said, said)
            case messages.CallerStartedSpeaking() | messages.CallerStoppedSpeaking():
                self._caller_voice(event)
            case messages.AgentStartedSpeaking():
                spoken = self._spoke("agent", event.item, event.ms)
                latency = -1 if event.latency_ms is None else event.latency_ms
                spoken.begun = _earliest(spoken.begun, (event.ms, event.after, latency))
            case messages.AgentFinishedSpeaking():
                spoken = self._spoke("agent", event.item, event.ms)
                spoken.ended = _latest(spoken.ended, (event.ms, event.heard_ms))
            case messages.Interrupted():
                self._interrupted(event)
            case messages.ToolCalled() | messages.ToolAnswered():
                self._tool(event)
            case messages.HoldStarted() | messages.HoldEnded():
                self._held(event)
            case messages.UsageReported():
                self._used(event)
            case messages.ModelFailed():
                trouble = ModelTrouble(
                    ms=event.ms,
                    code=_cut(event.code, limits.REASON_MAX),
                    message=event.message,
                    effect=event.effect,
                )
                self._append("failures", self.kept.failures, trouble, limits.FAILURES_MAX)
            case _:
                self._moved(event, fields)

    def _once(self, event: Event) -> None:
        new = {
            name: _cut(one, limits.REASON_MAX) if isinstance(one, str) else one
            for name, one in event.model_dump(mode="json").items()
        }
        old = self.kept.once.get(event.NAME)
        pick = max if event.NAME == "ended" else min
        self.kept.once[event.NAME] = new if old is None else pick(old, new, key=_rank)

    def _times(self, event: Event) -> None:
        first, last = self.kept.first_at, self.kept.last_at
        self.kept.first_at = event.at if first is None else min(first, event.at)
        self.kept.last_at = event.at if last is None else max(last, event.at)

        for index, old in enumerate(self.kept.owners):
            if old.epoch == event.epoch:
                self.kept.owners[index] = OwnerSpan(
                    epoch=old.epoch,
                    from_ms=min(old.from_ms, event.ms),
                    to_ms=max(old.to_ms, event.ms),
                )
                return
        owner = OwnerSpan(epoch=event.epoch, from_ms=event.ms, to_ms=event.ms)
        self._append("owners", self.kept.owners, owner, limits.OWNERS_MAX)

    def _leg_begun(self, number: int, ms: int, gateway: str) -> None:
        leg = self._entry("legs", self._legs, number, Leg(leg=number))
        leg.begun = _earliest(leg.begun, (ms, _cut(gateway, limits.NAME_MAX)))

    def _model_ready(self, event: messages.ModelReady) -> None:
        dial = ModelDial(
            ms=event.ms,
            model=_cut(event.model, limits.NAME_MAX),
            voice=_cut(event.voice, limits.NAME_MAX),
            dial_ms=event.dial_ms,
            attempt=event.attempt,
        )
        self._append("models", self.kept.models, dial, limits.MODELS_MAX)

    def _spoke(self, who: Any, item: str, ms: int) -> Spoken:
        # Without a name nothing tells two of them apart but their time.
        name = _cut(item, limits.NAME_MAX) or f"at {ms}"
        return self._entry("spoken", self._spoken, (who, name), Spoken(who=who, item=name))

    def _caller_voice(
        self, event: messages.CallerStartedSpeaking | messages.CallerStoppedSpeaking
    ) -> None:
        spoken = self._spoke("caller", event.item, event.ms)
        if isinstance(event, messages.CallerStartedSpeaking):
            spoken.begun = _earliest(spoken.begun, (event.ms, "", -1))
        else:
            spoken.ended = _latest(spoken.ended, (event.ms, -1))

    def _interrupted(self, event: messages.Interrupted) -> None:
        spoken = self._spoke("agent", event.item, event.ms)
        spoken.ended = _latest(spoken.ended, (event.ms, event.heard_ms))
        cut = Interruption(
            ms=event.ms,
            item=spoken.item,
            heard_ms=event.heard_ms,
            sent_ms=event.sent_ms,
            text=_cut(event.text),
        )
        self._append("interruptions", self.kept.interruptions, cut, limits.INTERRUPTIONS_MAX)

    def _tool(self, event: messages.ToolCalled | messages.ToolAnswered) -> None:
        call_id = _cut(event.call_id, limits.NAME_MAX)
        name = _cut(event.name, limits.NAME_MAX)
        tool = self._entry("tools", self._tools, call_id, Tool(call_id=call_id))
        if isinstance(event, messages.ToolCalled):
            arguments = _cut(event.arguments, limits.OUTPUT_MAX)
            tool.called = _earliest(tool.called, (event.ms, name, arguments))
        else:
            output, error = (
                _cut(event.output, limits.OUTPUT_MAX),
                _cut(event.error, limits.NAME_MAX),
            )
            answer = (event.ms, name, output, error, event.duration_ms)
            tool.answered = _latest(tool.answered, answer)

    def _held(self, event: messages.HoldStarted | messages.HoldEnded) -> None:
        key = (event.epoch, event.hold)
        held = self._entry("holds", self._holds, key, Held(epoch=event.epoch, hold=event.hold))
        if isinstance(event, messages.HoldStarted):
            track, source = _cut(event.track, limits.NAME_MAX), _cut(event.source, limits.NAME_MAX)
            fallback = _cut(event.fallback or "", limits.REASON_MAX)
            held.begun = _earliest(held.begun, (event.ms, track, source, fallback))
        else:
            held.ended = _latest(held.ended, (event.ms, event.reason, event.duration_ms))

    def _used(self, event: messages.UsageReported) -> None:
        model = _cut(event.model, limits.NAME_MAX)
        new = Usage(source=event.source, model=model)
        usage = self._entry("usage", self._usage, (event.source, model), new)
        usage.reports += 1
        usage.tokens = add_tokens(usage.tokens, event.tokens)
        usage.milliseconds += _whole(event.seconds, 1000)
        if event.cost_usd is None:
            usage.unpriced += 1
        else:
            usage.cost_nano += _whole(event.cost_usd, NANO)

    def _moved(self, event: Event, fields: object) -> None:
        target, code = "", ""
        match event:
            case messages.TransferStarted(to=to):
                target = to
            case messages.TransferFailed(to=to, code=why):
                target, code = to, why
            case messages.DigitsSent(digits=digits):
                target = digits
            case messages.KeyPressed(digit=digit):
                target = digit
            case _:  # a kind that was added to the contract and not to this fold
                self._other(event.NAME, event, fields)
                return
        move = CallMove.model_validate(
            {
                "ms": event.ms,
                "what": event.NAME,
                "target": _cut(target, limits.REASON_MAX),
                "code": _cut(code, limits.NAME_MAX),
            }
        )
        self._append("moves", self.kept.moves, move, limits.MOVES_MAX)

    def _other(self, name: str, base: Event, fields: object) -> None:
        assert isinstance(fields, dict), "it was read as an event"
        extra = {one: value for one, value in fields.items() if one not in Event.model_fields}
        line = OtherLine(
            ms=base.ms,
            epoch=base.epoch,
            name=_cut(name, limits.NAME_MAX),
            fields=_cut(json.dumps(extra, ensure_ascii=True), limits.OTHER_FIELDS_MAX),
        )
        self._append("other", self.kept.other, line, limits.OTHER_MAX)

    # --- limits -----------------------------------------------------------------------------

    def _entry(self, part: str, known: dict[Any, EntryT], key: Any, new: EntryT) -> EntryT:
        """The entry `key`; one that is over the limit is counted and forgotten."""
        old = known.get(key)
        if old is not None:
            return old
        entries: list[EntryT] = getattr(self.kept, part)
        if len(entries) >= _MAX[part]:
            if part != "spoken":
                self._count(part)
                return new
            self._drop("spoken", self.kept.spoken, len(entries) // 8)
        entries.append(new)
        known[key] = new
        return new

    def _drop(self, part: str, entries: list[Any], number: int) -> None:
        """Leave out the `number` oldest; what comes later is how the call ended."""
        entries.sort(key=_time_of)
        del entries[:number]
        self._count(part, number)
        # In place: `_entry` adds to the index that it was given.
        self._index()

    def _append(self, part: str, entries: list[ItemT], new: ItemT, most: int) -> None:
        if len(entries) >= most:
            self._count(part)
        else:
            entries.append(new)

    def _count(self, part: str, number: int = 1) -> None:
        if number:
            self.kept.cut[part] = self.kept.cut.get(part, 0) + number

    def _cut_to(self, limit_bytes: int) -> bytes:
        """First what nobody reads, then long outputs, then the oldest of what was said."""
        kept, aim = self.kept, int(limit_bytes * CUT_SHARE)
        self._count("other", len(kept.other))
        kept.other = []
        for tool in kept.tools:
            if tool.called is not None:
                tool.called = (*tool.called[:2], _cut(tool.called[2], SHORT_MAX))
            if tool.answered is not None:
                ms, name, output, error, duration = tool.answered
                tool.answered = (ms, name, _cut(output, SHORT_MAX), error, duration)
        parts = ("spoken", "interruptions", "tools", "moves", "failures", "holds", "legs", "models")
        data = kept.encode()
        for part in parts:
            entries: list[Any] = getattr(kept, part)
            while len(data) > aim and entries:
                share = len(entries) * (len(data) - aim) // len(data)
                self._drop(part, entries, max(1, share))
                data = kept.encode()
        while len(data) > limit_bytes and kept.seen:
            self._forget((len(kept.seen) + 1) // 2)
            data = kept.encode()
        return data

    def _index(self) -> None:
        for known, entries in (
            (self._spoken, {(one.who, one.item): one for one in self.kept.spoken}),
            (self._tools, {one.call_id: one for one in self.kept.tools}),
            (self._holds, {(one.epoch, one.hold): one for one in self.kept.holds}),
            (self._legs, {one.leg: one for one in self.kept.legs}),
        ):
            known.clear()
            known.update(entries)  # type: ignore[arg-type]


_MAX: Final = {
    "spoken": limits.TRANSCRIPT_MAX_LINES,
    "tools": limits.TOOLS_MAX,
    "holds": limits.HOLDS_MAX,
    "legs": limits.LEGS_MAX,
    "usage": limits.USAGE_MAX,
}


def add_tokens(one: Tokens, other: Tokens) -> Tokens:
    """The sum, kind by kind."""
    return Tokens(**{name: getattr(one, name) + getattr(other, name) for name in _TOKEN_KINDS})


_TOKEN_KINDS: Final = tuple(Tokens.model_fields)


def _object(payload: bytes) -> object:
    try:
        return json.loads(payload)
    except (ValueError, RecursionError):
        return None


EventT = TypeVar("EventT", bound=Event)


def _valid(kind: type[EventT], fields: object) -> EventT | None:
    try:
        return kind.model_validate(fields)
    except ValidationError:
        return None


def _whole(value: float, factor: int) -> int:
    """`value * factor` as a whole number; none for what is no number."""
    return round(value * factor) if math.isfinite(value) and abs(value) < NUMBER_MAX else 0


def _ms_of(mark: str) -> int:
    return int(mark.partition(".")[0], 16)


def _time_of(entry: Any) -> int:
    """When an entry of any part first showed."""
    if isinstance(entry, Entry):
        facts = [value for value in vars(entry).values() if isinstance(value, tuple)]
        return min((int(fact[0]) for fact in facts), default=0)
    return int(entry.ms)


def _cut(text: str, most: int = limits.TEXT_MAX) -> str:
    # A lone surrogate (half a character) could not be written.
    whole = text.encode(errors="replace").decode()
    return whole if len(whole) <= most else whole[: most - 1] + "…"


TupleT = TypeVar("TupleT", bound=tuple[Any, ...])


def _earliest(old: TupleT | None, new: TupleT) -> TupleT:
    return new if old is None else min(old, new)


def _latest(old: TupleT | None, new: TupleT) -> TupleT:
    return new if old is None else max(old, new)


def _rank(fields: dict[str, Any]) -> tuple[int, int, str]:
    return (fields["epoch"], fields["ms"], json.dumps(fields, sort_keys=True))
