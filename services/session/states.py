"""The states of a call's two sides, and which event is legal in which.

An event outside these tables changes nothing and raises: `LocalError` for our own (a bug),
`RemoteError` for the vendor's (counted and survived).

Pure: no I/O.
"""

import enum
from typing import Final

from services.session import events


class LocalError(Exception):
    """Our own side sent an event that is illegal in this state: a bug."""


class RemoteError(Exception):
    """The vendor sent an event that is illegal in this state: logged, counted and survived."""


class Phone(enum.StrEnum):
    """The phone's side."""

    #: Offered and claimed; no phone socket yet.
    RINGING = "ringing"
    #: A gateway holds the socket; it does not listen yet.
    ATTACHED = "attached"
    #: What is sent is heard.
    TALKING = "talking"
    #: The socket is gone; the caller may come back.
    DETACHED = "detached"
    #: The caller talks to somebody else, and may come back.
    AWAY = "away"
    ENDED = "ended"


class Model(enum.StrEnum):
    """The model's side."""

    DIALLING = "dialling"
    CONFIGURING = "configuring"
    READY = "ready"
    #: Lost; a timer dials again.
    DOWN = "down"


_ANY_TIME: Final = frozenset(
    {
        events.LegRequested,
        events.HangUpRequested,
        events.ToolFinished,
        events.MusicAnswered,
        events.WorkerStopping,
        events.OwnershipLost,
    }
)
_LEG: Final = frozenset(
    {
        events.LegStarted,
        events.MarkReturned,
        events.DtmfPressed,
        events.LegStopped,
        events.LegLost,
        events.PhoneUpdated,
    }
)
#: Events of an older leg are legal wherever a leg has been: they are known late, and ignored.
PHONE_EVENTS: Final[dict[Phone, frozenset[type]]] = {
    Phone.RINGING: _ANY_TIME,
    Phone.ATTACHED: _ANY_TIME | _LEG,
    Phone.TALKING: _ANY_TIME | _LEG,
    Phone.DETACHED: _ANY_TIME | _LEG,
    Phone.AWAY: _ANY_TIME | _LEG,
    Phone.ENDED: _ANY_TIME | _LEG,
}
_FAILURE: Final = frozenset({events.ModelErrored, events.ModelClosed})
MODEL_EVENTS: Final[dict[Model, frozenset[type]]] = {
    Model.DIALLING: _FAILURE | {events.SessionCreated},
    Model.CONFIGURING: _FAILURE | {events.SessionUpdated},
    Model.READY: _FAILURE
    | {
        events.SessionUpdated,
        events.SpeechStarted,
        events.SpeechStopped,
        events.ResponseStarted,
        events.AudioReceived,
        events.AudioCompleted,
        events.AgentTranscript,
        events.CallerTranscript,
        events.FunctionCalled,
        events.OutputTaken,
        events.ResponseFinished,
    },
}
#: What a model's socket says while it is being closed is known late, and ignored.
MODEL_EVENTS[Model.DOWN] = MODEL_EVENTS[Model.READY] | {events.SessionCreated}
