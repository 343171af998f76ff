"""Twilio's end of one media stream: opens the WebSocket, sends the caller, plays the agent.

The socket belongs to this module; the messages are worded and judged by `twilio_messages`, the
agent's audio waits in a `PlayoutBuffer`, and the line tells every 20 ms what the caller says.
"""

import asyncio
import contextlib
import enum
import socket
import ssl
import struct
from collections.abc import Collection

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage

from simulators import twilio_messages, twiml
from simulators.g711 import FRAME_MS
from simulators.phone_journal import Journal
from simulators.phone_line import Line
from simulators.playout import PlayoutBuffer
from simulators.twilio_webhooks import Webhooks, new_sid

__all__ = ["MediaStream", "StreamEnd", "StreamRefusedError"]

_OPEN_S = 10.0
"""To connect and to be answered 101; Twilio's own limit is not published."""

_CLOSE_S = 2.0
"""For the last messages and the closing handshake: the caller has gone, nobody waits longer."""

_OUTBOX_FRAMES = 250
"""5 s of the caller's voice. Twilio, warning 31930: dropped when the server reads too slowly."""

_MESSAGE_BYTES = 1 << 20
"""Of one message from the server, 98 s of audio. Twilio's own limit is not published."""

_FIRST_TIMESTAMP_MS = 118
"""Twilio: the first timestamp is not 0; captures show 102, 155 and 171."""


class StreamEnd(enum.Enum):
    """Why a stream ended."""

    STOPPED = "stopped"
    """By Twilio's side: the caller hung up, or the call was told to do something else."""
    CLOSED = "closed by the server"
    LOST = "lost"


class StreamRefusedError(Exception):
    """The WebSocket could not be opened; `code` is Twilio's error code."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class _Connect(connect):
    """Opens a WebSocket as Twilio does: a redirect is an answer other than 101, an error."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


