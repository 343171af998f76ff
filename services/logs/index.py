"""The list of calls: summaries in memory, newest first, with filters and pages.

Pure: no I/O; the time is an argument.
"""

import base64
import binascii
import bisect
import datetime
from collections.abc import Callable, Iterator
from typing import Final

from services.logs.telling import aged
from shared import subjects
from shared.messages import CallSummary, ListCalls

#: Where a call stands in the list: when it was offered, and its id.
Place = tuple[datetime.datetime, str]

_FIRST: Final[Place] = (datetime.datetime.max.replace(tzinfo=datetime.UTC), "")


class BadCursorError(ValueError):
    """A cursor that no page has given."""


class Index:
    """Every record's summary, with the revision that it is of."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[int, CallSummary]] = {}
        #: Oldest first.
        self._order: list[Place] = []

    def __len__(self) -> int:
        return len(self._found)

    def put(self, revision: int, new: CallSummary) -> None:
        """A record was written; an older revision of it changes nothing."""
        old = self._found.get(new.call)
        if old is not None and old[0] >= revision:
            return
        if old is None or old[1].offered_at != new.offered_at:
            if old is not None:
                self._forget(old[1])
            bisect.insort(self._order, (new.offered_at, new.call))
        self._found[new.call] = (revision, new)

    def clear(self) -> None:
        """All records are gone."""
        self._found.clear()
        self._order.clear()

    def drop(self, call: str) -> None:
        """The record is gone."""
        old = self._found.pop(call, None)
        if old is not None:
            self._forget(old[1])

    def drop_before(self, revision: int) -> int:
        """Records written before `revision` are gone: retention takes the oldest first."""
        gone = [call for call, (written, _) in self._found.items() if written < revision]
        for call in gone:
            self.drop(call)
        return len(gone)

    def matching(self, request: ListCalls, now: datetime.datetime) -> Iterator[CallSummary]:
        """What the filters leave (but `text`), newest first, behind the cursor.

        Raises `BadCursorError`.
        """
        place = decode_cursor(request.cursor) if request.cursor else _FIRST
        if request.until is not None:
            place = min(place, (request.until, ""))
        wanted = _filter(request)
        for offered_at, call in reversed(self._order[: bisect.bisect_left(self._order, place)]):
            if request.since is not None and offered_at < request.since:
                return
            told = aged(self._found[call][1], now)
            if wanted(told):
                yield told

    def _forget(self, old: CallSummary) -> None:
        at = bisect.bisect_left(self._order, (old.offered_at, old.call))
        del self._order[at]


def _filter(request: ListCalls) -> Callable[[CallSummary], bool]:
    def wanted(told: CallSummary) -> bool:
        return (
            (request.state is None or told.state == request.state)
            and (not request.agent or told.agent == request.agent)
            and request.caller in told.caller
        )

    return wanted


def cursor_after(told: CallSummary) -> str:
    """Leads to what is older than `told`."""
    text = f"{told.offered_at.isoformat()} {told.call}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> Place:
    """The place that a cursor leads behind.  Raises `BadCursorError`."""
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        time, _, call = text.partition(" ")
        at = datetime.datetime.fromisoformat(time)
    except (ValueError, binascii.Error) as error:
        raise BadCursorError("not a cursor of ours") from error
    if at.tzinfo is None or not subjects.is_call_id(call):
        raise BadCursorError("not a cursor of ours")
    return (at, call)
