"""Waiting for facts instead of for time: `await watch.until(lambda: ..., ...)`."""

import asyncio
from collections.abc import Callable

__all__ = ["Watch"]


class Watch:
    """Wakes whoever waits for something to become true.

    Whoever changes a fact calls `notify()`; each waiter's check is then asked again. The line does
    so 50 times a second, so a check may also be about the time that has passed.
    """

    def __init__(self) -> None:
        self._waiters: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []

    @property
    def waiting(self) -> bool:
        """Whether anybody waits."""
        return bool(self._waiters)

    def notify(self) -> None:
        """Ask every check again."""
        for check, future in self._waiters:
            if future.done():
                continue
            try:
                if check():
                    future.set_result(None)
            except Exception as exc:  # noqa: BLE001 - belongs to the waiter, who raises it
                future.set_exception(exc)

    async def until(self, check: Callable[[], bool], *, timeout_s: float, what: str) -> None:
        """Return when `check()` is true; raise TimeoutError, naming `what`, when it takes longer.

        An exception out of `check` ends the wait and is raised here.
        """
        if check():
            return
        waiter = (check, asyncio.get_running_loop().create_future())
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(timeout_s):
                await waiter[1]
        except TimeoutError:
            raise TimeoutError(f"waited {timeout_s:g} s in vain for {what}") from None
        finally:
            self._waiters.remove(waiter)
