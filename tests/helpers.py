"""Waiting in tests, without guessing how long a shared machine takes."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable


async def eventually(
    check: Callable[[], object | Awaitable[object]], timeout_s: float = 10.0
) -> None:
    """Wait until `check()` is true; its last assertion or value tells why it never was."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    while True:
        failure: AssertionError | None = None
        value: object = None
        try:
            value = check()
            if inspect.isawaitable(value):
                value = await value
        except AssertionError as error:
            failure = error
        if failure is None and value:
            return
        if loop.time() > deadline:
            raise failure or AssertionError(f"not within {timeout_s} s; the last value: {value!r}")
        await asyncio.sleep(0.01)
