"""How the benchmark's own processes live: one JSON object a line out, the end by standard input.

A process whose parent has died reads the end of its input and ends too, so none is left behind.
"""

import asyncio
import contextlib
import gc
import json
import sys
from collections.abc import Coroutine
from typing import Any

import uvloop


def say(**fields: Any) -> None:
    """Tell the parent: one line of JSON."""
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


async def listen() -> asyncio.StreamReader:
    """Standard input as a stream."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    return reader


async def input_ended() -> None:
    """Wait until the parent closes our input."""
    await (await listen()).read()


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run `main` on uvloop."""
    gc.freeze()
    with (
        contextlib.suppress(KeyboardInterrupt),
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(main)