class MediaStream:
    """One bidirectional stream: `open()`, then `run()` until it is over."""

    def __init__(
        self,
        request: twiml.Stream,
        *,
        webhooks: Webhooks,
        line: Line,
        journal: Journal,
        lose_frames: Collection[int] = (),
    ) -> None:
        """`lose_frames` are the indices (from 0) of 20 ms frames lost on the way to Twilio."""
        self.sid = new_sid("MZ")
        self.playout = PlayoutBuffer(now=journal.now)
        self.opened_ms: int | None = None
        self._request = request
        self._webhooks = webhooks
        self._line = line
        self._journal = journal
        self._lose_frames = frozenset(lose_frames)
        self._frame = 0
        self._socket: ClientConnection | None = None
        self._outbox: asyncio.Queue[str] = asyncio.Queue()
        self._stopping = False
        self._over = asyncio.Event()
        self._warned: set[int] = set()
        identity = webhooks.identity
        self._sender = twilio_messages.Sender(
            account_sid=identity.account_sid,
            call_sid=identity.call_sid,
            stream_sid=self.sid,
            parameters=request.parameters,
        )

    # Life

    async def open(self) -> None:
        """Open the WebSocket and say `connected` and `start`; raise `StreamRefusedError`."""
        try:
            url = self._checked_url()
            self._socket = await _opened(url, self._webhooks.upgrade_headers(url))
        except StreamRefusedError as exc:
            self._webhooks.stream_event(self._request, self.sid, "stream-error", str(exc))
            raise
        # What was buffered for an earlier stream is gone; time starts again.
        self.playout = PlayoutBuffer(now=self._journal.now)
        self._outbox.put_nowait(self._sender.connected())
        self._outbox.put_nowait(self._sender.start())
        self._line.attach(self.playout, on_frame=self._send_frame, on_played=self._send_marks)
        self.opened_ms = round(self._journal.now * 1000)
        self._journal.note("stream_connected", f"{self.sid} {url}")
        self._webhooks.stream_event(self._request, self.sid, "stream-started")

    async def run(self) -> StreamEnd:
        """Carry both voices until either side ends the stream."""
        assert self._socket is not None, "open() comes first"
        sending = asyncio.create_task(self._send())
        try:
            await self._receive()
            return self._ended()
        finally:
            self._line.detach()
            sending.cancel()
            self._socket.transport.abort()  # both sides have said all; never wait for a peer here
            self._webhooks.stream_event(self._request, self.sid, "stream-stopped")
            self._over.set()
            await asyncio.wait([sending])
            await self._socket.wait_closed()

    async def stop(self) -> None:
        """End the stream from Twilio's side: `stop`, then close. `run()` then returns."""
        if self._stopping or self._socket is None:
            return
        self._stopping = True
        self._line.detach()
        self._outbox.put_nowait(self._sender.stop())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_S):
                await self._outbox.join()
                await self._socket.close()
        self._socket.transport.abort()  # a server that does not answer a close is left alone
        await self._over.wait()

    def abort(self) -> None:
        """Lose the connection: a TCP reset, with no `stop` and no closing handshake."""
        if self._socket is None:
            return
        transport = self._socket.transport
        connection = transport.get_extra_info("socket")
        if connection is not None:
            linger = struct.pack("ii", 1, 0)  # on, 0 s: closing sends a reset
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        transport.abort()

    # To the server

    def dtmf(self, digit: str) -> None:
        """The caller pressed a key."""
        self._outbox.put_nowait(self._sender.dtmf(digit))

    def _send_frame(self, frame: bytes) -> None:
        index, self._frame = self._frame, self._frame + 1
        if index in self._lose_frames:
            return
        if self._outbox.qsize() >= _OUTBOX_FRAMES:
            self._warn_once(31930, "the server reads too slowly, the caller's audio is dropped")
            return
        # Captures: 20 ms apart on average, not exactly (178, then 199, then 218).
        wobble_ms = 1 if index % 5 == 4 else 0
        timestamp_ms = _FIRST_TIMESTAMP_MS + index * FRAME_MS + wobble_ms
        self._outbox.put_nowait(self._sender.media(frame, timestamp_ms))

    def _send_marks(self) -> None:
        for mark in self.playout.take_marks():
            state = "cleared" if mark.cleared else "played"
            self._journal.note("mark", f"{mark.name} {state}", ms=mark.played_ms)
            self._outbox.put_nowait(self._sender.mark(mark.name))

    async def _send(self) -> None:
        assert self._socket is not None, "run() checks"
        try:
            while True:
                message = await self._outbox.get()
                try:
                    await self._socket.send(message)
                finally:
                    self._outbox.task_done()
        except ConnectionClosed:
            # The receiver notices too, and ends the stream. Nobody waits for what is left.
            while not self._outbox.empty():
                self._outbox.get_nowait()
                self._outbox.task_done()

    # From the server

    async def _receive(self) -> None:
        assert self._socket is not None, "run() checks"
        with contextlib.suppress(ConnectionClosed):
            while True:
                message = await self._socket.recv()
                if self._stopping:
                    continue  # after `stop` nobody listens
                if isinstance(message, bytes):
                    self._journal.warn(31950, f"a binary message of {len(message)} bytes")
                    continue
                try:
                    self._obey(twilio_messages.parse(message, self.sid))
                except twilio_messages.InvalidMessage as exc:
                    self._journal.warn(31951, str(exc))

    def _obey(self, message: twilio_messages.FromServer) -> None:
        now = self._journal.now
        match message:
            case twilio_messages.Media(audio):
                if self.playout.queue(audio, now):
                    self._warn_once(31931, "more than 10 minutes of audio are waiting")
            case twilio_messages.Mark(name):
                self.playout.mark(name, now)
            case twilio_messages.Clear():
                clear = self.playout.clear(now)
                self._line.agent.end_utterance()
                self._journal.note(
                    "clear",
                    f"dropped {clear.dropped_bytes // 8} ms, "
                    f"{clear.played_since_empty_bytes // 8} ms of it were heard",
                    ms=clear.at_ms,
                )
        self._send_marks()

    # Private

    def _checked_url(self) -> str:
        if self._request.track not in ("", "inbound_track"):
            raise StreamRefusedError(
                31941, f"track={self._request.track!r} is not allowed under <Connect>"
            )
        try:
            url, warning = twiml.stream_url(self._request.url)
        except twiml.TwimlError as exc:
            raise StreamRefusedError(exc.code, str(exc)) from None
        if warning:
            self._journal.warn(12200, warning)
        return url

    def _ended(self) -> StreamEnd:
        assert self._socket is not None, "run() checks"
        code, reason = self._socket.close_code, self._socket.close_reason
        if self._stopping:
            end = StreamEnd.STOPPED
        elif code in (None, 1006):  # RFC 6455, 7.4.1: no close frame came
            end = StreamEnd.LOST
            self._journal.warn(31903, "the connection was lost")
        else:
            end = StreamEnd.CLOSED
            if code not in (1000, 1001, 1005):
                self._journal.warn(31921, f"the server closed with {code} {reason or ''}".strip())
        self._journal.note("stream_closed", f"{end.value}, code {code}")
        return end

    def _warn_once(self, code: int, text: str) -> None:
        if code not in self._warned:  # Twilio: once per stream
            self._warned.add(code)
            self._journal.warn(code, text)


async def _opened(url: str, headers: dict[str, str]) -> ClientConnection:
    try:
        return await _Connect(
            url,
            additional_headers=headers,
            user_agent_header="Twilio.TmeWs/1.0",
            compression=None,
            proxy=None,
            open_timeout=_OPEN_S,
            close_timeout=_CLOSE_S,
            ping_interval=None,  # Twilio answers pings; that it sends any is not documented
            max_size=_MESSAGE_BYTES,
        )
    except TimeoutError:
        raise StreamRefusedError(31901, f"no answer from {url} in {_OPEN_S:g} s") from None
    except ConnectionRefusedError:
        raise StreamRefusedError(31902, f"{url} refused the connection") from None
    except ssl.SSLError as exc:
        raise StreamRefusedError(31910, f"TLS with {url}: {exc}") from None
    except (InvalidHandshake, InvalidMessage, EOFError) as exc:
        raise StreamRefusedError(31920, f"{url} did not answer 101: {exc}") from None
    except OSError as exc:
        raise StreamRefusedError(31904, f"{url} cannot be reached: {exc}") from None
