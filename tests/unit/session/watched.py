"""A call on virtual time whose every action is held against the rules that hold in any order."""

import collections
import datetime
import json
from typing import Any, TypeVar

from services.session import events
from services.session.events import Action, ModelEvent, PhoneEvent
from services.session.machine import Call
from services.session.pricing import Price, Prices
from services.session.states import (
    MODEL_EVENTS,
    PHONE_EVENTS,
    LocalError,
    Model,
    Phone,
    RemoteError,
)
from shared import messages
from shared.audio import FORMATS, FormatName
from shared.messages import AgentSettings, CallRecord, Tokens, ToolInfo

EventT = TypeVar("EventT", bound=messages.Event)

CALL = "CA0123456789abcdef0123456789abcdef"
CLOCK = datetime.datetime(2026, 11, 22, 10, 0, tzinfo=datetime.UTC)
PRICES = Prices({"gpt-realtime-2.1": Price(text_in=4, audio_in=32, text_out=24, audio_out=64)})
TOOLS = {
    tool.name: tool
    for tool in (
        ToolInfo(name="lookup", timeout_ms=8000),
        ToolInfo(name="search", timeout_ms=8000),
        ToolInfo(name="hushed", timeout_ms=8000, hold_music=False),
    )
}
#: Everything that the session itself can do.
ABLE = AgentSettings(
    skills=["end_call", "transfer_call", "send_dtmf"],
    transfer_to={"front desk": "+15550001111"},
)
FORMAT: dict[FormatName, dict[str, Any]] = {
    "pcmu": {"type": "audio/pcmu"},
    "pcm24k": {"type": "audio/pcm", "rate": 24000},
}


