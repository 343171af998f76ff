"""The weather tools, from request to answer, over a local Open-Meteo."""

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from services.tools.open_meteo import OpenMeteo
from services.tools.registry import Registry
from services.tools.runner import Runner
from services.tools.weather import Weather
from tests.unit.tools.house import Meteo, place, request

pytestmark = pytest.mark.unit


@pytest.fixture
async def runner(server: Meteo) -> AsyncIterator[Runner]:
    async with aiohttp.ClientSession() as http:
        meteo = OpenMeteo(
            http,
            forecast_url=server.url,
            geocoding_url=server.url,
            units="metric",
            timeout_s=5,
            cache_s=60,
            backoff_s=0,
        )
        yield Runner(Registry(Weather(meteo)))


async def weather(runner: Runner, location: str) -> dict[str, Any]:
    answer = await runner.answer("get_weather", request("get_weather", {"location": location}))
    assert answer.code == "", answer.message
    output = json.loads(answer.data)
    assert isinstance(output, dict)
    return output


async def coords(runner: Runner, **arguments: Any) -> Any:
    name = "get_weather_from_coords"
    return await runner.answer(name, request(name, arguments))


async def test_coordinates_have_a_temperature_that_is_a_number(runner: Runner) -> None:
    answer = await coords(runner, latitude=59.91, longitude=10.75)
    output = json.loads(answer.data)
    assert output["temp"] == 17.4
    assert output["units"]["temp"] == "°C"
    assert output["conditions"] == "light rain"


async def test_coordinates_may_be_written_as_text(runner: Runner, server: Meteo) -> None:
    await coords(runner, latitude="59.91", longitude="-10")
    assert server.asked[0][1]["longitude"] == "-10.00"


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"latitude": 91, "longitude": 0}, "latitude"),
        ({"latitude": 0}, "longitude"),
        ({"latitude": 0, "longitude": 0, "city": "Oslo"}, "city"),
        ({"latitude": "north", "longitude": 0}, "latitude"),
    ],
)
async def test_wrong_coordinates_ask_nobody(
    runner: Runner, server: Meteo, arguments: dict[str, Any], field: str
) -> None:
    answer = await coords(runner, **arguments)
    assert answer.code == "invalid_arguments"
    assert answer.message.startswith(field)
    assert not server.asked


async def test_a_place_has_weather_and_a_name(runner: Runner, server: Meteo) -> None:
    output = await weather(runner, "Oslo")
    assert output["temp"] == 17.4
    assert output["place"] == {"name": "Oslo", "region": "Oslo", "country": "Norway"}
    assert output["other_places"] == []
    assert server.asked[1][1]["latitude"] == "59.91"


async def test_of_several_places_the_best_is_taken_and_others_are_named(
    runner: Runner, server: Meteo
) -> None:
    output = await weather(runner, "Springfield")
    assert output["place"]["region"] == "Missouri"
    assert "Springfield, Illinois, United States" in output["other_places"]
    assert server.asked[1][1]["latitude"] == "37.20"


@pytest.mark.parametrize("location", ["Springfield, Illinois", "Springfield, IL, USA"])
async def test_a_region_chooses(runner: Runner, server: Meteo, location: str) -> None:
    output = await weather(runner, location)
    assert output["place"]["region"] == "Illinois"
    assert server.asked[1][1]["latitude"] == "39.80"


async def test_a_region_without_a_comma_chooses_too(runner: Runner, server: Meteo) -> None:
    assert (await weather(runner, "Springfield Illinois"))["place"]["region"] == "Illinois"
    server.places["New York"] = [place("New York", "United States", "US", "New York")]
    assert (await weather(runner, "New York"))["place"]["name"] == "New York"


@pytest.mark.parametrize("location", ["Atlantis", "Springfield Atlantis", ",,", "日本語の町"])
async def test_an_unknown_place_is_an_answer(runner: Runner, location: str) -> None:
    output = await weather(runner, location)
    assert output["error"] == "not_found"
    assert "nearest bigger town" in output["message"]


async def test_trouble_is_tried_again_and_then_told(runner: Runner, server: Meteo) -> None:
    server.script = [Meteo.status(500)]
    assert (await weather(runner, "Oslo"))["temp"] == 17.4
    server.script = [Meteo.status(502), Meteo.status(502)]
    answer = await coords(runner, latitude=1, longitude=2)
    assert (answer.code, answer.data) == ("unavailable", b"")
