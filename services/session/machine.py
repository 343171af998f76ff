"""The rules of a call.  `Call.handle(event, now) -> actions`; no socket, clock or task in here.

Two things live side by side: the phone's side (`Phone`, in `line.py`) and the model's (`Model`, in
`link.py`); `states.py` has the tables that say which event is legal when.

How the two meet (`conversation.py`): the model is dialled and configured while the phone rings.
When the phone listens *and* the model is ready, the agent greets, and then the caller is heard.

`now` is in seconds on any clock that never goes back.
"""

import datetime
from collections.abc import Mapping
from typing import assert_never

from services.session import events
from services.session.conversation import Conversation
from services.session.desk import UNAVAILABLE, CallOver, Desk, milliseconds
from services.session.events import Action, ModelEvent, PhoneEvent
from services.session.leaving import KEYS_LIMIT_S
from services.session.line import Line
from services.session.pricing import Prices
from services.session.states import (
    MODEL_EVENTS,
    PHONE_EVENTS,
    LocalError,
    Model,
    Phone,
    RemoteError,
)
from shared import messages
from shared.messages import CallRecord, ToolInfo


class Call:
    """One call.  Feed it events and timer ticks; perform the actions it returns, in order."""

    def __init__(
        self,
        record: CallRecord,
        prices: Prices,
        now: float,
        *,
        clock: datetime.datetime,
        tools: Mapping[str, ToolInfo] | None = None,
    ) -> None:
        """`record` is the claimed call; `now` and `clock` are the same moment on both clocks.

        `tools` are those on the bus; of them this agent's may be used, for the call's whole length.
        """
        #: When the phone's audio last came: written by the driver, frame by frame.
        self.line_heard_at = now
        self._desk = Desk(record, prices, now, clock=clock)
        self._line = Line(self._desk, record.agent.max_call_s)
        self._talk = Conversation(self._desk, self._line, tools or {})

    @property
    def record(self) -> CallRecord:
        """The call as it is, or will be, in KV `calls`."""
        return self._desk.record

    @property
    def phone(self) -> Phone:
        """The phone's side."""
        return self._line.state

    @property
    def model(self) -> Model:
        """The model's side."""
        return self._talk.link.state

    @property
    def dropped_audio_ms(self) -> int:
        """Audio towards either side that did not arrive."""
        return self._desk.dropped_audio_ms

    def audio_dropped(self, ms: int) -> None:
        """The driver could not bring this much audio to where it belongs."""
        self._desk.dropped_audio_ms += ms

    # --- the driver's side ------------------------------------------------------------------

    def start(self, now: float) -> list[Action]:
        """The call was claimed: dial the model while the phone still rings."""
        record = self._desk.record
        self._desk.tell(
            messages.CallOffered,
            now,
            caller=record.caller,
            dialled=record.dialled,
            direction=record.direction,
            agent=record.agent.id,
            worker=record.worker,
        )
        self._line.ring(now)
        self._talk.link.dial(now)
        return self._desk.take()

    def handle(self, event: PhoneEvent | ModelEvent, now: float) -> list[Action]:
        """What to do about `event`.  Raises `LocalError`, `RemoteError`; nothing changed then."""
        kind = type(event)
        phone = self._line.state
        try:
            if kind in MODEL_EVENTS[Model.DOWN]:
                model = self._talk.link.state
                if phone is Phone.ENDED or model is Model.DOWN:
                    return []
                if kind not in MODEL_EVENTS[model]:
                    raise RemoteError(f"{kind.__name__} while the model is {model}")
                self._talk.model_event(event, now)  # type: ignore[arg-type]  # just looked up
                if kind is events.AudioReceived:
                    return self._desk.take()  # 50 times a second: nothing below depends on it
            else:
                if kind not in PHONE_EVENTS[phone]:
                    raise LocalError(f"{kind.__name__} while the phone is {phone}")
                self._phone_event(event, now)  # type: ignore[arg-type]
            self._review(now)
        except CallOver as over:
            self._end(over, now)
        return self._desk.take()

    def next_timer(self) -> float | None:
        """When to call `handle_timer`; None: never."""
        return min(self._desk.timers.values(), default=None)

    def handle_timer(self, now: float) -> list[Action]:
        """Do what is due at `now`."""
        try:
            for name in [name for name, due in self._desk.timers.items() if due <= now]:
                # Looked up again: one that is due can stop another, or start it anew.
                due = self._desk.timers.get(name)
                if due is not None and due <= now:
                    del self._desk.timers[name]
                    self._due(name, now)
            self._review(now)
        except CallOver as over:
            self._end(over, now)
        return self._desk.take()

    def _review(self, now: float) -> None:
        if self._line.state is not Phone.ENDED:
            self._talk.review(now)

    # --- the phone --------------------------------------------------------------------------

    def _phone_event(self, event: PhoneEvent, now: float) -> None:  # noqa: C901 - a case an event
        if self._line.state is Phone.ENDED:
            if isinstance(event, events.LegRequested):
                self._line.refuse("ended", "the call is over")
            return
        match event:
            case events.LegRequested():
                self._attach(event, now)
            case events.HangUpRequested(reason):
                away = self._line.state is Phone.AWAY
                raise CallOver("transferred" if away else reason)
            case events.WorkerStopping():
                raise CallOver("worker_stopped")
            case events.ToolFinished():
                self._talk.tool_finished(event, now)
            case events.MusicAnswered():
                self._talk.holding.answered(event, now)
            case events.OwnershipLost():
                self._let_go()
            case _ if event.leg != self._desk.record.leg:
                return  # a leg that was replaced
            case events.LegStarted():
                self._leg_started(now)
            case events.MarkReturned(_, name):
                self._talk.mark_returned(name, now)
            case events.DtmfPressed(_, digit):
                self._desk.tell(messages.KeyPressed, now, digit=digit)
            case events.PhoneUpdated():
                self._talk.leaving.updated(event, now)
            case events.LegStopped():
                self._leg_stopped(now)
            case events.LegLost(_, reason):
                self._leg_lost(reason, now)
            case _:
                assert_never(event)

    def _attach(self, event: events.LegRequested, now: float) -> None:
        if event.audio != self._desk.record.audio:
            self._line.refuse("format", f"this call speaks {self._desk.record.audio}")
            return
        was = self._line.state
        if was in (Phone.ATTACHED, Phone.TALKING):
            # The newest socket wins: the old one is lost, only nobody has noticed yet.
            self._talk.phone_lost(now)
        self._line.attach(event.gateway, now)
        self._talk.leaving.back(event.note, now)
        if was is Phone.AWAY:
            self._talk.resume(now)

    def _leg_started(self, now: float) -> None:
        if self._line.state is Phone.ATTACHED:  # else it is said twice
            self.line_heard_at = now
            self._line.started(now)
            self._talk.meet(now)

    def _leg_stopped(self, now: float) -> None:
        """Twilio: `stop` comes when the caller hangs up, and when the call was moved by REST."""
        move = self._talk.leaving.move
        if move is None:
            raise CallOver("caller_hung_up")
        if move.kind == "digits":
            self._leg_lost("keys are pressed", now)
        elif self._line.state is not Phone.AWAY:
            self._talk.phone_lost(now)
            self._talk.pause(now)
            self._line.away(now)

    def _leg_lost(self, reason: str, now: float) -> None:
        if self._line.state in (Phone.DETACHED, Phone.AWAY):
            return
        moves = self._talk.leaving.move is not None
        self._line.lost(reason, now, patience_s=KEYS_LIMIT_S if moves else 0.0)
        self._talk.phone_lost(now)

    # --- timers -----------------------------------------------------------------------------

    def _due(self, name: str, now: float) -> None:
        match name:
            case "attach":
                raise CallOver("never_attached")
            case "reattach":
                raise CallOver("caller_lost")
            case "max_call":
                raise CallOver("max_duration")
            case "away":
                raise CallOver("transferred")
            case "start":
                self._leg_lost("the gateway never started the leg", now)
            case "line":
                if not self._line.watch(self.line_heard_at, now):
                    self._leg_lost("no audio from the phone", now)
            case _:
                self._talk.due(name, now)

    # --- the end ----------------------------------------------------------------------------

    def _let_go(self) -> None:
        """Another worker owns the call: nothing of it is touched or told."""
        self._talk.holding.silence()
        self._line.state = Phone.ENDED
        self._desk.timers.clear()
        self._talk.close_uplink()
        self._desk.out += [events.CloseModel(), events.Finish()]

    def _end(self, over: CallOver, now: float) -> None:
        """Close both sides, keep the reason, tell the last line; nothing happens after it."""
        if over.reason == UNAVAILABLE:
            self._desk.tell_failure(over.detail, over.text, "ended", now)
        self._talk.end(now)
        self._line.state = Phone.ENDED
        self._desk.timers.clear()
        # The record first: when the socket closes, Twilio asks the gateway what comes next.
        self._desk.save(state="ended", reason=over.reason, ended_at=self._desk.at(now))
        if self._desk.record.leg:
            # Even when the leg is thought lost: a gateway that was only slow must let go as well.
            self._desk.out.append(events.HangUpLeg(over.reason[:64]))
        started_at = self._line.started_at
        self._desk.tell(
            messages.CallEnded,
            now,
            reason=over.reason,
            detail=over.detail,
            duration_ms=milliseconds(now - started_at) if started_at is not None else 0,
            tokens=self._desk.bill.tokens,
            cost_usd=self._desk.bill.cost_usd,
            dropped_audio_ms=self._desk.dropped_audio_ms,
        )
        self._desk.out.append(events.Finish())
