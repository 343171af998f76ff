"""An owner for the tests that need one."""

from collections.abc import AsyncIterator

import pytest

from shared.bus import Bus
from tests.unit.gateway.house import Owner


@pytest.fixture
async def owner(bus: Bus) -> AsyncIterator[Owner]:
    async with Owner(bus) as one:
        yield one