class Rules:
    """What no order of events may break; fed with every event before and every action after."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.socket = "none"
        #: The phone before the event whose actions are looked at.
        self.was = call.phone
        self.created: dict[str, Any] | None = None
        self.uplink = False
        self.agent_heard = False
        self.marks: set[str] = set()
        self.received: dict[str, int] = {}
        self.cut: set[str] = set()
        self.ended = 0
        self.finished = 0
        self.saved_ended = False
        self.disowned = False
        self.configured = False
        self.line = Playback()
        #: Function calls: all there were, those sent to a tool, those with an output.
        self.called: dict[str, str] = {}
        self.dispatched: dict[str, str] = {}
        self.answered: set[str] = set()
        #: Of the model's session: calls it knows of, and outputs it has.
        self.known_calls: set[str] = set()
        self.outputs: set[str] = set()
        #: Outputs that no response of ours was about, and those that the next one is about.
        self.fresh: set[str] = set()
        self.asked_about: set[str] = set()
        self.running: str | None = None
        #: A response failed or was refused: it may be asked for again.
        self.failed = False
        self.caller_speaks = False
        #: Voice detection will start a response.
        self.answer_due = False
        #: The phone was asked to move.
        self.moving = False
        self.hold: int | None = None
        self.holds = 0

    def before(  # noqa: C901 - a case an event
        self, event: PhoneEvent | ModelEvent, now: float
    ) -> None:
        """An event that will be accepted."""
        late = type(event) in MODEL_EVENTS[Model.DOWN] and self.call.model is Model.DOWN
        if self.finished or late:
            return
        self._turns_before(event)
        match event:
            case events.FunctionCalled(response, call_id):
                self.called.setdefault(call_id, response)
                self.known_calls.add(call_id)
            case events.MarkReturned(leg, name) if leg == self.call.record.leg:
                self.line.returned(name, now)
            case events.SessionCreated() if self.socket == "dialling":
                self.socket = "created"
            case events.ModelErrored() if self.socket == "created":
                self.configured = False  # refused: it may be tried without what was wrong
            case events.SessionUpdated() if self.socket == "created":
                self.socket = "updated"
            case events.ModelClosed():
                self._lose()
            case events.ResponseStarted(_, purpose) if purpose:
                self.created = None
            case events.ModelErrored(code, _, _, event_id) if self.created is not None:
                conflict = code == "conversation_already_has_active_response"
                if conflict or event_id == self.created["event_id"]:
                    self.created = None
            case events.AudioReceived(_, item, audio):
                self.received[item] = self.received.get(item, 0) + len(audio)
                self.cut.discard(item)
            case events.OwnershipLost():
                self.disowned = True
            case _:
                pass

    def _turns_before(self, event: PhoneEvent | ModelEvent) -> None:
        match event:
            case events.SpeechStarted():
                self.caller_speaks, self.answer_due = True, False
            case events.SpeechStopped():
                self.caller_speaks, self.answer_due = False, True
            case events.ResponseStarted(response, purpose):
                self.running = response
                self.answer_due = False
                if purpose:
                    self.fresh -= self.asked_about
            case events.ResponseFinished(response, status):
                if self.running in (None, response):
                    self.running = None
                    self.failed = self.failed or status == "failed"
            case events.ModelErrored():
                self.failed = True
            case _:
                pass

    def _lose(self) -> None:
        self.socket = "none"
        self.known_calls.clear()
        self.outputs.clear()
        self.running = None
        self.failed = self.caller_speaks = self.answer_due = False
        self.created = None
        self.received.clear()
        self.cut.clear()

    def after(
        self, event: PhoneEvent | ModelEvent | None, actions: list[Action], now: float
    ) -> None:
        for action in actions:
            self._one(event, action)
            self._errand(action, now)
        self.was = self.call.phone
        if self.hold is not None:
            assert self.call.phone is Phone.TALKING
            assert not self.caller_speaks, "music over a barge-in"
            assert self._waits(), "music, and nothing to wait for"
        if self.uplink:
            assert self.call.model is Model.READY
            assert self.call.phone is Phone.TALKING
        assert (self.call.phone is Phone.ENDED) == bool(self.finished)
        if self.finished:
            assert self.finished == 1
            assert self.ended == (0 if self.disowned else 1)
            assert self.call.next_timer() is None

    def _one(  # noqa: C901 - a case an action
        self, event: PhoneEvent | ModelEvent | None, action: Action
    ) -> None:
        if self.finished:
            assert isinstance(action, events.Answer), action
            assert isinstance(action.message, messages.Refused)
            return
        match action:
            case events.DialModel():
                assert self.socket == "none", "one socket at a time"
                self.socket = "dialling"
                self.configured = False
            case events.CloseModel():
                self._lose()
            case events.SendModel(sent):
                self._sent(event, sent)
            case events.OpenUplink():
                assert not self.uplink
                self.uplink = True
            case events.CloseUplink():
                assert self.uplink
                self.uplink = False
            case events.PlayAudio(audio):
                assert audio
                # An event may play the rest of an item and then end the call, in this order.
                assert Phone.TALKING in (self.call.phone, self.was)
                assert not self.saved_ended
                self.agent_heard = True
            case events.PlayMark(name):
                messages.Mark(name=name)
                assert name not in self.marks
                self.marks.add(name)
            case events.Save(record):
                self.saved_ended = self.saved_ended or record.state == "ended"
            case events.HangUpLeg():
                assert self.saved_ended, "the record first: Twilio asks what comes next"
            case events.Tell(line):
                assert not self.ended, "the end is the last line"
                self.ended += isinstance(line, messages.CallEnded)
                assert type(line).decode(line.encode()) == line
            case events.Finish():
                self.finished += 1
            case _:
                pass

    def _waits(self) -> bool:
        """Whether the caller waits for something."""
        pending = set(self.dispatched) - self.answered
        if any(TOOLS[self.dispatched[call_id]].hold_music for call_id in pending):
            return True
        if self.answer_due or self.running is not None or self.created is not None:
            return True
        return self.socket != "updated" or self.failed

    def _errand(self, action: Action, now: float) -> None:  # noqa: C901 - a case an action
        match action:
            case events.PlayAudio(audio):
                assert self.hold is None, "the agent speaks into the music"
                self.line.play(FORMATS[self.call.record.audio].ms(len(audio)) / 1000, now)
            case events.PlayMark(name):
                self.line.mark(name)
            case events.PlayClear():
                self.line.forget(now)
            case events.ListenLeg():
                self.line.forget(now)
                self.moving = False
            case events.PlayMusic(hold):
                assert self.hold is None, "one hold at a time"
                assert hold == self.holds + 1
                self.hold = self.holds = hold
                assert self.call.phone is Phone.TALKING
                assert not self.caller_speaks
                assert self.running is None
                assert self.created is None
                assert self.line.silent(now), "music over the agent's own words"
                assert self._waits()
            case events.StopMusic(hold):
                assert self.hold == hold
                self.hold = None
            case events.RunTool(call_id, name):
                assert call_id in self.called
                assert call_id not in self.dispatched, "a tool runs once"
                self.dispatched[call_id] = name
            case events.Tell(messages.ToolAnswered(call_id=call_id)):
                assert call_id not in self.answered, "one output"
                self.answered.add(call_id)
                self.fresh.add(call_id)
            case events.SendDigits():
                self.moving = True
            case events.TransferLeg(to):
                self.moving = True
                assert to in self.call.record.agent.transfer_to.values()
            case events.Save(record):
                assert self.hold is None or record.state != "ended", "music after the end"
            case events.Finish():
                assert self.hold is None
            case _:
                pass

    def _sent(self, event: PhoneEvent | ModelEvent | None, sent: dict[str, Any]) -> None:
        if self.socket == "created":
            assert sent["type"] == "session.update", "nothing before the settings are in force"
            assert not self.configured
            self.configured = True
            return
        assert self.socket == "updated", f"{sent['type']} without a session"
        match sent["type"]:
            case "response.create":
                assert self.created is None, "one request at a time"
                assert self.running is None, "one response at a time"
                assert not self.caller_speaks
                self.created = sent
                purpose = sent["response"]["metadata"]["purpose"]
                assert purpose != "tools" or self.fresh or self.failed, "about which output?"
                self.failed = False
                assert not (purpose == "greeting" and self.agent_heard), "one greeting"
            case "response.cancel":
                assert sent["response_id"]
                assert not isinstance(event, events.SpeechStarted)
            case "conversation.item.truncate":
                item = sent["item_id"]
                limit = FORMATS[self.call.record.audio].ms(self.received[item])
                assert 0 <= sent["audio_end_ms"] <= limit
                assert item not in self.cut, "once a cut"
                self.cut.add(item)
            case kind:
                assert kind == "conversation.item.create"
                self._item(sent["item"])

    def _item(self, item: dict[str, Any]) -> None:
        match item["type"]:
            case "function_call":
                assert item["call_id"] not in self.known_calls, "the model knows of it"
                self.known_calls.add(item["call_id"])
            case "function_call_output":
                assert item["call_id"] in self.known_calls, "an output without its call"
                assert item["call_id"] not in self.outputs, "one output a session"
                self.outputs.add(item["call_id"])
            case kind:
                assert kind == "message"


class Playback:
    """What the phone has yet to play, by what it was sent and which marks came back."""

    def __init__(self) -> None:
        self._sent_s = 0.0
        self._until = 0.0
        self._marks: dict[str, float] = {}

    def play(self, seconds: float, now: float) -> None:
        self._until = max(self._until, now) + seconds
        self._sent_s += seconds

    def mark(self, name: str) -> None:
        self._marks[name] = self._sent_s

    def returned(self, name: str, now: float) -> None:
        if name in self._marks:
            self._until = now + self._sent_s - self._marks[name]
            self._marks = {key: at for key, at in self._marks.items() if at > self._marks[name]}

    def forget(self, now: float) -> None:
        self._until = now
        self._marks.clear()

    def silent(self, now: float) -> bool:
        return now >= self._until - 0.002  # to the millisecond


def dump(value: object) -> object:
    """A picture of an object's whole state, to compare before and after."""
    if type(value).__module__.startswith("services.session") and hasattr(value, "__dict__"):
        return {name: dump(one) for name, one in vars(value).items()}
    if isinstance(value, dict):
        return {name: dump(one) for name, one in value.items()}
    return repr(value)


