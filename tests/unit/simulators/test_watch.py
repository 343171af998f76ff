import asyncio

import pytest

from simulators.watch import Watch
from tests.helpers import eventually

pytestmark = pytest.mark.unit


async def test_waiter_wakes_when_its_fact_is_true() -> None:
    watch, facts = Watch(), set[str]()
    waiting = asyncio.create_task(
        watch.until(lambda: "b" in facts, timeout_s=10, what="b"), name="waiting"
    )
    await eventually(lambda: watch.waiting)
    facts.add("a")
    watch.notify()
    assert not waiting.done()
    facts.add("b")
    watch.notify()
    await waiting
    assert not watch.waiting


async def test_check_that_fails_ends_the_wait() -> None:
    watch, facts = Watch(), list[int]()
    waiting = asyncio.create_task(watch.until(lambda: bool(1 / len(facts)), timeout_s=10, what="x"))
    facts.append(1)
    await waiting
    facts.clear()
    with pytest.raises(ZeroDivisionError):
        await watch.until(lambda: bool(1 / len(facts)), timeout_s=10, what="x")


async def test_time_runs_out() -> None:
    watch = Watch()
    with pytest.raises(TimeoutError, match=r"waited 0\.01 s in vain for a miracle"):
        await watch.until(lambda: False, timeout_s=0.01, what="a miracle")
    assert not watch.waiting
