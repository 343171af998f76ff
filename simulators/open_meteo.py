"""A stand-in for Open-Meteo: forecast and geocoding of a few towns, as slow as you like.

    python -m simulators.open_meteo --port 8123 --delay-ms 3000

It speaks the real service's JSON (https://open-meteo.com/en/docs), with weather made up from the
place, so that the same question gets the same answer.

"""

import argparse
import asyncio
import hashlib
import signal
import sys
from typing import Any

from aiohttp import web

__all__ = ["OpenMeteo", "main"]

_TOWNS = {
    "lisbon": ("Lisbon", 38.71667, -9.13333, "Portugal", "PT", "Lisbon", "Europe/Lisbon"),
    "oslo": ("Oslo", 59.91273, 10.74609, "Norway", "NO", "Oslo", "Europe/Oslo"),
    "berlin": ("Berlin", 52.52437, 13.41053, "Germany", "DE", "Berlin", "Europe/Berlin"),
    "madrid": ("Madrid", 40.4165, -3.70256, "Spain", "ES", "Madrid", "Europe/Madrid"),
    "new york": (
        "New York",
        40.71427,
        -74.00597,
        "United States",
        "US",
        "New York",
        "America/New_York",
    ),
}

_CODES = (0, 1, 2, 3, 61)
"""WMO weather codes: clear, mainly clear, partly cloudy, overcast, slight rain."""


class OpenMeteo:
    """The stand-in; `forecast_url` and `geocoding_url` are what the tools service is given."""

    def __init__(self, *, port: int = 0, delay_ms: int = 0) -> None:
        self.delay_ms = delay_ms
        self.requests: list[str] = []
        """Paths and queries asked for, oldest first; the newest thousand."""
        self._port = port
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """Base of both services."""
        return f"http://127.0.0.1:{self._port}"

    async def __aenter__(self) -> "OpenMeteo":
        app = web.Application()
        app.add_routes(
            [web.get("/v1/forecast", self._forecast), web.get("/v1/search", self._search)]
        )
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port)
        await site.start()
        self._port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None, "entered before"
        await self._runner.cleanup()

    async def _wait(self, request: web.Request) -> None:
        self.requests = [*self.requests[-999:], request.path_qs]
        await asyncio.sleep(self.delay_ms / 1000)

    async def _forecast(self, request: web.Request) -> web.Response:
        await self._wait(request)
        try:
            latitude = float(request.query["latitude"])
            longitude = float(request.query["longitude"])
        except (KeyError, ValueError):
            reason = "Parameter 'latitude' and 'longitude' must have the same number of elements"
            return web.json_response({"error": True, "reason": reason}, status=400)
        fahrenheit = request.query.get("temperature_unit") == "fahrenheit"
        mph = request.query.get("wind_speed_unit") == "mph"
        return web.json_response(
            {
                "latitude": round(latitude, 2),
                "longitude": round(longitude, 2),
                "generationtime_ms": 0.05,
                "utc_offset_seconds": 0,
                "timezone": "GMT",
                "timezone_abbreviation": "GMT",
                "elevation": 10.0,
                "current_units": {
                    "time": "iso8601",
                    "interval": "seconds",
                    "temperature_2m": "°F" if fahrenheit else "°C",
                    "apparent_temperature": "°F" if fahrenheit else "°C",
                    "relative_humidity_2m": "%",
                    "weather_code": "wmo code",
                    "wind_speed_10m": "mp/h" if mph else "km/h",
                    "wind_direction_10m": "°",
                    "precipitation": "mm",
                    "is_day": "",
                },
                "current": _weather(latitude, longitude, fahrenheit=fahrenheit, mph=mph),
            }
        )

    async def _search(self, request: web.Request) -> web.Response:
        await self._wait(request)
        found = _TOWNS.get(request.query.get("name", "").strip().lower())
        body: dict[str, Any] = {"generationtime_ms": 0.5}
        if found is not None:
            name, latitude, longitude, country, code, region, timezone = found
            body["results"] = [
                {
                    "id": 1,
                    "name": name,
                    "latitude": latitude,
                    "longitude": longitude,
                    "elevation": 10.0,
                    "feature_code": "PPLC",
                    "country_code": code,
                    "country": country,
                    "admin1": region,
                    "timezone": timezone,
                    "population": 500_000,
                }
            ]
        return web.json_response(body)


def _weather(latitude: float, longitude: float, *, fahrenheit: bool, mph: bool) -> dict[str, Any]:
    seed = hashlib.sha256(f"{latitude:.1f} {longitude:.1f}".encode()).digest()
    celsius = 8 + seed[0] % 18
    kmh = 3 + seed[1] % 25
    return {
        "time": "2026-11-22T10:00",
        "interval": 900,
        "temperature_2m": round(celsius * 1.8 + 32, 1) if fahrenheit else float(celsius),
        "apparent_temperature": round(celsius * 1.8 + 30, 1) if fahrenheit else celsius - 1.1,
        "relative_humidity_2m": 40 + seed[2] % 50,
        "weather_code": _CODES[seed[3] % len(_CODES)],
        "wind_speed_10m": round(kmh * 0.621, 1) if mph else float(kmh),
        "wind_direction_10m": seed[4] * 360 // 256,
        "precipitation": 0.0,
        "is_day": 1,
    }


async def _run(port: int, delay_ms: int) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with OpenMeteo(port=port, delay_ms=delay_ms) as meteo:
        sys.stdout.write(f"{meteo.url}\n")
        sys.stdout.flush()
        await stopped.wait()


def main(argv: list[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(
        prog="python -m simulators.open_meteo",
        description="Play Open-Meteo on this machine: "
        + ", ".join(town[0] for town in _TOWNS.values()),
    )
    parser.add_argument("--port", type=int, default=0, help="port; 0 takes a free one")
    parser.add_argument("--delay-ms", type=int, default=0, help="how slow each answer is")
    options = parser.parse_args(argv)
    asyncio.run(_run(options.port, options.delay_ms))
    return 0


if __name__ == "__main__":
    sys.exit(main())
