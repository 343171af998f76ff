"""Every message on the bus that is not raw audio: one pydantic model each, in this one file.

Commands are imperative and have one handler, which answers; events are in the past tense and have
any number of readers.  Unknown fields are ignored on reading, so that a newer service can add one.
Each model carries an example, which is tested and printed in docs/messages.md.

Fields of type `Private` hold what a caller said, dialled or is called.  They travel on the bus and
into the call's story, and never into a log line.

Pure: no I/O.
"""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter

from shared.audio import FormatName

#: A caller's words, digits or number.  Tested: every such field is marked in the JSON schema.
Private = Annotated[str, Field(json_schema_extra={"private": True})]

CallId = Annotated[str, Field(pattern=r"^(CA|BR)[0-9a-f]{32}$")]
Milliseconds = Annotated[int, Field(ge=0)]
Epoch = Annotated[int, Field(ge=1, description="counts the owners of a call")]
Leg = Annotated[int, Field(ge=1, description="counts the phone sockets of a call")]
Hold = Annotated[int, Field(ge=1, description="counts the times of hold music in a call")]
ToolName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]

_CALL = "CA0123456789abcdef0123456789abcdef"
_AT = "2026-11-22T10:00:00.000Z"


def _example(**fields: Any) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [fields]})


class Message(BaseModel):
    """Base of all messages: immutable, tolerant of unknown fields."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    def encode(self) -> bytes:
        """UTF-8 JSON.  None is written too: null can mean something else than the default."""
        return self.model_dump_json().encode()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Raises pydantic's `ValidationError` when `data` is not such a message."""
        return cls.model_validate_json(data)


# --- calls.offer ---------------------------------------------------------------------------------


class Offer(Message):
    """`calls.offer`: take this call.  One worker claims the call and answers at once."""

    model_config = _example(
        call=_CALL,
        caller="+15557778888",
        dialled="+15551230000",
        direction="inbound",
        gateway="gw-1",
        audio="pcmu",
    )

    call: CallId
    caller: Private = Field(default="", max_length=256)
    dialled: str = Field(default="", max_length=256, description="chooses the agent")
    direction: Literal["inbound", "outbound", "browser"] = "inbound"
    gateway: str = Field(max_length=64)
    audio: FormatName = "pcmu"
    resume: bool = Field(default=False, description="take a live call over from a dead owner")


class OfferTaken(Message):
    """Answer to `Offer`: the call has an owner (this worker, or one that claimed it before)."""

    model_config = _example(answer="taken", call=_CALL, worker="w-7f3a", epoch=1, agent="default")

    answer: Literal["taken"] = "taken"
    call: CallId
    worker: str
    epoch: Epoch
    agent: str


class OfferRefused(Message):
    """Answer to `Offer`: not by this worker.  `full`, `draining`: ask again, another may."""

    model_config = _example(answer="refused", code="full", message="all 50 places are taken")

    answer: Literal["refused"] = "refused"
    code: Literal["full", "draining", "ended", "invalid", "failed"]
    message: str = ""


OfferAnswer = Annotated[OfferTaken | OfferRefused, Field(discriminator="answer")]
OFFER_ANSWER: TypeAdapter[OfferTaken | OfferRefused] = TypeAdapter(OfferAnswer)


# --- call.C.cmd ----------------------------------------------------------------------------------


class AttachLeg(Message):
    """A phone socket for this call is open at `gateway`.  Answered by `LegAttached`."""

    model_config = _example(do="attach_leg", gateway="gw-1", stream="MZ01", audio="pcmu")

    do: Literal["attach_leg"] = "attach_leg"
    gateway: str = Field(max_length=64)
    stream: str = Field(max_length=64, description="Twilio's streamSid")
    audio: FormatName = "pcmu"
    note: str = Field(
        default="",
        max_length=64,
        description="why there is a new socket, if we know: `dial:no-answer` after a failed "
        "transfer (also `dial:busy`, `dial:failed`, `dial:canceled`, `dial:unknown`)",
    )


class HangUp(Message):
    """End the call now; what is still queued for the caller is not played."""

    model_config = _example(do="hang_up", reason="operator")

    do: Literal["hang_up"] = "hang_up"
    reason: str = Field(default="operator", max_length=64)


Command = Annotated[AttachLeg | HangUp, Field(discriminator="do")]
COMMAND: TypeAdapter[AttachLeg | HangUp] = TypeAdapter(Command)


class LegAttached(Message):
    """Answer to `AttachLeg`: listen to `down.<epoch>`, then say `started` on `up.<leg>`."""

    model_config = _example(answer="leg_attached", leg=1, epoch=1, worker="w-7f3a")

    answer: Literal["leg_attached"] = "leg_attached"
    leg: Leg
    epoch: Epoch
    worker: str = Field(default="", description="whose beats tell that the owner is alive")


