"""The rules of a call.  `Call.handle(event, now) -> actions`; no socket, clock or task in here.

Two things live side by side: the phone's side (`Phone`) and the model's (`Model`); `states.py` has
the tables that say which event is legal when.

How the two meet: the model is dialled and configured while the phone rings.  When the phone listens
*and* the model is ready, the agent greets, and then the caller's audio flows.

`now` is in seconds on any clock that never goes back.
"""

import datetime
from collections.abc import Mapping
from typing import Final, assert_never

from services.session import events, realtime
from services.session.desk import Desk, milliseconds
from services.session.errands import GOODBYE_NOTE, Errands
from services.session.events import Action, ModelEvent, PhoneEvent
from services.session.history import History, ToolTurn
from services.session.ledger import Ledger
from services.session.pricing import Prices
from services.session.realtime import Reaction
from services.session.responses import Responses
from services.session.states import (
    MODEL_EVENTS,
    PHONE_EVENTS,
    LocalError,
    Model,
    Phone,
    RemoteError,
)
from shared import messages
from shared.audio import FORMATS
from shared.messages import CallRecord, ToolInfo

# --- limits --------------------------------------------------------------------------------------

#: Twilio opens the stream within a second or two of our answer; a caller who hung up never does.
ATTACH_TIMEOUT_S: Final = 30.0
#: The gateway says `started` a round trip after it got its leg.
START_TIMEOUT_S: Final = 10.0
#: Twilio asks `/twiml/after` at once when a socket is lost; 15 s covers its own time-out.
REATTACH_TIMEOUT_S: Final = 15.0
#: Twilio sends 50 frames a second, also of silence: a phone without any for so long is gone, and
#: the gateway that should have said so is gone as well.
LINE_TIMEOUT_S: Final = 5.0
#: From dialling to configured.  2 s were seen from far away; 70 to 260 ms for the update.
CONFIGURE_TIMEOUT_S: Final = 8.0
#: Dials in a row without a finished response between them; waits before each: at once, then longer.
REDIAL_WAITS_S: Final = (0.0, 0.5, 1.0, 2.0, 4.0)
#: A response that gives no sign of life: the slowest reasoning effort answers within this.
STALL_TIMEOUT_S: Final = 20.0
#: Failed responses in a row before the call is given up, and the wait before each retry.
RETRY_WAITS_S: Final = (0.5, 1.5, 3.0)

#: Endings after which the caller, if still there, is told that we cannot take the call.
UNAVAILABLE: Final = "model_unavailable"

#: A conversation with somebody else; Twilio's own longest call is about this.
AWAY_TIMEOUT_S: Final = 4 * 3600.0
#: How often silence is looked for while something waits for it and no mark tells of it.
REVIEW_EVERY_S: Final = 0.25

