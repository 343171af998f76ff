"""One session worker: takes offers while it has room, runs calls, beats, and stops in two steps.

A worker that is full or stopping has *left* the queue group, so that a gateway whose offer finds
nobody knows at once that there is no capacity.
"""

import asyncio
import datetime
import logging
from collections.abc import Callable, Mapping
from typing import Final

import nats.errors
import nats.js.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from pydantic import ValidationError

from services.session import metrics
from services.session.agents import Agents
from services.session.claims import Claims
from services.session.driver import CallDriver, DialModel
from services.session.events import WorkerStopping
from services.session.machine import Call
from services.session.pricing import Prices
from shared import subjects
from shared.bus import Bus
from shared.messages import Beat, CallRecord, Offer, OfferRefused, OfferTaken, ToolInfo

log = logging.getLogger(__name__)

#: Half a second: three missed beats are noticed within the 3 s a caller may wait for a take-over.
BEAT_EVERY_S: Final = 0.5
#: Between leaving the queue group and the last offer that was already on its way.
STOP_GRACE_S: Final = 5.0


class Worker:
    """Owns the calls of one process."""

    def __init__(
        self,
        name: str,
        bus: Bus,
        *,
        agents: Agents,
        claims: Claims,
        prices: Prices,
        dial: DialModel,
        max_calls: int,
        tools: Callable[[], Mapping[str, ToolInfo]] = dict,
    ) -> None:
        """`tools` tells what is on the bus now; a call keeps what it was told at its start."""
        self._tools = tools
        self.name = name
        self.max_calls = max_calls
        self._bus = bus
        self._agents = agents
        self._claims = claims
        self._prices = prices
        self._dial = dial
        self._calls: dict[str, asyncio.Task[None]] = {}
        self._drivers: dict[str, CallDriver] = {}
        self._group: Subscription | None = None
        self._stopping = False
        self._gate = asyncio.Lock()
        #: One offer at a time, also while one subscription drains and the next one has begun.
        self._taking = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []
        self._leaving: set[asyncio.Task[None]] = set()
        metrics.MAX.set(max_calls)

    @property
    def active(self) -> int:
        """Calls owned now."""
        return len(self._calls)

    async def start(self) -> None:
        """Join the queue group and begin to beat."""
        await self._join_or_leave()
        self._tasks.append(asyncio.create_task(self._beat(), name="beat"))

    async def stop(self, drain_s: float) -> None:
        """Take no more calls, wait up to `drain_s` for live ones, end the rest politely."""
        self._stopping = True
        await self._join_or_leave()
        if self._leaving:  # who asked just before is told that there is no room here
            await asyncio.wait(self._leaving, timeout=STOP_GRACE_S)
        if self._calls:
            log.info("waiting for live calls", extra={"active": self.active, "drain_s": drain_s})
            await asyncio.wait(self._calls.values(), timeout=drain_s)
        for driver in list(self._drivers.values()):
            driver.feed(WorkerStopping())
        if self._calls:
            await asyncio.wait(self._calls.values(), timeout=STOP_GRACE_S)
        rest = (*self._calls.values(), *self._tasks, *self._leaving)
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    # --- capacity ---------------------------------------------------------------------------

    async def _join_or_leave(self) -> None:
        """Be in the queue group exactly while there is room."""
        async with self._gate:
            room = not self._stopping and self.active < self.max_calls
            if room and self._group is None:
                self._group = await self._bus.subscribe(
                    subjects.OFFER, self._on_offer, queue=subjects.WORKERS
                )
            elif not room and self._group is not None:
                group, self._group = self._group, None
                # In a task: draining waits for the very offer that may have brought us here, and
                # answers those that were already on their way.
                leaving = asyncio.create_task(self._bus.drain(group), name="leave")
                self._leaving.add(leaving)
                leaving.add_done_callback(self._leaving.discard)

    async def _beat(self) -> None:
        while True:
            beat = Beat(
                worker=self.name,
                active=self.active,
                max=self.max_calls,
                draining=self._stopping,
            )
            self._bus.send_control(subjects.beat(self.name), beat)
            await asyncio.sleep(BEAT_EVERY_S)

    # --- offers -----------------------------------------------------------------------------

    async def _on_offer(self, message: Msg) -> None:
        try:
            offer = Offer.decode(message.data)
        except ValidationError:
            metrics.MALFORMED_MESSAGES.inc()
            await message.respond(OfferRefused(code="invalid").encode())
            return
        try:
            async with self._taking:
                answer = await self._take(offer)
        except (nats.errors.Error, nats.js.errors.Error, TimeoutError) as error:
            log.exception("an offer could not be claimed", extra={"call": offer.call})
            answer = OfferRefused(code="failed", message=type(error).__name__)
        if isinstance(answer, OfferRefused):
            metrics.REFUSED.labels(answer.code).inc()
        await message.respond(answer.encode())

    async def _take(self, offer: Offer) -> OfferTaken | OfferRefused:
        known = await self._claims.read(offer.call) if offer.call not in self._calls else None
        if offer.call in self._calls:
            known = self._drivers[offer.call].call.record
        if known is not None and not self._is_unlived(known):
            return self._already(known)
        # An offer that was on its way while the last place was taken.
        if self._stopping or self.active >= self.max_calls:
            code = "draining" if self._stopping else "full"
            return OfferRefused.model_validate(
                {"code": code, "message": f"{self.active} of {self.max_calls} places are taken"}
            )
        now = asyncio.get_running_loop().time()
        clock = datetime.datetime.now(datetime.UTC)
        record = CallRecord(
            call=offer.call,
            worker=self.name,
            audio=offer.audio,
            caller=offer.caller,
            dialled=offer.dialled,
            direction=offer.direction,
            agent=self._agents.choose(offer.dialled),
            offered_at=clock,
        )
        other = await self._claims.create(record)
        if other is not None:
            return self._already(other)
        call = Call(record, self._prices, now, clock=clock, tools=self._tools())
        driver = CallDriver(call, self._bus, dial=self._dial, save=self._claims.save)
        self._drivers[offer.call] = driver
        self._calls[offer.call] = asyncio.create_task(self._live(driver), name="call")
        metrics.ACTIVE.set(self.active)
        if self.active >= self.max_calls:
            await self._join_or_leave()
        await driver.listening.wait()
        return _taken(record)

    def _is_unlived(self, record: CallRecord) -> bool:
        """A claim of ours whose acknowledgement was lost: nobody lives this call yet."""
        mine = record.worker == self.name and record.call not in self._calls
        return mine and record.state == "offered"

    def _already(self, record: CallRecord) -> OfferTaken | OfferRefused:
        """A webhook that came twice changes nothing."""
        if record.state == "ended":
            return OfferRefused(code="ended", message=record.reason or "the call is over")
        return _taken(record)

    async def _live(self, driver: CallDriver) -> None:
        """The top frame of a call: what breaks in it breaks nothing else."""
        call = driver.id
        log.info("call taken", extra={"call": call, "agent": driver.call.record.agent.id})
        try:
            await driver.run()
        except Exception:
            log.exception("a call failed", extra={"call": call})
            await driver.abandon()
        finally:
            self._calls.pop(call, None)
            self._drivers.pop(call, None)
            self._claims.forget(call)
            metrics.ACTIVE.set(self.active)
            log.info("call over", extra={"call": call, "reason": driver.call.record.reason})
            if not self._stopping:
                await self._join_or_leave()


def _taken(record: CallRecord) -> OfferTaken:
    return OfferTaken(
        call=record.call, worker=record.worker, epoch=record.epoch, agent=record.agent.id
    )
