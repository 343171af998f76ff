"""One answer to every request: deadlines, crashes, repetition."""

import asyncio
import json
import logging
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from services.tools.registry import OUTPUT_MAX_BYTES, Arguments, Context, Registry, ToolError, tool
from services.tools.runner import REMEMBER_ANSWERS, REMEMBER_S, Answer, Runner
from tests.unit.tools.house import request
from tests.unit.tools.test_registry import JSON

pytestmark = pytest.mark.unit


#: What a caller said; the log may show the line of code that it passes, but not itself.
SAID = "Rosie, born in March"


class Text(Arguments):
    text: str = ""


class Bench:
    """Tools that do what a test wants, and count how often they ran."""

    def __init__(self) -> None:
        self.runs = 0
        self.waits = asyncio.Event()
        self.go = asyncio.Event()

    @tool(description="", idempotent=True)
    async def echo(self, arguments: Text, _context: Context) -> Any:
        self.runs += 1
        return arguments.text

    @tool(description="")
    async def book(self, arguments: Text, context: Context) -> dict[str, Any]:
        self.runs += 1
        if arguments.text == "wait":
            self.waits.set()
            await self.go.wait()
        if arguments.text == "crash":
            raise KeyError(SAID)
        return {"run": self.runs, "caller": context.caller}

    @tool(description="", timeout_ms=100, idempotent=True)
    async def slow(self, _arguments: Text, _context: Context) -> None:
        await self.go.wait()

    @tool(description="", idempotent=True)
    async def breaks(self, arguments: Text, _context: Context) -> None:
        match arguments.text:
            case "timeout":
                raise TimeoutError("a socket's own")
            case "away":
                raise ToolError("unavailable", "the shop is closed")
            case "group":
                raise ExceptionGroup("several", [ValueError(SAID)])
            case _:
                raise RuntimeError(SAID)


def test_bytes_in_json_out() -> None:
    async def body() -> None:
        runner = Runner(Registry(Bench()))
        assert await runner.answer("echo", request("echo", {"text": "hi"})) == Answer(b'"hi"')

    asyncio.run(body())


@pytest.mark.parametrize(
    ("data", "field"),
    [
        (b"", "the JSON"),
        (b"\xff\x00", "the JSON"),
        (b"[]", "the JSON"),
        (b"[" * 100_000, "the JSON"),
        (b"{}", "call"),
        (request("echo", {}, call="CA1"), "call"),
        (request("echo", {}, deadline_ms=0), "deadline_ms"),
        (request("echo", "{}"), "arguments"),
        (request("book", {}), "another tool"),
    ],
)
async def test_what_is_no_request_is_refused(data: bytes, field: str) -> None:
    answer = await Runner(Registry(Bench())).answer("echo", data)
    assert answer.code == "invalid_request"
    assert field in answer.message


async def test_wrong_arguments_never_reach_the_tool() -> None:
    bench = Bench()
    answer = await Runner(Registry(bench)).answer("echo", request("echo", {"words": "hi"}))
    assert (answer.code, bench.runs) == ("invalid_arguments", 0)
    assert "words" in answer.message


async def test_the_deadline_is_the_shorter_of_two() -> None:
    runner = Runner(Registry(Bench()))
    answer = await runner.answer("slow", request("slow", {}))
    assert (answer.code, answer.message) == ("timeout", "slow did not finish within 0.1 s")
    answer = await runner.answer("slow", request("slow", {}, deadline_ms=10))
    assert answer.message == "slow did not finish within 0.01 s"


@pytest.mark.parametrize("text", ["crash", "timeout", "group"])
async def test_a_crash_tells_the_model_no_internals_and_the_log_nothing_private(
    text: str, caplog: pytest.LogCaptureFixture
) -> None:
    runner = Runner(Registry(Bench()))
    answer = await runner.answer("breaks", request("breaks", {"text": text}))
    assert (answer.code, answer.message) == (
        "failed",
        "breaks failed; it is not the caller's fault",
    )
    (record,) = [each for each in caplog.records if each.levelno == logging.ERROR]
    shown = {key: value for key, value in vars(record).items() if not key.startswith("private_")}
    assert "in breaks" in shown["stack"]
    assert shown["exception_type"] in ("RuntimeError", "TimeoutError", "ExceptionGroup")
    assert SAID not in str(shown)
    assert SAID in vars(record)["private_exception"] or text == "timeout"


