"""Where the parts of a call put what they want: actions, timers, record, story, bill.

Pure: no I/O; `now` is in seconds.
"""

import datetime
import functools
from typing import Any, Final

from services.session import events
from services.session.events import Action
from services.session.pricing import Bill, Prices
from shared import messages
from shared.messages import CallRecord, Tokens

#: Endings after which the caller, if still there, is told that we cannot take the call.
UNAVAILABLE: Final = "model_unavailable"


class CallOver(Exception):  # noqa: N818 - a fact, like the events
    """The call cannot, or need not, go on: raised by a part of the machine, which then ends it."""

    def __init__(self, reason: str, *, detail: str = "", text: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        #: A short code, and what the model said; both for `UNAVAILABLE` only.
        self.detail = detail
        self.text = text


def milliseconds(seconds: float) -> int:
    """Whole milliseconds, never negative."""
    return max(0, round(seconds * 1000))


class Desk:
    """One call's; shared by the parts of its machine."""

    def __init__(
        self, record: CallRecord, prices: Prices, now: float, *, clock: datetime.datetime
    ) -> None:
        self.record = record
        self.bill = Bill(prices)
        #: Name -> when it is due.
        self.timers: dict[str, float] = {}
        self.out: list[Action] = []
        #: Audio towards either side that did not arrive.
        self.dropped_audio_ms = 0
        self._born = now
        self._clock = clock
        self._sent = 0

    def take(self) -> list[Action]:
        """What was wanted since the last time, in order."""
        out, self.out = self.out, []
        return out

    def send(self, event: dict[str, Any]) -> str:
        """Send a client event to the model; returns the id it was given."""
        self._sent += 1
        identity = f"sb_{self._sent:06d}"
        self.out.append(events.SendModel({**event, "event_id": identity}))
        return identity

    def save(self, **changes: Any) -> None:
        """Change the record and have it written."""
        self.record = self.record.model_copy(update=changes)
        self.out.append(events.Save(self.record))

    def at(self, now: float) -> datetime.datetime:
        """`now` on the wall's clock."""
        return self._clock + datetime.timedelta(seconds=now - self._born)

    def tell(self, kind: type[messages.Event], now: float, **fields: Any) -> None:
        """Add a line to the story."""
        make = functools.partial(kind, call=self.record.call, epoch=self.record.epoch)
        self.out.append(
            events.Tell(make(at=self.at(now), ms=milliseconds(now - self._born), **fields))
        )

    def tell_failure(self, code: str, text: str, effect: str, now: float) -> None:
        """The model failed, and what we did about it."""
        self.tell(messages.ModelFailed, now, code=code, message=text[:1000], effect=effect)

    def charge(self, source: str, model: str, tokens: Tokens, seconds: float, now: float) -> None:
        """Add to the bill, and tell; nothing when nothing was used."""
        if tokens == Tokens() and not seconds:
            return
        cost = self.bill.add(model, tokens, seconds)
        self.tell(
            messages.UsageReported,
            now,
            source=source,
            model=model,
            tokens=tokens,
            seconds=seconds,
            cost_usd=cost,
            total_cost_usd=self.bill.cost_usd,
        )
