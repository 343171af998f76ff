"""Answers `logs.*`: the list of calls, one call's record, the record as a file."""

import asyncio
import contextlib
import datetime
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from pydantic import ValidationError

from services.logs import metrics, telling
from services.logs.export import export
from services.logs.index import BadCursorError, Index, cursor_after
from services.logs.kept import Kept
from services.logs.records import FAULTS, Records, summary_of
from shared import subjects
from shared.bus import Bus
from shared.feed import FeedUnavailableError
from shared.messages import (
    CallExported,
    CallPage,
    CallStory,
    CallSummary,
    CallTold,
    ExportCall,
    GetCall,
    ListCalls,
    LogsRefused,
    Message,
)

log = logging.getLogger(__name__)

#: How many records one search by text reads, how many of them at once, and for how long.
SEARCH_MAX: Final = 400
SEARCH_STEP: Final = 16
SEARCH_S: Final = 1.5
#: Requests on their way at once; more are refused as `unavailable`.
REQUESTS_MAX: Final = 100
#: Headers and braces around an answer, below NATS's `max_payload`.
ENVELOPE_BYTES: Final = 1024
#: Between two tries to read the bucket while it is away.
RETRY_S: Final = 0.5

RequestT = TypeVar("RequestT", bound=Message)


class Answers:
    """Use `start` before, and `stop` after."""

    def __init__(self, bus: Bus, records: Records) -> None:
        self._bus = bus
        self._records = records
        self.index = Index()
        self.ready = asyncio.Event()
        #: Ends only by `stop`, or by a fault of ours.
        self.watching: asyncio.Task[None] | None = None
        self._group: list[Subscription] = []
        self._running: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Read the list, then join the queue group."""
        self.watching = asyncio.create_task(self._watch(), name="summaries")
        ready = asyncio.create_task(self.ready.wait())
        await asyncio.wait({ready, self.watching}, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        for subject, kind, work in (
            (subjects.LOGS_LIST, ListCalls, self._list),
            (subjects.LOGS_CALL, GetCall, self._call),
            (subjects.LOGS_EXPORT, ExportCall, self._export),
        ):
            handle = self._handler(subject, kind, work)  # type: ignore[arg-type]
            self._group.append(await self._bus.subscribe(subject, handle, queue=subjects.KEEPERS))
        await self._bus.flush()

    async def stop(self) -> None:
        """Leave the queue group and end what runs."""
        for subscription in self._group:
            await self._bus.drain(subscription)
        if self._running:
            await asyncio.wait(self._running, timeout=2)
        tasks = [*self._running, *([self.watching] if self.watching is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def look(self) -> None:
        """Forget what retention has taken.  Raises one of `FAULTS`."""
        self.index.drop_before(await self._records.first_revision())
        metrics.RECORDS.set(len(self.index))

    # --- the list ---------------------------------------------------------------------------

    async def _watch(self) -> None:
        while True:
            try:
                await self._read_summaries()
            except FeedUnavailableError as error:
                log.warning("the records cannot be read", extra={"error": str(error)})
            await asyncio.sleep(RETRY_S)

    async def _read_summaries(self) -> None:
        async with self._records.summaries() as reader:
            if reader.caught_up.is_set():
                self.ready.set()  # none yet
            remade = reader.remade
            async for message in reader:
                if reader.remade != remade:  # the broker has lost its disk
                    remade = reader.remade
                    self.index.clear()
                call, told = summary_of(message)
                if told is None:
                    self.index.drop(call)
                else:
                    self.index.put(reader.sequence, told)
                if reader.caught_up.is_set():
                    self.ready.set()
                metrics.RECORDS.set(len(self.index))

    # --- requests ---------------------------------------------------------------------------

    def _handler(
        self, subject: str, kind: type[RequestT], work: Callable[[RequestT], Awaitable[Message]]
    ) -> Callable[[Msg], Awaitable[None]]:
        what = subject.rsplit(".", 1)[1]

        async def answer(message: Msg) -> None:
            begun = time.monotonic()
            try:
                # No body asks for what the defaults say.
                given = await work(kind.decode(message.data or b"{}"))
            except ValidationError as error:
                given = LogsRefused(code="invalid", message=_faults(error))
            except BadCursorError as error:
                given = LogsRefused(code="invalid", message=f"cursor: {error}")
            except FAULTS as error:
                log.warning("a request could not be met", extra={"error": repr(error)})
                given = LogsRefused(code="unavailable", message="the records cannot be read now")
            except Exception:
                # The top frame of a request: what breaks in it breaks nothing else.
                log.exception("a request failed", extra={"subject": subject})
                given = LogsRefused(code="failed", message="see the service's log")
            await self._respond(message, given, what)
            metrics.REQUEST_S.labels(what).observe(time.monotonic() - begun)

        async def handle(message: Msg) -> None:
            if len(self._running) >= REQUESTS_MAX:
                busy = LogsRefused(code="unavailable", message="too many requests at once")
                await self._respond(message, busy, what)
                return
            task = asyncio.create_task(answer(message), name=what)
            self._running.add(task)
            task.add_done_callback(self._running.discard)

        return handle

    async def _respond(self, message: Msg, answer: Message, what: str) -> None:
        data = answer.encode()
        if len(data) > self._bus.client.max_payload - ENVELOPE_BYTES:
            answer = LogsRefused(
                code="failed",
                message="larger than NATS's max_payload: raise it, or lower RECORD_LIMIT_BYTES",
            )
            data = answer.encode()
        outcome = answer.code if isinstance(answer, LogsRefused) else "ok"
        metrics.REQUESTS.labels(what, outcome).inc()
        with contextlib.suppress(nats.errors.Error):  # nobody waits, or we are cut off
            await message.respond(data)

    async def _list(self, request: ListCalls) -> Message:
        found = self.index.matching(request, _now())
        if request.text:
            return await self._search(list(found), request)
        calls: list[CallSummary] = []
        for told in found:
            if len(calls) == request.limit:
                return CallPage(calls=calls, cursor=cursor_after(calls[-1]))
            calls.append(told)
        return CallPage(calls=calls)

    async def _search(self, found: list[CallSummary], request: ListCalls) -> CallPage:
        """Read record after record; a cursor goes on where it was enough for one request."""
        give_up = time.monotonic() + SEARCH_S
        calls: list[CallSummary] = []
        for start in range(0, len(found), SEARCH_STEP):
            if start >= SEARCH_MAX or time.monotonic() > give_up:
                return CallPage(calls=calls, cursor=cursor_after(found[start - 1]))
            step = found[start : start + SEARCH_STEP]
            records = await asyncio.gather(*(self._read(told.call) for told in step))
            for number, (told, kept) in enumerate(zip(step, records, strict=True), start + 1):
                if kept is not None and telling.text_matches(kept, request.text):
                    calls.append(told)
                if len(calls) == request.limit and number < len(found):
                    return CallPage(calls=calls, cursor=cursor_after(told))
        return CallPage(calls=calls)

    async def _call(self, request: GetCall) -> Message:
        story = await self._story(request.call)
        return story if isinstance(story, LogsRefused) else CallTold(story=story)

    async def _export(self, request: ExportCall) -> Message:
        story = await self._story(request.call)
        if isinstance(story, LogsRefused):
            return story
        return CallExported(form=request.form, text=export(story, request.form))

    async def _story(self, call: str) -> CallStory | LogsRefused:
        kept = await self._read(call)
        if kept is None:
            return LogsRefused(code="unknown_call", message=f"no record of {call}")
        told = telling.aged(telling.story(kept), _now())
        assert isinstance(told, CallStory)
        return told

    async def _read(self, call: str) -> Kept | None:
        found = await self._records.read(call)
        if found is None or not found[1]:
            return None
        try:
            return Kept.model_validate_json(found[1])
        except ValidationError:
            log.warning("a record cannot be read", extra={"call": call})
            return None


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _faults(error: ValidationError) -> str:
    """What is wrong, without what was given: it may be private."""
    faults = [
        f"{'.'.join(str(part) for part in fault['loc']) or 'body'}: {fault['msg']}"
        for fault in error.errors(include_input=False, include_url=False)
    ]
    return "; ".join(faults)[:1000]
