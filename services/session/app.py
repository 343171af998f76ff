"""The one place that builds the session service."""

import logging
from collections.abc import Callable

from services.session import pricing, realtime
from services.session.agents import Agents
from services.session.claims import Claims
from services.session.events import ModelEvent
from services.session.model_socket import ModelSocket
from services.session.settings import SessionSettings
from services.session.worker import Worker
from shared import lifecycle, subjects
from shared.bus import Bus, bucket
from shared.settings import load
from shared.tools import Directory

log = logging.getLogger(__name__)


async def serve(settings: SessionSettings, life: lifecycle.Lifecycle, bus: Bus) -> None:
    """Run one worker until the service is told to stop."""
    key = settings.openai_api_key
    assert key is not None, "checked when the settings were read"
    base = settings.openai_realtime_url

    def dial(model: str, on_event: Callable[[ModelEvent], None]) -> ModelSocket:
        return ModelSocket(realtime.url_for(base, model), key.get_secret_value(), on_event)

    agents = Agents(await bucket(bus, subjects.AGENTS_BUCKET))
    await agents.start()
    directory = Directory(bus)
    await directory.start()
    worker = Worker(
        lifecycle.worker_id("w"),
        bus,
        agents=agents,
        claims=Claims(await bucket(bus, subjects.CALLS_BUCKET)),
        prices=pricing.load(settings.prices_file),
        dial=dial,
        max_calls=settings.max_calls,
        tools=lambda: directory.tools,
    )
    life.check(
        "capacity",
        lambda: None if worker.active < worker.max_calls else "all places are taken",
    )
    await worker.start()
    log.info("taking calls", extra={"worker": worker.name, "max_calls": settings.max_calls})
    await life.stopping.wait()
    await worker.stop(settings.drain_s)
    await directory.stop()
    await agents.stop()


def main() -> None:
    """Read the settings and run."""
    settings = load(SessionSettings)
    lifecycle.run("session", settings, lambda life, bus: serve(settings, life, bus))
