"""The socket to the model: dial, send in order, receive, close.  Holds no rules.

Sending never blocks the caller of `send`: client events wait in a bounded outbox for one writer
task; audio goes straight to the socket while the outbox is empty, which is nearly always.
"""

import asyncio
import collections
import contextlib
import json
import logging
from collections.abc import Callable
from typing import Any, Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from services.session import realtime
from services.session.events import ModelClosed, ModelEvent
from shared.logs import scrub

log = logging.getLogger(__name__)

#: TCP, TLS and upgrade; 2 s in all were seen from far away.
OPEN_TIMEOUT_S: Final = 6.0
#: A closing handshake that the service does not answer.
CLOSE_TIMEOUT_S: Final = 1.0
#: OpenAI pings every 20 s; we do as well, so that a dead path is noticed within 40 s.
PING_EVERY_S: Final = 20.0
#: Largest event we accept.  OpenAI names no limit; its own agents library allows 8 MiB.
EVENT_LIMIT_BYTES: Final = 8 * 1024 * 1024
#: Events waiting for the writer: a whole replayed history, several times over.
OUTBOX_LIMIT: Final = 1000
#: Unsent audio in the socket's own buffer: about 12 s of mu-law in base64.  Beyond it the service
#: does not read, and old audio is worth less than none.
UNSENT_LIMIT_BYTES: Final = 128 * 1024


class ModelSocket:
    """One socket.  Events go to `on_event` until the last, a `ModelClosed`; none after `close`."""

    def __init__(self, url: str, key: str, on_event: Callable[[ModelEvent], None]) -> None:
        self._url = url
        self._key = key
        self._on_event: Callable[[ModelEvent], None] | None = on_event
        self._socket: ClientConnection | None = None
        self._outbox: collections.deque[str | bytes] = collections.deque()
        self._wake = asyncio.Event()
        #: Frames from the service that made no sense.
        self.malformed = 0
        self._task = asyncio.create_task(self._run(), name="model-socket")

    def send(self, event: dict[str, Any]) -> None:
        """Queue one client event."""
        if len(self._outbox) < OUTBOX_LIMIT:
            self._outbox.append(json.dumps(event, ensure_ascii=False))
            self._wake.set()
        else:
            log.error("the model's outbox is full: an event was dropped")

    def queue_audio(self, audio: bytes) -> int:
        """Queue caller audio behind the events queued before.  Returns how much was dropped."""
        if len(self._outbox) >= OUTBOX_LIMIT:
            return len(audio)
        self._outbox.append(realtime.append(audio))
        self._wake.set()
        return 0

    async def send_audio(self, audio: bytes) -> int:
        """Send caller audio, behind everything queued before.  Returns how much was dropped."""
        socket = self._socket
        if socket is None or self._outbox:
            return self.queue_audio(audio)
        if socket.transport.get_write_buffer_size() > UNSENT_LIMIT_BYTES:
            return len(audio)
        with contextlib.suppress(ConnectionClosed):  # the reader reports it
            await socket.send(realtime.append(audio), text=True)
        return 0

    def close(self) -> asyncio.Task[None]:
        """Close the socket; from now on no event comes.  Returns what ends with the handshake."""
        self._on_event = None
        self._task.cancel()
        return self._task

    async def _run(self) -> None:
        closed = ModelClosed(0, "")
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                socket = await connect(
                    self._url,
                    additional_headers=realtime.headers_for(self._url, self._key),
                    compression=None,
                    open_timeout=None,
                    close_timeout=CLOSE_TIMEOUT_S,
                    ping_interval=PING_EVERY_S,
                    ping_timeout=PING_EVERY_S,
                    max_size=EVENT_LIMIT_BYTES,
                    write_limit=2 * UNSENT_LIMIT_BYTES,
                    user_agent_header="switchboard",
                )
        except (OSError, TimeoutError, ValueError, WebSocketException) as error:
            self._emit(ModelClosed(0, scrub(f"{type(error).__name__}: {error}")[:200]))
            return
        self._socket = socket
        writer = asyncio.create_task(self._write(socket), name="model-writer")
        try:
            closed = await self._read(socket)
        finally:
            self._socket = None
            writer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await writer
            await socket.close()
        self._emit(closed)

    async def _read(self, socket: ClientConnection) -> ModelClosed:
        try:
            while True:
                raw = await socket.recv(decode=False)
                try:
                    event = realtime.parse(raw)
                except realtime.MalformedEvent:
                    self.malformed += 1
                    continue
                if event is not None:
                    self._emit(event)
        except ConnectionClosed as error:
            frame = error.rcvd
            if frame is None:
                return ModelClosed(1006, "the socket was cut")
            return ModelClosed(int(frame.code), scrub(frame.reason)[:200])

    async def _write(self, socket: ClientConnection) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._outbox:
                with contextlib.suppress(ConnectionClosed):  # the reader reports it
                    await socket.send(self._outbox[0], text=True)
                self._outbox.popleft()

    def _emit(self, event: ModelEvent) -> None:
        if self._on_event is not None:
            self._on_event(event)
