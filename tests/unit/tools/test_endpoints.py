"""Tools on a real broker: found, asked side by side, never without an answer."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import nats.errors
import pytest
from nats.aio.msg import Msg

from services.tools.endpoints import QUEUE_GROUP, SERVICE_NAME, Endpoints
from services.tools.registry import OUTPUT_MAX_BYTES, Arguments, Context, Registry, tool
from services.tools.runner import Runner
from shared.bus import Bus
from shared.messages import ToolInfo
from shared.settings import ServiceSettings
from shared.tools import discover
from tests.broker import Broker
from tests.helpers import eventually
from tests.unit.tools.house import ask, error_of, request

pytestmark = [
    pytest.mark.e2e,
    # nats.micro of nats-py calls datetime.utcnow, which Python 3.12 and later complain about.
    pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning"),
]


class Text(Arguments):
    text: str = ""


class Bench:
    """Tools that do what a test wants."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.runs = 0
        self.go = asyncio.Event()

    @tool(description="Says it again.", idempotent=True, hold_music=False, timeout_ms=5000)
    async def echo(self, arguments: Text, _context: Context) -> dict[str, Any]:
        return {"text": arguments.text, "from": self.name}

    @tool(description="Waits.", idempotent=True, timeout_ms=30_000)
    async def wait(self, _arguments: Text, _context: Context) -> str:
        self.runs += 1
        await self.go.wait()
        return "waited"

    @tool(description="Books once.")
    async def book(self, _arguments: Text, _context: Context) -> int:
        self.runs += 1
        return self.runs

    @tool(description="Crashes.", idempotent=True)
    async def crash(self, arguments: Text, _context: Context) -> None:
        if arguments.text == "cancel":
            raise asyncio.CancelledError
        raise RuntimeError("internals")


@contextlib.asynccontextmanager
async def serving(
    bus: Bus, bench: Bench | None = None, *, running_max: int = 200
) -> AsyncIterator[Endpoints]:
    registry = Registry(bench or Bench())
    endpoints = Endpoints(bus, registry, Runner(registry), running_max=running_max)
    await endpoints.start()
    try:
        yield endpoints
    finally:
        await endpoints.stop(0)


async def other_bus(nats_url: str) -> Bus:
    return await Bus.connect(
        ServiceSettings(nats_url=nats_url, _env_file=None), "test", name="other"
    )


async def test_discovery_sees_every_tool_with_its_metadata(bus: Bus) -> None:
    async with serving(bus):
        found = await discover(bus)
    assert set(found) >= {"echo", "wait", "book", "crash"}
    assert found["echo"] == ToolInfo(
        name="echo",
        description="Says it again.",
        parameters={
            "type": "object",
            "properties": {"text": {"type": "string", "default": ""}},
            "additionalProperties": False,
        },
        timeout_ms=5000,
        idempotent=True,
        hold_music=False,
    )
    assert not found["book"].idempotent


async def test_the_service_tells_of_itself_as_micro_services_do(bus: Bus) -> None:
    async with serving(bus):
        answer = await bus.client.request(f"$SRV.INFO.{SERVICE_NAME}", b"", timeout=5)
    info = json.loads(answer.data)
    assert info["type"] == "io.nats.micro.v1.info_response"
    assert info["version"].count(".") == 2
    assert info["description"]
    for endpoint in info["endpoints"]:
        assert endpoint["queue_group"] == QUEUE_GROUP == "tools"
        assert endpoint["subject"] == f"tool.{endpoint['name']}"
        assert all(isinstance(value, str) for value in endpoint["metadata"].values())


async def test_output_is_json_once(bus: Bus) -> None:
    async with serving(bus, Bench("one")):
        answer = await ask(bus, "echo", {"text": 'Grüße, "Oslo"'})
    assert json.loads(answer.data) == {"text": 'Grüße, "Oslo"', "from": "one"}
    assert error_of(answer) == ("", "")


@pytest.mark.parametrize(
    ("name", "arguments", "code", "words"),
    [
        ("echo", {"words": "hi"}, "invalid_arguments", "words: there is no such argument"),
        ("echo", {"ü\r\nX: y": "hi"}, "invalid_arguments", "there is no such argument"),
        ("crash", {}, "failed", "crash failed; it is not the caller's fault"),
        ("crash", {"text": "cancel"}, "failed", "it is not the caller's fault"),
        ("echo", {"text": "x" * OUTPUT_MAX_BYTES}, "output_too_large", "ask for less"),
    ],
)
async def test_a_failure_is_a_micro_error(
    bus: Bus, name: str, arguments: dict[str, Any], code: str, words: str
) -> None:
    async with serving(bus):
        answer = await ask(bus, name, arguments)
    assert answer.data == b""
    assert error_of(answer)[0] == code
    assert words in error_of(answer)[1]
    assert "internals" not in str(answer.headers)
    assert set(answer.headers or {}) == {"Nats-Service-Error-Code", "Nats-Service-Error"}


async def test_garbage_is_answered_and_survived(bus: Bus) -> None:
    async with serving(bus):
        for data in (b"", b"\x00\xff", b"{}", b"[" * 10_000):
            answer = await bus.client.request("tool.echo", data, timeout=5)
            assert error_of(answer)[0] == "invalid_request"
        await bus.client.publish("tool.echo", b"no reply subject")
        assert json.loads((await ask(bus, "echo", {})).data)["text"] == ""


