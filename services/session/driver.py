"""The shell of one call: owns its sockets and its one timer, and holds no rules.

Events are handled where they arrive, at once and in order: `Call.handle` is pure and takes
microseconds.  Actions that only send are performed on the spot; those that wait for somebody
(dialling, subscribing, saving, answering) go through one slow lane, in order.
"""

import asyncio
import collections
import contextlib
import functools
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final, assert_never

import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from pydantic import ValidationError

from services.session import events, metrics
from services.session.events import Action, ModelEvent, PhoneEvent
from services.session.machine import Call
from services.session.model_socket import ModelSocket
from services.session.outside import Outside
from services.session.states import RemoteError
from shared import messages, subjects
from shared.audio import FORMATS
from shared.bus import Bus
from shared.messages import CallRecord, Message

log = logging.getLogger(__name__)

#: Caller audio kept until the model is configured; the oldest goes first.  A dial takes 2 s at
#: worst, and what was said longer ago than this is no longer an answer to anything.
UPLINK_KEEP_MS: Final = 5000
#: How long the end of a call may take: the last save and the closing handshake.
FINISH_TIMEOUT_S: Final = 5.0

#: Writes a record by compare-and-set; False: somebody else owns the call now.
SaveRecord = Callable[[CallRecord], Awaitable[bool]]
#: Opens a socket for a model.
DialModel = Callable[[str, Callable[[ModelEvent], None]], ModelSocket]


