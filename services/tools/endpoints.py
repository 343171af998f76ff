"""The tools on the bus: endpoints of a NATS micro service, many requests side by side."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Final

import nats.errors
from nats import micro
from nats.micro.request import Request
from nats.micro.service import Service

from services.tools import metrics
from services.tools.registry import Registry, Tool, ToolError
from services.tools.runner import STOPPING, Answer, Runner
from shared import subjects
from shared.bus import Bus

log = logging.getLogger(__name__)

SERVICE_NAME: Final = "switchboard-tools"
#: Of the contract that its tools keep, by semantic versioning.
SERVICE_VERSION: Final = "1.0.0"
DESCRIPTION: Final = "Weather and prescriptions for the agents of Switchboard"
#: Instances share the requests.
QUEUE_GROUP: Final = "tools"
#: How long a stop waits for NATS to confirm, when NATS itself is in trouble.
LEAVE_TIMEOUT_S: Final = 3.0
#: How long the requests that did not end within DRAIN_S have to say so.
CUT_TIMEOUT_S: Final = 2.0

FAILED: Final = Answer.error(ToolError("failed", "the tool failed; it is not the caller's fault"))


class Endpoints:
    """All tools of this process on the bus.  `start`, later `stop`."""

    def __init__(self, bus: Bus, registry: Registry, runner: Runner, *, running_max: int) -> None:
        self._bus = bus
        self._registry = registry
        self._runner = runner
        self._running_max = running_max
        self._busy = Answer.error(
            ToolError("busy", f"{running_max} requests are being answered already: try again")
        )
        self._service: Service | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._cutting = False

    @property
    def running(self) -> int:
        """Requests that are being answered now."""
        return len(self._tasks)

    async def start(self) -> None:
        """Answer from now on, and tell of the tools on `$SRV.INFO`."""
        self._service = await micro.add_service(
            self._bus.client,
            name=SERVICE_NAME,
            version=SERVICE_VERSION,
            description=DESCRIPTION,
            queue_group=QUEUE_GROUP,
        )
        for tool in self._registry:
            await self._service.add_endpoint(
                name=tool.info.name,
                subject=subjects.tool(tool.info.name),
                metadata=tool.metadata(),
                handler=self._handler(tool),
            )
        await self._bus.flush()

    async def stop(self, drain_s: float) -> None:
        """Take no more requests, let the running ones end within `drain_s`, then cut them off."""
        await self._leave()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=drain_s)
        self._cutting = True
        late = list(self._tasks)
        for task in late:
            task.cancel()
        if late:
            log.warning("requests were cut off", extra={"requests": len(late)})
            await asyncio.wait(late, timeout=CUT_TIMEOUT_S)

    async def _leave(self) -> None:
        """Leave the queue group without losing what the server has sent us already.

        nats-py's `Service.stop` throws that away, so the endpoints are drained before, by hand.
        """
        service, self._service = self._service, None
        if service is None:
            return
        with contextlib.suppress(nats.errors.Error, TimeoutError):
            async with asyncio.timeout(LEAVE_TIMEOUT_S):
                for endpoint in service._endpoints:
                    if endpoint._subscription is not None:
                        await self._bus.drain(endpoint._subscription)
                service._endpoints.clear()
                await service.stop()

    def _handler(self, tool: Tool) -> Callable[[Request], Awaitable[None]]:
        name = tool.info.name

        async def on_request(request: Request) -> None:
            # nats-py waits for this before it hands over the next request: only start the work.
            if len(self._tasks) >= self._running_max:
                metrics.REQUESTS.labels(name, "busy").inc()
                await self._respond(request, self._busy)
                return
            task = asyncio.create_task(self._serve(name, request), name=f"tool {name}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        return on_request

    async def _serve(self, name: str, request: Request) -> None:
        with metrics.RUNNING.track_inprogress():
            try:
                answer = await self._runner.answer(name, request.data)
            except asyncio.CancelledError:
                # By `stop`; or a tool that awaited something that was cancelled.
                answer = STOPPING if self._cutting else FAILED
                metrics.REQUESTS.labels(name, answer.code).inc()
            await self._respond(request, answer)

    async def _respond(self, request: Request, answer: Answer) -> None:
        try:
            if answer.code:
                await request.respond_error(answer.code, answer.message)
            else:
                await request.respond(answer.data)
        except (nats.errors.Error, ValueError) as error:
            # NATS is away for good, or nobody asked for an answer.
            metrics.UNSENT.inc()
            log.warning("an answer could not be sent", extra={"error": type(error).__name__})
