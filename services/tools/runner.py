"""From a request's bytes to an answer, always: deadlines, crashes, and requests that come twice.

Knows nothing of NATS: `endpoints.py` does.
"""

import asyncio
import dataclasses
import logging
import time
import traceback
from collections.abc import Callable
from typing import Final

from cachetools import TTLCache
from pydantic import ValidationError

from services.tools import metrics
from services.tools.registry import Arguments, Context, Registry, Tool, ToolError, encode
from shared.messages import ToolRequest

log = logging.getLogger(__name__)

#: How long the first answer to a call id is given again: longer than any session asks again.
REMEMBER_S: Final = 600.0
#: How many such answers: 16 MB at the very most, for each is bounded by OUTPUT_MAX_BYTES.
REMEMBER_ANSWERS: Final = 1000


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """What goes back: output, or a code and a sentence."""

    data: bytes = b""
    code: str = ""
    message: str = ""

    @classmethod
    def error(cls, error: ToolError) -> "Answer":
        """The answer that tells of `error`."""
        return cls(code=error.code, message=error.message)


STOPPING: Final = Answer.error(ToolError("unavailable", "the tool service is being restarted"))


class Runner:
    """Runs tools.  One for a process; any number of requests at once."""

    def __init__(self, registry: Registry, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._registry = registry
        #: Answers of tools that must not run twice, and those on their way.
        self._answers: TTLCache[tuple[str, str, str], Answer] = TTLCache(
            REMEMBER_ANSWERS, REMEMBER_S, timer=clock
        )
        self._running: dict[tuple[str, str, str], asyncio.Future[Answer]] = {}

    async def answer(self, name: str, data: bytes) -> Answer:
        """The answer to a request for the tool `name`; raises nothing but `CancelledError`."""
        started = time.monotonic()
        call = call_id = ""
        try:
            request = self._read(name, data)
            call, call_id = request.call, request.call_id
            tool = self._registry[name]
            arguments = tool.read(request.arguments)
        except ToolError as error:
            answer = Answer.error(error)
        else:
            run = self._run if tool.info.idempotent else self._run_once
            answer = await run(tool, arguments, request)
        took_s = time.monotonic() - started
        metrics.REQUESTS.labels(name, answer.code or "ok").inc()
        metrics.SECONDS.labels(name).observe(took_s)
        log.info(
            "tool answered",
            extra={
                "call": call,
                "call_id": call_id,
                "tool": name,
                "error": answer.code,
                "duration_ms": round(took_s * 1000),
            },
        )
        return answer

    def _read(self, name: str, data: bytes) -> ToolRequest:
        try:
            request = ToolRequest.decode(data)
        except ValidationError as error:
            fields = {str(fault["loc"][0]) for fault in error.errors() if fault["loc"]}
            raise ToolError(
                "invalid_request",
                f"this is not a tool request; look at: {', '.join(sorted(fields)) or 'the JSON'}",
            ) from None
        if request.name != name:
            raise ToolError("invalid_request", f"a request for another tool reached {name}")
        return request

    async def _run_once(self, tool: Tool, arguments: Arguments, request: ToolRequest) -> Answer:
        """Run, unless this call id has run or is running: then its answer."""
        key = (tool.info.name, request.call, request.call_id)
        known = self._answers.get(key)
        if known is not None:
            metrics.DUPLICATES.labels(tool.info.name).inc()
            return known
        running = self._running.get(key)
        if running is not None:
            metrics.DUPLICATES.labels(tool.info.name).inc()
            return await asyncio.shield(running)
        future = asyncio.get_running_loop().create_future()
        self._running[key] = future
        answer = STOPPING  # when this task is cancelled
        try:
            answer = await self._run(tool, arguments, request)
        finally:
            del self._running[key]
            self._answers[key] = answer
            future.set_result(answer)
        return answer

    async def _run(self, tool: Tool, arguments: Arguments, request: ToolRequest) -> Answer:
        deadline_ms = min(tool.info.timeout_ms, request.deadline_ms)
        deadline = asyncio.timeout(deadline_ms / 1000)
        try:
            async with deadline:
                output = await tool.handler(arguments, Context.of(request))
            return Answer(data=encode(output))
        except ToolError as error:
            return Answer.error(error)
        except Exception as error:  # noqa: BLE001 - the top frame of a request: one crash, one answer
            if deadline.expired():
                seconds = f"{deadline_ms / 1000:g}"
                return Answer.error(
                    ToolError("timeout", f"{tool.info.name} did not finish within {seconds} s")
                )
            _log_crash(tool, request, error)
            return Answer.error(
                ToolError("failed", f"{tool.info.name} failed; it is not the caller's fault")
            )


def _log_crash(tool: Tool, request: ToolRequest, error: Exception) -> None:
    """Where it crashed for everybody; the exception's own words may hold what a caller said."""
    log.error(
        "a tool crashed",
        extra={
            "call": request.call,
            "call_id": request.call_id,
            "tool": tool.info.name,
            "exception_type": type(error).__name__,
            "private_exception": repr(error),
            "stack": "".join(traceback.format_tb(error.__traceback__)[-6:]),
        },
    )
