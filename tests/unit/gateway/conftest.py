"""An owner for tests that need one, and the proof that nothing is left behind."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from shared.bus import Bus
from tests.unit.gateway.house import Owner


@pytest.fixture
async def owner(bus: Bus) -> AsyncIterator[Owner]:
    async with Owner(bus) as one:
        yield one


@pytest.fixture
def tasks_before() -> set[asyncio.Task[object]]:
    return set(asyncio.all_tasks())