async def test_a_late_tool_is_answered_for(bus: Bus) -> None:
    async with serving(bus) as endpoints:
        answer = await ask(bus, "wait", {}, deadline_ms=30)
        assert error_of(answer) == ("timeout", "wait did not finish within 0.03 s")
        await eventually(lambda: endpoints.running == 0)


async def test_a_slow_request_does_not_hold_up_others(bus: Bus) -> None:
    bench = Bench()
    async with serving(bus, bench), asyncio.TaskGroup() as group:
        slow = [group.create_task(ask(bus, "wait", {})) for _ in range(20)]
        await eventually(lambda: bench.runs == 20)
        assert json.loads((await ask(bus, "echo", {"text": "quick"})).data)["text"] == "quick"
        assert not any(task.done() for task in slow)
        bench.go.set()
    assert {task.result().data for task in slow} == {b'"waited"'}


async def test_beyond_its_limit_it_says_that_it_is_busy(bus: Bus) -> None:
    bench = Bench()
    async with serving(bus, bench, running_max=3), asyncio.TaskGroup() as group:
        slow = [group.create_task(ask(bus, "wait", {})) for _ in range(3)]
        await eventually(lambda: bench.runs == 3)
        assert error_of(await ask(bus, "echo", {}))[0] == "busy"
        bench.go.set()
        await asyncio.wait(slow)
        assert error_of(await ask(bus, "echo", {}))[0] == ""


async def test_a_call_id_that_comes_twice_runs_once(bus: Bus) -> None:
    bench = Bench()
    async with serving(bus, bench):
        answers = await asyncio.gather(*(ask(bus, "book", {}) for _ in range(5)))
        other = await ask(bus, "book", {}, call_id="call_2")
    assert [answer.data for answer in answers] == [b"1"] * 5
    assert (other.data, bench.runs) == (b"2", 2)


async def test_two_instances_share_the_requests_and_are_one_tool(nats_url: str, bus: Bus) -> None:
    second = await other_bus(nats_url)
    try:
        async with serving(bus, Bench("one")), serving(second, Bench("two")):
            answers = await asyncio.gather(
                *(ask(bus, "echo", {}, call_id=str(number)) for number in range(60))
            )
            found = await discover(bus)
    finally:
        await second.close()
    assert {json.loads(answer.data)["from"] for answer in answers} == {"one", "two"}
    assert list(found).count("echo") == 1


async def test_a_stop_lets_running_requests_end_and_takes_no_more(nats_url: str, bus: Bus) -> None:
    bench, second = Bench(), await other_bus(nats_url)
    try:
        async with serving(second, bench) as endpoints, asyncio.TaskGroup() as group:
            running = group.create_task(ask(bus, "wait", {}))
            await eventually(lambda: bench.runs == 1)
            stopping = group.create_task(endpoints.stop(20))
            await eventually(lambda: nobody_answers(bus))
            assert not stopping.done()
            bench.go.set()
        assert running.result().data == b'"waited"'
        assert "wait" not in await discover(bus)
    finally:
        await second.close()


async def nobody_answers(bus: Bus) -> bool:
    try:
        await bus.client.request("tool.echo", request("echo", {}), timeout=5)
    except nats.errors.NoRespondersError:
        return True
    return False


async def test_a_stop_loses_no_request_that_was_on_its_way(nats_url: str, bus: Bus) -> None:
    second, third = await other_bus(nats_url), await other_bus(nats_url)
    answers: list[Msg] = []

    async def keep_asking(number: int) -> None:
        while not stopped.is_set():
            answers.append(await ask(bus, "echo", {}, call_id=str(number)))

    stopped = asyncio.Event()
    try:
        async with serving(second, Bench("stays")), asyncio.TaskGroup() as group:
            for number in range(8):
                group.create_task(keep_asking(number))
            async with serving(third, Bench("goes")) as endpoints:
                await eventually(lambda: any(b"goes" in answer.data for answer in answers))
                await endpoints.stop(20)
            stopped.set()
    finally:
        await second.close()
        await third.close()
    assert {error_of(answer)[0] for answer in answers} == {""}


async def test_what_does_not_end_in_time_is_cut_off_with_an_answer(nats_url: str, bus: Bus) -> None:
    bench, second = Bench(), await other_bus(nats_url)
    try:
        async with serving(second, bench) as endpoints, asyncio.TaskGroup() as group:
            running = group.create_task(ask(bus, "wait", {}))
            await eventually(lambda: bench.runs == 1)
            await endpoints.stop(0)
        assert error_of(running.result()) == (
            "unavailable",
            "the tool service is being restarted",
        )
    finally:
        await second.close()


async def test_tools_are_back_after_an_outage_of_nats(own_broker: Broker) -> None:
    bus = await other_bus(own_broker.url)
    try:
        async with serving(bus):
            own_broker.stop()
            await eventually(lambda: not bus.connected)
            own_broker.start()
            await eventually(lambda: bus.connected, timeout_s=20)
            assert error_of(await ask(bus, "echo", {}))[0] == ""
            assert "echo" in await discover(bus)
    finally:
        await bus.close()
