"""What happens to a call, and what the call wants done: plain frozen dataclasses.

Events are facts, in the past tense; actions are wishes, in the imperative.  `machine.Call` turns
the one into the other; the driver brings events and performs actions, in order.

Pure: no I/O.
"""

from dataclasses import dataclass
from typing import Any

from shared.audio import FormatName
from shared.messages import CallRecord, Event as StoryEvent, Message, Tokens

# --- from the phone's side -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LegRequested:
    """A gateway holds a phone socket for this call and asks for a leg."""

    gateway: str
    stream: str
    audio: FormatName
    #: Why the phone comes (back), e.g. `dial:no-answer`.
    note: str = ""


@dataclass(frozen=True, slots=True)
class LegStarted:
    """The gateway listens: what is said now is heard."""

    leg: int


@dataclass(frozen=True, slots=True)
class MarkReturned:
    """A mark came back: played, or returned by a clear."""

    leg: int
    name: str


@dataclass(frozen=True, slots=True)
class DtmfPressed:
    """The caller pressed one key."""

    leg: int
    digit: str


@dataclass(frozen=True, slots=True)
class LegStopped:
    """The phone ended the stream: the caller hung up."""

    leg: int


@dataclass(frozen=True, slots=True)
class LegLost:
    """The phone's socket is gone without a word."""

    leg: int
    reason: str


@dataclass(frozen=True, slots=True)
class PhoneUpdated:
    """What became of a transfer or of digits."""

    leg: int
    what: str
    ok: bool
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class ToolFinished:
    """A tool answered, or did not: then `error` is a short code and `output` a sentence."""

    call_id: str
    output: str
    error: str


@dataclass(frozen=True, slots=True)
class MusicAnswered:
    """Whether the music of a hold plays.  `error`: why not; empty when it does."""

    hold: int
    track: str
    source: str
    fallback: str | None
    error: str


@dataclass(frozen=True, slots=True)
class HangUpRequested:
    """An operator, or the phone company's status callback, wants the call to end."""

    reason: str


@dataclass(frozen=True, slots=True)
class WorkerStopping:
    """This worker's time is up; the call ends politely."""


@dataclass(frozen=True, slots=True)
class OwnershipLost:
    """Another worker owns the call now: stop, and touch nothing of it."""


PhoneEvent = (
    LegRequested
    | LegStarted
    | MarkReturned
    | DtmfPressed
    | LegStopped
    | LegLost
    | PhoneUpdated
    | ToolFinished
    | MusicAnswered
    | HangUpRequested
    | WorkerStopping
    | OwnershipLost
)

# --- from the model's side -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SessionCreated:
    """The model answered.  OpenAI: connected means this event, not an open socket."""


@dataclass(frozen=True, slots=True)
class SessionUpdated:
    """The configuration is in force; the formats are what the service says it will use."""

    input_format: dict[str, Any]
    output_format: dict[str, Any]


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """The model's voice detection heard the caller begin."""

    item: str


@dataclass(frozen=True, slots=True)
class SpeechStopped:
    """The model's voice detection heard the caller end."""

    item: str


@dataclass(frozen=True, slots=True)
class ResponseStarted:
    """A response runs: ours or one that voice detection started.  `purpose` is our metadata."""

    response: str
    purpose: str


@dataclass(frozen=True, slots=True)
class AudioReceived:
    """A piece of the agent's voice, in the call's format."""

    response: str
    item: str
    audio: bytes


@dataclass(frozen=True, slots=True)
class AudioCompleted:
    """All audio of this item was generated (or its response was interrupted)."""

    response: str
    item: str


@dataclass(frozen=True, slots=True)
class AgentTranscript:
    """What the agent says.  `final`: `text` is the whole; else the next piece."""

    response: str
    item: str
    text: str
    final: bool


@dataclass(frozen=True, slots=True)
class CallerTranscript:
    """What the caller said, as far as the recogniser understood."""

    item: str
    text: str
    tokens: Tokens
    seconds: float