class Watched:
    """Feed it; every rule of `Rules` is checked, and every illegal event must change nothing."""

    def __init__(
        self,
        agent: AgentSettings | None = None,
        audio: FormatName = "pcmu",
        *,
        prices: Prices = PRICES,
        tools: dict[str, ToolInfo] | None = None,
    ) -> None:
        self.audio = audio
        record = CallRecord(
            call=CALL,
            worker="w-1",
            audio=audio,
            caller="+15557778888",
            dialled="+15551230000",
            agent=agent or AgentSettings(),
            offered_at=CLOCK,
        )
        self.now = 1000.0
        self.call = Call(record, prices, self.now, clock=CLOCK, tools=tools or TOOLS)
        self.rules = Rules(self.call)
        self.actions: list[Action] = []
        #: For tests that need fresh ids.
        self.responses = 0
        self.surprises: collections.Counter[str] = collections.Counter()
        self._did(None, self.call.start(self.now))

    def _did(self, event: PhoneEvent | ModelEvent | None, actions: list[Action]) -> list[Action]:
        self.actions += actions
        self.rules.after(event, actions, self.now)
        return actions

    def feed(self, *given: PhoneEvent | ModelEvent) -> list[Action]:
        """The actions of all of them."""
        return [action for event in given for action in self._feed(event)]

    def _feed(self, event: PhoneEvent | ModelEvent) -> list[Action]:
        before = dump(self.call)
        kind = type(event)
        over = self.call.phone is Phone.ENDED
        if kind in MODEL_EVENTS[Model.DOWN]:
            legal = over or kind in MODEL_EVENTS[self.call.model]
        else:
            legal = kind in PHONE_EVENTS[self.call.phone]
        if legal:
            self.rules.before(event, self.now)
            return self._did(event, self.call.handle(event, self.now))
        try:
            self.call.handle(event, self.now)
        except (LocalError, RemoteError) as error:
            self.surprises[type(error).__name__] += 1
        else:
            raise AssertionError(f"{kind.__name__} is legal in no table")
        assert dump(self.call) == before, "an illegal event changed something"
        return []

    def wait(self, seconds: float) -> list[Action]:
        """Let time pass; timers fire when they are due."""
        until, done = self.now + seconds, []
        while (due := self.call.next_timer()) is not None and due <= until:
            self.now = max(self.now, due)
            done += self._did(None, self.call.handle_timer(self.now))
        self.now = until
        return done

    def freeze(self, seconds: float) -> list[Action]:
        """The process stands still: what is due meanwhile is due at once, and audio is there."""
        self.now += seconds
        self.call.line_heard_at = self.now
        return self._did(None, self.call.handle_timer(self.now))

    # --- the usual ways ---------------------------------------------------------------------

    def configure(self) -> list[Action]:
        return self.feed(events.SessionCreated(), self.updated())

    def updated(self) -> events.SessionUpdated:
        return events.SessionUpdated(FORMAT[self.audio], FORMAT[self.audio])

    def attach(self) -> list[Action]:
        return self.feed(
            events.LegRequested("gw-1", "MZ1", self.audio),
            events.LegStarted(self.call.record.leg + 1),
        )

    def listen(self, seconds: float) -> list[Action]:
        """As `wait`, while the phone sends audio: no leg is lost for silence on the line."""
        done: list[Action] = []
        until = self.now + seconds
        while True:
            self.call.line_heard_at = self.now
            done += self.wait(min(1.0, until - self.now))
            if self.now >= until:
                break
        self.call.line_heard_at = self.now
        return done

    def say(self, response: str, item: str, duration_ms: int, *, done: bool = True) -> list[Action]:
        """Audio of one response, made at once; `done`: and to its end."""
        audio = FORMATS[self.audio]
        out = self.feed(
            events.AudioReceived(response, item, bytes(duration_ms * audio.bytes_per_ms))
        )
        if done:
            out += self.feed(events.AudioCompleted(response, item), finished(response))
        return out

    def talking(self) -> "Watched":
        """Greeted and heard: the phone has played everything and told so."""
        self.configure()
        self.attach()
        self.feed(events.ResponseStarted("resp_greet", "greeting"))
        self.say("resp_greet", "item_greet", 400)
        self.feed(events.AgentTranscript("resp_greet", "item_greet", "Hello there.", final=True))
        self.listen(1.0)
        self.play_out()
        return self

    def turn(self, response: str, *calls: tuple[str, str], arguments: str = "{}") -> list[Action]:
        """The caller asks, and a response without a word makes these calls: (id, name)."""
        return self.feed(
            events.SpeechStarted("u9"),
            events.SpeechStopped("u9"),
            events.ResponseStarted(response, ""),
            *(events.FunctionCalled(response, *call, arguments) for call in calls),
            finished(response),
        )

    def answer_asked(self, response: str, ms: int = 400) -> list[Action]:
        """The response that we asked for begins, speaks and ends."""
        assert self.rules.created is not None, "nothing was asked for"
        purpose = self.rules.created["response"]["metadata"]["purpose"]
        out = self.feed(events.ResponseStarted(response, purpose))
        return out + self.say(response, f"{response}-item", ms)

    def play_out(self) -> list[Action]:
        """The phone returns every mark it was ever given."""
        leg = self.call.record.leg
        return self.feed(
            *[events.MarkReturned(leg, name) for name in names(self.actions)],
        )


