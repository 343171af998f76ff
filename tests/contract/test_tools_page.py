"""docs/tools.md says what the code does, and its examples run as they are printed."""

import asyncio
import json
import pathlib
import re
import types
from typing import Any, get_args

import pytest

from services.tools import registry
from services.tools.prescriptions import LOCKED, NEEDED, NOT_VERIFIED, SEVERAL, Verified
from services.tools.registry import Registry
from services.tools.runner import Runner
from services.tools.seed import samples
from services.tools.settings import ToolsSettings
from shared.bus import Bus
from shared.messages import ToolInfo, ToolRequest
from shared.tools import discover
from tests.helpers import eventually
from tests.unit.tools.house import error_of
from tests.unit.tools.process import START_TIMEOUT_S, python

ROOT = pathlib.Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs/tools.md").read_text()
EXAMPLE = ROOT / "examples/opening_hours_tool.py"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)


def first_column(heading: str) -> list[str]:
    """The first cells of the table under a header row that starts with `heading`."""
    table = PAGE.split(f"\n| {heading} |", 1)[1].split("\n\n", 1)[0]
    return [row.split("|")[1].strip().strip("`") for row in table.splitlines()[2:]]


@pytest.mark.contract
def test_the_script_is_printed_as_it_is() -> None:
    assert EXAMPLE.read_text() in blocks("python")


@pytest.mark.contract
def test_the_request_is_one() -> None:
    (example,) = blocks("json")
    request = ToolRequest.decode(example.encode())
    assert set(json.loads(example)) == set(ToolRequest.model_fields)
    assert request.arguments == {"location": "Oslo"}
    (shell,) = blocks("sh")
    for text in re.findall(r"nats req tool\.\S+ '(.*)'", shell):
        ToolRequest.decode(text.encode())


@pytest.mark.contract
def test_the_tables_are_complete() -> None:
    assert set(first_column("code")) == set(get_args(registry.Code))
    assert set(first_column("key")) == set(ToolInfo.model_fields) - {"name"}
    told = {one.status for one in (NEEDED, NOT_VERIFIED, SEVERAL, LOCKED)}
    assert set(first_column("`status`")) == told | {Verified(prescriptions=[]).status}


@pytest.mark.contract
def test_every_setting_that_is_named_exists() -> None:
    known = {name.upper() for name in ToolsSettings.model_fields}
    named = set(re.findall(r"`([A-Z]+_[A-Z_]+)(?:=\w+)?`", PAGE))
    assert named <= known
    assert {"DATABASE_URL", "SEED_PRESCRIPTIONS", "VERIFICATION_TRIES"} <= named


@pytest.mark.contract
def test_the_samples_to_try_are_in_the_seed() -> None:
    seeded = {vars(row).get("name") for row in samples()}
    assert {cell.split(",")[0] for cell in first_column("patient")} <= seeded
    for value in ("1985-03-14", "+12025550143", "1972-11-02", "+12025550178", "1990-07-29"):
        assert any(value in map(str, vars(row).values()) for row in samples()), value


@pytest.mark.contract
async def test_the_function_is_a_tool_as_printed() -> None:
    (source,) = (block for block in blocks("python") if "services.tools" in block)
    module = types.ModuleType("opening_hours")
    exec(compile(source, "docs/tools.md", "exec"), module.__dict__)  # our own page
    runner = Runner(Registry(module.opening_hours))

    async def ask(**arguments: Any) -> Any:
        example = json.loads(blocks("json")[0]) | {"name": "opening_hours", "arguments": arguments}
        return await runner.answer("opening_hours", json.dumps(example).encode())

    assert (await ask(day="sunday")).data == b'{"hours":"closed"}'
    assert (await ask(day="someday")).message.startswith("day: Input should be 'weekday'")


@pytest.mark.e2e
@pytest.mark.timeout(120)
async def test_the_script_runs_is_found_answers_and_leaves(
    nats_url: str, bus: Bus, tmp_path: pathlib.Path
) -> None:
    async with python(tmp_path, str(EXAMPLE), NATS_URL=nats_url, PYTHONPATH="") as process:

        async def found() -> bool:
            assert process.returncode is None, process.output
            return "opening_hours" in await discover(bus)

        await eventually(found, timeout_s=START_TIMEOUT_S)
        info = (await discover(bus))["opening_hours"]
        assert (info.timeout_ms, info.idempotent, info.hold_music) == (2000, True, False)
        assert info.parameters["required"] == ["day"]

        async def ask(arguments: dict[str, Any]) -> Any:
            message = json.loads(blocks("json")[0]) | {"name": info.name, "arguments": arguments}
            request = ToolRequest.model_validate(message)
            return await bus.client.request("tool.opening_hours", request.encode(), timeout=5)

        answer = await ask({"day": "Sunday"})
        assert json.loads(answer.data) == {"day": "sunday", "open": False, "hours": "closed"}
        for wrong in ({}, {"day": "someday"}, {"day": None}):
            code, sentence = error_of(await ask(wrong))
            assert code == "invalid_arguments"
            assert sentence.startswith("day: ")
        answer = await bus.client.request("tool.opening_hours", b"garbage", timeout=5)
        assert error_of(answer)[0] == "invalid_arguments"

        asking = [asyncio.create_task(ask({"day": "monday"})) for _ in range(20)]
        answers = await asyncio.gather(*asking)
        assert all(json.loads(each.data)["open"] for each in answers)

        assert await process.stop() == 0
        assert process.output == []
    assert "opening_hours" not in await discover(bus)
