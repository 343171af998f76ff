"""What the gateway's integration tests need around it: a gateway, an owner by script, a phone."""

import asyncio
import base64
import contextlib
import json
import secrets
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from xml.etree import ElementTree

import aiohttp
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from prometheus_client import REGISTRY
from twilio.request_validator import RequestValidator  # type: ignore[import-untyped]
from websockets.asyncio.client import ClientConnection, connect

from services.gateway.app import serve
from services.gateway.settings import GatewaySettings
from services.gateway.terms import Limits
from shared import subjects
from shared.bus import Bus
from shared.lifecycle import Lifecycle
from shared.messages import (
    COMMAND,
    UP_CONTROL,
    AttachLeg,
    Beat,
    CallRecord,
    Done,
    HangUp,
    LegAttached,
    Message,
    Offer,
    OfferRefused,
    OfferTaken,
    Refused,
)
from tests.helpers import eventually

STREAM = "MZ" + "5" * 32
ACCOUNT = "AC" + "a" * 32
SECRET = "a secret of the tests"


def new_call() -> str:
    """A call id that no other test uses: the broker keeps its data for the whole run."""
    return "CA" + secrets.token_hex(16)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


# --- the gateway ---------------------------------------------------------------------------------


@dataclass
class Gateway:
    settings: GatewaySettings
    life: Lifecycle
    bus: Bus
    http: aiohttp.ClientSession
    running: asyncio.Task[None]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.settings.listen_port}"

    @property
    def ws_url(self) -> str:
        return f"ws://127.0.0.1:{self.settings.listen_port}"

    def sign(self, url: str, params: dict[str, str] | None = None) -> dict[str, str]:
        token = self.settings.twilio_auth_token
        if token is None:
            return {}
        validator = RequestValidator(token.get_secret_value())
        return {"X-Twilio-Signature": validator.compute_signature(url, params or {})}

    async def post(self, path: str, **params: str) -> tuple[int, str]:
        headers = self.sign(self.settings.origin + path, params)
        async with self.http.post(self.url + path, data=params, headers=headers) as answer:
            return answer.status, await answer.text()

    async def get(self, path: str) -> tuple[int, str]:
        headers = self.sign(self.settings.origin + path)
        async with self.http.get(self.url + path, headers=headers) as answer:
            return answer.status, await answer.text()

    async def twiml(self, call: str, path: str = "/twiml", **params: str) -> ElementTree.Element:
        status, text = await self.post(path, CallSid=call, AccountSid=ACCOUNT, **params)
        assert status == 200, text
        return ElementTree.fromstring(text)

    async def token(self, call: str) -> str:
        return stream_url(await self.twiml(call)).rpartition("/")[2]

    async def stop(self) -> None:
        self.life.stopping.set()
        await self.running


def stream_url(document: ElementTree.Element) -> str:
    stream = document.find("Connect/Stream")
    assert stream is not None, ElementTree.tostring(document)
    return stream.attrib["url"]


def verbs(document: ElementTree.Element) -> list[str]:
    return [verb.tag for verb in document]


@contextlib.asynccontextmanager
async def gateway(
    nats_url: str, *, limits: Limits | None = None, **fields: Any
) -> AsyncIterator[Gateway]:
    values: dict[str, Any] = {"stream_token_secret": SECRET, "drain_s": 0, "offer_timeout_s": 0.5}
    values |= {"nats_url": nats_url, "listen_port": free_port(), "_env_file": None, **fields}
    settings = GatewaySettings(**values)
    bus = await Bus.connect(settings, "gateway", name="gateway")
    life = Lifecycle("gateway")
    life.check("nats", lambda: None if bus.connected else "NATS is not connected")
    running = asyncio.create_task(serve(life, bus, settings, limits=limits))
    try:
        async with aiohttp.ClientSession() as http:
            one = Gateway(settings, life, bus, http, running)

            async def alive() -> bool:
                if running.done():
                    running.result()
                with contextlib.suppress(aiohttp.ClientConnectionError):
                    return (await one.get("/healthz"))[0] == 200
                return False

            await eventually(alive)
            yield one
            await one.stop()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await bus.close()


# --- the owner -----------------------------------------------------------------------------------

Answer = Message | None


