"""A tool in a process of its own: when a shop is open.

Needs nats-py and nothing else: pip install nats-py
Run it:    NATS_URL=nats://127.0.0.1:4222 python examples/opening_hours_tool.py
Try it:    nats req tool.opening_hours '{"arguments": {"day": "sunday"}}'
"""

import asyncio
import json
import os
import signal

import nats
from nats import micro
from nats.micro.request import Request

HOURS = {
    "monday": "9:00 to 18:00",
    "tuesday": "9:00 to 18:00",
    "wednesday": "9:00 to 18:00",
    "thursday": "9:00 to 20:00",
    "friday": "9:00 to 18:00",
    "saturday": "10:00 to 14:00",
}
DAYS = [*HOURS, "sunday"]

# What the agent is told of the tool.  Every value is a string.
METADATA = {
    "description": "When the shop is open on a day of the week.",
    "parameters": json.dumps(
        {
            "type": "object",
            "properties": {"day": {"type": "string", "enum": DAYS}},
            "required": ["day"],
            "additionalProperties": False,
        }
    ),
    "timeout_ms": "2000",
    "idempotent": "true",
    "hold_music": "false",
}


async def opening_hours(request: Request) -> None:
    """Answer one function call of the agent, with output or with an error."""
    try:
        day = str(json.loads(request.data)["arguments"]["day"]).strip().lower()
    except (ValueError, KeyError, TypeError):
        await request.respond_error("invalid_arguments", "day: it is required")
        return
    if day not in DAYS:
        await request.respond_error("invalid_arguments", f"day: one of {', '.join(DAYS)}")
        return
    answer = {"day": day, "open": day in HOURS, "hours": HOURS.get(day, "closed")}
    await request.respond(json.dumps(answer).encode())


async def main() -> None:
    """Answer until Ctrl-C or SIGTERM."""
    stopped = asyncio.Event()
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(signal_number, stopped.set)

    url = os.environ.get("NATS_URL", "nats://127.0.0.1:4222")
    client = await nats.connect(url, name="opening-hours", max_reconnect_attempts=-1)
    service = await micro.add_service(
        client, name="opening-hours", version="1.0.0", description="A shop's opening hours"
    )
    await service.add_endpoint(
        name="opening_hours",
        subject="tool.opening_hours",
        queue_group="opening-hours",  # several processes share the requests
        metadata=METADATA,
        handler=opening_hours,
    )
    await stopped.wait()
    await service.stop()
    await client.drain()


if __name__ == "__main__":
    asyncio.run(main())