class Done(Message):
    """Answer to a command that was carried out."""

    model_config = _example(answer="done")

    answer: Literal["done"] = "done"


class Refused(Message):
    """Answer to a command that was not carried out, and why."""

    model_config = _example(answer="refused", code="ended", message="the call is over")

    answer: Literal["refused"] = "refused"
    code: Literal["ended", "invalid", "format", "failed"]
    message: str = ""


CommandAnswer = Annotated[LegAttached | Done | Refused, Field(discriminator="answer")]
COMMAND_ANSWER: TypeAdapter[LegAttached | Done | Refused] = TypeAdapter(CommandAnswer)


# --- call.C.up.<leg>.ctl -------------------------------------------------------------------------


class LegStarted(Message):
    """The gateway listens to the owner's audio; the owner may speak."""

    model_config = _example(type="started")

    type: Literal["started"] = "started"


class MarkReturned(Message):
    """The phone's player has passed this mark, or a `clear` returned it unplayed."""

    model_config = _example(type="mark", name="0.3.200")

    type: Literal["mark"] = "mark"
    name: str = Field(max_length=128)


class DtmfPressed(Message):
    """The caller pressed one key."""

    model_config = _example(type="dtmf", digit="5")

    type: Literal["dtmf"] = "dtmf"
    digit: Private = Field(max_length=1)


class LegStopped(Message):
    """The phone said that the call is over: the caller hung up, or the call was moved by REST."""

    model_config = _example(type="stopped")

    type: Literal["stopped"] = "stopped"


class LegLost(Message):
    """The phone's socket closed without a word; the caller may come back on another leg."""

    model_config = _example(type="lost", reason="socket closed (1006)")

    type: Literal["lost"] = "lost"
    reason: str = Field(default="", max_length=256)


class PhoneUpdated(Message):
    """What became of a `TransferLeg` or `SendDigits`; a failed one leaves the leg as it was."""

    model_config = _example(type="updated", what="transfer", ok=False, code="no_credentials")

    type: Literal["updated"] = "updated"
    what: Literal["transfer", "digits"]
    ok: bool
    code: str = Field(default="", max_length=64, description="why not: Twilio's code, or ours")
    message: str = Field(default="", max_length=256)


UpControl = Annotated[
    LegStarted | MarkReturned | DtmfPressed | LegStopped | LegLost | PhoneUpdated,
    Field(discriminator="type"),
]
UP_CONTROL: TypeAdapter[
    LegStarted | MarkReturned | DtmfPressed | LegStopped | LegLost | PhoneUpdated
] = TypeAdapter(UpControl)


# --- call.C.down.<epoch>.ctl ---------------------------------------------------------------------


class Mark(Message):
    """Return this name when everything before it was played."""

    model_config = _example(type="mark", name="0.3.200")

    type: Literal["mark"] = "mark"
    name: str = Field(max_length=128)


class Clear(Message):
    """Forget what is queued for the caller, now (barge-in)."""

    model_config = _example(type="clear")

    type: Literal["clear"] = "clear"


class HangUpLeg(Message):
    """Close the phone's socket; what Twilio does next is decided by `/twiml/after`."""

    model_config = _example(type="hang_up", reason="agent")

    type: Literal["hang_up"] = "hang_up"
    reason: str = Field(default="", max_length=64)


class HoldOn(Message):
    """Play what comes on `call.C.hold.<hold>.audio`."""

    model_config = _example(type="hold_on", hold=1)

    type: Literal["hold_on"] = "hold_on"
    hold: Hold


class HoldOff(Message):
    """Stop the music of this hold, and forget what of it is still queued for the caller."""

    model_config = _example(type="hold_off", hold=1)

    type: Literal["hold_off"] = "hold_off"
    hold: Hold


class TransferLeg(Message):
    """Connect the caller with somebody else (REST, `<Dial>`).  Answered by `PhoneUpdated`."""

    model_config = _example(type="transfer", to="+15550001111")

    type: Literal["transfer"] = "transfer"
    to: Private = Field(max_length=64, description="E.164 or a SIP URI")


class SendDigits(Message):
    """Press keys towards the caller's side (Twilio REST, `<Play digits>`); the leg is replaced."""

    model_config = _example(type="digits", digits="1w2#")

    type: Literal["digits"] = "digits"
    digits: Private = Field(pattern=r"^[0-9*#wW]{1,32}$", description="w waits 0.5 s, W 1 s")


class Move(Message):
    """This leg carries the call from now on; a gateway that holds another one closes it."""

    model_config = _example(type="move", leg=2)

    type: Literal["move"] = "move"
    leg: Leg


DownControl = Annotated[
    Mark | Clear | HangUpLeg | Move | HoldOn | HoldOff | TransferLeg | SendDigits,
    Field(discriminator="type"),
]
DOWN_CONTROL: TypeAdapter[
    Mark | Clear | HangUpLeg | Move | HoldOn | HoldOff | TransferLeg | SendDigits
] = TypeAdapter(DownControl)


