"""The WebSocket under a phone stream: frames in and out, pings, the end.

aiohttp's WebSocket with what it leaves to us: it sends no ping while anything is received, keeps a
connection whose peer does not read, and would wait for that peer inside a write.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Literal

from aiohttp import WebSocketError, WSMsgType, web

from services.gateway.terms import Limits

WebSocket = web.WebSocketResponse[Literal[False]]


class PhoneSocket:
    """One connection."""

    def __init__(
        self,
        ws: WebSocket,
        transport: asyncio.Transport,
        limits: Limits,
        on_garbage: Callable[[str], None],
    ) -> None:
        """`on_garbage` is told what kind of frame came that Twilio does not send."""
        #: How the other side ended it; empty while it has not.
        self.closed_by_peer = ""
        self._ws = ws
        self._transport = transport
        self._limits = limits
        self._on_garbage = on_garbage
        #: Whether anything was received since the last look; see `ping`.
        self._heard = True

    @property
    def congested(self) -> bool:
        """The peer does not read: no more audio, please."""
        return self._transport.get_write_buffer_size() > self._limits.write_buffer_bytes

    async def receive(self) -> bytes | None:
        """The next text frame; None when the socket is closed.  Answers pings."""
        while True:
            message = await self._ws.receive()
            self._heard = True
            kind = message.type
            if kind is WSMsgType.TEXT:
                data: bytes = message.data
                return data
            if kind is WSMsgType.BINARY:
                self._on_garbage("binary")
            elif kind is WSMsgType.PING:
                await self._pong(message.data)
            elif kind is not WSMsgType.PONG:
                self._note_closed(kind, message.data)
                return None

    async def send(self, frame: bytes) -> None:
        """Write a text frame.

        Does not wait for a slow phone (see `WRITER_LIMIT`): who writes is a subscription, which is
        bounded, and what is dropped there could be control.
        """
        with contextlib.suppress(ConnectionError):  # the reader sees it too
            await self._ws.send_frame(frame, WSMsgType.TEXT)

    async def ping(self) -> bool:
        """Keep proxies from cutting a connection on which we are silent.

        False: nothing was heard since the last ping, not even a pong.

        nginx: `proxy_read_timeout` counts only what *we* send.  aiohttp's own heartbeat does not
        help: it sends no ping while anything is received.
        """
        if not self._heard:
            return False
        self._heard = False
        with contextlib.suppress(ConnectionError):  # the reader sees it too
            await self._ws.ping()
        return True

    async def close(self, code: int) -> None:
        """Within a bounded time, whatever the other side does."""
        with contextlib.suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(self._limits.close_s):
                await self._ws.close(code=code, drain=False)
        if self._transport.get_write_buffer_size():
            # A phone that does not read would keep the connection for ever.
            asyncio.get_running_loop().call_later(self._limits.close_s, self._transport.abort)

    async def _pong(self, data: bytes) -> None:
        if self.congested:
            return  # who asks without reading the answers must not fill the memory
        with contextlib.suppress(ConnectionError):  # then the next `receive` says so
            await self._ws.pong(data)

    def _note_closed(self, kind: WSMsgType, data: object) -> None:
        if kind is WSMsgType.CLOSE:
            self.closed_by_peer = f"socket closed ({data or 1005})"
        elif isinstance(data, WebSocketError):
            # More than 64 KiB in a message, or not WebSocket: aiohttp has closed it already.
            self._on_garbage("frame")
            self.closed_by_peer = f"not a frame of Twilio ({data.code})"
        else:
            self.closed_by_peer = "socket broke (1006)"
