"""The agents' settings, kept up to date from KV `agents`; chosen by the dialled number."""

import asyncio
import contextlib
import logging
from typing import Final

import nats.errors
import nats.js.errors
from nats.js.kv import KeyValue
from pydantic import ValidationError

from shared.messages import AgentSettings

log = logging.getLogger(__name__)

DEFAULT: Final = "default"
#: How long the first reading may take before the service starts with what it has.
FIRST_READ_TIMEOUT_S: Final = 5.0


def choose(agents: dict[str, AgentSettings], dialled: str) -> AgentSettings:
    """The agent that has the dialled number; else `default`; else the built-in one.  Pure."""
    for agent in agents.values():
        if dialled and dialled in agent.numbers:
            return agent
    return agents.get(DEFAULT) or AgentSettings()


class Agents:
    """A live copy of the bucket: a call keeps the snapshot that it was given."""

    def __init__(self, bucket: KeyValue) -> None:
        self._bucket = bucket
        self._agents: dict[str, AgentSettings] = {}
        self._read = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def choose(self, dialled: str) -> AgentSettings:
        """The settings for a call to this number, as they are now."""
        return choose(self._agents, dialled)

    async def start(self) -> None:
        """Make the default agent if there is none, and follow changes."""
        with contextlib.suppress(nats.js.errors.KeyWrongLastSequenceError):
            await self._bucket.create(DEFAULT, AgentSettings(id=DEFAULT).encode())
        self._task = asyncio.create_task(self._follow(), name="agents")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._read.wait(), FIRST_READ_TIMEOUT_S)

    async def stop(self) -> None:
        """Stop following."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _follow(self) -> None:
        while True:
            try:
                watcher = await self._bucket.watchall()
                try:
                    async for entry in watcher:
                        if entry is None:  # everything that was there has been told
                            self._read.set()
                        else:
                            self._apply(entry.key, entry.value, entry.operation)
                finally:
                    await watcher.stop()  # type: ignore[no-untyped-call]
            except (nats.errors.Error, nats.js.errors.Error, TimeoutError) as error:
                log.warning("agents are not followed", extra={"error": repr(error)})
            await asyncio.sleep(1.0)  # a broker that is away: try again, calmly

    def _apply(self, key: str, value: bytes | None, operation: str | None) -> None:
        if operation in ("DEL", "PURGE") or not value:
            self._agents.pop(key, None)
            return
        try:
            self._agents[key] = AgentSettings.decode(value)
        except ValidationError as error:
            # The last good settings stay in force; the line says which field is wrong.
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"])
            log.warning(
                "an agent's settings are not usable",
                extra={"agent": key, "field": field, "error": first["msg"]},
            )
