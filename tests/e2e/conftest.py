"""The whole system for end-to-end tests: real processes for broker and services, simulators here.

The simulated model and phone run in the test's own loop, so that a test can look at both truths:
what the model was told, and what the caller heard.
"""

import contextlib
import pathlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from cli.stack import SIMULATED_KEY, Options, Stack, Surroundings
from shared import subjects
from shared.messages import EVENTS, AgentSettings, Event
from simulators.openai_realtime import Faults, RealtimeSimulator, Script
from simulators.phone import Phone
from tests.helpers import eventually

TWILIO_TOKEN = "0123456789abcdef0123456789abcdef"
ACCOUNT = "AC" + "a" * 32
KINDS = {kind.NAME: kind for kind in EVENTS}


@dataclass
class House:
    """A running system with its simulated model, and a witness on the bus."""

    stack: Stack
    model: RealtimeSimulator
    bus: Client
    stories: dict[str, list[Event]]

    def phone(self, **options: Any) -> Phone:
        """A telephone that dials this house, signed as Twilio would."""
        return Phone(
            f"{self.stack.gateway_url}/twiml",
            **{
                "auth_token": TWILIO_TOKEN,
                "account_sid": ACCOUNT,
                "status_callback": f"{self.stack.gateway_url}/twilio/status",
                **options,
            },
        )

    def story(self, phone: Phone) -> list[Event]:
        """What was told of this call so far."""
        return self.stories.get(phone.identity.call_sid, [])

    def told(self, phone: Phone, name: str) -> list[Event]:
        """The lines of one kind."""
        return [event for event in self.story(phone) if name == event.NAME]

    async def ended(self, phone: Phone) -> Any:
        """The last line, when it has come."""
        await eventually(lambda: self.told(phone, "ended"))
        return self.told(phone, "ended")[0]

    async def agent(self, **settings: Any) -> None:
        """Put an agent's settings where the services find them."""
        agent = AgentSettings.model_validate(settings)
        bucket = await self.bus.jetstream().key_value(subjects.AGENTS_BUCKET)
        await bucket.put(agent.id, agent.encode())

    async def metric(self, base: str, name: str) -> float:
        """The sum of a Prometheus metric's samples at a service's page."""
        async with aiohttp.ClientSession() as session, session.get(f"{base}/metrics") as answer:
            text = await answer.text()
        values = [
            float(line.rpartition(" ")[2])
            for line in text.splitlines()
            if line.startswith((f"{name} ", f"{name}{{"))
        ]
        assert values, f"{base} has no metric {name}"
        return sum(values)


@contextlib.asynccontextmanager
async def house(
    data: pathlib.Path,
    *,
    scripts: Mapping[str, Script] | None = None,
    faults: Faults | None = None,
    env: Mapping[str, str] | None = None,
    **parts: Any,
) -> AsyncIterator[House]:
    """Everything a plain call needs, for the time of the block; nothing of it afterwards.

    `parts` are more of `Options`, such as `tools=True`.
    """
    stories: dict[str, list[Event]] = {}

    async def on_event(message: Msg) -> None:
        name = message.subject.rsplit(".", 1)[1]
        stories.setdefault(message.subject.split(".")[1], []).append(
            KINDS[name].decode(message.data)
        )

    model = RealtimeSimulator(
        scripts=dict(scripts or {}), api_key=SIMULATED_KEY, faults=faults or Faults()
    )
    await model.start()
    try:
        options = Options(
            data=data,
            surroundings=Surroundings.model_construct(
                openai_api_key=SIMULATED_KEY, openai_realtime_url=model.url
            ),
            env={
                "OPENAI_API_KEY": SIMULATED_KEY,
                "OPENAI_REALTIME_URL": model.url,
                "TWILIO_AUTH_TOKEN": TWILIO_TOKEN,
                "TWILIO_ACCOUNT_SID": ACCOUNT,
                "DRAIN_S": "1",
                **(env or {}),
            },
            any_ports=True,
            **{"tools": False, "music": False, "logs": False, **parts},
        )
        async with Stack(options) as stack:
            bus = Client()
            await bus.connect(stack.nats_url)
            try:
                await bus.subscribe(subjects.ALL_EVENTS, cb=on_event)
                await bus.flush()
                yield House(stack, model, bus, stories)
            finally:
                await bus.close()
    finally:
        await model.stop()


HouseOf = Callable[..., Awaitable[House]]


@pytest.fixture
async def build(tmp_path: pathlib.Path) -> AsyncIterator[HouseOf]:
    """Builds a house with this test's own options; it is taken down afterwards."""
    async with contextlib.AsyncExitStack() as stack:

        async def make(**options: Any) -> House:
            return await stack.enter_async_context(house(tmp_path, **options))

        yield make