# --- tool.<name> ---------------------------------------------------------------------------------


class ToolContext(Message):
    """What the session knows and the model must not be able to make up."""

    model_config = _example(
        caller="+15557778888", dialled="+15551230000", direction="inbound", agent="default"
    )

    caller: Private = Field(default="", description="the number that calls, as the network says")
    dialled: str = ""
    direction: Literal["inbound", "outbound", "browser"] = "inbound"
    agent: str = ""


class ToolRequest(Message):
    """`tool.<name>`: a function call of the model.

    The answer's payload is the tool's output, any JSON value, as the model will read it.  A failed
    tool answers with the headers of a NATS micro service's error: `Nats-Service-Error-Code` (a
    short word) and `Nats-Service-Error` (a sentence the model may speak about).
    """

    model_config = _example(
        call=_CALL,
        call_id="call_Ex00000000000001",
        name="get_weather",
        arguments={"location": "Oslo"},
        context={"caller": "+15557778888", "agent": "default"},
        deadline_ms=8000,
    )

    call: CallId
    call_id: str = Field(max_length=128, description="the same id is never sent twice")
    name: ToolName
    arguments: dict[str, Any] = Field(
        default={}, json_schema_extra={"private": True}, description="as the model wrote them"
    )
    context: ToolContext = ToolContext()
    deadline_ms: int = Field(ge=1, description="after this nobody waits for the answer")


class ToolInfo(Message):
    """A tool on the bus, as its endpoint's metadata tell (see docs/tools.md)."""

    model_config = _example(
        name="get_weather",
        description="The weather at a place, now.",
        parameters={"type": "object", "properties": {"location": {"type": "string"}}},
        timeout_ms=8000,
        idempotent=True,
        hold_music=True,
    )

    name: ToolName
    description: str = Field(default="", max_length=2000)
    parameters: dict[str, Any] = Field(
        default={"type": "object", "properties": {}}, description="JSON schema of the arguments"
    )
    timeout_ms: int = Field(default=10_000, ge=100, le=300_000)
    idempotent: bool = Field(default=False, description="asking again does no harm")
    hold_music: bool = Field(default=True, description="music may play while the caller waits")


# --- holdmusic.* ---------------------------------------------------------------------------------


class PlayMusic(Message):
    """`holdmusic.play`: play into `call.C.hold.<hold>.audio` until `.stop`, at most `limit_s`."""

    model_config = _example(call=_CALL, hold=1, track="bossa.mp3", audio="pcmu", limit_s=600)

    call: CallId
    hold: Hold
    track: str | None = Field(default=None, max_length=512, description="null: the default track")
    audio: FormatName = "pcmu"
    limit_s: int = Field(default=600, ge=1, le=3600)


class MusicStarted(Message):
    """Answer to `PlayMusic`: it plays.  `fallback`: not the track that was asked for, and why."""

    model_config = _example(
        answer="music_started", track="default", source="built-in", fallback="no such track"
    )

    answer: Literal["music_started"] = "music_started"
    track: str
    source: Literal["store", "fallback-store", "cache", "built-in"] = "store"
    fallback: str | None = None


class MusicRefused(Message):
    """Answer to `PlayMusic`: it does not play."""

    model_config = _example(answer="music_refused", code="full", message="40 calls hear music")

    answer: Literal["music_refused"] = "music_refused"
    code: Literal["full", "invalid", "failed"]
    message: str = ""


MusicAnswer = Annotated[MusicStarted | MusicRefused, Field(discriminator="answer")]
MUSIC_ANSWER: TypeAdapter[MusicStarted | MusicRefused] = TypeAdapter(MusicAnswer)


class StopMusic(Message):
    """`call.C.hold.<hold>.stop`: the music of this hold is not wanted any more."""

    model_config = _example(reason="agent")

    reason: str = Field(default="", max_length=64)


class StoreState(Message):
    """One store of hold music: whether it answers."""

    model_config = _example(name="primary", endpoint="http://127.0.0.1:8333", ok=True, tracks=3)

    name: Literal["primary", "fallback"]
    endpoint: str
    bucket: str = ""
    ok: bool
    tracks: int = Field(default=0, ge=0)
    error: str = ""


class MusicStatus(Message):
    """Answer to `holdmusic.status`: the state of one instance."""

    model_config = _example(
        instance="hm-1",
        stores=[{"name": "primary", "endpoint": "http://127.0.0.1:8333", "ok": True}],
        default_track="default",
        holds=[_CALL],
    )

    instance: str
    stores: list[StoreState] = []
    default_track: str = ""
    cached: int = Field(default=0, ge=0, description="decoded tracks on this instance's disk")
    holds: list[str] = Field(default=[], description="calls that hear music from it now")


