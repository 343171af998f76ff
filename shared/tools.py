"""Which tools are on the bus now: every NATS micro service endpoint on `tool.<name>`.

Ours or a stranger's: a tool tells of itself in its endpoint's metadata, all strings:
`description`, `parameters` (JSON schema as JSON text), `timeout_ms`, `idempotent`, `hold_music`.
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import Mapping
from typing import Any, Final

import nats.errors
from nats.aio.msg import Msg
from pydantic import ValidationError

from shared.bus import Bus
from shared.messages import ToolInfo

log = logging.getLogger(__name__)

#: NATS: every micro service answers here with its endpoints.
INFO_SUBJECT: Final = "$SRV.INFO"
#: How long answers are collected: services on the same network answer within milliseconds.
COLLECT_S: Final = 0.3
#: How often the bus is asked.  A new tool is there for the next call within this.
REFRESH_EVERY_S: Final = 2.0
#: Tools in all; the model's context is not made for more.
TOOLS_MAX: Final = 128


def read_info(answer: Mapping[str, Any]) -> list[ToolInfo]:
    """The tools in one service's answer to `$SRV.INFO`.  Pure; what is not a tool is passed over.

    Logs a tool whose metadata make no sense: it cannot be offered to the model.
    """
    found = []
    for endpoint in answer.get("endpoints") or []:
        subject = str(endpoint.get("subject", ""))
        if not subject.startswith("tool."):
            continue
        metadata = endpoint.get("metadata") or {}
        fields: dict[str, Any] = {
            key: metadata[key]
            for key in ("description", "timeout_ms", "idempotent", "hold_music")
            if key in metadata
        }
        try:
            if "parameters" in metadata:
                fields["parameters"] = json.loads(metadata["parameters"])
            found.append(ToolInfo(name=subject.removeprefix("tool."), **fields))
        except (ValidationError, ValueError, TypeError) as error:
            log.warning(
                "a tool's metadata make no sense",
                extra={"subject": subject, "error": type(error).__name__},
            )
    return found


async def discover(bus: Bus) -> dict[str, ToolInfo]:
    """Ask every micro service on the bus; takes `COLLECT_S`.  Empty when the bus is away."""
    tools: dict[str, ToolInfo] = {}

    async def on_answer(message: Msg) -> None:
        with contextlib.suppress(ValueError, AttributeError):
            for tool in read_info(json.loads(message.data)):
                if len(tools) < TOOLS_MAX:
                    tools[tool.name] = tool  # several instances of a service: one tool

    inbox = bus.client.new_inbox()
    try:
        subscription = await bus.subscribe(inbox, on_answer)
        try:
            await bus.client.publish(INFO_SUBJECT, b"", reply=inbox)
            await asyncio.sleep(COLLECT_S)
        finally:
            await bus.unsubscribe(subscription)
    except nats.errors.Error:
        return {}
    return dict(sorted(tools.items()))


class Directory:
    """A live copy of what is on the bus; `tools` is replaced, never changed in place."""

    def __init__(self, bus: Bus) -> None:
        self.tools: dict[str, ToolInfo] = {}
        self._bus = bus
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read once, then follow."""
        self.tools = await discover(self._bus)
        self._task = asyncio.create_task(self._follow(), name="tools")

    async def stop(self) -> None:
        """Stop following."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_EVERY_S)
            if self._bus.connected:
                self.tools = await discover(self._bus)
