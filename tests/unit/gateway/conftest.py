"""An owner, a gateway and a phone for the tests that need them."""

from collections.abc import AsyncIterator

import pytest

from services.gateway.terms import Limits
from shared.bus import Bus
from tests.helpers import eventually
from tests.unit.gateway.house import Gateway, Owner, Phone, gateway, new_call, phone, stream_url


@pytest.fixture
async def owner(bus: Bus) -> AsyncIterator[Owner]:
    async with Owner(bus) as one:
        yield one


@pytest.fixture
async def edge(nats_url: str) -> AsyncIterator[Gateway]:
    async with gateway(nats_url, limits=Limits(garbage=20)) as one:
        yield one


@pytest.fixture
async def live(edge: Gateway, owner: Owner) -> AsyncIterator[Phone]:
    """A phone whose leg the owner has attached."""
    call = new_call()
    async with phone(stream_url(await edge.twiml(call)), call) as one:
        await one.start()
        await eventually(lambda: owner.control() == ["started"])
        yield one
