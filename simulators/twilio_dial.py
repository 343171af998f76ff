"""The people a call may be transferred to: how long they let it ring, and what they do then.

Pure.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

__all__ = ["DialResult", "DialResults", "OtherParty", "other_parties"]

DialResult = Literal["completed", "busy", "no-answer", "failed", "canceled"]
"""Twilio: `DialCallStatus`, as the `action` of `<Dial>` is told."""


@dataclass(frozen=True, slots=True)
class OtherParty:
    """What somebody does who is dialled."""

    result: DialResult = "completed"
    """`completed`: answers, talks and hangs up."""
    ring_s: float = 1.0
    says: str = "Front desk, how can I help you?"
    """Heard by the caller at once when the call is answered."""
    talk_s: float = 3.0
    """From the answer until the other party hangs up, or until it has said its sentence."""


DialResults = Mapping[str, OtherParty | DialResult]
"""By the number or SIP URI in `<Dial>`; a result alone is that of an ordinary person."""


def other_parties(results: DialResults) -> dict[str, OtherParty]:
    """Return the people behind the numbers."""
    usual = OtherParty()
    return {
        number: one if isinstance(one, OtherParty) else replace(usual, result=one)
        for number, one in results.items()
    }