class MusicFile(Message):
    """One track in the store."""

    model_config = _example(key="bossa.mp3", size=412345, uploaded=_AT)

    key: str
    size: int = Field(ge=0, description="bytes")
    uploaded: AwareDatetime | None = None


class MusicFiles(Message):
    """Answer to `holdmusic.files`."""

    model_config = _example(
        files=[{"key": "bossa.mp3", "size": 412345}], supported=[".mp3", ".wav"], error=""
    )

    files: list[MusicFile] = []
    supported: list[str] = []
    error: str = ""


class Ask(Message):
    """A request that says all by its subject: `holdmusic.status`, `holdmusic.files`."""

    model_config = _example()


# --- session.<worker>.beat, log.<service>.<level> ------------------------------------------------


class Beat(Message):
    """`session.<worker>.beat`: every 500 ms; who misses three may offer its calls again."""

    model_config = _example(worker="w-7f3a", active=3, max=50, draining=False)

    worker: str
    active: int = Field(ge=0)
    max: int = Field(ge=1)
    draining: bool = False


class LogLine(Message):
    """`log.<service>.<level>`: one structured line, as on stdout."""

    model_config = _example(
        at=_AT, service="gateway", level="info", message="call connected", fields={"call": _CALL}
    )

    at: AwareDatetime
    service: str
    level: str
    message: str
    fields: dict[str, Any] = {}


# --- KV `agents` ---------------------------------------------------------------------------------

Voice = Literal[
    "alloy", "ash", "ballad", "coral", "echo", "sage", "shimmer", "verse", "marin", "cedar"
]


class TurnDetection(Message):
    """How the model hears that the caller has begun or finished to speak.

    OpenAI: `threshold`, `prefix_padding_ms`, `silence_duration_ms` and `idle_timeout_ms` belong to
    `server_vad` only, `eagerness` to `semantic_vad` only; the wrong one is refused.
    """

    model_config = _example(type="server_vad", threshold=0.5, silence_duration_ms=500)

    type: Literal["server_vad", "semantic_vad"] = "server_vad"
    threshold: float = Field(default=0.5, ge=0, le=1, description="higher needs louder speech")
    prefix_padding_ms: int = Field(default=300, ge=0, le=5000)
    silence_duration_ms: int = Field(default=500, ge=50, le=10000)
    idle_timeout_ms: int | None = Field(default=None, ge=5000, le=30000)
    eagerness: Literal["low", "medium", "high", "auto"] = "auto"


class AgentSettings(Message):
    """KV `agents`, key = `id`: who answers; chosen by the number, else `default`."""

    model_config = _example(
        id="default",
        name="Receptionist",
        numbers=["+15551230000"],
        greeting="Greet the caller and ask how you can help.",
        instructions="You answer phone calls for Acme Plumbing. Keep replies short.",
        model="gpt-realtime-2.1",
        voice="marin",
    )

    id: str = Field(default="default", pattern=r"^[A-Za-z0-9_-]{1,64}$")
    name: str = Field(default="Receptionist", max_length=128)
    numbers: list[str] = Field(default=[], max_length=1000, description="E.164, as dialled")
    greeting: str | None = Field(
        default="Greet the caller in one short sentence and ask how you can help.",
        max_length=4000,
        description="what the agent is told to say first; null lets the caller speak first",
    )
    instructions: str = Field(
        default=(
            "You are a friendly receptionist on the phone. Keep replies short and speak plainly. "
            "If you do not know something, say so."
        ),
        # OpenAI: a limit of 16,384 tokens is reported; 4 characters a token.
        max_length=64_000,
    )
    model: str = Field(default="gpt-realtime-2.1", min_length=1, max_length=128)
    voice: Voice = "marin"
    speed: float = Field(default=1.0, ge=0.25, le=1.5)
    turn_detection: TurnDetection = TurnDetection()
    noise_reduction: Literal["near_field", "far_field"] | None = None
    transcription_model: str | None = "gpt-realtime-whisper"
    language: str | None = Field(default=None, max_length=8, description="ISO-639-1, e.g. en")
    max_output_tokens: int | None = Field(default=None, ge=1, le=4096, description="null: no limit")
    tools: list[str] | None = Field(
        default=None, max_length=128, description="tools by name; null: every tool on the bus"
    )
    skills: list[Literal["end_call", "transfer_call", "send_dtmf"]] = Field(
        default=["end_call"], description="what the session itself can do for the model"
    )
    transfer_to: dict[str, str] = Field(
        default={},
        max_length=50,
        description="whom `transfer_call` may reach: a name the model uses, and E.164 or SIP URI",
    )
    hold_music: bool = Field(default=True, description="music while a tool takes long")
    hold_track: str | None = Field(default=None, max_length=512, description="null: the default")
    hold_delay_ms: int = Field(
        default=1200, ge=0, le=60_000, description="how long a tool may take in silence"
    )
    max_call_s: int = Field(default=3600, ge=10, le=14400, description="the call ends after this")


