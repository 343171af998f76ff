"""The one place that builds the hold-music service."""

import logging

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
        await life.stopping.wait()
    finally:
        await stage.stop()
        await library.stop()


def main() -> None:
    """Read the settings and run."""
    settings = load(HoldMusicSettings)
    lifecycle.run("holdmusic", settings, lambda life, bus: serve(settings, life, bus))
