"""Builds the tools service: the one place where its parts meet."""

import logging

import aiohttp

from services.tools.database import Database
from services.tools.endpoints import Endpoints
from services.tools.open_meteo import OpenMeteo
from services.tools.prescriptions import Prescriptions
from services.tools.registry import Registry
from services.tools.runner import Runner
from services.tools.seed import samples
from services.tools.settings import ToolsSettings
from services.tools.weather import Weather
from shared import lifecycle
from shared.bus import Bus
from shared.lifecycle import Lifecycle
from shared.settings import load

log = logging.getLogger(__name__)


def run() -> None:
    """Until SIGTERM."""
    settings = load(ToolsSettings)

    async def main(life: Lifecycle, bus: Bus) -> None:
        await serve(life, bus, settings)

    lifecycle.run("tools", settings, main)


async def serve(life: Lifecycle, bus: Bus, settings: ToolsSettings) -> None:
    """Answer `tool.<name>` until `life.stopping`, then end what runs within `DRAIN_S`."""
    database = Database(
        settings.database_url, seed=samples() if settings.seed_prescriptions else ()
    )
    # trust_env: a proxy that the machine needs to reach the world.
    async with aiohttp.ClientSession(trust_env=True) as http:
        registry = build_registry(settings, http, database)
        endpoints = Endpoints(
            bus, registry, Runner(registry), running_max=settings.tools_max_running
        )
        try:
            # The other tools are useful without a database, so it may be away now.
            await database.prepare()
            await endpoints.start()
            log.info("answering", extra={"tools": [each.info.name for each in registry]})
            await life.stopping.wait()
        finally:
            await endpoints.stop(settings.drain_s)
            await database.close()


def build_registry(
    settings: ToolsSettings, http: aiohttp.ClientSession, database: Database
) -> Registry:
    """All tools of this service.  A new one is added here."""
    key = settings.open_meteo_api_key
    meteo = OpenMeteo(
        http,
        forecast_url=settings.open_meteo_url,
        geocoding_url=settings.open_meteo_geocoding_url,
        units=settings.weather_units,
        timeout_s=settings.weather_timeout_s,
        cache_s=settings.weather_cache_s,
        api_key=key.get_secret_value() if key is not None else "",
    )
    return Registry(
        Weather(meteo),
        Prescriptions(
            database,
            tries=settings.verification_tries,
            verify_by_number=settings.verify_by_number,
        ),
    )