class CallDriver:
    """Runs one call from its claim to its end: `await run()`."""

    def __init__(self, call: Call, bus: Bus, *, dial: DialModel, save: SaveRecord) -> None:
        self.call = call
        self.id = call.record.call
        self._bus = bus
        self._dial = dial
        self._save = save
        self._loop = asyncio.get_running_loop()
        self._model: ModelSocket | None = None
        self._uplink_open = False
        self._audio = FORMATS[call.record.audio]
        self._kept: collections.deque[bytes] = collections.deque()
        self._kept_bytes = 0
        #: Steps that wait for somebody, in order; bounded by what one call can ask for.
        self._lane: asyncio.Queue[Callable[[], Awaitable[None]]] = asyncio.Queue()
        #: Sockets that are being closed: nobody waits for their handshakes but the call's end.
        self._closing: set[asyncio.Task[None]] = set()
        self._crash: Exception | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._commands: Subscription | None = None
        self._leg: Subscription | None = None
        self._down_audio = subjects.down(self.id, call.record.epoch, "audio")
        self._down_control = subjects.down(self.id, call.record.epoch, "ctl")
        self._finished = False
        self._outside = Outside(bus, call.record, self.feed)
        #: Set when commands are listened to: only now may the offer be answered.
        self.listening = asyncio.Event()

    async def run(self) -> None:
        """Live the call.  Returns when it is over and everything it opened is closed.

        Raises what the machine raised on an event of our own that was illegal: a bug.
        """
        try:
            self._commands = await self._bus.subscribe(subjects.command(self.id), self._on_command)
            self.listening.set()
            self._guarded(self.call.start)
            while not self._finished or not self._lane.empty():
                step = await self._lane.get()
                await step()
            if self._crash is not None:
                raise self._crash
        finally:
            self.listening.set()
            await self._let_go()

    def feed(self, event: PhoneEvent | ModelEvent, *, command: Msg | None = None) -> None:
        """Handle an event now.  A vendor's illegal event is counted and survived.

        `command` is the request that an `Answer` belongs to.
        """
        self._guarded(functools.partial(self.call.handle, event), command)

    def _guarded(self, step: Callable[[float], list[Action]], command: Msg | None = None) -> None:
        """Take a step of the machine now and perform it; what breaks ends this call only."""
        if self._finished:
            return
        try:
            self._perform(step(self._loop.time()), command)
        except RemoteError as error:
            metrics.VENDOR_SURPRISES.inc()
            log.warning("the model surprised us", extra={"call": self.id, "error": str(error)})
        except Exception as error:  # noqa: BLE001 - raised again by run(), the call's top frame
            self._crashed(error)

    def _crashed(self, error: Exception) -> None:
        self._crash = error
        self._finished = True
        self._later(_nothing)  # wake run() up

    # --- actions ----------------------------------------------------------------------------

    def _perform(self, actions: list[Action], command: Msg | None = None) -> None:  # noqa: C901 - a case an action
        for action in actions:
            match action:
                case events.PlayAudio(audio):
                    if not self._bus.send_audio(self._down_audio, audio):
                        self._count_dropped(len(audio))
                case events.PlayMark(name):
                    self._bus.send_control(self._down_control, messages.Mark(name=name))
                case events.PlayClear():
                    self._bus.send_control(self._down_control, messages.Clear(), urgent=True)
                case events.SendModel(event):
                    if self._model is not None:
                        self._model.send(event)
                case events.Tell(event):
                    metrics.observe(event)
                    self._bus.tell(event)
                case events.OpenUplink():
                    self._open_uplink()
                case events.CloseUplink():
                    self._uplink_open = False
                case events.DialModel(model):
                    self._close_model()
                    self._model = self._dial(model, self.feed)
                case events.CloseModel():
                    self._close_model()
                case events.RunTool():
                    self._outside.run_tool(action)
                case events.PlayMusic():
                    self._outside.play_music(action)
                case events.StopMusic():
                    self._outside.stop_music(action)
                case events.TransferLeg(to):
                    self._send_down(messages.TransferLeg(to=to))
                case events.SendDigits(digits):
                    self._send_down(messages.SendDigits(digits=digits))
                case events.ListenLeg(leg):
                    self._later(self._listen, leg)
                case events.MoveLeg(leg):
                    self._later(self._control, messages.Move(leg=leg))
                case events.HangUpLeg(reason):
                    self._later(self._control, messages.HangUpLeg(reason=reason))
                case events.Answer(message):
                    self._later(self._answer, command, message)
                case events.Save(record):
                    self._later(self._save_record, record)
                case events.Finish():
                    self._later(self._finish)
                case _:
                    assert_never(action)
        self._arm()

    def _later(self, step: Callable[..., Awaitable[None]], *arguments: Any) -> None:
        self._lane.put_nowait(functools.partial(step, *arguments))

    def _send_down(self, message: Message) -> None:
        self._bus.send_control(self._down_control, message, urgent=True)

    async def _control(self, message: Message) -> None:
        self._send_down(message)

    async def _answer(self, command: Msg | None, answer: Message) -> None:
        if command is not None and command.reply:
            with contextlib.suppress(nats.errors.Error):  # who asked will ask again
                await command.respond(answer.encode())

    async def _save_record(self, record: CallRecord) -> None:
        if not await self._save(record) and record.state != "ended":
            self.feed(events.OwnershipLost())

    async def _finish(self) -> None:
        self._finished = True

    async def abandon(self) -> None:
        """After a crash: let the phone go, and leave a record and a last line that say so."""
        for action in self.call.handle(events.HangUpRequested("failed"), self._loop.time()):
            match action:
                case events.Tell(event):
                    metrics.observe(event)
                    self._bus.tell(event)
                case events.Save(record):
                    await self._save(record)
                case events.HangUpLeg(reason):
                    await self._control(messages.HangUpLeg(reason=reason))
                case events.StopMusic():
                    self._outside.stop_music(action)
                case _:
                    pass  # the sockets were closed when the call crashed

    def _close_model(self) -> None:
        """It is deaf and mute at once; its closing handshake holds nobody up."""
        if self._model is not None:
            model, self._model = self._model, None
            metrics.MALFORMED_EVENTS.inc(model.malformed)
            closing = model.close()
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    async def _let_go(self) -> None:
        self._finished = True
        if self._timer is not None:
            self._timer.cancel()
        for subscription in (self._commands, self._leg):
            if subscription is not None:
                await self._bus.unsubscribe(subscription)
        self._close_model()
        await self._outside.close()
        if self._closing:
            await asyncio.wait(self._closing, timeout=FINISH_TIMEOUT_S)

    # --- one timer --------------------------------------------------------------------------

    def _arm(self) -> None:
        due = self.call.next_timer()
        if self._timer is not None:
            # An earlier wake-up than needed is harmless and cheaper than re-arming per frame.
            if due is None or self._timer.when() <= due:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(due, self._on_timer) if due is not None else None

    def _on_timer(self) -> None:
        self._timer = None
        self._guarded(self.call.handle_timer)

    # --- the caller's audio -----------------------------------------------------------------

    async def _on_up(self, message: Msg) -> None:
        if message.subject.endswith("audio"):
            self.call.line_heard_at = self._loop.time()
            if self._uplink_open and self._model is not None:
                self._count_dropped(await self._model.send_audio(message.data))
            else:
                self._keep(message.data)
            return
        self._on_control(message)

    def _keep(self, audio: bytes) -> None:
        self._kept.append(audio)
        self._kept_bytes += len(audio)
        while self._kept_bytes > UPLINK_KEEP_MS * self._audio.bytes_per_ms:
            dropped = len(self._kept.popleft())
            self._kept_bytes -= dropped
            self._count_dropped(dropped)

    def _count_dropped(self, size: int) -> None:
        if size:
            self.call.audio_dropped(self._audio.ms(size))

    def _open_uplink(self) -> None:
        if self._model is None:
            return
        self._uplink_open = True
        # Behind the events queued before; live audio that comes meanwhile queues behind this.
        kept, self._kept_bytes = b"".join(self._kept), 0
        self._kept.clear()
        if kept:
            self._count_dropped(self._model.queue_audio(kept))

    # --- control ----------------------------------------------------------------------------

    def _on_control(self, message: Msg) -> None:
        try:
            control = messages.UP_CONTROL.validate_json(message.data)
            leg = int(message.subject.split(".")[3])
        except (ValidationError, ValueError):
            metrics.MALFORMED_MESSAGES.inc()
            return
        match control:
            case messages.LegStarted():
                self.feed(events.LegStarted(leg))
            case messages.MarkReturned(name=name):
                self.feed(events.MarkReturned(leg, name))
            case messages.DtmfPressed(digit=digit):
                self.feed(events.DtmfPressed(leg, digit))
            case messages.LegStopped():
                self.feed(events.LegStopped(leg))
            case messages.LegLost(reason=reason):
                self.feed(events.LegLost(leg, reason))
            case messages.PhoneUpdated(what=what, ok=ok, code=code, message=text):
                self.feed(events.PhoneUpdated(leg, what, ok, code, text))
            case _:
                assert_never(control)

    async def _listen(self, leg: int) -> None:
        if self._leg is not None:
            await self._bus.unsubscribe(self._leg)
        self._leg = await self._bus.subscribe(subjects.up(self.id, leg), self._on_up)

    async def _on_command(self, message: Msg) -> None:
        try:
            command = messages.COMMAND.validate_json(message.data)
        except ValidationError:
            metrics.MALFORMED_MESSAGES.inc()
            await message.respond(
                messages.Refused(code="invalid", message="not a command").encode()
            )
            return
        match command:
            case messages.AttachLeg():
                attach = events.LegRequested(
                    command.gateway, command.stream, command.audio, command.note
                )
                self.feed(attach, command=message)
            case messages.HangUp(reason=reason):
                await message.respond(messages.Done().encode())
                self.feed(events.HangUpRequested(reason))
            case _:
                assert_never(command)


async def _nothing() -> None:
    """A step that only wakes the lane."""
