"""Builds the logs service: the one place where its parts meet."""

import asyncio
import contextlib
import logging
from typing import Any, Final

from services.logs.answers import Answers
from services.logs.keeper import Keeper
from services.logs.records import FAULTS, Records
from services.logs.settings import LogsSettings
from shared import lifecycle
from shared.bus import Bus
from shared.lifecycle import Lifecycle
from shared.settings import load

log = logging.getLogger(__name__)

#: How often the consumer and the bucket are looked after.
LOOK_S: Final = 5.0


def run() -> None:
    """Until SIGTERM."""
    settings = load(LogsSettings)

    async def main(life: Lifecycle, bus: Bus) -> None:
        await serve(life, bus, settings)

    lifecycle.run("logs", settings, main)


async def serve(life: Lifecycle, bus: Bus, settings: LogsSettings) -> None:
    """Keep and answer until `life.stopping`."""
    records = Records(bus, settings)
    keeper = Keeper(bus, records, settings)
    answers = Answers(bus, records)
    life.check("records", lambda: None if answers.ready.is_set() else "the list is being read")
    looking = asyncio.create_task(_look(keeper, answers), name="look")
    try:
        await _provision(keeper)
        await answers.start()
        await keeper.start()
        log.info("keeping records", extra={"records": len(answers.index)})
        await _until(life, [looking, answers.watching])
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
        await keeper.stop()
        await answers.stop()


async def _provision(keeper: Keeper) -> None:
    """Raises `ConnectionError` with the remedy."""
    try:
        await keeper.provision()
    except FAULTS as error:
        raise ConnectionError(
            f"no room for records ({error!r}): give JetStream more disk, or lower RECORDS_MAX_BYTES"
        ) from error


async def _look(keeper: Keeper, answers: Answers) -> None:
    while True:
        await asyncio.sleep(LOOK_S)
        with contextlib.suppress(*FAULTS):  # the broker is away: the next time
            await keeper.look()
            await answers.look()


async def _until(life: Lifecycle, tasks: list[asyncio.Task[None] | None]) -> None:
    """Wait for the end.  A part that fails takes the service with it: it is started anew then."""
    stopping = asyncio.create_task(life.stopping.wait(), name="stopping")
    watched: list[asyncio.Task[Any]] = [stopping, *(task for task in tasks if task is not None)]
    done, _ = await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    for task in done:
        task.result()
