"""A worker in this process, a scripted gateway, a simulated model: for tests on a real broker."""

import asyncio
import contextlib
import itertools
from collections.abc import Callable
from typing import Any

from nats.aio.msg import Msg

from services.session import pricing, realtime
from services.session.agents import Agents
from services.session.claims import Claims
from services.session.events import ModelEvent
from services.session.model_socket import ModelSocket
from services.session.worker import Worker
from shared import messages, subjects
from shared.audio import FRAME_MS, PCMU
from shared.bus import Bus, bucket
from shared.messages import AttachLeg, CallRecord, LegAttached, Offer, OfferTaken
from shared.settings import ServiceSettings
from shared.tools import Directory
from simulators.openai_realtime import Call, RealtimeSimulator, Script, Step, Turn
from tests.helpers import eventually

KEY = "sk-sim"
KINDS = {kind.NAME: kind for kind in messages.EVENTS}
NUMBERS = itertools.count(1)
#: As loud as mu-law gets: the simulated model's voice detection hears it as speech.
NOISE = b"\x00\x80\x00\x80" * 40
SILENCE = PCMU.silence(FRAME_MS)
SCRIPT = Script(
    name="gpt-realtime-2.1",
    greeting=Step(say="Hello.", audio_ms=600),
    turns=(Turn(hear="Are you there?", say="Yes, I am.", audio_ms=4000),),
    otherwise=Turn(say="I heard you.", audio_ms=400),
    think_ms=50,
)
#: The model calls a function when it is asked, without a word.
CALLING = {
    name: Script(
        name=name,
        greeting=Step(say="Hello.", audio_ms=200),
        turns=(
            Turn(
                hear="Look it up.",
                call=(Call(name="look_up", arguments=arguments),),
                then=Step(say="It is {temp}.", on_error="I am sorry.", audio_ms=400),
            ),
        ),
        otherwise=Turn(say="I heard you.", audio_ms=400),
        think_ms=50,
    )
    for name, arguments in (("calling", {"place": "Oslo", "caller": "+666"}), ("odd", "{"))
}
SCRIPTS = {SCRIPT.name: SCRIPT, **CALLING}
TIMEOUT_S = 5.0


class Gateway:
    """One phone: offers its call, attaches a leg, plays in real time, returns marks."""

    def __init__(self, bus: Bus, dialled: str = "+2") -> None:
        self.bus = bus
        self._dialled = dialled
        self.call = f"CA{next(NUMBERS):032x}"
        self.story: list[messages.Event] = []
        self.audio = bytearray()
        self.controls: list[messages.Message] = []
        #: Types of control messages, and `audio` for any number of frames, as they came.
        self.order: list[str] = []
        self.leg = 0
        self.saying = SILENCE
        self._plays_until = 0.0
        self._owed: dict[str, asyncio.TimerHandle] = {}
        self._pump: asyncio.Task[None] | None = None
        self._subscriptions: list[Any] = []

    async def witness(self) -> None:
        subject = f"call.{self.call}.event.>"
        self._subscriptions.append(await self.bus.subscribe(subject, self._on_event))
        await self.bus.flush()

    async def offer(self) -> OfferTaken | messages.OfferRefused:
        offer = Offer(call=self.call, caller="+1", dialled=self._dialled, gateway="gw-1")
        answer = await self.bus.request(subjects.OFFER, offer, timeout_s=TIMEOUT_S)
        return messages.OFFER_ANSWER.validate_json(answer)

    async def command(self, command: messages.Message) -> messages.Message:
        subject = subjects.command(self.call)
        answer = await self.bus.request(subject, command, timeout_s=TIMEOUT_S)
        return messages.COMMAND_ANSWER.validate_json(answer)

    async def attach(self) -> None:
        attached = await self.command(AttachLeg(gateway="gw-1", stream="MZ1"))
        assert isinstance(attached, LegAttached)
        self.leg = attached.leg
        subject = subjects.down(self.call, attached.epoch)
        self._subscriptions.append(await self.bus.subscribe(subject, self._on_down))
        await self.bus.flush()
        self.say(messages.LegStarted())
        if self._pump is None:
            self._pump = asyncio.create_task(self._send_audio())

    async def begin(self) -> "Gateway":
        await self.witness()
        answer = await self.offer()
        assert isinstance(answer, OfferTaken), answer
        await self.attach()
        return self

    def say(self, control: messages.Message) -> None:
        self.bus.send_control(subjects.up(self.call, self.leg, "ctl"), control, urgent=True)

    async def _send_audio(self) -> None:
        while True:
            self.bus.send_audio(subjects.up(self.call, self.leg, "audio"), self.saying)
            await asyncio.sleep(FRAME_MS / 1000)  # a phone's pace

    async def _on_event(self, message: Msg) -> None:
        name = message.subject.rsplit(".", 1)[1]
        self.story.append(KINDS[name].decode(message.data))

    async def _on_down(self, message: Msg) -> None:
        loop = asyncio.get_running_loop()
        if message.subject.endswith("audio"):
            self.audio += message.data
            if self.order[-1:] != ["audio"]:
                self.order.append("audio")
            self._plays_until = max(self._plays_until, loop.time()) + len(message.data) / 8000
            return
        control = messages.DOWN_CONTROL.validate_json(message.data)
        self.controls.append(control)
        self.order.append(control.type)
        match control:
            case messages.Mark(name=name):
                self._owed[name] = loop.call_at(self._plays_until, self._return, name)
            case messages.Clear():
                self._plays_until = 0.0
                for name in list(self._owed):
                    self._return(name)
            case _:
                pass

    def _return(self, name: str) -> None:
        self._owed.pop(name).cancel()
        self.say(messages.MarkReturned(name=name))

    def told(self, name: str) -> list[Any]:
        return [line for line in self.story if name == line.NAME]

    async def ended(self) -> messages.CallEnded:
        await eventually(lambda: self.told("ended"))
        ended = self.told("ended")[0]
        assert isinstance(ended, messages.CallEnded)
        return ended

    async def speaks(self) -> None:
        """The caller says something, until the model has heard it begin and end."""
        begun = len(self.told("caller_started_speaking"))
        self.saying = NOISE
        await eventually(lambda: len(self.told("caller_started_speaking")) > begun)
        self.saying = SILENCE
        await eventually(lambda: len(self.told("caller_stopped_speaking")) > begun)

    async def close(self) -> None:
        if self._pump is not None:
            self._pump.cancel()
            await asyncio.gather(self._pump, return_exceptions=True)
        for timer in self._owed.values():
            timer.cancel()
        for subscription in self._subscriptions:
            await self.bus.unsubscribe(subscription)