async def test_a_tool_says_itself_what_is_missing() -> None:
    runner = Runner(Registry(Bench()))
    answer = await runner.answer("breaks", request("breaks", {"text": "away"}))
    assert answer == Answer(code="unavailable", message="the shop is closed")


async def test_too_much_output_is_an_error() -> None:
    runner = Runner(Registry(Bench()))
    answer = await runner.answer("echo", request("echo", {"text": "x" * OUTPUT_MAX_BYTES}))
    assert (answer.code, answer.data) == ("output_too_large", b"")


async def test_the_context_comes_from_the_session() -> None:
    runner = Runner(Registry(Bench()))
    answer = await runner.answer("book", request("book", {}, context={"caller": "+1555"}))
    assert json.loads(answer.data)["caller"] == "+1555"


async def test_a_call_id_that_comes_again_gets_the_first_answer() -> None:
    bench, now = Bench(), 0.0
    runner = Runner(Registry(bench), clock=lambda: now)
    first = await runner.answer("book", request("book", {}))
    now = REMEMBER_S - 1
    assert await runner.answer("book", request("book", {})) == first
    assert bench.runs == 1
    other = "CA" + "f" * 32
    for different in ({"call_id": "call_2"}, {"call": other}):
        assert await runner.answer("book", request("book", {}, **different)) != first
    assert bench.runs == 3
    now = REMEMBER_S + 1
    await runner.answer("book", request("book", {}))
    assert bench.runs == 4


async def test_a_failed_run_is_not_repeated_either() -> None:
    bench = Bench()
    runner = Runner(Registry(bench))
    for _ in range(2):
        answer = await runner.answer("book", request("book", {"text": "crash"}))
        assert answer.code == "failed"
    assert bench.runs == 1


async def test_a_refused_request_may_be_mended_under_its_call_id() -> None:
    bench = Bench()
    runner = Runner(Registry(bench))
    assert (await runner.answer("book", request("book", {"x": 1}))).code == "invalid_arguments"
    assert (await runner.answer("book", request("book", {}))).code == ""
    assert bench.runs == 1


async def test_a_call_id_that_comes_again_during_the_run_waits_for_its_answer() -> None:
    bench = Bench()
    runner = Runner(Registry(bench))
    data = request("book", {"text": "wait"})
    async with asyncio.TaskGroup() as group:
        both = [group.create_task(runner.answer("book", data)) for _ in range(2)]
        await bench.waits.wait()
        bench.go.set()
    assert both[0].result() == both[1].result()
    assert bench.runs == 1


async def test_a_run_that_is_cut_off_is_not_repeated_and_tells_who_waits() -> None:
    bench = Bench()
    runner = Runner(Registry(bench))
    data = request("book", {"text": "wait"})
    first = asyncio.create_task(runner.answer("book", data))
    await bench.waits.wait()
    second = asyncio.create_task(runner.answer("book", data))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).code == "unavailable"
    assert first.cancelled()
    assert (await runner.answer("book", data)).code == "unavailable"
    assert bench.runs == 1


async def test_an_idempotent_tool_runs_again() -> None:
    bench = Bench()
    runner = Runner(Registry(bench))
    for _ in range(2):
        await runner.answer("echo", request("echo", {}))
    assert bench.runs == 2


async def test_the_memory_of_answers_is_bounded() -> None:
    runner = Runner(Registry(Bench()))
    for number in range(REMEMBER_ANSWERS + 10):
        await runner.answer("book", request("book", {}, call_id=str(number)))
    assert len(runner._answers) == REMEMBER_ANSWERS
    assert not runner._running


CODES = {"", "invalid_request", "invalid_arguments", "output_too_large", "failed"}


@settings(deadline=None)
@given(
    arguments=JSON | st.dictionaries(st.just("text") | st.text(), JSON, max_size=3),
    call_id=st.text(max_size=3),
)
def test_whatever_comes_is_answered(arguments: Any, call_id: str) -> None:
    async def body() -> None:
        runner = Runner(Registry(Bench()))
        for name in ("echo", "breaks", "book"):
            answer = await runner.answer(name, request(name, arguments, call_id=call_id))
            assert answer.code in CODES
            assert len(answer.data) <= OUTPUT_MAX_BYTES
            if answer.code:
                assert answer.message.isprintable()
                assert answer.message
            else:
                json.loads(answer.data)

    asyncio.run(body())


@settings(deadline=None)
@given(data=st.binary(max_size=200))
def test_whatever_bytes_come_are_answered(data: bytes) -> None:
    answer = asyncio.run(Runner(Registry(Bench())).answer("echo", data))
    assert answer.code == "invalid_request"
