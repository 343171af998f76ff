"""The service's parts on a real broker that no other test uses."""

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from services.logs.answers import Answers
from services.logs.keeper import Keeper
from services.logs.kept import Kept
from services.logs.records import Records
from services.logs.settings import LogsSettings
from services.logs.telling import story
from shared import messages, subjects
from shared.bus import Bus, provision
from shared.messages import LOGS_ANSWER, CallStory
from tests.broker import Broker
from tests.unit.logs.stories import Line

SettingsOf = Callable[..., LogsSettings]


@pytest.fixture
def settings_of(own_broker: Broker, monkeypatch: pytest.MonkeyPatch) -> SettingsOf:
    """Settings for the test's own broker, and nothing from the machine's environment."""
    for name in LogsSettings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)

    def make(**fields: Any) -> LogsSettings:
        given = {"nats_url": own_broker.url, "record_write_ms": 20, **fields}
        return LogsSettings(**given, _env_file=None)

    return make


@contextlib.asynccontextmanager
async def connected(settings: LogsSettings, name: str = "test") -> AsyncIterator[Bus]:
    bus = await Bus.connect(settings, name, name=name)
    try:
        await provision(bus, settings)
        yield bus
    finally:
        await bus.close()


@pytest.fixture
async def line_in(settings_of: SettingsOf) -> AsyncIterator[Bus]:
    """A connection of the test's own, with the stream in place."""
    async with connected(settings_of()) as bus:
        yield bus


async def publish(bus: Bus, call: str, lines: list[Line]) -> None:
    """Tell them, as a session does."""
    for name, payload in lines:
        await bus.js.publish(subjects.event(call, name), payload)


@contextlib.asynccontextmanager
async def keeping(bus: Bus, settings: LogsSettings, **options: Any) -> AsyncIterator[Keeper]:
    keeper = Keeper(bus, Records(bus, settings), settings, **options)
    await keeper.start()
    try:
        yield keeper
    finally:
        await keeper.stop()


@contextlib.asynccontextmanager
async def answering(bus: Bus, settings: LogsSettings) -> AsyncIterator[Answers]:
    records = Records(bus, settings)
    await records.provision()
    answers = Answers(bus, records)
    await answers.start()
    try:
        yield answers
    finally:
        await answers.stop()


async def record(bus: Bus, settings: LogsSettings, call: str) -> CallStory | None:
    """What the bucket has."""
    found = await Records(bus, settings).read(call)
    return story(Kept.model_validate_json(found[1])) if found is not None else None


async def ask(bus: Bus, subject: str, body: messages.Message | bytes = b"{}") -> Any:
    data = body if isinstance(body, bytes) else body.encode()
    answer = await bus.client.request(subject, data, timeout=5)
    return LOGS_ANSWER.validate_json(answer.data)