# --- KV `calls` ----------------------------------------------------------------------------------


class CallRecord(Message):
    """KV `calls`, key = call id: who owns the call.  Small; written by compare-and-set only."""

    model_config = _example(
        call=_CALL,
        state="live",
        worker="w-7f3a",
        epoch=1,
        leg=1,
        audio="pcmu",
        caller="+15557778888",
        dialled="+15551230000",
        direction="inbound",
        agent={"id": "default"},
        offered_at=_AT,
    )

    call: CallId
    state: Literal["offered", "live", "ended"] = "offered"
    worker: str
    epoch: Epoch = 1
    leg: int = Field(default=0, ge=0, description="the newest leg; 0 before the first")
    audio: FormatName = "pcmu"
    caller: Private = ""
    dialled: str = ""
    direction: Literal["inbound", "outbound", "browser"] = "inbound"
    agent: AgentSettings = Field(description="the snapshot this call started with")
    offered_at: AwareDatetime
    ended_at: AwareDatetime | None = None
    reason: str | None = Field(default=None, description="how it ended")


# --- call.C.event.<name>: the story --------------------------------------------------------------


class Event(Message):
    """Base of a call's story.  `ms` is the call's own clock: since it was offered."""

    #: The event's name: the last token of its subject.
    NAME: ClassVar[str] = ""

    call: CallId
    epoch: Epoch
    at: AwareDatetime
    ms: Milliseconds


def _event_example(**fields: Any) -> ConfigDict:
    return _example(call=_CALL, epoch=1, at=_AT, ms=1200, **fields)


class CallOffered(Event):
    """The phone rings; a worker has claimed the call and dials the model."""

    NAME = "offered"
    model_config = _event_example(
        caller="+15557778888",
        dialled="+15551230000",
        direction="inbound",
        agent="default",
        worker="w-7f3a",
    )

    caller: Private
    dialled: str
    direction: str
    agent: str
    worker: str


class ModelReady(Event):
    """The model's session is configured, and its audio format was checked."""

    NAME = "model_ready"
    model_config = _event_example(model="gpt-realtime-2.1", voice="marin", dial_ms=310, attempt=1)

    model: str
    voice: str
    dial_ms: Milliseconds = Field(description="from dialling to configured")
    attempt: int = Field(ge=1)


class CallStarted(Event):
    """The phone's first socket is attached: caller and agent can hear each other."""

    NAME = "started"
    model_config = _event_example(leg=1, gateway="gw-1")

    leg: Leg
    gateway: str


class LegReplaced(Event):
    """The phone came back on a new socket; the conversation goes on."""

    NAME = "leg_replaced"
    model_config = _event_example(leg=2, gateway="gw-2")

    leg: Leg
    gateway: str


class LegDropped(Event):
    """The phone's socket is gone; the call waits for it to come back."""

    NAME = "leg_dropped"
    model_config = _event_example(leg=1, reason="socket closed (1006)")

    leg: Leg
    reason: str


class CallerStartedSpeaking(Event):
    """The model heard speech begin.  `ms` is when we learned of it."""

    NAME = "caller_started_speaking"
    model_config = _event_example(item="item_A")

    item: str


class CallerStoppedSpeaking(Event):
    """The model heard speech end."""

    NAME = "caller_stopped_speaking"
    model_config = _event_example(item="item_A")

    item: str


class AgentStartedSpeaking(Event):
    """The first audio of a reply went to the phone."""

    NAME = "agent_started_speaking"
    model_config = _event_example(item="item_B", after="caller", latency_ms=640)

    item: str
    after: Literal["greeting", "caller", "other"]
    latency_ms: Milliseconds | None = Field(
        default=None,
        description="greeting: since the phone was attached; caller: since its speech ended",
    )


class AgentFinishedSpeaking(Event):
    """The phone has played the whole reply."""

    NAME = "agent_finished_speaking"
    model_config = _event_example(item="item_B", heard_ms=2400)

    item: str
    heard_ms: Milliseconds


class Interrupted(Event):
    """The caller spoke over the agent: the phone was cleared, the item cut to what was heard."""

    NAME = "interrupted"
    model_config = _event_example(item="item_B", heard_ms=1340, sent_ms=2800, text="We are open")

    item: str
    heard_ms: Milliseconds
    sent_ms: Milliseconds
    text: Private = Field(default="", description="what was heard of it, as far as known")


class Transcript(Event):
    """What one side said.  For an interrupted agent: what was heard of it."""

    NAME = "transcript"
    model_config = _event_example(who="caller", text="Where is my order?", item="item_A")

    who: Literal["caller", "agent"]
    text: Private
    item: str
    interrupted: bool = False


class KeyPressed(Event):
    """The caller pressed a key on the phone."""

    NAME = "key_pressed"
    model_config = _event_example(digit="5")

    digit: Private


