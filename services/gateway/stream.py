"""One phone socket: Twilio's Media Stream on one side, the call's owner on the other.

The reader lives in the request's handler; what the owner sends arrives in a callback of the one
subscription.  Between them there is no task and no queue: a frame read is sent, a message received
is written.  Whoever finds that the stream must end calls `end`, once; the reader then leaves its
loop, and `run` says the last word to the owner and cleans up, on every path.
"""

import asyncio
import contextlib
import logging
from typing import Literal

import nats.errors
from aiohttp import WebSocketError, WSCloseCode, WSMsgType, web
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from pydantic import ValidationError

from services.gateway import metrics, twilio
from services.gateway.gaps import Gaps
from services.gateway.hold import Hold
from services.gateway.offers import NotAttachedError, Outcome, Owners
from services.gateway.terms import Admission, How, Limits
from shared import subjects
from shared.audio import PCMU
from shared.bus import Bus
from shared.messages import (
    DOWN_CONTROL,
    Clear,
    DtmfPressed,
    HangUpLeg,
    LegLost,
    LegStarted,
    LegStopped,
    Mark,
    MarkReturned,
    Move,
)

log = logging.getLogger(__name__)

PhoneSocket = web.WebSocketResponse[Literal[False]]


class PhoneStream:
    """Call `run` once; `end` and `ping` from anywhere."""

    def __init__(
        self,
        ws: PhoneSocket,
        transport: asyncio.Transport,
        admission: Admission,
        *,
        bus: Bus,
        owners: Owners,
        limits: Limits,
    ) -> None:
        self._ws = ws
        self._transport = transport
        self._admission = admission
        self._bus = bus
        self._owners = owners
        self._limits = limits
        self._gaps = Gaps(PCMU)
        self._frames_up = 0
        self._frames_down = 0
        self._garbage = 0
        self._garbage_limit = limits.garbage
        #: Whether anything was received since the last look; see `ping`.
        self._heard = True
        # Known from `start` on.
        self._wire: twilio.StreamWire | None = None
        self._call = admission.call or ""
        # Known when the owner has attached the leg.
        self.worker = ""
        self._leg: int | None = None
        self._up_audio = ""
        self._up_control = ""
        self._down_audio = ""
        self._subscription: Subscription | None = None
        # Until then, what the caller says and presses is kept.
        self._live = False
        self._hold = Hold(
            audio_max_bytes=limits.held_ms * PCMU.bytes_per_ms, controls_max=limits.held_controls
        )
        # Set once, by `end` or by the reader.
        self._how: How | None = None
        self._why = ""
        self._closing: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Carry the call until either side ends; leaves nothing behind."""
        began = asyncio.get_running_loop().time()
        try:
            start = await self._first_start()
            if start is not None:
                self._wire = twilio.StreamWire(start.stream)
                log.info("phone stream started", extra={"call": self._call, "stream": start.stream})
                # The group waits for the attaching even if the phone is gone already: the owner
                # must not be left with a leg that nobody ends.
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._attach(start), name="attach")
                    await self._read(self._wire)
        finally:
            await self._finish(asyncio.get_running_loop().time() - began)

    def end(self, how: How, code: int, why: str) -> None:
        """Close the socket; only the first call counts."""
        if self._how is None:
            self._how, self._why = how, why
            # Not here: the caller may be the subscription, which is cancelled by our clean-up.
            self._closing = asyncio.create_task(self._close(code), name="close phone socket")

    @property
    def over(self) -> bool:
        """Whether the end has begun."""
        return self._how is not None

    async def ping(self) -> None:
        """Keep proxies from cutting a stream on which we are silent, and find dead ones.

        nginx: `proxy_read_timeout` counts only what *we* send.  aiohttp's own heartbeat does not
        help: it sends no ping while anything is received.
        """
        if not self._heard:
            self.end(How.LOST, WSCloseCode.GOING_AWAY, "nothing was heard, not even a pong")
            return
        self._heard = False
        with contextlib.suppress(ConnectionError):  # the reader sees it too
            await self._ws.ping()

    # --- from the phone ---------------------------------------------------------------------

    async def _first_start(self) -> twilio.Start | None:
        """The first message that says which call this is; None if there was none in time."""
        try:
            async with asyncio.timeout(self._limits.start_s):
                while (data := await self._receive()) is not None:
                    try:
                        message = twilio.parse(data)
                    except twilio.WireError as error:
                        self._count_garbage(error.kind)
                        continue
                    if isinstance(message, twilio.Start):
                        return message if self._is_admitted(message) else None
                    if not isinstance(message, twilio.Connected):
                        self._count_garbage("before_start")
        except TimeoutError:
            self.end(How.REFUSED, WSCloseCode.POLICY_VIOLATION, "no start in time")
        return None

    def _is_admitted(self, start: twilio.Start) -> bool:
        objection = self._admission.objection(start)
        if objection is not None:
            self.end(How.REFUSED, objection.code, objection.why)
            return False
        self._call = start.call
        return True

    async def _read(self, wire: twilio.StreamWire) -> None:
        while (data := await self._receive()) is not None:
            media = wire.fast_media(data)
            if media is not None:
                self._take_audio(*media)
            elif not self._take_other(wire, data):
                return

    async def _receive(self) -> bytes | None:
        """The next text frame; None when the socket is closed.  Answers pings."""
        while True:
            message = await self._ws.receive()
            self._heard = True
            kind = message.type
            if kind is WSMsgType.TEXT:
                data: bytes = message.data
                return data
            if kind is WSMsgType.BINARY:
                self._count_garbage("binary")
            elif kind is WSMsgType.PING:
                await self._pong(message.data)
            elif kind is not WSMsgType.PONG:
                self._note_closed(kind, message.data)
                return None

    async def _pong(self, data: bytes) -> None:
        if self._transport.get_write_buffer_size() > self._limits.write_buffer_bytes:
            return  # who asks without reading the answers must not fill the memory
        with contextlib.suppress(ConnectionError):  # then the next `receive` says so
            await self._ws.pong(data)

    def _note_closed(self, kind: WSMsgType, data: object) -> None:
        if self.over:
            return  # closed by us
        self._how = How.LOST
        if kind is WSMsgType.CLOSE:
            self._why = f"socket closed ({data or 1005})"
        elif isinstance(data, WebSocketError):
            # More than 64 KiB in a message, or not WebSocket: aiohttp has closed it already.
            self._count_garbage("frame")
            self._why = f"not a frame of Twilio ({data.code})"
        else:
            self._why = "socket broke (1006)"

    def _take_audio(self, timestamp_ms: int | None, audio: bytes) -> None:
        self._frames_up += 1
        if timestamp_ms is not None:
            missing = self._gaps.before(timestamp_ms, len(audio))
            if missing:
                metrics.GAPS_FILLED_MS.inc(PCMU.ms(missing))
                audio = PCMU.silent_sample * missing + audio
        if not audio:
            return
        if self._live:
            self._bus.send_audio(self._up_audio, audio)
        elif dropped := self._hold.keep_audio(audio):
            metrics.DROPPED_IN_HOLD.inc(dropped)

    def _take_other(self, wire: twilio.StreamWire, data: bytes) -> bool:
        """False: the phone said that this is the end."""
        try:
            message = wire.parse(data)
        except twilio.WireError as error:
            self._count_garbage(error.kind)
            return True
        match message:
            case twilio.Media(timestamp_ms, audio):
                self._take_audio(timestamp_ms, audio)
            case MarkReturned() | DtmfPressed():
                if self._live:
                    # Through the same queue as audio, so it keeps its place in time.
                    self._bus.send_control(self._up_control, message, urgent=True)
                elif not self._hold.keep_control(message):
                    self._count_garbage("too_early")
            case twilio.Start():
                self._count_garbage("second_start")
            case twilio.Stop():
                if not self.over:
                    self._how = How.STOPPED
                return False
            case twilio.Connected() | twilio.Ignored():
                pass
        return True

    def _count_garbage(self, kind: str) -> None:
        metrics.GARBAGE.labels(kind).inc()
        self._garbage += 1
        if self._garbage == 1:  # the first only, and never its content
            log.warning(
                "a phone socket sends what Twilio does not send",
                extra={"call": self._call, "kind": kind},
            )
        if kind == "unknown_event":
            return  # Twilio may add events: that must not end calls
        self._garbage_limit -= 1
        if self._garbage_limit < 0:
            self.end(How.LOST, WSCloseCode.POLICY_VIOLATION, "too much garbage (1008)")

    # --- from the owner ---------------------------------------------------------------------

    async def _attach(self, start: twilio.Start) -> None:
        """Bring phone and owner together; what was kept for the owner goes first."""
        if self._admission.call is None and not await self._offer(start):
            return
        try:
            attached = await self._owners.attach(self._call, start.stream)
        except NotAttachedError as error:
            # Twilio asks `/twiml/after` now, and may get another try.
            self.end(How.REFUSED, WSCloseCode.INTERNAL_ERROR, f"not attached: {error}")
            return
        self._leg = attached.leg
        self.worker = attached.worker
        self._up_audio = subjects.up(self._call, attached.leg, "audio")
        self._up_control = subjects.up(self._call, attached.leg, "ctl")
        self._down_audio = subjects.down(self._call, attached.epoch, "audio")
        if self.over:
            return  # the phone is gone already; `run` tells the owner
        try:
            # One subscription for audio and control keeps their order.
            self._subscription = await self._bus.subscribe(
                subjects.down(self._call, attached.epoch), self._from_owner
            )
        except nats.errors.Error:
            self.end(How.LOST, WSCloseCode.INTERNAL_ERROR, "NATS is closed (1011)")
            return
        # The server must know of our interest before the owner may speak.
        await self._bus.flush()
        self._go_live()

    def _go_live(self) -> None:
        """Nothing here waits, so nothing that the phone sends can slip in between."""
        if self.over:
            return
        self._bus.send_control(self._up_control, LegStarted(), urgent=True)
        for one in self._hold.release():
            if isinstance(one, bytes):
                self._bus.send_audio(self._up_audio, one)
            else:
                self._bus.send_control(self._up_control, one)
        self._live = True

    async def _offer(self, start: twilio.Start) -> bool:
        outcome = await self._owners.offer(
            self._call, caller=start.caller, dialled=start.dialled, outbound=False
        )
        if outcome is Outcome.TAKEN:
            return True
        code = {
            Outcome.BUSY: WSCloseCode.TRY_AGAIN_LATER,
            Outcome.ENDED: WSCloseCode.OK,
        }.get(outcome, WSCloseCode.INTERNAL_ERROR)
        self.end(How.REFUSED, code, f"not taken: {outcome}")
        return False

    async def _from_owner(self, msg: Msg) -> None:
        wire = self._wire
        if self.over or wire is None:
            return
        frame: bytes | None
        if msg.subject == self._down_audio:
            if self._transport.get_write_buffer_size() > self._limits.write_buffer_bytes:
                metrics.DROPPED_TO_PHONE.inc(len(msg.data))
                return
            self._frames_down += 1
            frame = wire.media(msg.data)
        else:
            frame = self._control_frame(wire, msg.data)
            if frame is None:
                return
        # Does not wait for a slow phone (see `WRITER_LIMIT`): the subscription is bounded, and what
        # is dropped there could be control.
        with contextlib.suppress(ConnectionError):  # the reader sees it too
            await self._ws.send_frame(frame, WSMsgType.TEXT)

    def _control_frame(self, wire: twilio.StreamWire, data: bytes) -> bytes | None:
        try:
            message = DOWN_CONTROL.validate_json(data)
        except ValidationError:
            metrics.GARBAGE.labels("from_owner").inc()
            log.warning("an owner's message makes no sense", extra={"call": self._call})
            return None
        match message:
            case Mark():
                return wire.mark(message.name)
            case Clear():
                return wire.clear
            case HangUpLeg():
                self.end(How.HUNG_UP, WSCloseCode.OK, message.reason)
            case Move() if message.leg != self._leg:
                self.end(How.MOVED, WSCloseCode.OK, f"leg {message.leg} carries the call")
            case Move():
                pass
        return None

    # --- the end ----------------------------------------------------------------------------

    async def _finish(self, seconds: float) -> None:
        if self._how is None:
            self._how, self._why = How.LOST, "the gateway gave up (1011)"
        if self._leg is not None:
            if self._how is How.STOPPED:
                self._bus.send_control(self._up_control, LegStopped(), urgent=True)
            elif self._how is How.LOST:
                self._bus.send_control(self._up_control, LegLost(reason=self._why), urgent=True)
        if self._subscription is not None:
            await self._bus.unsubscribe(self._subscription)
        if self._closing is None:
            await self._close(WSCloseCode.OK)
        else:
            await self._closing
        metrics.STREAMS_ENDED.labels(self._how).inc()
        metrics.FRAMES_UP.inc(self._frames_up)
        metrics.FRAMES_DOWN.inc(self._frames_down)
        for kind in ("backwards", "absurd", "cut"):
            metrics.GAPS_ODD.labels(kind).inc(getattr(self._gaps, kind))
        log.info(
            "phone stream ended",
            extra={
                "call": self._call,
                "leg": self._leg,
                "how": str(self._how),
                "why": self._why,
                "seconds": round(seconds, 1),
                "frames_up": self._frames_up,
                "frames_down": self._frames_down,
                "filled_ms": self._gaps.filled_ms,
                "garbage": self._garbage,
            },
        )

    async def _close(self, code: int) -> None:
        with contextlib.suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(self._limits.close_s):
                await self._ws.close(code=code, drain=False)
        if self._transport.get_write_buffer_size():
            # A phone that does not read would keep the connection for ever.
            asyncio.get_running_loop().call_later(self._limits.close_s, self._transport.abort)
