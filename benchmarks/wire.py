"""The least WebSocket that the load generator and the stand-in need, on a bare asyncio protocol.

A benchmark must not measure itself: this costs a few microseconds a frame, a library ten times
that.  It is no general WebSocket: text frames in one piece, pings, close; anything else ends the
connection.  A client masks with a key of zeros, which the standard allows and which leaves the
payload as it is.
"""

import abc
import asyncio
import base64
import hashlib
from typing import Final, cast

try:
    from websockets.speedups import apply_mask  # in C
except ImportError:  # a platform without a compiled wheel
    from websockets.utils import apply_mask

TEXT: Final = 0x1
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA

_FINAL: Final = 0x80
_MASKED: Final = 0x80
_NO_MASK: Final = b"\x00\x00\x00\x00"
#: RFC 6455, section 1.3.
_ACCEPT_SALT: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_CLIENT_KEY: Final = base64.b64encode(b"benchmark-client")
#: A request or answer of the upgrade; ours have 300 bytes.
HEAD_LIMIT_BYTES: Final = 16 * 1024
#: The largest frame: 5 s of kept audio in one append has 54 kB.
FRAME_LIMIT_BYTES: Final = 1024 * 1024


class WireError(Exception):
    """The peer speaks something that this is not made for."""


def frame(payload: bytes, *, opcode: int = TEXT, masked: bool) -> bytes:
    """One whole frame; a masked one carries the key of zeros."""
    size, bit = len(payload), _MASKED if masked else 0
    first = _FINAL | opcode
    if size < 126:
        head = bytes((first, bit | size))
    elif size < 65536:
        head = bytes((first, bit | 126, size >> 8, size & 0xFF))
    else:
        head = bytes((first, bit | 127)) + size.to_bytes(8, "big")
    return head + _NO_MASK + payload if masked else head + payload


class Frames:
    """Cuts a stream of bytes into frames."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Every frame that is complete now, as opcode and payload.  Raises `WireError`."""
        if self._rest:
            data = self._rest + data
        out: list[tuple[int, bytes]] = []
        at, end = 0, len(data)
        while end - at >= 2:
            size, body = data[at + 1] & 0x7F, at + 2
            if size >= 126:
                width = 2 if size == 126 else 8
                if end < body + width:
                    break
                size = int.from_bytes(data[body : body + width], "big")
                body += width
            if size > FRAME_LIMIT_BYTES or not data[at] & _FINAL:
                raise WireError("a frame that is too large or in pieces")
            masked = data[at + 1] & _MASKED
            if masked:
                body += 4
            if end < body + size:
                break
            payload = data[body : body + size]
            if masked and (key := data[body - 4 : body]) != _NO_MASK:
                payload = apply_mask(payload, key)
            out.append((data[at] & 0x0F, payload))
            at = body + size
        self._rest = data[at:]
        return out


class Peer(asyncio.Protocol, abc.ABC):
    """One connection.  Override `opened`, `text` and `closed`."""

    #: Clients mask what they send.
    masked = False

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._frames = Frames()
        self._head: bytes | None = b""
        self._ended = False

    # --- to be overridden -------------------------------------------------------------------

    def opened(self) -> None:
        """The upgrade is done."""

    def text(self, payload: bytes) -> None:
        """A text frame came."""

    def closed(self, why: str) -> None:
        """The connection is over; called once."""

    @abc.abstractmethod
    def upgrade(self, head: bytes) -> None:
        """The peer's half of the HTTP upgrade is complete.  Raises `WireError`."""

    # --- for the owner ----------------------------------------------------------------------

    def send(self, payload: bytes) -> None:
        """Send one text frame; nothing after the end."""
        if self.transport is not None:
            self.transport.write(frame(payload, masked=self.masked))

    def close(self) -> None:
        """Say goodbye and close."""
        if self.transport is not None:
            goodbye = (1000).to_bytes(2, "big")
            self.transport.write(frame(goodbye, opcode=CLOSE, masked=self.masked))
        self._end("closed by us")

    # --- asyncio.Protocol -------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        try:
            if self._head is not None:
                data = self._read_head(self._head + data)
            if data:
                for opcode, payload in self._frames.feed(data):
                    if opcode == TEXT:
                        self.text(payload)
                    else:
                        self._control(opcode, payload)
        except WireError as error:
            self._end(str(error))

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(f"connection lost ({exc!r})" if exc else "connection closed")

    def _read_head(self, data: bytes) -> bytes:
        head, found, rest = data.partition(b"\r\n\r\n")
        if not found:
            if len(data) > HEAD_LIMIT_BYTES:
                raise WireError("an endless HTTP head")
            self._head = data
            return b""
        self._head = None
        self.upgrade(head)
        self.opened()
        return rest

    def _control(self, opcode: int, payload: bytes) -> None:
        if opcode == PING and self.transport is not None:
            self.transport.write(frame(payload, opcode=PONG, masked=self.masked))
        elif opcode == CLOSE:
            code = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else 1005
            self._end(f"closed by the peer ({code} {payload[2:].decode(errors='replace')})")
        elif opcode not in (PING, PONG):
            raise WireError(f"opcode {opcode} is not expected")

    def _end(self, why: str) -> None:
        transport, self.transport = self.transport, None
        if transport is not None:
            transport.close()
        if not self._ended:
            self._ended = True
            self.closed(why)


class ServerPeer(Peer):
    """Answers any upgrade."""

    def upgrade(self, head: bytes) -> None:
        for line in head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            if name.strip().lower() == b"sec-websocket-key":
                # The standard asks for SHA-1 here; nothing depends on its strength.
                digest = hashlib.sha1(value.strip() + _ACCEPT_SALT, usedforsecurity=False)
                answer = (
                    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                    b"Connection: Upgrade\r\nSec-WebSocket-Accept: %b\r\n\r\n"
                ) % base64.b64encode(digest.digest())
                assert self.transport is not None
                self.transport.write(answer)
                return
        raise WireError("not a WebSocket upgrade")


class ClientPeer(Peer):
    """Asks for the upgrade of `path`."""

    masked = True

    def __init__(self, host: str, path: str) -> None:
        super().__init__()
        self._request = (
            f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {_CLIENT_KEY.decode()}\r\n\r\n"
        ).encode()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert self.transport is not None
        self.transport.write(self._request)

    def upgrade(self, head: bytes) -> None:
        status = head.split(b"\r\n", 1)[0]
        if b" 101 " not in status + b" ":
            raise WireError(f"the upgrade was refused: {status.decode(errors='replace')}")