class Tokens(Message):
    """Tokens by kind.  `cached_*` are part of `*_in`: billed at the cached price."""

    model_config = _example(
        text_in=900, cached_text_in=640, audio_in=120, audio_out=56, text_out=20
    )

    text_in: int = Field(default=0, ge=0)
    cached_text_in: int = Field(default=0, ge=0)
    audio_in: int = Field(default=0, ge=0)
    cached_audio_in: int = Field(default=0, ge=0)
    image_in: int = Field(default=0, ge=0)
    cached_image_in: int = Field(default=0, ge=0)
    text_out: int = Field(default=0, ge=0)
    audio_out: int = Field(default=0, ge=0)


class ToolCalled(Event):
    """The model calls a function; it was dispatched, or refused at once."""

    NAME = "tool_called"
    model_config = _event_example(
        call_id="call_Ex1", name="get_weather", arguments='{"location": "Oslo"}'
    )

    call_id: str
    name: str
    arguments: Private


class ToolAnswered(Event):
    """What the model was given as the function's output.  `error`: a short code, or empty."""

    NAME = "tool_answered"
    model_config = _event_example(
        call_id="call_Ex1", name="get_weather", output='{"temp": 7}', duration_ms=2140
    )

    call_id: str
    name: str
    output: Private
    duration_ms: Milliseconds
    error: str = ""


class HoldStarted(Event):
    """Music plays, because a tool takes long."""

    NAME = "hold_started"
    model_config = _event_example(hold=1, track="bossa.mp3", source="store", fallback=None)

    hold: Hold
    track: str
    source: str
    fallback: str | None = None


class HoldEnded(Event):
    """The music stopped: for the agent, the caller's voice, the call's end; or it never began."""

    NAME = "hold_ended"
    model_config = _event_example(hold=1, reason="agent", duration_ms=3200)

    hold: Hold
    reason: Literal["agent", "caller", "leg", "ended", "failed"]
    duration_ms: Milliseconds


class TransferStarted(Event):
    """The caller is being connected with somebody else."""

    NAME = "transfer_started"
    model_config = _event_example(to="front desk")

    to: Private


class TransferFailed(Event):
    """The caller stays with, or is back with, the agent."""

    NAME = "transfer_failed"
    model_config = _event_example(to="front desk", code="no-answer")

    to: Private
    code: str


class DigitsSent(Event):
    """The agent pressed keys."""

    NAME = "digits_sent"
    model_config = _event_example(digits="1w2#")

    digits: Private


class UsageReported(Event):
    """The model's bill for one response or one transcription, and the call's total so far."""

    NAME = "usage_reported"
    model_config = _event_example(
        source="response",
        model="gpt-realtime-2.1",
        tokens={"audio_out": 56},
        cost_usd=0.0036,
        total_cost_usd=0.0121,
    )

    source: Literal["response", "transcription"]
    model: str
    tokens: Tokens = Tokens()
    seconds: float = Field(default=0, ge=0, description="transcription billed by time")
    cost_usd: float | None = Field(default=None, description="null: no price known for the model")
    total_cost_usd: float = 0


class ModelFailed(Event):
    """The model refused something or its socket failed; `effect` says what we did about it."""

    NAME = "model_failed"
    model_config = _event_example(
        code="server_error", message="The server had an error.", effect="retried"
    )

    code: str
    message: str = Field(default="", max_length=1000, description="keys are scrubbed")
    effect: Literal["ignored", "retried", "redialled", "ended"]


class CallEnded(Event):
    """The last line of every story."""

    NAME = "ended"
    model_config = _event_example(
        reason="caller_hung_up", duration_ms=61200, cost_usd=0.081, tokens={"audio_out": 560}
    )

    reason: str
    detail: str = ""
    duration_ms: Milliseconds = Field(description="from the first attached leg; 0 if never")
    tokens: Tokens = Tokens()
    cost_usd: float = 0
    dropped_audio_ms: Milliseconds = Field(default=0, description="lost to limits or outages")


EVENTS: tuple[type[Event], ...] = (
    CallOffered,
    ModelReady,
    CallStarted,
    LegReplaced,
    LegDropped,
    CallerStartedSpeaking,
    CallerStoppedSpeaking,
    AgentStartedSpeaking,
    AgentFinishedSpeaking,
    Interrupted,
    Transcript,
    KeyPressed,
    ToolCalled,
    ToolAnswered,
    HoldStarted,
    HoldEnded,
    TransferStarted,
    TransferFailed,
    DigitsSent,
    UsageReported,
    ModelFailed,
    CallEnded,
)


# --- logs.*: the record of a call ----------------------------------------------------------------

CallState = Literal["ringing", "live", "ended"]


