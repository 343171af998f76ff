"""What the tests on a real broker share."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from shared.bus import Bus
from simulators.openai_realtime import RealtimeSimulator
from tests.helpers import eventually
from tests.unit.session.house import KEY, SCRIPTS, House, ours


@pytest.fixture
async def house(bus: Bus, nats_url: str) -> AsyncIterator[House]:
    async with RealtimeSimulator(scripts=SCRIPTS, api_key=KEY) as model:
        house = House(bus, nats_url, model)
        before = asyncio.all_tasks()
        subscriptions = bus.subscriptions
        try:
            yield house
        finally:
            await house.close()
        # Nothing is left of any call, whatever the test did to it.
        await eventually(lambda: ours(asyncio.all_tasks() - before) == [])
        assert bus.subscriptions == subscriptions
        # One is the client's own inbox for answers.
        assert max(house.left_over) <= 1
