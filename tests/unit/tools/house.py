"""What several tests of the tools service need: requests, and an Open-Meteo that obeys."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from aiohttp import web
from nats.aio.msg import Msg

from services.tools.registry import Context
from shared import subjects
from shared.bus import Bus
from shared.lifecycle import http_server

CALL = "CA0123456789abcdef0123456789abcdef"
CONTEXT = Context(call=CALL, call_id="call_1")

OSLO: dict[str, Any] = {
    "latitude": 59.9375,
    "longitude": 10.75,
    "generationtime_ms": 0.05,
    "utc_offset_seconds": 7200,
    "timezone": "Europe/Oslo",
    "timezone_abbreviation": "GMT+2",
    "elevation": 25.0,
    "current_units": {
        "time": "iso8601",
        "interval": "seconds",
        "temperature_2m": "°C",
        "apparent_temperature": "°C",
        "relative_humidity_2m": "%",
        "weather_code": "wmo code",
        "wind_speed_10m": "km/h",
        "wind_direction_10m": "°",
        "precipitation": "mm",
        "is_day": "",
    },
    "current": {
        "time": "2026-06-01T14:15",
        "interval": 900,
        "temperature_2m": 17.4,
        "apparent_temperature": 15.9,
        "relative_humidity_2m": 62,
        "weather_code": 61,
        "wind_speed_10m": 14.0,
        "wind_direction_10m": 222,
        "precipitation": 0.4,
        "is_day": 1,
    },
}


def place(name: str, country: str, code: str, region: str, **more: Any) -> dict[str, Any]:
    """A match as the geocoding writes it."""
    return {
        "id": 1,
        "name": name,
        "latitude": 1.0,
        "longitude": 2.0,
        "country": country,
        "country_code": code,
        "admin1": region,
        "timezone": "UTC",
        **more,
    }


SPRINGFIELDS = [
    place("Springfield", "United States", "US", "Missouri", latitude=37.2, population=170_000),
    place("Springfield", "United States", "US", "Massachusetts", latitude=42.1),
    place("Springfield", "United States", "US", "Illinois", latitude=39.8),
    place("Springfield", "New Zealand", "NZ", "Canterbury", latitude=-43.3),
]


class Meteo:
    """Speaks Open-Meteo's JSON; `script` holds what to do first instead, one for each request."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.places: dict[str, list[dict[str, Any]]] = {
            "Oslo": [place("Oslo", "Norway", "NO", "Oslo", latitude=59.91, longitude=10.75)],
            "Springfield": SPRINGFIELDS,
        }
        self.weather: dict[str, Any] = OSLO
        self.script: list[Callable[[web.Request], Any]] = []
        self.never = asyncio.Event()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append((request.path, dict(request.query)))
        if self.script:
            answer = self.script.pop(0)(request)
            if asyncio.iscoroutine(answer):
                answer = await answer
            assert isinstance(answer, web.StreamResponse)
            return answer
        if request.path == "/v1/forecast":
            return web.json_response(self.weather)
        found = self.places.get(request.query["name"])
        body: dict[str, Any] = {"generationtime_ms": 0.4}
        return web.json_response({"results": found, **body} if found else body)

    # --- what can be put into the script ---

    @staticmethod
    def status(code: int) -> Callable[[web.Request], web.Response]:
        body = {"error": True, "reason": "as the test wants"}
        return lambda _request: web.json_response(body, status=code)

    @staticmethod
    def body(text: str) -> Callable[[web.Request], web.Response]:
        return lambda _request: web.Response(text=text, content_type="application/json")

    @staticmethod
    def breaks(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    async def hangs(self, _request: web.Request) -> web.Response:
        await self.never.wait()
        return web.Response()


@contextlib.asynccontextmanager
async def meteo_server() -> AsyncIterator[Meteo]:
    """A local Open-Meteo: weather and geocoding at one URL."""
    meteo = Meteo()
    app = web.Application()
    app.add_routes([web.get("/v1/{what}", meteo._answer)])
    async with http_server(app, "127.0.0.1", 0) as port:
        meteo.url = f"http://127.0.0.1:{port}"
        try:
            yield meteo
        finally:
            meteo.never.set()


def request(name: str, arguments: Any, **fields: Any) -> bytes:
    """A tool request's bytes, not by our own model."""
    message = {
        "call": CALL,
        "call_id": "call_1",
        "name": name,
        "arguments": arguments,
        "context": {"caller": "+15550001111"},
        "deadline_ms": 8000,
        **fields,
    }
    return json.dumps(message).encode()


async def ask(bus: Bus, name: str, arguments: dict[str, Any], **fields: Any) -> Msg:
    """Ask a tool on the bus, as any client of NATS would."""
    data = request(name, arguments, **fields)
    return await bus.client.request(subjects.tool(name), data, timeout=10)


def error_of(answer: Msg) -> tuple[str, str]:
    """Code and sentence of an error; two empty strings for an output."""
    headers = answer.headers or {}
    return headers.get("Nats-Service-Error-Code", ""), headers.get("Nats-Service-Error", "")