class SpokenLine(Message):
    """What one side said in one go, by the call's own clock."""

    model_config = _example(
        who="agent",
        item="item_B",
        ms=5200,
        end_ms=7600,
        text="We are open",
        interrupted=True,
        heard_ms=1340,
        latency_ms=640,
    )

    who: Literal["caller", "agent"]
    item: str
    ms: Milliseconds = Field(description="when the voice began; when the words came, if unknown")
    end_ms: Milliseconds | None = Field(default=None, description="when it was last heard")
    text: Private = Field(default="", description="as far as it was heard; empty: no words known")
    interrupted: bool = False
    heard_ms: Milliseconds | None = Field(default=None, description="agent: how much was heard")
    latency_ms: Milliseconds | None = Field(
        default=None, description="agent: from pick-up (greeting) or the caller's last word"
    )


class ToolUse(Message):
    """One function call of the model, with what it was given as the output."""

    model_config = _example(
        call_id="call_Ex1",
        name="get_weather",
        arguments='{"location": "Oslo"}',
        output='{"temp": 7}',
        called_ms=9000,
        duration_ms=2140,
    )

    call_id: str
    name: str
    arguments: Private = ""
    output: Private = ""
    error: str = Field(default="", description="a short code; empty: it went well")
    called_ms: Milliseconds | None = None
    duration_ms: Milliseconds | None = Field(default=None, description="null: no answer yet")


class HoldSpan(Message):
    """One time of hold music."""

    model_config = _example(
        epoch=1, hold=1, track="bossa.mp3", source="store", from_ms=10200, to_ms=13400
    )

    epoch: Epoch
    hold: Hold
    track: str = ""
    source: str = ""
    fallback: str | None = None
    from_ms: Milliseconds | None = None
    to_ms: Milliseconds | None = None
    reason: str = Field(default="", description="why it stopped")


class Interruption(Message):
    """The caller spoke over the agent."""

    model_config = _example(ms=6540, item="item_B", heard_ms=1340, sent_ms=2800, text="We are open")

    ms: Milliseconds
    item: str
    heard_ms: Milliseconds
    sent_ms: Milliseconds
    text: Private = ""


class LegSpan(Message):
    """One socket of the phone."""

    model_config = _example(leg=1, gateway="gw-1", from_ms=900, to_ms=None)

    leg: Leg
    gateway: str = ""
    from_ms: Milliseconds | None = None
    to_ms: Milliseconds | None = Field(default=None, description="null: to the end, or still")
    reason: str = Field(default="", description="why it was lost")


class OwnerSpan(Message):
    """One owner of the call: the first and the last line that it told."""

    model_config = _example(epoch=1, from_ms=0, to_ms=61200)

    epoch: Epoch
    from_ms: Milliseconds
    to_ms: Milliseconds


class ModelDial(Message):
    """One session of the model that became ready."""

    model_config = _example(ms=310, model="gpt-realtime-2.1", voice="marin", dial_ms=310, attempt=1)

    ms: Milliseconds
    model: str
    voice: str
    dial_ms: Milliseconds
    attempt: int


class ModelTrouble(Message):
    """One failure of the model, and what was done about it."""

    model_config = _example(ms=4100, code="server_error", message="An error.", effect="retried")

    ms: Milliseconds
    code: str
    message: str = ""
    effect: str


class CallMove(Message):
    """A transfer, or keys pressed by either side."""

    model_config = _example(ms=30100, what="transfer_failed", target="front desk", code="no-answer")

    ms: Milliseconds
    what: Literal["transfer_started", "transfer_failed", "digits_sent", "key_pressed"]
    target: Private = Field(default="", description="whom, or which keys")
    code: str = ""


class OtherLine(Message):
    """A line of a story that this version does not know, kept as it came."""

    model_config = _example(ms=30100, epoch=1, name="brand_new", fields='{"a":1}')

    ms: Milliseconds
    epoch: Epoch
    name: str
    fields: Private = Field(description="its JSON, cut when long")


class UsageShare(Message):
    """What one model was used for, in sum."""

    model_config = _example(
        source="response",
        model="gpt-realtime-2.1",
        reports=4,
        tokens={"audio_out": 560},
        cost_usd=0.081,
    )

    source: str
    model: str
    reports: int = Field(ge=0)
    tokens: Tokens = Tokens()
    seconds: float = 0
    cost_usd: float = 0
    unpriced: int = Field(default=0, ge=0, description="reports with no known price")


class Latencies(Message):
    """How long the caller waited for the agent's voice."""

    model_config = _example(
        first_audio_ms=820, replies_ms=[640, 710], median_reply_ms=640, worst_reply_ms=710
    )

    first_audio_ms: Milliseconds | None = Field(default=None, description="from pick-up")
    replies_ms: list[int] = Field(
        default=[], description="from the end of the caller's speech, in order"
    )
    median_reply_ms: Milliseconds | None = Field(default=None, description="the lower middle")
    worst_reply_ms: Milliseconds | None = None


