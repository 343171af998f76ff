"""What is kept of a call: the reduced form of its story, as written to the bucket `records`.

Every part is a minimum, a maximum, a sum or a set over the lines, so the order in which lines come
does not matter.  What a reader gets is made from it (`telling.py`).

Pure: no I/O.
"""

from typing import Any, Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from shared.messages import (
    CallMove,
    Interruption,
    ModelDial,
    ModelTrouble,
    OtherLine,
    OwnerSpan,
    Tokens,
)

#: Limits of one record, in entries.  What is over one is counted under the part's name in `cut`.
TRANSCRIPT_MAX_LINES: Final = 2000
TOOLS_MAX: Final = 500
HOLDS_MAX: Final = 200
INTERRUPTIONS_MAX: Final = 1000
LEGS_MAX: Final = 100
OWNERS_MAX: Final = 100
MODELS_MAX: Final = 100
FAILURES_MAX: Final = 200
MOVES_MAX: Final = 500
OTHER_MAX: Final = 100
USAGE_MAX: Final = 20

#: Limits of one text, in characters.
TEXT_MAX: Final = 4000
OUTPUT_MAX: Final = 4000
NAME_MAX: Final = 128
REASON_MAX: Final = 512
OTHER_FIELDS_MAX: Final = 1000

#: Lines remembered as folded, at least: more than JetStream delivers before the oldest of them is
#: acknowledged (`keeper.PENDING_MAX`).  Older ones are known by their time.
SEEN_MAX: Final = 2048
#: In how many steps old ones are forgotten: not one at a time.
SEEN_SPARE: Final = 256

#: Money is added up in whole billionths of a dollar: sums of floats depend on their order.
NANO: Final = 1_000_000_000


class Entry(BaseModel):
    """Base of what is kept: changed in place, tolerant of a newer version's fields."""

    model_config = ConfigDict(extra="ignore")


class Spoken(Entry):
    """One item of the conversation.  Each fact with the time that decides between two of them."""

    who: Literal["caller", "agent"]
    item: str
    #: (ms, text, interrupted): the last word on it.
    said: tuple[int, str, bool] | None = None
    #: (ms, after, latency_ms or -1): the first.
    begun: tuple[int, str, int] | None = None
    #: (ms, heard_ms or -1): the last.
    ended: tuple[int, int] | None = None


class Tool(Entry):
    """One function call."""

    call_id: str
    #: (ms, name, arguments): the first.
    called: tuple[int, str, str] | None = None
    #: (ms, name, output, error, duration_ms): the last.
    answered: tuple[int, str, str, str, int] | None = None


class Held(Entry):
    """One hold."""

    epoch: int
    hold: int
    #: (ms, track, source, fallback): the first.
    begun: tuple[int, str, str, str] | None = None
    #: (ms, reason, duration_ms): the last.
    ended: tuple[int, str, int] | None = None


class Leg(Entry):
    """One socket of the phone."""

    leg: int
    #: (ms, gateway): the first.
    begun: tuple[int, str] | None = None
    #: (ms, reason): the last.
    dropped: tuple[int, str] | None = None


class Usage(Entry):
    """Sums of one model's bills."""

    source: str
    model: str
    reports: int = 0
    tokens: Tokens = Tokens()
    #: Thousandths: whole numbers add up the same in any order.
    milliseconds: int = 0
    cost_nano: int = 0
    unpriced: int = 0


class Kept(Entry):
    """One call."""

    call: str
    #: Lines that stand once: the first `offered` and `started`, the last `ended`; as they came.
    once: dict[str, dict[str, Any]] = {}
    first_at: AwareDatetime | None = None
    last_at: AwareDatetime | None = None
    spoken: list[Spoken] = []
    tools: list[Tool] = []
    holds: list[Held] = []
    interruptions: list[Interruption] = []
    legs: list[Leg] = []
    owners: list[OwnerSpan] = []
    models: list[ModelDial] = []
    failures: list[ModelTrouble] = []
    moves: list[CallMove] = []
    usage: list[Usage] = []
    other: list[OtherLine] = []
    events: int = 0
    cut: dict[str, int] = {}
    #: `ms.fingerprint` in hexadecimal, of the lines folded lately.
    seen: list[str] = Field(default=[], repr=False)
    #: Whatever is not later than this was folded, or came too late; -1: nothing was forgotten yet.
    forgotten_ms: int = -1

    def encode(self) -> bytes:
        """As the bucket keeps it: without what is at its default."""
        return self.model_dump_json(exclude_defaults=True).encode()