RESUME_NOTE: Final = "The line was cut for a moment. Carry on without greeting again."


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

        `tools` are those on the bus that this call may use, for its whole length.
        """
        self.phone = Phone.RINGING
        self.model = Model.DIALLING
        #: When the phone's audio last came: written by the driver, frame by frame.
        self.line_heard_at = now
        #: Agent audio that could not be played; the driver adds what it dropped itself.
        self.dropped_audio_ms = 0
        self._agent = record.agent
        self._audio = FORMATS[record.audio]
        self._desk = Desk(record, prices, now, clock=clock)
        self._history = History()
        self._ledger = Ledger(self._audio)
        self._errands = Errands(self._desk, self._agent, tools, self._history)
        self._started_at: float | None = None
        #: The greeting was heard, at least its beginning; or none is wanted.
        self._greeted = record.agent.greeting is None
        #: The agent owes a word: it was cut off, or its session was lost before it answered.
        self._owes_word = False
        self._uplink = False
        self._dials = 0
        self._dialled_at = now
        self._failures = 0
        self._speech_ended_at: float | None = None
        self._gateway = ""
        self._retry_purpose = ""
        self._lost_at: float | None = None
        #: The response that runs, or ran last, was heard at least in part.
        self._said_something = False
        self._forget_session()

    def _forget_session(self) -> None:
        """All that belongs to one model socket; none of it may outlive the socket."""
        self._responses = Responses()
        #: Items of the agent that were played, and the response each belongs to.
        self._items: dict[str, str] = {}
        self._server_errors = 0
        #: Between the two events of voice detection.  It will start a response of its own.
        self._caller_speaks = False
        #: The caller has spoken, and that response has not started yet.
        self._answer_due = False

    @property
    def record(self) -> CallRecord:
        """The call as it is, or will be, in KV `calls`."""
        return self._desk.record

    # --- the driver's side ------------------------------------------------------------------

    def start(self, now: float) -> list[Action]:
        """The call was claimed: dial the model while the phone still rings."""
        self._desk.tell(
            messages.CallOffered,
            now,
            caller=self._desk.record.caller,
            dialled=self._desk.record.dialled,
            direction=self._desk.record.direction,
            agent=self._agent.id,
            worker=self._desk.record.worker,
        )
        self._desk.timers["attach"] = now + ATTACH_TIMEOUT_S
        self._dial(now)
        return self._desk.take()

    def handle(self, event: PhoneEvent | ModelEvent, now: float) -> list[Action]:
        """What to do about `event`.  Raises `LocalError`, `RemoteError`; nothing changed then."""
        kind = type(event)
        if kind in MODEL_EVENTS[Model.DOWN]:
            if self.phone is Phone.ENDED or self.model is Model.DOWN:
                return []
            if kind not in MODEL_EVENTS[self.model]:
                raise RemoteError(f"{kind.__name__} while the model is {self.model}")
            self._model_event(event, now)  # type: ignore[arg-type]  # its kind was just looked up
            if kind is events.AudioReceived:
                return self._desk.take()  # 50 times a second: nothing below depends on it
        else:
            if kind not in PHONE_EVENTS[self.phone]:
                raise LocalError(f"{kind.__name__} while the phone is {self.phone}")
            self._phone_event(event, now)  # type: ignore[arg-type]
        self._review(now)
        return self._desk.take()

    def next_timer(self) -> float | None:
        """When to call `handle_timer`; None: never."""
        return min(self._desk.timers.values(), default=None)

    def handle_timer(self, now: float) -> list[Action]:
        """Do what is due at `now`."""
        for name in [name for name, due in self._desk.timers.items() if due <= now]:
            # Looked up again: one that is due can stop another, or start it anew.
            due = self._desk.timers.get(name)
            if due is not None and due <= now:
                del self._desk.timers[name]
                self._due(name, now)
        self._review(now)
        return self._desk.take()

    # --- the phone --------------------------------------------------------------------------

    def _phone_event(self, event: PhoneEvent, now: float) -> None:  # noqa: C901 - a case an event
        if self.phone is Phone.ENDED:
            if isinstance(event, events.LegRequested):
                self._refuse("ended", "the call is over")
            return
        match event:
            case events.LegRequested():
                self._attach(event, now)
            case events.HangUpRequested(reason):
                self._end("transferred" if self.phone is Phone.AWAY else reason, now)
            case events.WorkerStopping():
                self._end("worker_stopped", now)
            case events.ToolFinished():
                self._errands.finished(event, now)
            case events.MusicAnswered():
                self._errands.music_answered(event, now)
            case events.OwnershipLost():
                self.phone = Phone.ENDED
                self._desk.timers.clear()
                self._close_uplink()
                self._desk.out += [events.CloseModel(), events.Finish()]
            case _ if event.leg != self._desk.record.leg:
                return  # a leg that was replaced
            case events.LegStarted():
                self._leg_started(now)
            case events.MarkReturned(_, name):
                for item, heard_ms in self._ledger.returned(name, now):
                    self._desk.tell(
                        messages.AgentFinishedSpeaking, now, item=item, heard_ms=heard_ms
                    )
            case events.DtmfPressed(_, digit):
                self._desk.tell(messages.KeyPressed, now, digit=digit)
            case events.PhoneUpdated():
                self._errands.updated(event, now)
            case events.LegStopped():
                self._leg_stopped(now)
            case events.LegLost(_, reason):
                self._leg_lost(reason, now)
            case _:
                assert_never(event)

    def _refuse(self, code: str, text: str) -> None:
        self._desk.out.append(
            events.Answer(messages.Refused.model_validate({"code": code, "message": text}))
        )

    def _attach(self, event: events.LegRequested, now: float) -> None:
        if event.audio != self._desk.record.audio:
            self._refuse("format", f"this call speaks {self._desk.record.audio}")
            return
        came_back = self.phone is Phone.AWAY
        if self.phone in (Phone.ATTACHED, Phone.TALKING):
            self._errands.stop_music("leg", now)
            # The newest socket wins: the old one is lost, only nobody has noticed yet.
            self._drop_speech(now)
        leg = self._desk.record.leg + 1
        self._gateway = event.gateway
        self.phone = Phone.ATTACHED
        for name in ("attach", "reattach", "line", "away"):
            self._desk.timers.pop(name, None)
        self._desk.timers["start"] = now + START_TIMEOUT_S
        self._close_uplink()
        self._desk.out.append(events.ListenLeg(leg))
        if leg > 1:
            self._desk.out.append(events.MoveLeg(leg))
        self._desk.out.append(
            events.Answer(
                messages.LegAttached(
                    leg=leg, epoch=self._desk.record.epoch, worker=self._desk.record.worker
                )
            )
        )
        self._desk.save(leg=leg, state="live")
        self._errands.back(event.note, now)
        if came_back:
            self._owes_word = True
            self._desk.timers["max_call"] = now + self._agent.max_call_s
            self._dial(now)

    def _leg_started(self, now: float) -> None:
        if self.phone is not Phone.ATTACHED:
            return  # said twice
        self.phone = Phone.TALKING
        self._desk.timers.pop("start", None)
        self.line_heard_at = now
        self._desk.timers["line"] = now + LINE_TIMEOUT_S
        leg, gateway = self._desk.record.leg, self._gateway
        if self._started_at is None:
            self._started_at = now
            self._desk.timers["max_call"] = now + self._agent.max_call_s
            self._desk.tell(messages.CallStarted, now, leg=leg, gateway=gateway)
        else:
            self._desk.tell(messages.LegReplaced, now, leg=leg, gateway=gateway)
        self._meet(now)

    def _leg_stopped(self, now: float) -> None:
        """Twilio: `stop` comes when the caller hangs up, and when the call was moved by REST."""
        match self._errands.moving:
            case "":
                self._end("caller_hung_up", now)
            case "digits":
                self._leg_lost("keys are pressed", now)
            case "transfer":
                self._go_away(now)

    def _go_away(self, now: float) -> None:
        """The caller talks to somebody else: no model is needed, and none is paid for."""
        if self.phone is Phone.AWAY:
            return
        self._close_uplink()
        self._drop_speech(now)
        self.phone = Phone.AWAY
        self._errands.gone(now)
        self._errands.session_lost()
        self._forget_session()
        self.model = Model.DOWN
        self._desk.timers.clear()
        self._desk.timers["away"] = now + AWAY_TIMEOUT_S
        self._dials = 0
        self._desk.out.append(events.CloseModel())

    def _leg_lost(self, reason: str, now: float) -> None:
        if self.phone in (Phone.DETACHED, Phone.AWAY):
            return
        self._errands.stop_music("leg", now)
        self.phone = Phone.DETACHED
        self._desk.timers.pop("start", None)
        self._desk.timers.pop("line", None)
        self._desk.timers["reattach"] = now + REATTACH_TIMEOUT_S
        self._desk.tell(messages.LegDropped, now, leg=self._desk.record.leg, reason=reason)
        self._close_uplink()
        self._drop_speech(now)

    def _drop_speech(self, now: float) -> None:
        """The phone is gone, and with it what it had not played."""
        response = self._responses.mute_active()
        if response is not None:
            self._desk.send(realtime.response_cancel(response))
            self._owes_word = True
        if self._ledger.unheard(now):
            self._cut(now)
            self._owes_word = True

    # --- where both sides meet --------------------------------------------------------------

    def _meet(self, now: float) -> None:
        """Phone and model are both there: the agent speaks first, then the caller is heard."""
        if self.phone is not Phone.TALKING or self.model is not Model.READY or self._uplink:
            return
        owes_word, self._owes_word = self._owes_word, False
        if not self._greeted:
            self._ask("greeting", now)
        elif owes_word:
            self._ask("resume", now)
        self._uplink = True
        self._desk.out.append(events.OpenUplink())

    def _review(self, now: float) -> None:
        """After every event but audio: what waits for silence, or for a response's end."""
        if self.phone is Phone.ENDED:
            return
        errands = self._errands
        busy = self._responses.busy or self._caller_speaks or self._answer_due
        if errands.output_unused and not errands.running and not busy:
            # OpenAI: one `response.create` when all outputs are in, and none while one runs.
            errands.output_unused = False
            self._ask("tools", now)
            busy = True
        quiet = self.phone is Phone.TALKING and not busy and not self._ledger.unheard(now)
        if quiet and errands.farewell is not None:
            self._part(now)
            return
        lost_at = self._lost_at if self._greeted and self.model is not Model.READY else None
        errands.review_hold(now, quiet=quiet, model_lost_at=lost_at)
        if not quiet and (errands.farewell is not None or errands.running):
            # Silence begins without an event when the last mark is lost: look again then.
            left_s = self._ledger.unheard_ms(now) / 1000
            self._desk.timers["review"] = now + max(left_s, REVIEW_EVERY_S)
        else:
            self._desk.timers.pop("review", None)

    def _part(self, now: float) -> None:
        """The agent's last words were heard: end the call, or hand it over."""
        farewell = self._errands.farewell
        assert farewell is not None, "the caller of this looked"
        if farewell.kind == "end" and not (farewell.prompted or self._said_something):
            self._errands.prompt_goodbye(now)
            self._ask("goodbye", now)
            return
        self._errands.take_farewell()
        if farewell.kind == "end":
            self._end("agent_hung_up", now)
        else:
            self._errands.transfer(farewell)

    def _close_uplink(self) -> None:
        if self._uplink:
            self._uplink = False
            self._desk.out.append(events.CloseUplink())

    # --- the model's life -------------------------------------------------------------------

    def _dial(self, now: float) -> None:
        self.model = Model.DIALLING
        self._dials += 1
        self._dialled_at = now
        self._desk.timers["configure"] = now + CONFIGURE_TIMEOUT_S
        self._desk.out.append(events.DialModel(self._agent.model))

    def _configured(self, event: events.SessionUpdated, now: float) -> None:
        if self.model is not Model.CONFIGURING:
            return
        for reported in (event.input_format, event.output_format):
            if not realtime.same_format(reported, self._desk.record.audio):
                # It would send noise to the phone, or never hear a turn end.
                self._end(UNAVAILABLE, now, detail="format_mismatch")
                return
        self.model = Model.READY
        self._desk.timers.pop("configure", None)
        self._desk.tell(
            messages.ModelReady,
            now,
            model=self._agent.model,
            voice=self._agent.voice,
            dial_ms=milliseconds(now - self._dialled_at),
            attempt=self._dials,
        )
        self._replay()
        self._errands.model_ready = True
        self._meet(now)

    def _replay(self) -> None:
        """Tell a new session what was said, and what tools were asked and answered."""
        said = self._history.replay()
        if said:
            self._desk.send(realtime.message("system", RESUME_NOTE))
        for turn in said:
            if isinstance(turn, ToolTurn):
                call = realtime.function_call(turn.call_id, turn.name, turn.arguments)
                self._desk.send(call)
                if turn.output is not None:
                    self._desk.send(realtime.function_output(turn.call_id, turn.output))
            else:
                self._desk.send(realtime.message(*turn))

    def _model_lost(self, code: str, text: str, now: float) -> None:
        """The socket is gone or useless: dial again with what was said, or give up."""
        if self._dials >= len(REDIAL_WAITS_S):
            self._end(UNAVAILABLE, now, detail=code, failed=text)
            return
        self._desk.tell_failure(code, text, "redialled", now)
        unsaid = self._responses.busy or self._answer_due or "retry" in self._desk.timers
        unused = self._errands.session_lost()
        if unsaid or unused or self._caller_speaks or self._history.unanswered():
            self._owes_word = True
        self._lost_at = now
        for item in list(self._items):
            self._put(self._ledger.complete(item, now))
        self._forget_session()
        self._close_uplink()
        self.model = Model.DOWN
        for name in ("configure", "stall", "retry"):
            self._desk.timers.pop(name, None)
        self._desk.timers["redial"] = now + REDIAL_WAITS_S[self._dials]
        self._desk.out.append(events.CloseModel())

    # --- the model's events -----------------------------------------------------------------

    def _model_event(self, event: ModelEvent, now: float) -> None:  # noqa: C901, PLR0915 - a case an event
        match event:
            case events.AudioReceived():
                self._audio_received(event, now)
            case events.AudioCompleted(response, item):
                if not self._responses.is_muted(response):
                    self._put(self._ledger.complete(item, now))
            case events.AgentTranscript():
                self._agent_transcript(event, now)
            case events.SessionCreated():
                self.model = Model.CONFIGURING
                tools = self._errands.schemas()
                update = realtime.session_update(self._agent, self._desk.record.audio, tools)
                self._desk.send(update)
            case events.SessionUpdated():
                self._configured(event, now)
            case events.SpeechStarted(item):
                self._desk.tell(messages.CallerStartedSpeaking, now, item=item)
                self._speech_ended_at = None
                self._caller_speaks, self._answer_due = True, False
                self._errands.stop_music("caller", now)
                self._barge_in(now)
                self._errands.interrupted(now)
                self._watch_response(now)
            case events.SpeechStopped(item):
                self._history.turn(item, "caller")
                self._speech_ended_at = now
                self._caller_speaks, self._answer_due = False, True
                self._watch_response(now)
                self._desk.tell(messages.CallerStoppedSpeaking, now, item=item)
            case events.CallerTranscript():
                self._caller_transcript(event, now)
            case events.ResponseStarted(response, purpose):
                self._responses.started(response, purpose)
                self._answer_due = False
                self._said_something = False
                # It has every output that was sent before it began.
                self._errands.output_unused = False
                # Whatever was to be tried again: this one answers it, or fails and is tried again.
                self._desk.timers.pop("retry", None)
                self._watch_response(now)
                if self.phone is not Phone.TALKING:
                    self._drop_speech(now)  # nobody would hear it
            case events.FunctionCalled(response):
                cancelled = self._responses.is_muted(response)
                self._errands.called(event, now, cancelled=cancelled)
            case events.ResponseFinished():
                self._response_finished(event, now)
            case events.ModelErrored():
                self._errored(event, now)
            case events.ModelClosed(code, reason):
                if realtime.close_is_final(code):
                    self._end(UNAVAILABLE, now, detail=reason or str(code), failed=reason)
                else:
                    self._model_lost(f"closed_{code}" if code else "unreachable", reason, now)
            case _:
                assert_never(event)

    def _audio_received(self, event: events.AudioReceived, now: float) -> None:
        if not event.audio or self._responses.is_muted(event.response):
            return
        if self.phone is not Phone.TALKING:
            self.dropped_audio_ms += self._audio.ms(len(event.audio))
            return
        self._desk.timers["stall"] = now + STALL_TIMEOUT_S
        if self._errands.holding.on:
            self._errands.stop_music("agent", now)
        self._said_something = True
        if event.item not in self._items:
            self._items[event.item] = event.response
            self._history.turn(event.item, "agent").heard = 1.0
            self._agent_started(event, now)
        self._put(self._ledger.play(event.item, event.audio, now))

    def _agent_started(self, event: events.AudioReceived, now: float) -> None:
        after, latency_ms = "other", None
        # Whatever the agent says first is its greeting: nobody is greeted in mid-talk.
        self._greeted = True
        if self._responses.purpose(event.response) == "greeting":
            after = "greeting"
            if self._started_at is not None:
                latency_ms = milliseconds(now - self._started_at)
        elif self._speech_ended_at is not None:
            after, latency_ms = "caller", milliseconds(now - self._speech_ended_at)
        self._speech_ended_at = None
        self._desk.tell(
            messages.AgentStartedSpeaking,
            now,
            item=event.item,
            after=after,
            latency_ms=latency_ms,
        )

    def _put(self, pieces: list[bytes | str]) -> None:
        for piece in pieces:
            self._desk.out.append(
                events.PlayMark(piece) if isinstance(piece, str) else events.PlayAudio(piece)
            )

    def _agent_transcript(self, event: events.AgentTranscript, now: float) -> None:
        turn = self._history.turn(event.item, "agent")
        if not event.final:
            turn.text += event.text
            return
        turn.text, turn.final = event.text, True
        if event.item not in self._items:
            turn.heard = 0.0  # interrupted before its first audio
        if turn.heard_text:
            self._desk.tell(
                messages.Transcript,
                now,
                who="agent",
                text=turn.heard_text,
                item=event.item,
                interrupted=turn.heard < 1,
            )

    def _caller_transcript(self, event: events.CallerTranscript, now: float) -> None:
        text = event.text.strip()
        if text:  # silence, after an idle timeout, is no turn
            self._history.turn(event.item, "caller").text = text
            self._desk.tell(messages.Transcript, now, who="caller", text=text, item=event.item)
        model = self._agent.transcription_model or "transcription"
        self._desk.charge("transcription", model, event.tokens, event.seconds, now)

    # --- barge-in ---------------------------------------------------------------------------

    def _barge_in(self, now: float) -> None:
        """The caller speaks.

        OpenAI cancels the running response by itself; a `response.cancel` of ours could hit the
        next one.  Nobody but us clears the phone and cuts the item to what was heard.
        """
        self._responses.mute_active()
        # The answer to what the caller says now comes without our asking.
        self._responses.take_wanted()
        self._desk.timers.pop("retry", None)
        if self._ledger.unheard(now):
            self._desk.out.append(events.PlayClear())
            self._cut(now)

    def _cut(self, now: float) -> None:
        for cut in self._ledger.interrupt(now):
            turn = self._history.turn(cut.item, "agent")
            turn.heard = cut.heard_ms / cut.sent_ms if cut.sent_ms else 0.0
            if self.model is Model.READY and cut.item in self._items:
                self._responses.mute(self._items[cut.item])
                self._desk.send(realtime.truncate(cut.item, cut.heard_ms))
            self._desk.tell(
                messages.Interrupted,
                now,
                item=cut.item,
                heard_ms=cut.heard_ms,
                sent_ms=cut.sent_ms,
                text=turn.heard_text if turn.final else "",
            )

    # --- responses --------------------------------------------------------------------------

    def _ask(self, purpose: str, now: float) -> None:
        """Ask for a response, now or when the running one is done: one at a time."""
        if self.phone is not Phone.TALKING:
            self._owes_word = True  # nobody would hear it now
            return
        if self._caller_speaks or (purpose == "greeting" and self._greeted):
            return  # voice detection will start one; nobody is greeted twice
        if not self._responses.may_ask(purpose):
            return
        event = realtime.response_create(purpose, self._instructions_for(purpose))
        self._responses.asked(purpose, self._desk.send(event))
        self._watch_response(now)

    def _watch_response(self, now: float) -> None:
        """While one is due, asked for or running, the next sign of life must come in time."""
        if self.model is not Model.READY:
            return
        if self._responses.busy or self._answer_due:
            self._desk.timers["stall"] = now + STALL_TIMEOUT_S
        else:
            self._desk.timers.pop("stall", None)

    def _instructions_for(self, purpose: str) -> str | None:
        agent = self._agent
        if purpose == "greeting":
            return f"{agent.instructions}\n\n{agent.greeting}"
        if purpose == "resume":
            return f"{agent.instructions}\n\n{RESUME_NOTE}"
        if purpose == "goodbye":
            return f"{agent.instructions}\n\n{GOODBYE_NOTE}"
        return None

    def _response_finished(self, event: events.ResponseFinished, now: float) -> None:
        if not self._responses.is_muted(event.response):
            for item in [one for one, owner in self._items.items() if owner == event.response]:
                self._put(self._ledger.complete(item, now))
        self._desk.charge("response", self._agent.model, event.tokens, 0, now)
        purpose = self._responses.purpose(event.response)
        if not self._responses.finished(event.response):
            return  # an old one; a newer one runs already
        if event.status == "failed":
            self._response_failed(purpose, event.code, event.message, now)
        else:
            if event.status == "completed":
                self._dials = self._failures = 0
            wanted = self._responses.take_wanted()
            # Somebody may have spoken for us meanwhile: then there is nothing left to say.
            spoke = event.status != "cancelled" and event.response in self._items.values()
            if wanted is not None and not spoke:
                self._ask(wanted, now)
        self._watch_response(now)

    def _response_failed(self, purpose: str, code: str, text: str, now: float) -> None:
        """Try again after a while; the same thing is said, by the same rules."""
        if realtime.reaction(code) is Reaction.GIVE_UP or self._failures >= len(RETRY_WAITS_S):
            self._end(UNAVAILABLE, now, detail=code, failed=text)
            return
        self._desk.tell_failure(code, text, "retried", now)
        self._desk.timers["retry"] = now + RETRY_WAITS_S[self._failures]
        self._failures += 1
        self._retry_purpose = purpose or "retry"

    def _errored(self, event: events.ModelErrored, now: float) -> None:
        reaction = realtime.reaction(event.code, event.param)
        if reaction is Reaction.GIVE_UP:
            self._end(UNAVAILABLE, now, detail=event.code, failed=event.message)
            return
        if self.model is Model.CONFIGURING and reaction is Reaction.REPORT:
            # OpenAI: a refused update changes nothing; the session would talk with its defaults.
            self._end(UNAVAILABLE, now, detail=event.code, failed=event.message)
            return
        if reaction is Reaction.WAIT_FOR_RESPONSE:
            self._put_off(now)
        elif reaction is Reaction.REDIAL:
            self._model_lost(event.code, event.message, now)
        elif (purpose := self._responses.refused(event.event_id)) is not None:
            self._response_failed(purpose, event.code, event.message, now)
            self._watch_response(now)
        elif reaction is Reaction.RETRY:
            # OpenAI: an internal error is worth one more try; then a new session.
            self._server_errors += 1
            if self._server_errors > 1:
                self._model_lost(event.code, event.message, now)
            else:
                self._desk.tell_failure(event.code, event.message, "ignored", now)
        else:
            self._desk.tell_failure(event.code, event.message, "ignored", now)

    def _put_off(self, now: float) -> None:
        """Ours was refused because another one runs; it may be done by now."""
        self._responses.put_off()
        if not self._responses.running and (wanted := self._responses.take_wanted()) is not None:
            self._desk.timers["retry"] = now + RETRY_WAITS_S[0]
            self._retry_purpose = wanted
        self._watch_response(now)

    # --- timers -----------------------------------------------------------------------------

    def _due(self, name: str, now: float) -> None:  # noqa: C901 - a case a timer
        match name:
            case "attach":
                self._end("never_attached", now)
            case "reattach":
                self._end("caller_lost", now)
            case "start":
                self._leg_lost("the gateway never started the leg", now)
            case "line":
                self._watch_line(now)
            case "max_call":
                self._end("max_duration", now)
            case "redial":
                self._dial(now)
            case "configure":
                self._model_lost("configure_timeout", "", now)
            case "stall":
                self._model_lost("response_stalled", "", now)
            case "retry":
                self._ask(self._retry_purpose, now)
            case "tools":
                self._errands.overdue(now)
            case "away":
                self._end("transferred", now)
            case "farewell":
                if self._errands.farewell is not None:
                    self._errands.farewell.prompted = True
                    self._part(now)
            case "hold" | "review":
                pass  # what is due is found by `_review`, which follows every timer
            case _:
                raise LocalError(f"no such timer: {name}")

    def _watch_line(self, now: float) -> None:
        due = self.line_heard_at + LINE_TIMEOUT_S
        if due > now:
            self._desk.timers["line"] = due
        else:
            self._leg_lost("no audio from the phone", now)

    # --- the end ----------------------------------------------------------------------------

    def _end(self, reason: str, now: float, *, detail: str = "", failed: str = "") -> None:
        """Close both sides, keep the reason, tell the last line; nothing happens after it."""
        if reason == UNAVAILABLE:
            self._desk.tell_failure(detail, failed, "ended", now)
        self._errands.stop_music("ended", now)
        self.model = Model.DOWN
        # Whatever is still queued for the phone is not heard any more.
        if self._ledger.unheard(now):
            self._cut(now)
        self.phone = Phone.ENDED
        self._desk.timers.clear()
        self._close_uplink()
        self._desk.out.append(events.CloseModel())
        # The record first: when the socket closes, Twilio asks the gateway what comes next.
        self._desk.save(state="ended", reason=reason, ended_at=self._desk.at(now))
        if self._desk.record.leg:
            # Even when the leg is thought lost: a gateway that was only slow must let go as well.
            self._desk.out.append(events.HangUpLeg(reason[:64]))
        spoken_s = now - self._started_at if self._started_at is not None else 0.0
        self._desk.tell(
            messages.CallEnded,
            now,
            reason=reason,
            detail=detail,
            duration_ms=milliseconds(spoken_s),
            tokens=self._desk.bill.tokens,
            cost_usd=self._desk.bill.cost_usd,
            dropped_audio_ms=self.dropped_audio_ms,
        )
        self._desk.out.append(events.Finish())