class CallSummary(Message):
    """One call in a list."""

    model_config = _example(
        call=_CALL,
        state="ended",
        caller="+15557778888",
        dialled="+15551230000",
        direction="inbound",
        agent="default",
        offered_at=_AT,
        started_at=_AT,
        ended_at=_AT,
        updated_at=_AT,
        duration_ms=61200,
        reason="caller_hung_up",
        cost_usd=0.081,
        lines=7,
    )

    call: CallId
    state: CallState
    caller: Private = ""
    dialled: str = ""
    direction: str = ""
    agent: str = ""
    offered_at: AwareDatetime = Field(description="or the first line, if the beginning is missing")
    started_at: AwareDatetime | None = None
    ended_at: AwareDatetime | None = None
    updated_at: AwareDatetime = Field(description="of the last line")
    duration_ms: Milliseconds = Field(default=0, description="from pick-up to the end, or so far")
    reason: str = Field(default="", description="how it ended")
    detail: str = ""
    cost_usd: float = 0
    lines: int = Field(default=0, ge=0, description="lines of the transcript")
    tools_used: int = Field(default=0, ge=0)
    interrupted: int = Field(default=0, ge=0, description="times")


class CallStory(CallSummary):
    """The whole record of one call.  `cut` counts, by part, what the limits left out."""

    model_config = _example(
        call=_CALL,
        state="live",
        caller="+15557778888",
        dialled="+15551230000",
        direction="inbound",
        agent="default",
        offered_at=_AT,
        started_at=_AT,
        updated_at=_AT,
        transcript=[{"who": "caller", "text": "Where is my order?", "item": "item_A", "ms": 1200}],
        lines=1,
        events=9,
    )

    transcript: list[SpokenLine] = []
    tools: list[ToolUse] = []
    holds: list[HoldSpan] = []
    interruptions: list[Interruption] = []
    legs: list[LegSpan] = []
    owners: list[OwnerSpan] = []
    models: list[ModelDial] = []
    failures: list[ModelTrouble] = []
    moves: list[CallMove] = []
    latencies: Latencies = Latencies()
    tokens: Tokens = Tokens()
    usage: list[UsageShare] = []
    dropped_audio_ms: Milliseconds = 0
    other: list[OtherLine] = []
    events: int = Field(default=0, ge=0, description="lines of the story that were folded")
    cut: dict[str, int] = {}


class ListCalls(Message):
    """`logs.list`: calls, newest first.  All filters together; `text` is looked for in what was
    said and in tool calls.
    """

    model_config = _example(state="ended", agent="default", limit=50)

    state: CallState | None = None
    agent: str = Field(default="", max_length=64)
    caller: Private = Field(default="", max_length=256, description="any part of the number")
    since: AwareDatetime | None = Field(default=None, description="offered then or later")
    until: AwareDatetime | None = Field(default=None, description="offered before")
    text: Private = Field(default="", max_length=256, description="no matter the case")
    limit: int = Field(default=50, ge=1, le=200)
    cursor: str = Field(default="", max_length=256, description="of the page before")


class GetCall(Message):
    """`logs.call`: the whole record of one call."""

    model_config = _example(call=_CALL)

    call: CallId


class ExportCall(Message):
    """`logs.export`: the record as a file: JSON, or text as a person reads it."""

    model_config = _example(call=_CALL, form="text")

    call: CallId
    form: Literal["json", "text"] = "json"


class CallPage(Message):
    """Answer to `ListCalls`.  A `cursor` leads to the next page, which may be the last and empty;
    with `text`, a page may be short because the search went on for long enough.
    """

    model_config = _example(
        answer="calls",
        calls=[{"call": _CALL, "state": "live", "offered_at": _AT, "updated_at": _AT}],
        cursor="",
    )

    answer: Literal["calls"] = "calls"
    calls: list[CallSummary] = []
    cursor: str = Field(default="", description="empty: this is the last page")


class CallTold(Message):
    """Answer to `GetCall`."""

    model_config = _example(
        answer="call",
        story={"call": _CALL, "state": "live", "offered_at": _AT, "updated_at": _AT},
    )

    answer: Literal["call"] = "call"
    story: CallStory


class CallExported(Message):
    """Answer to `ExportCall`."""

    model_config = _example(answer="export", form="text", text="Call CA01 …")

    answer: Literal["export"] = "export"
    form: Literal["json", "text"]
    text: Private


class LogsRefused(Message):
    """Answer to any request of `logs.*` that cannot be met.  `unavailable`: ask again later."""

    model_config = _example(answer="refused", code="unknown_call", message="no record of this call")

    answer: Literal["refused"] = "refused"
    code: Literal["unknown_call", "invalid", "unavailable", "failed"]
    message: str = ""


LogsAnswer = Annotated[
    CallPage | CallTold | CallExported | LogsRefused, Field(discriminator="answer")
]
LOGS_ANSWER: TypeAdapter[CallPage | CallTold | CallExported | LogsRefused] = TypeAdapter(LogsAnswer)
