"""Caller and agent: what each event of the model means, and what is due when all are silent.

The parts of it know nothing of each other: `link.py` (the model's socket), `turns.py` (responses),
`voice.py` (what the caller hears), `errands.py` (function calls), `leaving.py` (ending, transfer,
keys), `holding.py` (music).  Here they meet.

Pure: no I/O; `now` is in seconds.
"""

from collections.abc import Mapping
from typing import Final, assert_never

from services.session import events, realtime, skills
from services.session.desk import UNAVAILABLE, CallOver, Desk
from services.session.errands import Errands
from services.session.events import ModelEvent
from services.session.history import History
from services.session.holding import Holding
from services.session.leaving import Leaving
from services.session.line import Line
from services.session.link import Link
from services.session.realtime import Reaction
from services.session.states import LocalError, Model, Phone
from services.session.turns import Turns
from services.session.voice import Voice
from shared import messages
from shared.audio import FORMATS
from shared.messages import ToolInfo

#: How often silence is looked for while something waits for it and no mark tells of it.
REVIEW_EVERY_S: Final = 0.25


class Conversation:
    """One call's.  Its methods raise `CallOver`; nothing more is done then."""

    def __init__(self, desk: Desk, line: Line, tools: Mapping[str, ToolInfo]) -> None:
        agent = desk.record.agent
        self._agent = agent
        self._audio = FORMATS[desk.record.audio]
        self._desk = desk
        self._line = line
        self._history = History()
        self.link = Link(desk, agent, self._history)
        self._turns = Turns(desk, agent)
        self._voice = Voice(desk, self._history, self._turns, greeted=agent.greeting is None)
        self._errands = Errands(desk, skills.together(agent, tools), self._history)
        self.leaving = Leaving(desk, agent, self._errands)
        self.holding = Holding(desk, agent)
        #: The agent owes a word: it was cut off, or its session was lost before it answered.
        self._owes_word = False
        self._uplink = False

    # --- the phone --------------------------------------------------------------------------

    @property
    def _together(self) -> bool:
        return self._line.state is Phone.TALKING and self.link.state is Model.READY

    def meet(self, now: float) -> None:
        """If phone and model are both there: the agent speaks first, then the caller is heard."""
        if not self._together or self._uplink:
            return
        self._voice.listened_since = self._line.started_at
        owes_word, self._owes_word = self._owes_word, False
        if not self._voice.greeted:
            self._ask("greeting", now)
        elif owes_word:
            self._ask("resume", now)
        self._uplink = True
        self._desk.out.append(events.OpenUplink())

    def phone_lost(self, now: float) -> None:
        """The phone is gone, and with it what it had not played."""
        self.holding.stop("leg", now)
        self.close_uplink()
        self._drop_speech(now)

    def close_uplink(self) -> None:
        """The model hears nothing more."""
        if self._uplink:
            self._uplink = False
            self._desk.out.append(events.CloseUplink())

    def _drop_speech(self, now: float) -> None:
        response = self._turns.responses.mute_active()
        if response is not None:
            self._desk.send(realtime.response_cancel(response))
            self._owes_word = True
        if self._voice.unheard(now):
            self._voice.cut(now, in_session=self.link.state is Model.READY)
            self._owes_word = True

    def mark_returned(self, name: str, now: float) -> None:
        """The phone has played everything before this mark."""
        self._voice.mark_returned(name, now)

    def tool_finished(self, event: events.ToolFinished, now: float) -> None:
        """A tool answered."""
        self._errands.finished(event, now)

    def pause(self, now: float) -> None:
        """The caller talks to somebody else: no model is needed."""
        self.leaving.gone(now)
        self._forget_session(now)
        self.link.close()

    def resume(self, now: float) -> None:
        """The caller is back, and finds the agent as if nothing had been."""
        self._owes_word = True
        self.link.dial_again(now)

    def end(self, now: float) -> None:
        """The call is over: whatever is still queued for the phone is not heard any more."""
        self.holding.stop("ended", now)
        self.close_uplink()
        if self._voice.unheard(now):
            self._voice.cut(now, in_session=False)
        self.link.close()

    # --- silence ----------------------------------------------------------------------------

    def _ask(self, purpose: str, now: float) -> None:
        """Ask for a response, as soon as there is somebody to speak and somebody to hear it."""
        if not self._together:
            self._owes_word = True
            return
        if purpose == "greeting" and self._voice.greeted:
            return  # nobody is greeted twice
        if self._turns.ask(purpose, now):
            self._errands.outputs.asked()

    def review(self, now: float) -> None:
        """After every event but audio: what waits for silence, or for a response's end."""
        errands, leaving = self._errands, self.leaving
        free = self._together and not self._turns.busy and not leaving.under_way
        if free and errands.answer_due:
            self._ask("tools", now)
        listens = self._line.state is Phone.TALKING and not self._turns.busy
        quiet = listens and not self._voice.unheard(now)
        if quiet and leaving.farewell is not None and self._voice.told_heard(now):
            self._part(now, late=False)
            quiet = not self._turns.busy
        self._review_music(now, quiet=quiet)
        if leaving.farewell is not None or errands.running or self.link.lost_at is not None:
            # Silence begins without an event when the last mark is lost: look again then.
            left_s = self._voice.unheard_s(now)
            self._desk.timers["review"] = now + max(left_s, REVIEW_EVERY_S)
        else:
            self._desk.timers.pop("review", None)

    def _review_music(self, now: float, *, quiet: bool) -> None:
        # While the call changes hands, nobody waits for a tool.
        stays = not self.leaving.under_way
        tool_since = self._errands.music_since if stays else None
        model_since = self.link.lost_at if self._voice.greeted else None
        waits = tool_since is not None or model_since is not None
        answers = self._turns.unsaid or (stays and self._errands.answer_due)
        if not waits and not answers:
            # Nothing to wait for any more, and the agent has not said a word about it.
            self.holding.stop("agent", now)
        self.holding.review(now, quiet=quiet, tool_since=tool_since, model_since=model_since)

    def _part(self, now: float, *, late: bool) -> None:
        """The agent's last words were heard: end the call, or hand it over.

        `late`: they took too long, and nobody waits for them any more.
        """
        farewell = self.leaving.farewell
        assert farewell is not None, "the caller of this looked"
        silent = farewell.kind == "end" and not (farewell.prompted or self._voice.said_something)
        if silent and not late:
            if self._together:  # else: the model is asked when it is there again
                self.leaving.prompt_goodbye(now)
                self._ask("goodbye", now)
        elif farewell.kind == "end":
            raise CallOver("agent_hung_up")
        elif self._line.state is Phone.TALKING:
            self.holding.stop("leg", now)
            self.leaving.transfer(self.leaving.take_farewell(), now)
        else:
            self.leaving.call_off("failed", "The caller's line is down.", now)

    # --- the model's life -------------------------------------------------------------------

    def _configured(self, event: events.SessionUpdated, now: float) -> None:
        if self.link.state is Model.CONFIGURING:
            self.link.configured(event, now)
            self._errands.model_ready = True
            self.meet(now)

    def _model_lost(self, code: str, text: str, now: float) -> None:
        """The socket is gone or useless: dial again with what was said, or give up."""
        self.close_uplink()
        self.link.lost(code, text, now)
        if self._turns.busy or self._history.unanswered():
            self._owes_word = True
        self._forget_session(now)

    def _forget_session(self, now: float) -> None:
        """All that belongs to one model socket; none of it may outlive the socket."""
        self._errands.session_lost()
        self._voice.forget_session(now)
        self._turns.forget_session()

    # --- the model's events -----------------------------------------------------------------

    def model_event(self, event: ModelEvent, now: float) -> None:  # noqa: C901 - a case an event
        """What the model says; it is legal now."""
        match event:
            case events.AudioReceived():
                self._audio_received(event, now)
            case events.AudioCompleted(response, item):
                self._voice.completed(response, item, now)
            case events.AgentTranscript():
                self._voice.said(event, now)
            case events.SessionCreated():
                self.link.configure(self._errands.schemas())
            case events.SessionUpdated():
                self._configured(event, now)
            case events.SpeechStarted(item):
                self._speech_started(item, now)
            case events.SpeechStopped(item):
                self._history.turn(item, "caller")
                self._turns.speech_stopped(now)
                self._desk.tell(messages.CallerStoppedSpeaking, now, item=item)
            case events.CallerTranscript():
                self._caller_transcript(event, now)
            case events.ResponseStarted():
                self._response_started(event, now)
            case events.FunctionCalled():
                self._function_called(event, now)
            case events.OutputTaken(call_id):
                self._errands.outputs.taken(call_id)
            case events.ResponseFinished():
                self._response_finished(event, now)
            case events.ModelErrored():
                self._errored(event, now)
            case events.ModelClosed(code, reason):
                if realtime.close_is_final(code):
                    raise CallOver(UNAVAILABLE, detail=reason or str(code), text=reason)
                self._model_lost(f"closed_{code}" if code else "unreachable", reason, now)
            case _:
                assert_never(event)

    def _audio_received(self, event: events.AudioReceived, now: float) -> None:
        if not event.audio or self._turns.responses.is_muted(event.response):
            return
        if self._line.state is not Phone.TALKING:
            self._desk.dropped_audio_ms += self._audio.ms(len(event.audio))
            return
        self._turns.alive(now)
        if self.holding.on:
            self.holding.stop("agent", now)
        self._voice.play(event, now)

    def _speech_started(self, item: str, now: float) -> None:
        self._desk.tell(messages.CallerStartedSpeaking, now, item=item)
        self.holding.stop("caller", now)
        self._turns.speech_started(now)
        self._voice.clear(now, in_session=True)
        self.leaving.call_off("interrupted", "The caller spoke; go on.", now)

    def _caller_transcript(self, event: events.CallerTranscript, now: float) -> None:
        text = event.text.strip()
        if text:  # silence, after an idle timeout, is no turn
            self._history.turn(event.item, "caller").text = text
            self._desk.tell(messages.Transcript, now, who="caller", text=text, item=event.item)
        model = self._agent.transcription_model or "transcription"
        self._desk.charge("transcription", model, event.tokens, event.seconds, now)

    def _response_started(self, event: events.ResponseStarted, now: float) -> None:
        self._turns.started(event, now)
        self._voice.response_started()
        self._errands.outputs.used(ours=bool(event.purpose))
        if self._line.state is not Phone.TALKING:
            self._drop_speech(now)  # nobody would hear it

    def _function_called(self, event: events.FunctionCalled, now: float) -> None:
        interrupted = self._turns.responses.is_muted(event.response)
        if not self.leaving.can(event.name):
            self._errands.called(event, now, interrupted=interrupted)
        elif interrupted or self._turns.caller_speaks:
            # What the caller says now may well change the model's mind.
            self._errands.called(event, now, interrupted=True)
        else:
            self.leaving.called(event, now)

    def _response_finished(self, event: events.ResponseFinished, now: float) -> None:
        spoke = self._voice.response_finished(event.response, now)
        self._desk.charge("response", self._agent.model, event.tokens, 0, now)
        responses = self._turns.responses
        purpose = responses.purpose(event.response)
        if not responses.finished(event.response):
            return  # an old one; a newer one runs already
        if event.status == "failed":
            self._turns.failed(purpose, event.code, event.message, now)
            return
        if event.status == "completed":
            self.link.worked()
        wanted = self._turns.finished(event, now, spoke=spoke)
        if wanted is not None:
            self._ask(wanted, now)

    def _errored(self, event: events.ModelErrored, now: float) -> None:
        reaction = realtime.reaction(event.code, event.param)
        if reaction is Reaction.GIVE_UP:
            raise CallOver(UNAVAILABLE, detail=event.code, text=event.message)
        if self.link.state is Model.CONFIGURING and reaction is Reaction.REPORT:
            self._configuration_refused(event, now)
        elif reaction is Reaction.WAIT_FOR_RESPONSE:
            self._turns.put_off(now)
        elif reaction is Reaction.REDIAL:
            self._model_lost(event.code, event.message, now)
        elif (purpose := self._turns.responses.refused(event.event_id)) is not None:
            self._turns.failed(purpose, event.code, event.message, now)
        elif reaction is Reaction.RETRY and self.link.another_server_error():
            self._model_lost(event.code, event.message, now)
        else:
            self._desk.tell_failure(event.code, event.message, "ignored", now)

    def _configuration_refused(self, event: events.ModelErrored, now: float) -> None:
        """OpenAI: nothing of it is in force then; the session would talk with its defaults."""
        if self._errands.drop_refused_tool(event.param) is None:
            raise CallOver(UNAVAILABLE, detail=event.code, text=event.message)
        # A stranger's tool with a schema that is none: the call can do without it.
        self._desk.tell_failure(event.code, event.message, "retried", now)
        self.link.configure(self._errands.schemas())

    # --- timers -----------------------------------------------------------------------------

    def due(self, name: str, now: float) -> None:
        """One of the timers of the parts is due."""
        match name:
            case "redial":
                self.link.dial(now)
            case "configure":
                self._model_lost("configure_timeout", "", now)
            case "stall":
                self._model_lost("response_stalled", "", now)
            case "retry":
                self._ask(self._turns.retry_purpose, now)
            case "tools":
                self._errands.overdue(now)
            case "move":
                self.leaving.overdue(now)
            case "farewell":
                self._part(now, late=True)
            case "hold" | "review":
                pass  # what is due is found by `review`, which follows every timer
            case _:
                raise LocalError(f"no such timer: {name}")
