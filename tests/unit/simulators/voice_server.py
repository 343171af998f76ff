"""A voice server small enough to read: what the simulated phone calls in its own tests.

It answers webhooks with prepared documents, and lets a coroutine of the test play the agent. The
signatures are checked with Twilio's own validator, which the simulator does not use.
"""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from aiohttp import WSMsgType, web
from twilio.request_validator import RequestValidator  # type: ignore[import-untyped]

from simulators import g711

TOKEN = "0123456789abcdef0123456789abcdef"


@dataclass
class Socket:
    """One media stream, seen from the server."""

    ws: web.WebSocketResponse
    messages: list[dict[str, Any]] = field(default_factory=list)
    audio: bytearray = field(default_factory=bytearray)
    closed: bool = False

    def of(self, event: str) -> list[dict[str, Any]]:
        return [message for message in self.messages if message["event"] == event]

    @property
    def sid(self) -> str:
        return str(self.of("start")[0]["streamSid"])

    async def send(self, event: str, **body: Any) -> None:
        await self.ws.send_json({"event": event, "streamSid": self.sid, **body})

    async def play(self, audio: bytes) -> None:
        await self.send("media", media={"payload": base64.b64encode(audio).decode()})

    async def mark(self, name: str) -> None:
        await self.send("mark", mark={"name": name})


Agent = Callable[[Socket, dict[str, Any]], Awaitable[None]]
"""Called with every message of the stream."""


@dataclass
class Request:
    path: str
    form: dict[str, str]
    signed: bool
    headers: dict[str, str]


@dataclass
class VoiceServer:
    port: int = 0
    documents: dict[str, list[str]] = field(default_factory=dict)
    """By path; the last one of a path is used again and again."""
    content_type: str = "text/xml"
    agent: Agent | None = None
    refuse_upgrade: bool = False
    silent: asyncio.Event | None = None
    """Webhooks are not answered until it is set."""
    requests: list[Request] = field(default_factory=list)
    upgrades_signed: list[bool] = field(default_factory=list)
    sockets: list[Socket] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stream(self, path: str = "/call/token-1", inner: str = "") -> str:
        return f'<Stream url="ws://127.0.0.1:{self.port}{path}">{inner}</Stream>'

    def answer(self, path: str, *documents: str) -> None:
        self.documents[path] = [f"<Response>{document}</Response>" for document in documents]

    def requests_to(self, path: str) -> list[Request]:
        return [request for request in self.requests if request.path == path]

    async def _webhook(self, request: web.Request) -> web.Response:
        form = await request.post()
        params = {name: str(value) for name, value in form.items()}
        signature = request.headers.get("X-Twilio-Signature", "")
        url = f"{self.url}{request.raw_path}"
        signed = RequestValidator(TOKEN).validate(url, params, signature)
        self.requests.append(Request(request.path, params, signed, dict(request.headers)))
        if self.silent is not None:
            await self.silent.wait()
        documents = self.documents.get(request.path)
        if documents is None:
            return web.Response(status=404)
        text = documents.pop(0) if len(documents) > 1 else documents[0]
        return web.Response(text=text, content_type=self.content_type)

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        if self.refuse_upgrade:
            return web.Response(status=403)
        signature = request.headers.get("X-Twilio-Signature", "")
        url = f"ws://127.0.0.1:{self.port}{request.raw_path}"
        self.upgrades_signed.append(RequestValidator(TOKEN).validate(url, {}, signature))
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        socket = Socket(ws)
        self.sockets.append(socket)
        async for frame in ws:
            if frame.type is not WSMsgType.TEXT:
                break
            message = json.loads(frame.data)
            socket.messages.append(message)
            if message["event"] == "media":
                socket.audio += base64.b64decode(message["media"]["payload"])
            if self.agent is not None:
                await self.agent(socket, message)
        socket.closed = True
        return ws


@asynccontextmanager
async def voice_server() -> AsyncIterator[VoiceServer]:
    server = VoiceServer()
    app = web.Application()
    app.router.add_get("/call/{token}", server._socket)
    app.router.add_route("*", "/{path:.*}", server._webhook)
    runner = web.AppRunner(app, shutdown_timeout=1.0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.port = runner.addresses[0][1]
    try:
        yield server
    finally:
        await runner.cleanup()


def tone(ms: int, hz: int = 440) -> bytes:
    """A tone at about -12 dBFS."""
    t = np.arange(ms * 8) / 8000
    return g711.encode((12000 * np.sin(2 * np.pi * hz * t)).astype(np.int16))
