"""Brings the lines of stories into records: JetStream's consumer in, the bucket `records` out.

All instances share one durable consumer, so the lines of one call may come to several of them.
Each collects what came for a call, folds it into the newest record and writes that by
compare-and-set; a line is acknowledged after it was written.
"""

import asyncio
import collections
import contextlib
import logging
from dataclasses import dataclass, field
from typing import Final

import nats.errors
import nats.js.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from services.logs import metrics, telling
from services.logs.recorder import Recorder
from services.logs.records import FAULTS, ConflictError, Records
from services.logs.settings import LogsSettings
from shared import subjects
from shared.bus import Bus, provision

log = logging.getLogger(__name__)

#: Lines delivered and not yet written, over all instances.  The recorder remembers more than that.
PENDING_MAX: Final = 1000
#: A line that was not acknowledged comes again after this: an instance was killed.
ACK_WAIT_S: Final = 10.0
#: Records in memory: the ones of live calls, so that they need not be read before each write.
CACHED_MAX: Final = 200
#: Writes on their way at once.
WRITERS_MAX: Final = 16
#: After a conflict, and after a fault of JetStream.
CONFLICT_PAUSE_S: Final = 0.02
FAULT_PAUSE_S: Final = 0.5
#: How long a stop waits for the last writes; what is not written comes again to another instance.
STOP_S: Final = 5.0


@dataclass(slots=True)
class Work:
    """What came for one call and is not yet written."""

    #: By its number in the stream: what comes again takes the place of what it repeats.
    lines: dict[int, Msg] = field(default_factory=dict)
    hurry: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


@dataclass(slots=True)
class Cached:
    """A record as it was written last."""

    recorder: Recorder
    revision: int
    written_at: float


