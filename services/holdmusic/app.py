"""The one place that builds the hold-music service."""

import asyncio
import logging
from typing import Any

from services.holdmusic.library import Library
from services.holdmusic.settings import HoldMusicSettings
from services.holdmusic.stage import Stage
from shared import lifecycle
from shared.bus import Bus
from shared.settings import load

log = logging.getLogger(__name__)


async def serve(settings: HoldMusicSettings, life: lifecycle.Lifecycle, bus: Bus) -> None:
    """Play until the service is told to stop."""
    library = Library(settings)
    stage = Stage(lifecycle.worker_id("hm"), bus, library, max_holds=settings.max_holds)
    ready = False
    life.check("library", lambda: None if ready else "the tracks are being looked at")
    try:
        await library.start()
        await stage.start()
        ready = True
        log.info(
            "ready to play",
            extra={
                "instance": stage.name,
                "stores": len(library.stores),
                "default_track": library.default,
                "max_holds": settings.max_holds,
            },
        )
        await _until(life, [stage.ticker, library.tending])
    finally:
        await stage.stop()
        await library.stop()


async def _until(life: lifecycle.Lifecycle, tasks: list[asyncio.Task[None] | None]) -> None:
    """Wait for the end.  A part that fails takes the service with it: it is started anew then."""
    stopping = asyncio.create_task(life.stopping.wait(), name="stopping")
    watched: list[asyncio.Task[Any]] = [stopping, *(task for task in tasks if task is not None)]
    done, _ = await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    for task in done:
        task.result()


def main() -> None:
    """Read the settings and run."""
    settings = load(HoldMusicSettings)
    lifecycle.run("holdmusic", settings, lambda life, bus: serve(settings, life, bus))