@dataclass
class Owner:
    """A session worker by script: takes what it is offered, writes down what it hears."""

    bus: Bus
    offers: list[Offer] = field(default_factory=list)
    commands: list[AttachLeg | HangUp] = field(default_factory=list)
    #: (leg, what): audio as bytes, control as messages, in the order of arrival.
    heard: list[tuple[int, bytes | Message]] = field(default_factory=list)
    #: Answers to come; None stays silent.  When used up: the friendly ones.
    to_offers: list[Answer] = field(default_factory=list)
    to_commands: list[Answer] = field(default_factory=list)
    #: Clear it to keep commands waiting.
    awake: asyncio.Event = field(default_factory=asyncio.Event)
    epoch: int = 1
    leg: int = 0
    _subscriptions: list[Subscription] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        self.awake.set()
        for subject, handle, queue in (
            (subjects.OFFER, self._offer, subjects.WORKERS),
            ("call.*.cmd", self._command, ""),
            ("call.*.up.*.*", self._up, ""),
        ):
            self._subscriptions.append(await self.bus.subscribe(subject, handle, queue=queue))
        await self.bus.flush()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        for subscription in self._subscriptions:
            await self.bus.unsubscribe(subscription)

    async def leave(self) -> None:
        """Nobody takes calls any more."""
        await self.bus.unsubscribe(self._subscriptions.pop(0))
        await self.bus.flush()

    async def die(self) -> None:
        """Nobody answers commands any more."""
        await self.bus.unsubscribe(self._subscriptions.pop(1))
        await self.bus.flush()

    async def _offer(self, msg: Msg) -> None:
        offer = Offer.decode(msg.data)
        self.offers.append(offer)
        answer: Answer = OfferTaken(call=offer.call, worker="w", epoch=self.epoch, agent="default")
        if self.to_offers:
            answer = self.to_offers.pop(0)
        if answer is not None:
            await msg.respond(answer.encode())

    async def _command(self, msg: Msg) -> None:
        await self.awake.wait()
        command = COMMAND.validate_json(msg.data)
        self.commands.append(command)
        answer: Answer
        if self.to_commands:
            answer = self.to_commands.pop(0)
        elif isinstance(command, AttachLeg):
            self.leg += 1
            answer = LegAttached(leg=self.leg, epoch=self.epoch)
        else:
            answer = Done()
        if answer is not None:
            await msg.respond(answer.encode())

    async def _up(self, msg: Msg) -> None:
        _, _, _, leg, kind = msg.subject.split(".")
        what = msg.data if kind == "audio" else UP_CONTROL.validate_json(msg.data)
        self.heard.append((int(leg), what))

    @property
    def audio(self) -> bytes:
        return b"".join(what for _, what in self.heard if isinstance(what, bytes))

    def control(self, leg: int | None = None) -> list[str]:
        """The types of control messages, of one leg or of all."""
        return [
            getattr(what, "type", "")
            for number, what in self.heard
            if not isinstance(what, bytes) and leg in (None, number)
        ]

    def say(self, call: str, *what: bytes | Message) -> None:
        """Audio and control messages, down to the phone."""
        for one in what:
            if isinstance(one, bytes):
                assert self.bus.send_audio(subjects.down(call, self.epoch, "audio"), one)
            else:
                self.bus.send_control(subjects.down(call, self.epoch, "ctl"), one)

    def play(self, call: str, hold: int, *music: bytes) -> None:
        """Music, as the hold-music service sends it."""
        for frame in music:
            assert self.bus.send_audio(subjects.hold_audio(call, hold), frame)

    async def write(self, call: str, **fields: Any) -> None:
        """The call's record in KV."""
        fields = {"state": "live", "worker": "w", "epoch": 1, "leg": 1} | fields
        # Alive, however long this test has taken so far.
        self.bus.send_control(subjects.beat("w"), Beat(worker="w", active=1, max=1), urgent=True)
        await self.bus.flush()
        record = CallRecord.model_validate(
            {"call": call, "agent": {}, "offered_at": "2026-11-22T10:00:00Z", **fields}
        )
        calls = await self.bus.js.key_value(subjects.CALLS_BUCKET)
        await calls.put(call, record.encode())


def refused(code: Any) -> OfferRefused:
    return OfferRefused(code=code)


def not_attached(code: Any) -> Refused:
    return Refused(code=code)


# --- the phone -----------------------------------------------------------------------------------


class Phone:
    """Twilio's end of a Media Stream."""

    def __init__(self, socket: ClientConnection, call: str) -> None:
        self.socket = socket
        self.call = call
        self._sequence = 0
        self._chunk = 0
        self._now_ms = 118  # Twilio: the first timestamp is not 0

    async def event(self, event: str, body: dict[str, Any] | None = None, **more: Any) -> None:
        self._sequence += 1
        message: dict[str, Any] = {"event": event, "sequenceNumber": str(self._sequence)}
        if body is not None:
            message[event] = body
        message |= {"streamSid": STREAM, **more}
        await self.socket.send(json.dumps(message, separators=(",", ":")))

    async def start(self, **fields: Any) -> None:
        await self.socket.send('{"event":"connected","protocol":"Call","version":"1.0.0"}')
        body = {
            "accountSid": ACCOUNT,
            "streamSid": STREAM,
            "callSid": self.call,
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
            "customParameters": {},
        }
        await self.event("start", body | fields)

    async def speak(self, *frames: bytes, skip_ms: int = 0) -> None:
        self._now_ms += skip_ms
        for frame in frames:
            self._chunk += 1
            payload = base64.b64encode(frame).decode()
            await self.event(
                "media",
                {"track": "inbound", "chunk": str(self._chunk), "timestamp": str(self._now_ms)}
                | {"payload": payload},
            )
            self._now_ms += 20

    async def mark(self, name: str) -> None:
        await self.event("mark", {"name": name})

    async def press(self, digit: str) -> None:
        await self.event("dtmf", {"track": "inbound_track", "digit": digit})

    async def stop(self) -> None:
        await self.event("stop", {"accountSid": ACCOUNT, "callSid": self.call})

    async def receive(self) -> dict[str, Any]:
        async with asyncio.timeout(10):
            message: dict[str, Any] = json.loads(await self.socket.recv(decode=False))
        return message

    async def closed(self) -> int:
        """The close code, when the gateway has closed."""
        async with asyncio.timeout(10):
            await self.socket.wait_closed()
        return self.socket.close_code or 0


@contextlib.asynccontextmanager
async def phone(
    url: str, call: str, *, headers: dict[str, str] | None = None
) -> AsyncIterator[Phone]:
    async with connect(url, additional_headers=headers, ping_interval=None, close_timeout=1) as one:
        yield Phone(one, call)


def metric(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"switchboard_gateway_{name}", labels) or 0.0


def frames(count: int, first: int = 1) -> list[bytes]:
    """Audio of which every frame can be told from the others."""
    return [bytes([first + number]) * 160 for number in range(count)]
