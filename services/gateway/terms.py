"""The terms of a phone socket: what it may take, how it may end, what its `start` must say.

Pure: no I/O.
"""

import enum
from dataclasses import dataclass
from typing import Final

from services.gateway.twilio import Start
from shared.subjects import is_call_id

#: WebSocket close codes (RFC 6455, 7.4.1).
UNSUPPORTED_DATA: Final = 1003
POLICY_VIOLATION: Final = 1008


@dataclass(frozen=True, slots=True)
class Limits:
    """What one stream may take."""

    start_s: float = 10.0
    """Twilio sends `start` at once; who does not is not Twilio."""
    held_ms: int = 5_000
    """The caller's audio while the owner attaches; the oldest is dropped."""
    held_controls: int = 100
    """Keys in that time: more than a person presses in the seconds it may take."""
    garbage: int = 1_000
    """Frames without sense until the stream is closed: 20 s of them at a phone's pace."""
    write_buffer_bytes: int = 1024 * 1024
    """What may wait for the phone's network: 98 s of audio in base64.  Twilio reads at once and
    buffers 10 minutes itself, so this much waiting means that it has stopped reading."""
    close_s: float = 2.0
    """How long the closing handshake may take."""
    update_s: float = 6.0
    """How long the end of a stream waits for the answer to a REST request that may have caused it;
    such a request is given up after 5 s."""


class How(enum.StrEnum):
    """How a stream ended."""

    STOPPED = "stopped"
    """Twilio said so: the caller hung up, or the call was moved by REST."""
    HUNG_UP = "hung_up"
    """The owner said so."""
    MOVED = "moved"
    """The call is carried by another leg."""
    LOST = "lost"
    """The socket broke, or we had to close it; the caller may come back."""
    REFUSED = "refused"
    """It never had an owner, or is not what it says."""


@dataclass(frozen=True, slots=True)
class Objection:
    """Why a stream is not taken, and the code its socket is closed with."""

    code: int
    why: str


@dataclass(frozen=True, slots=True)
class Admission:
    """What is known of a socket before its first message."""

    call: str | None
    """From the token; None for a bare stream, whose call is offered at `start`."""
    account: str | None
    """The only account whose streams are taken; None for any."""

    def objection(self, start: Start) -> Objection | None:
        """Why this `start` is not taken; None if it is.

        Twilio signs nothing on the socket: what `start` says must fit what we know.
        """
        why = None
        if not is_call_id(start.call):
            why = "start has no call id"
        elif self.call not in (None, start.call):
            why = "start names another call than the token"
        elif self.account not in (None, start.account):
            why = "start names another account"
        if why is not None:
            return Objection(POLICY_VIOLATION, why)
        if not start.mulaw_8k:
            return Objection(UNSUPPORTED_DATA, "the audio is not mu-law at 8 kHz")
        return None
