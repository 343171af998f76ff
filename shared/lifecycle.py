"""The life of a service: start, ready, two-step stop, and the page that says how it is.

First SIGTERM or SIGINT: not ready any more, `Lifecycle.stopping` is set, and the service ends its
work within `DRAIN_S`.  Second: exit now with status 1.
"""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Final

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, Gauge, generate_latest

from shared import logs
from shared.bus import Bus, provision
from shared.settings import ServiceSettings

log = logging.getLogger(__name__)

#: How long the start waits for NATS, which is often started at the same moment.
START_TIMEOUT_S: Final = 30.0

#: Why a part cannot do its job just now; None when it can.
Check = Callable[[], str | None]


class Lifecycle:
    """What a running service knows of itself: its checks, and whether it is stopping."""

    def __init__(self, service: str) -> None:
        self.service = service
        #: Set by the first signal.
        self.stopping = asyncio.Event()
        self._checks: dict[str, Check] = {}

    def check(self, name: str, probe: Check) -> None:
        """Register a part for `/readyz`."""
        self._checks[name] = probe

    def failing(self) -> dict[str, str]:
        """The parts that cannot do their job, and why; empty when ready."""
        if self.stopping.is_set():
            return {"service": "stopping"}
        return {name: why for name, probe in self._checks.items() if (why := probe()) is not None}

    def routes(self) -> list[web.RouteDef]:
        """`/healthz` (alive), `/readyz` (able, or 503 with reasons), `/metrics` (Prometheus)."""
        return [
            web.get("/healthz", self._healthz),
            web.get("/readyz", self._readyz),
            web.get("/metrics", self._metrics),
        ]

    async def _healthz(self, _request: web.Request) -> web.Response:
        return web.json_response({"service": self.service, "alive": True})

    async def _readyz(self, _request: web.Request) -> web.Response:
        failing = self.failing()
        body = {"service": self.service, "ready": not failing, "failing": failing}
        return web.json_response(body, status=503 if failing else 200)

    async def _metrics(self, _request: web.Request) -> web.Response:
        return web.Response(
            body=generate_latest(REGISTRY), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )


def worker_id(prefix: str) -> str:
    """A name for this process that is one safe token, unique among its siblings."""
    return f"{prefix}-{os.getpid():x}{os.urandom(3).hex()}"


@contextlib.asynccontextmanager
async def http_server(app: web.Application, host: str, port: int) -> AsyncIterator[int]:
    """Serve `app` until the block ends; yields the port in use."""
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=2.0)
    await runner.setup()
    try:
        listener = socket.create_server((host, port), reuse_port=False, backlog=512)
        listener.setblocking(False)
        await web.SockSite(runner, listener).start()
        yield listener.getsockname()[1]
    finally:
        await runner.cleanup()


def _gauges(bus: Bus) -> None:
    """What shows a leak or a loss, in every service."""
    for name, text, read in (
        ("switchboard_asyncio_tasks", "tasks alive", lambda: len(asyncio.all_tasks())),
        ("switchboard_nats_subscriptions", "live subscriptions", lambda: bus.subscriptions),
        ("switchboard_nats_connected", "1 while NATS answers", lambda: int(bus.connected)),
        ("switchboard_bus_dropped_audio_bytes", "audio not sent", lambda: bus.dropped_audio_bytes),
        ("switchboard_bus_slow_messages", "messages read too late", lambda: bus.slow_messages),
        ("switchboard_story_dropped_lines", "story lines lost", lambda: bus.dropped_story_lines),
    ):
        Gauge(name, text).set_function(read)


async def _connect(settings: ServiceSettings, service: str, name: str, handler: logs.Logs) -> Bus:
    """The bus, waiting up to `START_TIMEOUT_S` for a broker that is still starting."""
    give_up = asyncio.get_running_loop().time() + START_TIMEOUT_S
    while True:
        try:
            bus = await Bus.connect(settings, service, name=name, logs=handler)
            await provision(bus, settings)
        except ConnectionError as error:
            if asyncio.get_running_loop().time() > give_up:
                raise
            log.warning("waiting for NATS", extra={"error": str(error)})
            await asyncio.sleep(0.5)
        else:
            return bus


def run(
    service: str,
    settings: ServiceSettings,
    main: Callable[[Lifecycle, Bus], Awaitable[None]],
    *,
    own_http: bool = False,
) -> None:
    """Run `main(lifecycle, bus)` until it returns; it must return soon after `stopping` is set.

    `own_http`: the service serves the health routes itself (the gateway); otherwise they are
    served at `HEALTH_HOST:HEALTH_PORT`.  Exits 0 after a clean stop, 1 after a crash.
    """
    handler = logs.configure(
        service,
        level=settings.log_level,
        text=settings.log_format == "text",
        show_private=settings.log_private,
    )

    async def body() -> None:
        life = Lifecycle(service)
        with _signals(life):
            try:
                bus = await _connect(settings, service, f"switchboard-{service}", handler)
            except ConnectionError as error:
                log.error("cannot start: %s", error)  # noqa: TRY400 - the message is the remedy
                raise SystemExit(1) from None
            _gauges(bus)
            life.check("nats", lambda: None if bus.connected else "NATS is not connected")
            # What lives from here on is made per call; the rest need not be looked at again.
            gc.collect()
            gc.freeze()
            try:
                if own_http:
                    await main(life, bus)
                else:
                    app = web.Application()
                    app.add_routes(life.routes())
                    async with http_server(app, settings.health_host, settings.health_port) as port:
                        log.info("health page is up", extra={"port": port})
                        await main(life, bus)
            finally:
                log.info("stopped")
                await bus.close()

    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(body())


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if sys.platform == "win32":
        return None
    import uvloop  # not installed on Windows

    return uvloop.new_event_loop


@contextlib.contextmanager
def _signals(life: Lifecycle) -> Iterator[None]:
    """First signal: stop.  Second: exit now."""
    loop = asyncio.get_running_loop()

    def on_signal(name: str) -> None:
        if life.stopping.is_set():
            log.warning("second signal: exiting now", extra={"signal": name})
            os._exit(1)
        log.info("stopping", extra={"signal": name})
        life.stopping.set()

    watched = (signal.SIGTERM, signal.SIGINT)
    for one in watched:
        loop.add_signal_handler(one, on_signal, one.name)
    try:
        yield
    finally:
        for one in watched:
            loop.remove_signal_handler(one)
