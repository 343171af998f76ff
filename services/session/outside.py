"""Asks tools and musicians on behalf of one call, and brings their answers back as events.

Every question gets exactly one answer: an output, or a short error.  Holds no rules.
"""

import asyncio
import json
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final

from pydantic import ValidationError

from services.session import events
from services.session.events import PhoneEvent
from shared import messages, subjects
from shared.bus import Bus, NoAnswerError, NoResponderError
from shared.messages import CallRecord, MusicStarted, ToolContext, ToolRequest

log = logging.getLogger(__name__)

#: A tool that gives up at its deadline says so in its own words: they may be a moment on the way.
ANSWER_GRACE_S: Final = 0.25
#: The music service answers within a second, whatever its store does.
MUSIC_TIMEOUT_S: Final = 2.0
#: NATS micro services tell errors in headers: a short code, and a sentence.
ERROR_CODE: Final = "Nats-Service-Error-Code"
ERROR_TEXT: Final = "Nats-Service-Error"
#: A code is a word; some services send an HTTP status.
CODE_LIMIT_CHARS: Final = 64


class Outside:
    """One call's questions to other services; at most `RUNNING_LIMIT` tools at a time."""

    def __init__(self, bus: Bus, record: CallRecord, feed: Callable[[PhoneEvent], None]) -> None:
        self._bus = bus
        self._record = record
        self._feed = feed
        self._tools: set[asyncio.Task[None]] = set()
        self._plays: set[asyncio.Task[None]] = set()
        #: The hold that the machine wants now; 0 for none.
        self._on = 0
        self._down_control = subjects.down(record.call, record.epoch, "ctl")

    async def close(self) -> None:
        """Nobody waits for answers any more; but music that was asked for is told to stop."""
        if self._on:
            self._tell_musician(self._on, "ended")
            self._on = 0
        tasks = [*self._tools, *self._plays]
        for task in self._tools:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=MUSIC_TIMEOUT_S)

    def _start(
        self, work: Coroutine[Any, Any, None], name: str, tasks: set[asyncio.Task[None]]
    ) -> None:
        task = asyncio.create_task(work, name=name)
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    # --- tools ------------------------------------------------------------------------------

    def run_tool(self, action: events.RunTool) -> None:
        """Ask the tool; a `ToolFinished` follows."""
        self._start(self._run_tool(action), "tool", self._tools)

    async def _run_tool(self, action: events.RunTool) -> None:
        try:
            output, code = await self._ask_tool(self._request(action))
        except Exception as error:  # noqa: BLE001 - the model waits for an answer to anything
            # Not the whole of it: it may quote the arguments.
            extra = {"call": self._record.call, "tool": action.name, "error": type(error).__name__}
            log.error("asking a tool failed", extra=extra)  # noqa: TRY400
            output, code = "The tool could not be asked.", "failed"
        self._feed(events.ToolFinished(action.call_id, output, code))

    def _request(self, action: events.RunTool) -> ToolRequest:
        record = self._record
        return ToolRequest(
            call=record.call,
            call_id=action.call_id[:128],
            name=action.name,
            arguments=action.arguments,
            context=ToolContext(
                caller=record.caller,
                dialled=record.dialled,
                direction=record.direction,
                agent=record.agent.id,
            ),
            deadline_ms=action.deadline_ms,
        )

    async def _ask_tool(self, request: ToolRequest) -> tuple[str, str]:
        """(output, ""), or (a sentence, an error's code)."""
        try:
            answer = await self._bus.request_message(
                subjects.tool(request.name),
                request,
                timeout_s=request.deadline_ms / 1000 + ANSWER_GRACE_S,
            )
        except NoResponderError:
            return "The tool is not available now.", "unavailable"
        except NoAnswerError:
            return "The tool did not answer in time.", "timeout"
        headers = answer.headers or {}
        if ERROR_CODE in headers or ERROR_TEXT in headers:
            text = headers.get(ERROR_TEXT) or "The tool did not work."
            return text, headers.get(ERROR_CODE, "")[:CODE_LIMIT_CHARS] or "failed"
        try:
            # Read and written once: the model gets JSON, and never JSON inside a JSON string.
            return json.dumps(json.loads(answer.data), ensure_ascii=False), ""
        except (ValueError, RecursionError):
            return "The tool's answer made no sense.", "invalid_output"

    # --- music ------------------------------------------------------------------------------

    def play_music(self, action: events.PlayMusic) -> None:
        """Open the phone's ear for this hold, and ask for music; a `MusicAnswered` follows."""
        self._bus.send_control(self._down_control, messages.HoldOn(hold=action.hold), urgent=True)
        self._on = action.hold
        self._start(self._play_music(action), "music", self._plays)

    async def _play_music(self, action: events.PlayMusic) -> None:
        record = self._record
        request = messages.PlayMusic(
            call=record.call, hold=action.hold, track=action.track, audio=record.audio
        )
        track, source, fallback, error = "", "", None, ""
        try:
            data = await self._bus.request(subjects.HOLD_PLAY, request, timeout_s=MUSIC_TIMEOUT_S)
            answer = messages.MUSIC_ANSWER.validate_json(data)
            if isinstance(answer, MusicStarted):
                track, source, fallback = answer.track, answer.source, answer.fallback
            else:
                error = answer.code
        except NoResponderError:
            error = "unavailable"
        except NoAnswerError:
            error = "timeout"
        except ValidationError:
            error = "invalid"
        if not error and action.hold != self._on:
            # The request to stop may have been there before its musician: say it again.
            self._tell_musician(action.hold, "late")
        if error:
            log.warning("no hold music", extra={"call": record.call, "error": error})
        self._feed(events.MusicAnswered(action.hold, track, source, fallback, error))

    def stop_music(self, action: events.StopMusic) -> None:
        """Close the phone's ear at once; then tell whoever plays."""
        if action.hold == self._on:
            self._on = 0
        self._bus.send_control(self._down_control, messages.HoldOff(hold=action.hold), urgent=True)
        self._tell_musician(action.hold, action.reason)

    def _tell_musician(self, hold: int, reason: str) -> None:
        subject = subjects.hold_stop(self._record.call, hold)
        self._bus.send_control(subject, messages.StopMusic(reason=reason), urgent=True)