class House:
    """Makes workers and gateways, and takes them down in the right order."""

    def __init__(self, bus: Bus, nats_url: str, model: RealtimeSimulator) -> None:
        self.bus = bus
        self.model = model
        #: Subscriptions of each worker's connection after its stop.
        self.left_over: list[int] = []
        self._nats_url = nats_url
        self._stack = contextlib.AsyncExitStack()

    async def worker(self, max_calls: int = 10, *, url: str = "", key: str = KEY) -> Worker:
        settings = ServiceSettings(nats_url=self._nats_url, _env_file=None)
        name = f"w-{next(NUMBERS)}"
        bus = await Bus.connect(settings, "session", name=name)
        self._stack.push_async_callback(bus.close)
        self._stack.callback(lambda: self.left_over.append(bus.subscriptions))
        base = url or self.model.url

        def dial(model: str, on_event: Callable[[ModelEvent], None]) -> ModelSocket:
            return ModelSocket(realtime.url_for(base, model), key, on_event)

        agents = Agents(await bucket(bus, subjects.AGENTS_BUCKET))
        await agents.start()
        self._stack.push_async_callback(agents.stop)
        directory = Directory(bus)
        await directory.start()
        self._stack.push_async_callback(directory.stop)
        worker = Worker(
            name,
            bus,
            agents=agents,
            claims=Claims(await bucket(bus, subjects.CALLS_BUCKET)),
            prices=pricing.load(),
            dial=dial,
            max_calls=max_calls,
            tools=lambda: directory.tools,
        )
        await worker.start()
        await bus.flush()
        self._stack.push_async_callback(worker.stop, 0.0)
        return worker

    def gateway(self, dialled: str = "+2") -> Gateway:
        gateway = Gateway(self.bus, dialled)
        self._stack.push_async_callback(gateway.close)
        return gateway

    async def record(self, call: str) -> CallRecord:
        calls = await bucket(self.bus, subjects.CALLS_BUCKET)
        return CallRecord.decode((await calls.get(call)).value or b"")

    async def close(self) -> None:
        await self._stack.aclose()


def ours(tasks: set[asyncio.Task[Any]]) -> list[str]:
    """Names of tasks that belong to the service, not to the simulated model."""
    names = ("call", "beat", "leave", "agents", "model-socket", "model-writer", "tool", "music")
    return [task.get_name() for task in tasks if task.get_name() in names]
