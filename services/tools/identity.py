"""Who may hear what: the rules, without the database.  Pure: no I/O.

A second factor is the date of birth that the caller said, or the number that calls.  An unknown
patient and a wrong factor are the same to the caller, in words and in the work done for them.
"""

import dataclasses
import hmac
import re
from collections.abc import Sequence
from enum import StrEnum
from typing import Final

#: Candidates compared at least, real or not, so that time does not tell how many there are.
COMPARISONS_MIN: Final = 32

_E164: Final = re.compile(r"\+[1-9][0-9]{6,14}")
_DECORATION: Final = re.compile(r"[\s().\-/]")
#: What Twilio gives for a caller who hides the number: ANONYMOUS, RESTRICTED, BLOCKED, UNKNOWN
#: (in two spellings) and UNAVAILABLE, typed on a telephone's keys.  They are nobody's.
_NOBODY: Final = frozenset(
    ("+266696687", "+7378742833", "+2562533", "+8656696", "+8566696", "+86282452253")
)


class Verdict(StrEnum):
    """What is told."""

    VERIFIED = "verified"
    NEEDED = "verification_needed"
    NOT_VERIFIED = "not_verified"
    SEVERAL = "several_matches"


@dataclasses.dataclass(frozen=True, slots=True)
class Candidate:
    """A patient of the name that was said, and what proves that the caller is the owner."""

    patient: str
    owner: str
    owner_name: str
    date_of_birth: str
    phone: str


@dataclasses.dataclass(frozen=True, slots=True)
class Factors:
    """What the caller brings.  `date_of_birth` in ISO, `number` in E.164; empty for none."""

    date_of_birth: str = ""
    number: str = ""
    owner_name: str = ""


def e164(text: str) -> str:
    """`+15551234567` for however a number is written, or nothing.  No country is guessed."""
    bare = _DECORATION.sub("", text)
    if bare.startswith("00"):
        bare = f"+{bare[2:]}"
    return bare if _E164.fullmatch(bare) and bare not in _NOBODY else ""


def judge(candidates: Sequence[Candidate], factors: Factors) -> tuple[Verdict, list[str]]:
    """What may be told, and the patients that it may be told of."""
    fitting = [one for one in candidates if _fits(one, factors)]
    for _ in range(COMPARISONS_MIN - len(candidates)):
        _fits(_NO_ONE, factors)
    owners = {one.owner for one in fitting}
    if len(owners) > 1:
        if not factors.owner_name:
            return Verdict.SEVERAL, []
        fitting = [one for one in fitting if _is_called(one.owner_name, factors.owner_name)]
        owners = {one.owner for one in fitting}
        if len(owners) > 1:
            return Verdict.SEVERAL, []
    if fitting:
        return Verdict.VERIFIED, [one.patient for one in fitting]
    # The number that calls is no claim: when it proves nothing, the caller is simply asked.
    claimed = factors.date_of_birth or factors.owner_name
    return (Verdict.NOT_VERIFIED if claimed else Verdict.NEEDED), []


def _fits(one: Candidate, factors: Factors) -> bool:
    """Both comparisons are always made, each in the same time for any two values."""
    born = _same(one.date_of_birth, factors.date_of_birth)
    calls = _same(e164(one.phone), factors.number)
    return born | calls


def _same(ours: str, theirs: str) -> bool:
    return hmac.compare_digest(ours.encode(), theirs.encode()) & bool(theirs)


def _is_called(full: str, said: str) -> bool:
    """Whether `said` is the full name, the last name or the first one."""
    words = set(said.casefold().split())
    return bool(words) and words <= set(full.casefold().split())


_NO_ONE: Final = Candidate("", "", "", "0001-01-01", "+10000000000")
