"""What happened in one simulated call: events in time order, Twilio's warnings, the outcome."""

import enum
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["CallWarning", "Event", "Journal", "Outcome", "OutcomeKind"]

EVENTS_MAX = 10_000
"""An hour of a call with a few events a second; what comes later is counted, not kept."""

WARNINGS_MAX = 200
"""Enough to see the pattern; a server that sends nonsense sends it 50 times a second."""


class Event(NamedTuple):
    """One fact of the call, at a time on the call's timeline."""

    ms: int
    kind: str
    detail: str


class CallWarning(NamedTuple):
    """An entry of Twilio's debugger: its error or warning code, and why."""

    code: int
    text: str


class OutcomeKind(enum.StrEnum):
    """How a call ended."""

    IN_PROGRESS = "in_progress"
    COMPLETED_BY_CALLER = "completed_by_caller"
    COMPLETED_BY_SERVER = "completed_by_server"
    """`<Hangup/>`, or the end of the document."""
    REJECTED = "rejected"
    """`<Reject>`; the reason says whether as `busy` or `rejected`."""
    BUSY_SAID = "busy_said"
    """The caller was spoken to with `<Say>` and hung up on, and never reached a stream."""
    DIALLED = "dialled"
    """`<Dial>` to somebody who is not simulated; the reason says whom."""
    FAILED = "failed"
    """Twilio could not go on; the reason begins with its error code."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the call ended, and why."""

    kind: OutcomeKind
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.kind}: {self.reason}" if self.reason else str(self.kind)


class Journal:
    """Writes down what happens, with the time since the call began."""

    def __init__(self, on_event: Callable[[Event], None] | None = None) -> None:
        self.events: list[Event] = []
        self.events_dropped = 0
        self.warnings: list[CallWarning] = []
        self._on_event = on_event
        self._began_at: float | None = None

    def begin(self) -> None:
        """The call begins: this is 0 on its timeline."""
        self._began_at = time.monotonic()

    @property
    def now(self) -> float:
        """Seconds since the call began: the `now` of everything that belongs to the call."""
        return 0.0 if self._began_at is None else time.monotonic() - self._began_at

    def note(self, kind: str, detail: str = "", *, ms: float | None = None) -> None:
        """Write an event down, now or at a given time."""
        event = Event(round(self.now * 1000 if ms is None else ms), kind, detail)
        if len(self.events) >= EVENTS_MAX:
            self.events_dropped += 1
            return
        self.events.append(event)
        if self._on_event is not None:
            self._on_event(event)

    def warn(self, code: int, text: str) -> None:
        """Write down what Twilio's debugger would show."""
        if len(self.warnings) < WARNINGS_MAX:
            self.warnings.append(CallWarning(code, text))
            self.note("warning", f"{code} {text}")
