"""Who may open a phone socket, and all sockets that are open.

The order of the checks is from cheap to dear, and a token is used up last: a request that is
refused for another reason must not spend it.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from aiohttp import WSCloseCode, web

from services.gateway import metrics, tokens
from services.gateway.beats import Beats
from services.gateway.offers import Owners, StoreAwayError
from services.gateway.phone_socket import WebSocket
from services.gateway.signature import HEADER, Signatures
from services.gateway.stream import PhoneStream
from services.gateway.terms import Admission, How, Limits
from services.gateway.updates import Desk
from shared.bus import Bus

log = logging.getLogger(__name__)

#: A message of Twilio's has 400 bytes; the longest, `start` with many parameters, some kB.
MESSAGE_LIMIT_BYTES: Final = 64 * 1024
#: Proxies cut a connection on which our side is silent: nginx and load balancers after 60 s,
#: Heroku after 55.  A stream from which nothing was heard for two of these is dead.
PING_EVERY_S: Final = 20.0
#: Two looks a beat: what matters is `DEAD_AFTER_S`.
WATCH_EVERY_S: Final = 0.25
#: Bytes after which aiohttp would wait for a slow phone inside a write.  Never: the stream looks at
#: the write buffer itself, and drops audio instead of making control wait.
WRITER_LIMIT: Final = 1 << 62
#: How long closing sockets may take when the gateway stops, beyond `Limits.close_s`.
STOP_GRACE_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Door:
    """What is asked of a socket."""

    token_secret: bytes
    signatures: Signatures | None
    stream_origin: str
    """`wss://host` as Twilio sees us."""
    bare_allowed: bool
    account: str | None


class Streams:
    """The handlers of `/call` and `/call/<token>`, and every live stream."""

    def __init__(
        self,
        door: Door,
        *,
        bus: Bus,
        owners: Owners,
        beats: Beats,
        desk: Desk,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._door = door
        self._bus = bus
        self._owners = owners
        self._beats = beats
        self._desk = desk
        self._limits = limits or Limits()
        self._clock = clock
        self._live: set[PhoneStream] = set()
        self._empty = asyncio.Event()
        self._empty.set()

    def routes(self) -> list[web.RouteDef]:
        """With and without the `/` that Twilio appends at times."""
        return [
            web.get(path, self.handle, allow_head=False)
            for path in ("/call", "/call/", "/call/{token}", "/call/{token}/")
        ]

    @property
    def live(self) -> int:
        """How many sockets are open."""
        return len(self._live)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One socket, from upgrade to end."""
        # Compression would cost more than it saves; pings are ours, see `PhoneSocket.ping`.
        ws: WebSocket = web.WebSocketResponse(
            compress=False,
            autoping=False,
            max_msg_size=MESSAGE_LIMIT_BYTES,
            decode_text=False,
            writer_limit=WRITER_LIMIT,
            timeout=self._limits.close_s,
        )
        if not ws.can_prepare(request):
            return web.Response(
                status=426, text="this is a WebSocket", headers={"Upgrade": "websocket"}
            )
        reason, call = await self._admit(request)
        if reason is not None:
            metrics.UPGRADES_REFUSED.labels(reason).inc()
            log.warning("a phone socket was refused", extra={"reason": reason, "call": call})
            return web.Response(status=503 if reason == "no_kv" else 403)
        try:
            await ws.prepare(request)
        except ConnectionError:
            return ws  # gone in the meantime
        transport = request.transport
        if transport is None:
            return ws
        stream = PhoneStream(
            ws,
            transport,
            Admission(call, self._door.account),
            bus=self._bus,
            owners=self._owners,
            desk=self._desk,
            limits=self._limits,
        )
        await self._run(stream)
        return ws

    async def _run(self, stream: PhoneStream) -> None:
        self._live.add(stream)
        self._empty.clear()
        metrics.STREAMS.inc()
        try:
            await stream.run()
        finally:
            metrics.STREAMS.dec()
            self._live.discard(stream)
            if not self._live:
                self._empty.set()

    async def _admit(self, request: web.Request) -> tuple[str | None, str | None]:
        """Why the socket is refused (None: it is not), and the call its token names."""
        door = self._door
        token = request.match_info.get("token")
        claims = None
        if token is None:
            if not door.bare_allowed:
                return "bare", None
        else:
            try:
                claims = tokens.read(door.token_secret, token, now=self._clock())
            except tokens.TokenError as error:
                return error.reason, None
        call = claims.call if claims is not None else None
        if door.signatures is not None:
            path = request.raw_path.partition("?")[0]
            signature = request.headers.get(HEADER, "")
            if not door.signatures.upgrade(door.stream_origin, path, signature):
                return "signature", call
        if claims is not None:
            try:
                if not await self._owners.use_up(claims.nonce, claims.call):
                    return "used", call
            except StoreAwayError:
                return "no_kv", call
        return None, call

    async def keep_alive(self) -> None:
        """Ping every stream, for ever."""
        while True:
            await asyncio.sleep(PING_EVERY_S)
            for stream in list(self._live):
                await stream.ping()

    async def watch_owners(self) -> None:
        """Close streams whose owner has died, for ever: Twilio then asks `/twiml/after`."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(WATCH_EVERY_S)
            now = loop.time()
            if not self._bus.connected:
                self._beats.deaf(now)
                continue
            for stream in list(self._live):
                if stream.worker and self._beats.is_dead(stream.worker, now) and not stream.over:
                    metrics.OWNERS_DEAD.inc()
                    stream.end(How.LOST, WSCloseCode.SERVICE_RESTART, "the owner is dead (1012)")

    async def drain(self, within_s: float) -> None:
        """Let live streams end by themselves for `within_s`, then close the rest.

        1012 is "service restart".  Twilio: when our side closes, `/twiml/after` is asked, and
        another gateway puts the call back.
        """
        if await self._is_empty(within_s):
            return
        log.info("closing the streams that are left", extra={"streams": self.live})
        for stream in list(self._live):
            stream.end(How.LOST, WSCloseCode.SERVICE_RESTART, "gateway stops (1012)")
        if not await self._is_empty(self._limits.close_s + STOP_GRACE_S):
            log.warning("streams are still open at the end", extra={"streams": self.live})

    async def _is_empty(self, within_s: float) -> bool:
        try:
            async with asyncio.timeout(within_s):
                await self._empty.wait()
        except TimeoutError:
            return False
        return True
