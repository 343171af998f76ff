"""Pages about the house for the earlier system's clients: `/tools`, `/hold-music/*`.

They say what is on the bus now.  A part that is away is a state to be told, not a failure of ours.
"""

import asyncio
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from aiohttp import web
from pydantic import ValidationError

from shared import subjects
from shared.bus import Bus, NoAnswerError, NoResponderError
from shared.messages import Ask, Message, MusicFiles, MusicStatus, ToolInfo
from shared.tools import Directory

#: The service asks its object store, which may have to be given up first.
MUSIC_TIMEOUT_S: Final = 3.0
ENDPOINTS: Final = {"status": "/hold-music/status", "files": "/hold-music/files"}

MessageT = TypeVar("MessageT", bound=Message)


class Pages:
    """The three handlers.  Use it as an async context manager: it follows the tools on the bus."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._directory = Directory(bus)
        self._starting: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        # Discovery takes a moment, for which phones need not wait.
        self._starting = asyncio.create_task(self._directory.start(), name="find tools")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.gather(self._starting, return_exceptions=True)
        await self._directory.stop()

    def routes(self) -> list[web.RouteDef]:
        """To be served only where everybody may read them."""
        return [
            web.get("/tools", self.tools),
            web.get("/hold-music/status", self.music_status),
            web.get("/hold-music/files", self.music_files),
        ]

    async def tools(self, _request: web.Request) -> web.Response:
        """Every function that the model may call now, each once."""
        if self._starting is not None:
            await asyncio.wait([self._starting])
        tools = self._directory.tools.values()
        return web.json_response([schema(tool) for tool in tools])

    async def music_status(self, _request: web.Request) -> web.Response:
        """How the music service is; 200 also when it is not."""
        status, why = await self._ask(subjects.HOLD_STATUS, MusicStatus)
        body: dict[str, Any] = {"message": why, "endpoints": ENDPOINTS, "available": False}
        body |= {"stores": [], "defaultTrack": "", "holds": []}
        if status is not None:
            body |= {
                "message": _summary(status),
                "available": True,
                "stores": [store.model_dump(mode="json") for store in status.stores],
                "defaultTrack": status.default_track,
                "holds": status.holds,
            }
        return web.json_response(body)

    async def music_files(self, _request: web.Request) -> web.Response:
        """What is in the store of music; 503 when that cannot be read."""
        found, why = await self._ask(subjects.HOLD_FILES, MusicFiles)
        found = found or MusicFiles(error=why)
        files = [file.model_dump(mode="json") for file in found.files]
        body: dict[str, Any] = {
            "files": files,
            "totalFiles": len(files),
            "supportedFormats": found.supported,
        }
        if found.error:
            body["error"] = found.error
        return web.json_response(body, status=503 if found.error else 200)

    async def _ask(self, subject: str, kind: type[MessageT]) -> tuple[MessageT | None, str]:
        """The service's answer, or a sentence that says why there is none."""
        try:
            data = await self._bus.request(subject, Ask(), timeout_s=MUSIC_TIMEOUT_S)
            return kind.decode(data), ""
        except NoResponderError:
            return None, "The hold-music service is not running: callers wait in silence."
        except NoAnswerError:
            return None, "The hold-music service does not answer: callers may wait in silence."
        except ValidationError:
            return None, "The hold-music service gave an answer that makes no sense."


def schema(tool: ToolInfo) -> dict[str, Any]:
    """A tool as OpenAI's function tools are written."""
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters,
    }


def _summary(status: MusicStatus) -> str:
    working = sum(store.ok for store in status.stores)
    calls = "1 call hears" if len(status.holds) == 1 else f"{len(status.holds)} calls hear"
    if not status.stores:
        return f"Hold music plays the built-in track; {calls} it now."
    return f"Hold music plays from {working} of {len(status.stores)} stores; {calls} it now."