@dataclass(frozen=True, slots=True)
class FunctionCalled:
    """The model calls a function; its item is complete."""

    response: str
    call_id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class OutputTaken:
    """The output of a function call is in the conversation: responses that begin now have it."""

    call_id: str


@dataclass(frozen=True, slots=True)
class ResponseFinished:
    """Always the last of a response.  `code` and `message` tell why it failed or was cut."""

    response: str
    status: str
    code: str
    message: str
    tokens: Tokens


@dataclass(frozen=True, slots=True)
class ModelErrored:
    """The service refused something.  OpenAI: fatal only if a close follows."""

    code: str
    message: str
    param: str
    event_id: str


@dataclass(frozen=True, slots=True)
class ModelClosed:
    """The socket to the model is gone, or could not be opened.

    `code`: the WebSocket close code, 0 when there was none (refused, timed out, cut).
    """

    code: int
    reason: str


ModelEvent = (
    SessionCreated
    | SessionUpdated
    | SpeechStarted
    | SpeechStopped
    | ResponseStarted
    | AudioReceived
    | AudioCompleted
    | AgentTranscript
    | CallerTranscript
    | FunctionCalled
    | OutputTaken
    | ResponseFinished
    | ModelErrored
    | ModelClosed
)

# --- actions -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DialModel:
    """Open a socket to the model; the one before, if any, is closed."""

    model: str


@dataclass(frozen=True, slots=True)
class CloseModel:
    """Close the model's socket; its late events do not come any more."""


@dataclass(frozen=True, slots=True)
class SendModel:
    """Send one client event."""

    event: dict[str, Any]


@dataclass(frozen=True, slots=True)
class OpenUplink:
    """From now on the caller's audio goes to the model, what was kept first."""


@dataclass(frozen=True, slots=True)
class CloseUplink:
    """Keep the caller's audio (bounded) instead of sending it."""


@dataclass(frozen=True, slots=True)
class PlayAudio:
    """Send to the phone."""

    audio: bytes


@dataclass(frozen=True, slots=True)
class PlayMark:
    """Ask the phone to tell when it has played everything so far."""

    name: str


@dataclass(frozen=True, slots=True)
class PlayClear:
    """Make the phone forget what it has not played yet."""


@dataclass(frozen=True, slots=True)
class RunTool:
    """Ask the tool service; a `ToolFinished` must follow."""

    call_id: str
    name: str
    arguments: dict[str, Any]
    deadline_ms: int


@dataclass(frozen=True, slots=True)
class PlayMusic:
    """Let the phone listen to hold `hold`, and have music played into it."""

    hold: int
    track: str | None


@dataclass(frozen=True, slots=True)
class StopMusic:
    """End hold `hold`, at the phone at once."""

    hold: int
    reason: str


@dataclass(frozen=True, slots=True)
class TransferLeg:
    """Connect the caller with somebody else; a `PhoneUpdated` must follow."""

    to: str


@dataclass(frozen=True, slots=True)
class SendDigits:
    """Press keys; a `PhoneUpdated` must follow."""

    digits: str


@dataclass(frozen=True, slots=True)
class ListenLeg:
    """Listen to this leg, and to no other."""

    leg: int


@dataclass(frozen=True, slots=True)
class MoveLeg:
    """Tell gateways that hold an older leg to let go."""

    leg: int


@dataclass(frozen=True, slots=True)
class HangUpLeg:
    """Close the phone's socket."""

    reason: str


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer the command being handled."""

    message: Message


@dataclass(frozen=True, slots=True)
class Save:
    """Write the call's record."""

    record: CallRecord


@dataclass(frozen=True, slots=True)
class Tell:
    """Add a line to the call's story."""

    event: StoryEvent


@dataclass(frozen=True, slots=True)
class Finish:
    """The call is over: let go of everything."""


Action = (
    DialModel
    | CloseModel
    | SendModel
    | OpenUplink
    | CloseUplink
    | PlayAudio
    | PlayMark
    | PlayClear
    | RunTool
    | PlayMusic
    | StopMusic
    | TransferLeg
    | SendDigits
    | ListenLeg
    | MoveLeg
    | HangUpLeg
    | Answer
    | Save
    | Tell
    | Finish
)
