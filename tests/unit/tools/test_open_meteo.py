"""The client of Open-Meteo, against a local server that speaks its JSON."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from services.tools.open_meteo import ANSWER_MAX_BYTES, OpenMeteo
from services.tools.registry import ToolError
from tests.unit.tools.house import Meteo, meteo_server

pytestmark = pytest.mark.unit


@contextlib.asynccontextmanager
async def client(url: str, **options: Any) -> AsyncIterator[OpenMeteo]:
    settings: dict[str, Any] = {
        "forecast_url": url,
        "geocoding_url": url,
        "units": "metric",
        "timeout_s": 5,
        "cache_s": 60,
        "backoff_s": 0,
        **options,
    }
    async with aiohttp.ClientSession() as http:
        yield OpenMeteo(http, **settings)


async def unavailable(meteo: OpenMeteo) -> None:
    with pytest.raises(ToolError) as caught:
        await meteo.forecast(59.91, 10.75)
    assert caught.value.code == "unavailable"
    assert "weather service" in caught.value.message


async def test_it_asks_as_documented(server: Meteo) -> None:
    async with client(server.url) as meteo:
        assert (await meteo.forecast(59.9127, 10.7461)).current.temperature_2m == 17.4
        assert (await meteo.places("Oslo"))[0].country == "Norway"
        assert await meteo.places("Nowhere") == []
    (path, query), (search_path, search), _ = server.asked
    assert (path, search_path) == ("/v1/forecast", "/v1/search")
    assert (query["latitude"], query["longitude"]) == ("59.91", "10.75")
    assert search == {"name": "Oslo", "count": "10", "language": "en", "format": "json"}


async def test_imperial_units_are_asked_for(server: Meteo) -> None:
    async with client(server.url, units="imperial") as meteo:
        await meteo.forecast(1, 2)
    assert server.asked[0][1]["temperature_unit"] == "fahrenheit"
    assert server.asked[0][1]["wind_speed_unit"] == "mph"


async def test_a_customer_shows_a_key(server: Meteo) -> None:
    async with client(server.url, api_key="k3y") as meteo:
        await meteo.forecast(1, 2)
        await meteo.places("Oslo")
    assert [query["apikey"] for _, query in server.asked] == ["k3y", "k3y"]


async def test_an_answer_is_reused_for_a_while_and_for_neighbours(server: Meteo) -> None:
    now = 0.0
    async with client(server.url, cache_s=60, clock=lambda: now) as meteo:
        await meteo.forecast(59.912, 10.751)
        now = 59
        await meteo.forecast(59.911, 10.749)
        assert len(server.asked) == 1
        await meteo.forecast(60, 10.75)
        assert len(server.asked) == 2
        now = 61
        await meteo.forecast(59.912, 10.751)
        assert len(server.asked) == 3


async def test_without_a_cache_every_question_is_asked(server: Meteo) -> None:
    async with client(server.url, cache_s=0) as meteo:
        for _ in range(2):
            await meteo.forecast(1, 2)
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    "trouble", [Meteo.status(500), Meteo.status(503), Meteo.breaks], ids=["500", "503", "cut"]
)
async def test_one_trouble_is_tried_again(server: Meteo, trouble: Any) -> None:
    server.script = [trouble]
    async with client(server.url) as meteo:
        assert (await meteo.forecast(59.91, 10.75)).current.temperature_2m == 17.4
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    ("trouble", "times"),
    # aiohttp itself asks once more when a server closes a connection without a word.
    [(Meteo.status(500), 2), (Meteo.breaks, 4)],
    ids=["500", "cut"],
)
async def test_trouble_again_is_an_answer(server: Meteo, trouble: Any, times: int) -> None:
    server.script = [trouble] * times
    async with client(server.url) as meteo:
        await unavailable(meteo)
        assert len(server.asked) == times
        # Nothing of the trouble is remembered.
        await meteo.forecast(59.91, 10.75)


@pytest.mark.parametrize("code", [400, 404, 429])
async def test_a_refusal_is_not_tried_again(server: Meteo, code: int) -> None:
    server.script = [Meteo.status(code)]
    async with client(server.url) as meteo:
        await unavailable(meteo)
    assert len(server.asked) == 1


async def test_a_server_that_hangs_has_only_its_time(server: Meteo) -> None:
    server.script = [server.hangs]
    async with client(server.url, timeout_s=0.05) as meteo:
        await unavailable(meteo)
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<html>",
        "[]",
        "{}",
        '{"current": {}}',
        '{"current": {"temperature_2m": null}}',
        '{"current": {"temperature_2m": 1',
        '{"current": {"temperature_2m": NaN}}',
        " " * (ANSWER_MAX_BYTES + 1) + '{"current": {"temperature_2m": 1}}',
    ],
    ids=range(9),
)
async def test_garbage_is_an_answer_and_is_not_remembered(server: Meteo, text: str) -> None:
    server.script = [Meteo.body(text)]
    async with client(server.url) as meteo:
        await unavailable(meteo)
        assert (await meteo.forecast(59.91, 10.75)).current.temperature_2m == 17.4


async def test_nobody_there_is_an_answer_and_the_log_does_not_say_where_the_caller_is(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with meteo_server() as gone:
        url = gone.url
    async with client(url) as meteo:
        await unavailable(meteo)
    lines = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert lines
    assert all("59.91" not in str(vars(record)) for record in lines)


async def test_questions_run_side_by_side(server: Meteo) -> None:
    server.script = [server.hangs]
    async with client(server.url) as meteo:
        slow = asyncio.create_task(meteo.forecast(1, 2))
        while not server.asked:  # noqa: ASYNC110 - the server's own list tells
            await asyncio.sleep(0)
        await meteo.forecast(3, 4)
        assert not slow.done()
        slow.cancel()
        await asyncio.gather(slow, return_exceptions=True)
