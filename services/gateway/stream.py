"""One phone socket: Twilio's Media Stream on one side, the call's owner on the other.

The reader lives in the request's handler; what the owner sends arrives in a callback of its
subscription, hold music in another.  Between them there is no task and no queue: a frame read is
sent (`uplink`), a message received is written.  Whoever finds that the stream must end calls `end`,
once; the reader then leaves its loop, and `run` says the last word to the owner and cleans up, on
every path.
"""

import asyncio
import logging

import nats.errors
from aiohttp import WSCloseCode
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from pydantic import ValidationError

from services.gateway import metrics, twilio
from services.gateway.music import Music
from services.gateway.offers import NotAttachedError, Outcome, Owners
from services.gateway.phone_socket import PhoneSocket, WebSocket
from services.gateway.terms import Admission, How, Limits
from services.gateway.updates import Desk, Updates
from services.gateway.uplink import Uplink
from shared import subjects
from shared.bus import Bus
from shared.messages import (
    DOWN_CONTROL,
    Clear,
    DtmfPressed,
    HangUpLeg,
    HoldOff,
    HoldOn,
    LegLost,
    LegStopped,
    Mark,
    MarkReturned,
    Move,
    SendDigits,
    TransferLeg,
)

log = logging.getLogger(__name__)


class PhoneStream:
    """Call `run` once; `end` and `ping` from anywhere."""

    def __init__(
        self,
        ws: WebSocket,
        transport: asyncio.Transport,
        admission: Admission,
        *,
        bus: Bus,
        owners: Owners,
        desk: Desk,
        limits: Limits,
    ) -> None:
        self._socket = PhoneSocket(ws, transport, limits, self._count_garbage)
        self._admission = admission
        self._bus = bus
        self._owners = owners
        self._limits = limits
        self._uplink = Uplink(bus, limits)
        self._music = Music(bus, self._play)
        self._updates = Updates(desk, self._uplink.tell)
        self._frames_down = 0
        self._garbage = 0
        self._garbage_limit = limits.garbage
        # Known from `start` on.
        self._wire: twilio.StreamWire | None = None
        self._call = admission.call or ""
        # Known when the owner has attached the leg.
        self.worker = ""
        self._down_audio = ""
        self._subscription: Subscription | None = None
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
            self._music.silence()
            # Not here: the caller may be the subscription, which is cancelled by our clean-up.
            self._closing = asyncio.create_task(self._socket.close(code), name="close phone socket")

    @property
    def over(self) -> bool:
        """Whether the end has begun."""
        return self._how is not None

    async def ping(self) -> None:
        """To be called every few seconds; ends a stream from which nothing comes back."""
        if not await self._socket.ping():
            self.end(How.LOST, WSCloseCode.GOING_AWAY, "nothing was heard, not even a pong")

    # --- from the phone ---------------------------------------------------------------------

    async def _first_start(self) -> twilio.Start | None:
        """The first message that says which call this is; None if there was none in time."""
        try:
            async with asyncio.timeout(self._limits.start_s):
                while (data := await self._socket.receive()) is not None:
                    try:
                        message = twilio.parse(data)
                    except twilio.WireError as error:
                        self._count_garbage(error.kind)
                        continue
                    if isinstance(message, twilio.Start):
                        return message if self._is_admitted(message) else None
                    if not isinstance(message, twilio.Connected):
                        self._count_garbage("before_start")
                self._note_closed()
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
        receive, take_audio = self._socket.receive, self._uplink.take_audio
        while (data := await receive()) is not None:
            media = wire.fast_media(data)
            if media is not None:
                take_audio(*media)
            elif not self._take_other(wire, data):
                return
        self._note_closed()

    def _note_closed(self) -> None:
        if not self.over:  # else it was us
            self._how, self._why = How.LOST, self._socket.closed_by_peer

    def _take_other(self, wire: twilio.StreamWire, data: bytes) -> bool:
        """False: the phone said that this is the end."""
        try:
            message = wire.parse(data)
        except twilio.WireError as error:
            self._count_garbage(error.kind)
            return True
        match message:
            case twilio.Media(timestamp_ms, audio):
                self._uplink.take_audio(timestamp_ms, audio)
            case MarkReturned() | DtmfPressed():
                if not self._uplink.take_control(message):
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
            # A note is ours when the socket is: a bare stream's may be anybody's.
            note = start.note if self._admission.call is not None else ""
            attached = await self._owners.attach(self._call, start.stream, note)
        except NotAttachedError as error:
            # Twilio asks `/twiml/after` now, and may get another try.
            self.end(How.REFUSED, WSCloseCode.INTERNAL_ERROR, f"not attached: {error}")
            return
        self._uplink.attached(self._call, attached.leg)
        self.worker = attached.worker
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
        if not self.over:
            self._uplink.go_live()

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
        if msg.subject == self._down_audio:
            await self._play(msg.data)
        elif self._wire is not None and not self.over:
            await self._obey(self._wire, msg.data)

    async def _play(self, audio: bytes) -> None:
        """The agent's audio, or hold music."""
        wire = self._wire
        if self.over or wire is None:
            return
        if self._socket.congested:
            metrics.DROPPED_TO_PHONE.inc(len(audio))
            return
        self._frames_down += 1
        await self._socket.send(wire.media(audio))

    async def _obey(self, wire: twilio.StreamWire, data: bytes) -> None:
        try:
            message = DOWN_CONTROL.validate_json(data)
        except ValidationError:
            metrics.GARBAGE.labels("from_owner").inc()
            log.warning("an owner's message makes no sense", extra={"call": self._call})
            return
        match message:
            case Mark():
                await self._socket.send(wire.mark(message.name))
            case Clear():
                self._music.silence()
                await self._socket.send(wire.clear)
                await self._music.leave()
            case HoldOn() | HoldOff():
                await self._hold(wire, message)
            case TransferLeg() | SendDigits():
                self._updates.begin(self._call, message)
            case HangUpLeg():
                self.end(How.HUNG_UP, WSCloseCode.OK, message.reason)
            case Move():
                if message.leg != self._uplink.leg:
                    self.end(How.MOVED, WSCloseCode.OK, f"leg {message.leg} carries the call")

    async def _hold(self, wire: twilio.StreamWire, message: HoldOn | HoldOff) -> None:
        on, is_this = isinstance(message, HoldOn), message.hold == self._music.hold
        if on == is_this:
            return  # is on already, or was over already
        # What Twilio has buffered of the music would be heard before the agent's next word.
        if self._music.silence():
            await self._socket.send(wire.clear)
        await self._music.leave()
        if on:
            await self._music.listen(self._call, message.hold)

    # --- the end ----------------------------------------------------------------------------

    async def _finish(self, seconds: float) -> None:
        if self._how is None:
            self._how, self._why = How.LOST, "the gateway gave up (1011)"
        self._music.silence()
        if self._closing is None:
            self._closing = asyncio.create_task(self._socket.close(WSCloseCode.OK))
        # A stop may be the work of a request whose answer is still to come.
        matters = self._how in (How.STOPPED, How.LOST)
        await self._updates.finish(self._limits.update_s if matters else 0)
        if self._how is How.STOPPED:
            self._uplink.tell(LegStopped())
        elif self._how is How.LOST:
            self._uplink.tell(LegLost(reason=self._why))
        await self._music.leave()
        if self._subscription is not None:
            await self._bus.unsubscribe(self._subscription)
        await self._closing
        self._account(self._how, seconds)

    def _account(self, how: How, seconds: float) -> None:
        up, gaps = self._uplink, self._uplink.gaps
        metrics.STREAMS_ENDED.labels(how).inc()
        metrics.FRAMES_UP.inc(up.frames)
        metrics.FRAMES_DOWN.inc(self._frames_down)
        metrics.FRAMES_MUSIC.inc(self._music.frames)
        for kind in ("backwards", "absurd", "cut"):
            metrics.GAPS_ODD.labels(kind).inc(getattr(gaps, kind))
        log.info(
            "phone stream ended",
            extra={
                "call": self._call,
                "leg": up.leg,
                "how": str(how),
                "why": self._why,
                "seconds": round(seconds, 1),
                "frames_up": up.frames,
                "frames_down": self._frames_down,
                "frames_music": self._music.frames,
                "filled_ms": gaps.filled_ms,
                "garbage": self._garbage,
            },
        )
