"""`python -m services.tools`: starts, answers, stops."""

import asyncio
import json
from pathlib import Path

import aiohttp
import pytest
from nats.aio.msg import Msg

from shared.bus import Bus
from shared.tools import discover
from tests.broker import Broker
from tests.helpers import eventually
from tests.unit.tools.house import Meteo, ask, error_of
from tests.unit.tools.process import START_TIMEOUT_S, Process, python

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


async def ready(process: Process) -> None:
    def answering() -> bool:
        assert process.returncode is None, process.output
        return process.logged("answering") is not None

    await eventually(answering, timeout_s=START_TIMEOUT_S)


async def health(process: Process, path: str) -> tuple[int, str]:
    line = process.logged("health page is up")
    assert line is not None
    url = f"http://127.0.0.1:{line['port']}{path}"
    async with aiohttp.ClientSession() as http, http.get(url) as response:
        return response.status, await response.text()


async def test_it_starts_answers_and_stops(
    nats_url: str, bus: Bus, server: Meteo, tmp_path: Path
) -> None:
    server.script = [server.hangs]
    variables = {
        "NATS_URL": nats_url,
        "OPEN_METEO_URL": f"{server.url}/",
        "OPEN_METEO_GEOCODING_URL": server.url,
        "WEATHER_UNITS": "imperial",
        "DRAIN_S": "20",
    }
    async with python(tmp_path, "-m", "services.tools", **variables) as process:
        await ready(process)
        assert (await health(process, "/readyz"))[0] == 200
        tools = await discover(bus)
        assert {"get_weather", "get_weather_from_coords", "fetch_prescription_status"} <= set(tools)
        assert all(tools[name].description for name in tools)

        # A slow one first, so that the others have to run beside it, and the stop has to wait.
        slow = asyncio.create_task(ask(bus, "get_weather", {"location": "Oslo"}))
        await eventually(lambda: server.asked)

        where = {"latitude": 59.9, "longitude": 10.8}
        weather = json.loads((await ask(bus, "get_weather_from_coords", where)).data)
        assert weather["temp"] == 17.4
        assert server.asked[-1][1]["temperature_unit"] == "fahrenheit"
        told = await prescription(bus, "Rosie", "1985-03-14")
        assert json.loads(told.data)["prescriptions"][0]["medication"] == "Simparica-Trio"
        assert (tmp_path / ".switchboard" / "prescriptions.db").exists()
        status, page = await health(process, "/metrics")
        assert status == 200
        wanted = 'tools_requests_total{outcome="ok",tool="fetch_prescription_status"} 1.0'
        assert wanted in page

        stopping = asyncio.create_task(process.stop())
        await eventually(lambda: process.logged("stopping"))
        server.never.set()
        # What hung has an empty body: the weather is unavailable, and that was still told.
        assert error_of(await slow)[0] == "unavailable"
        assert await stopping == 0
    log = "\n".join(process.output)
    assert not [word for word in ("Rosie", "1985", "59.9", "Oslo") if word in log]


async def prescription(bus: Bus, name: str, born: str) -> Msg:
    arguments = {"patient_name": name, "date_of_birth": born}
    return await ask(bus, "fetch_prescription_status", arguments)


async def test_without_a_database_the_other_tools_answer(
    nats_url: str, bus: Bus, server: Meteo, tmp_path: Path
) -> None:
    variables = {
        "NATS_URL": nats_url,
        "OPEN_METEO_URL": server.url,
        "DATABASE_URL": "postgres://switchboard:s3cret@127.0.0.1:1/none",
    }
    async with python(tmp_path, "-m", "services.tools", **variables) as process:
        await ready(process)
        assert (await health(process, "/readyz"))[0] == 200
        assert error_of(await prescription(bus, "Rosie", "1985-03-14"))[0] == "unavailable"
        where = {"latitude": 59.9, "longitude": 10.8}
        assert error_of(await ask(bus, "get_weather_from_coords", where))[0] == ""
        assert "switchboard_tools_database_up 0.0" in (await health(process, "/metrics"))[1]
        assert await process.stop() == 0
    assert "s3cret" not in "\n".join(process.output)


async def test_it_is_not_ready_without_nats(own_broker: Broker, tmp_path: Path) -> None:
    async with python(tmp_path, "-m", "services.tools", NATS_URL=own_broker.url) as process:
        await ready(process)
        own_broker.stop()

        async def not_ready() -> bool:
            status, page = await health(process, "/readyz")
            return status == 503 and "nats" in json.loads(page)["failing"]

        await eventually(not_ready)
        own_broker.start()

        async def is_ready() -> bool:
            return (await health(process, "/readyz"))[0] == 200

        await eventually(is_ready, timeout_s=20)
        assert await process.stop() == 0


async def test_wrong_settings_are_all_named(tmp_path: Path) -> None:
    variables = {"WEATHER_UNITS": "kelvin", "DATABASE_URL": "mysql://u:s3cret@h/d"}
    async with python(tmp_path, "-m", "services.tools", **variables) as process:
        await eventually(lambda: process.returncode is not None, timeout_s=START_TIMEOUT_S)
        assert await process.stop() == 2
    text = "\n".join(process.output)
    assert "WEATHER_UNITS" in text
    assert "imperial" in text
    assert "DATABASE_URL" in text
    assert "s3cret" not in text