def finished(
    response: str,
    status: str = "completed",
    code: str = "",
    message: str = "",
    tokens: Tokens | None = None,
) -> events.ResponseFinished:
    return events.ResponseFinished(response, status, code, message, tokens or Tokens())


def names(actions: list[Action]) -> list[str]:
    return [action.name for action in actions if isinstance(action, events.PlayMark)]


def sent(actions: list[Action], kind: str = "") -> list[dict[str, Any]]:
    """Client events, without their ids."""
    out = [action.event for action in actions if isinstance(action, events.SendModel)]
    return [
        {name: value for name, value in one.items() if name != "event_id"}
        for one in out
        if one["type"].startswith(kind)
    ]


def outputs(actions: list[Action]) -> list[tuple[str, Any]]:
    """The outputs of function calls that the model was given: (call id, JSON)."""
    items = [one["item"] for one in sent(actions, "conversation.item.create")]
    return [
        (item["call_id"], json.loads(item["output"]))
        for item in items
        if item["type"] == "function_call_output"
    ]


def errors(actions: list[Action]) -> list[str]:
    """The error codes among them."""
    return [output["error"] for _, output in outputs(actions) if "error" in output]


def played_ms(actions: list[Action]) -> int:
    return sum(len(one.audio) for one in actions if isinstance(one, events.PlayAudio)) // 8


def told(actions: list[Action]) -> list[str]:
    """The story's lines, by name."""
    return [one.event.NAME for one in actions if isinstance(one, events.Tell)]


def line(actions: list[Action], kind: type[EventT]) -> EventT:
    """The newest line of this kind."""
    found = [one.event for one in actions if isinstance(one, events.Tell)]
    return [one for one in found if isinstance(one, kind)][-1]


def purposes(actions: list[Action]) -> list[str]:
    return [one["response"]["metadata"]["purpose"] for one in sent(actions, "response.create")]


def kinds(actions: list[Action]) -> list[str]:
    return [type(action).__name__ for action in actions]