class Keeper:
    """Use `start` before, and `stop` after."""

    def __init__(
        self,
        bus: Bus,
        records: Records,
        settings: LogsSettings,
        *,
        ack_wait_s: float = ACK_WAIT_S,
    ) -> None:
        self._bus = bus
        self._records = records
        self._settings = settings
        self._ack_wait_s = ack_wait_s
        self._work: dict[str, Work] = {}
        self._cache: collections.OrderedDict[str, Cached] = collections.OrderedDict()
        self._writers = asyncio.Semaphore(WRITERS_MAX)
        self._subscription: Subscription | None = None
        self._stopping = False

    async def start(self) -> None:
        """Take lines from now on, those first that came while nobody did."""
        await self.provision()
        self._subscription = await self._bus.subscribe(
            subjects.LOGS_DELIVERY, self._on_line, queue=subjects.KEEPERS
        )

    async def stop(self) -> None:
        """Take no more lines, and write what came."""
        self._stopping = True
        if self._subscription is not None:
            await self._bus.drain(self._subscription)
        for work in self._work.values():
            work.hurry.set()
        tasks = [work.task for work in self._work.values() if work.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=STOP_S)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def provision(self) -> None:
        """Make what we read from and write to, where it is missing.  Raises one of `FAULTS`."""
        await self._records.provision()
        config = ConsumerConfig(
            durable_name=subjects.RECORDS_CONSUMER,
            description="the logs service",
            deliver_policy=DeliverPolicy.ALL,
            deliver_subject=subjects.LOGS_DELIVERY,
            deliver_group=subjects.KEEPERS,
            filter_subject=subjects.ALL_EVENTS,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=self._ack_wait_s,
            max_ack_pending=PENDING_MAX,
        )
        try:
            await self._bus.js.add_consumer(subjects.EVENTS_STREAM, config)
        except nats.js.errors.BadRequestError as error:
            # Another version made it with what cannot be changed: it delivers all the same.
            log.warning("the consumer is used as it is", extra={"error": str(error)})

    async def look(self) -> None:
        """Whether lines wait; makes what is gone, as with a broker that lost its disk."""
        try:
            info = await self._bus.js.consumer_info(
                subjects.EVENTS_STREAM, subjects.RECORDS_CONSUMER
            )
        except nats.js.errors.NotFoundError:
            log.warning("the consumer is gone: made anew")
            await provision(self._bus, self._settings)
            await self.provision()
        else:
            metrics.WAITING.set((info.num_pending or 0) + (info.num_ack_pending or 0))

    # --- lines ------------------------------------------------------------------------------

    async def _on_line(self, message: Msg) -> None:
        tokens = message.subject.split(".", 3)
        if len(tokens) != 4 or not subjects.is_call_id(tokens[1]):
            metrics.LINES.labels("unreadable").inc()
            await _acknowledge(message)  # nobody will ever be able to read it
            return
        work = self._work.setdefault(tokens[1], Work())
        work.lines[message.metadata.sequence.stream] = message
        if tokens[3] == "ended":
            work.hurry.set()
        if work.task is None:
            work.task = asyncio.create_task(self._write_lines(tokens[1], work), name="record")

    async def _write_lines(self, call: str, work: Work) -> None:
        """Until all that came for the call is written."""
        try:
            while work.lines:
                await self._collect(call, work)
                async with self._writers:
                    pause_s = await self._try(call, work)
                if pause_s:
                    await asyncio.sleep(pause_s)
        except Exception:
            # The top frame of a call's work: its lines come again, and other calls go on.
            log.exception("a record could not be made", extra={"call": call})
            self._cache.pop(call, None)
        finally:
            self._work.pop(call, None)

    async def _collect(self, call: str, work: Work) -> None:
        """Wait until the record may be written again, or has to be."""
        cached = self._cache.get(call)
        if cached is None or self._stopping:
            return
        now = asyncio.get_running_loop().time()
        rest_s = cached.written_at + self._settings.record_write_ms / 1000 - now
        if rest_s > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(work.hurry.wait(), rest_s)

    async def _try(self, call: str, work: Work) -> float:
        """Write once; returns for how long to wait before the next try."""
        lines = dict(work.lines)
        work.hurry.clear()
        try:
            await self._write(call, lines)
        except ConflictError:
            metrics.WRITES.labels("conflict").inc()
            self._cache.pop(call, None)
            work.hurry.set()
            return CONFLICT_PAUSE_S
        except FAULTS as error:
            metrics.WRITES.labels("failed").inc()
            log.warning("a record could not be written", extra={"error": repr(error)})
            self._cache.pop(call, None)
            return FAULT_PAUSE_S
        for sequence, message in lines.items():
            if work.lines.get(sequence) is message:
                del work.lines[sequence]
            await _acknowledge(message)
        return 0

    async def _write(self, call: str, lines: dict[int, Msg]) -> None:
        cached = self._cache.get(call) or await self._read(call)
        recorder = cached.recorder
        outcomes = collections.Counter(
            recorder.add(message.subject.rsplit(".", 1)[1], message.data)
            for _, message in sorted(lines.items())
        )
        if outcomes["folded"]:
            data = recorder.encode(self._settings.record_limit_bytes)
            told = telling.summary(recorder.kept)
            cached.revision = await self._records.write(call, data, told, cached.revision)
            metrics.WRITES.labels("written").inc()
            metrics.RECORD_BYTES.observe(len(data))
        for outcome, number in outcomes.items():
            metrics.LINES.labels(outcome).inc(number)
        cached.written_at = asyncio.get_running_loop().time()
        self._remember(call, cached)

    async def _read(self, call: str) -> Cached:
        found = await self._records.read(call)
        revision, data = found if found is not None else (0, None)
        return Cached(Recorder.decode(call, data), revision, 0.0)

    def _remember(self, call: str, cached: Cached) -> None:
        if cached.recorder.ended:
            self._cache.pop(call, None)
            return
        self._cache[call] = cached
        self._cache.move_to_end(call)
        if len(self._cache) > CACHED_MAX:
            self._cache.popitem(last=False)


async def _acknowledge(message: Msg) -> None:
    with contextlib.suppress(nats.errors.Error):
        await message.ack()  # one that is lost makes the line come again, which changes nothing
