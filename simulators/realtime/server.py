"""The socket around the sessions: the upgrade, one loop per connection, and nothing clever."""

import asyncio
import contextlib
import http
import json
import logging
import random
import time
import urllib.parse
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from simulators.realtime import speaking
from simulators.realtime.faults import Faults
from simulators.realtime.ids import Ids
from simulators.realtime.outbox import Abort, Close, Output, Send
from simulators.realtime.record import Connection
from simulators.realtime.refusal import Refusal
from simulators.realtime.script import DEFAULT_SCRIPTS, Script, Step
from simulators.realtime.session import Session

__all__ = ["RealtimeSimulator"]

Json = dict[str, Any]

logger = logging.getLogger(__name__)

_PATH = "/v1/realtime"
_CONNECTIONS_KEPT = 64
_FRAME_BYTES_MAX = 24 * 2**20  # 15 MiB of audio in base64, and the JSON around it
_PING_S = 20  # OpenAI: a WebSocket PING every 20 s
_STEPS_WARMED_MAX = 200
_ABORT_GRACE_S = 0.02
"""Between the last event and the cut, so that the event is not lost in the reset."""


class RealtimeSimulator:
    """Plays OpenAI's Realtime API on a WebSocket of this machine."""

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        scripts: Mapping[str, Script] | None = None,
        api_key: str | None = "sk-sim",
        faults: Faults | None = None,
        faults_by_model: Mapping[str, Faults] | None = None,
        generation_speed: float = 8.0,
        seed: int | None = None,
        on_event: Callable[[str, Json], None] | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self.scripts: dict[str, Script] = {**DEFAULT_SCRIPTS, **(scripts or {})}
        """By model name; the two default names exist unless replaced."""

        self.api_key = api_key
        """The one key accepted; `None` accepts any."""

        self.faults = faults or Faults()
        self.faults_by_model = dict(faults_by_model or {})
        """Both may be changed at any time."""

        self.generation_speed = generation_speed
        """How much faster than real time audio is made."""

        self.connections: deque[Connection] = deque(maxlen=_CONNECTIONS_KEPT)
        """The newest 64, newest last; refused upgrades are not among them."""

        # Unseeded, ids differ between simulators, as a client that reconnects may expect.
        self._rng = random.Random(seed)  # noqa: S311 - ids and sizes, no secret
        self._on_event = on_event  # called with ">" or "<" and the event, audio left out
        self._server: Server | None = None
        self._warmed: set[tuple[str, str]] = set()
        self._warming: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """Where clients connect, without `?model=`."""
        return f"ws://{self.host}:{self.port}{_PATH}"

    async def start(self) -> None:
        """Listen; `port` and `url` are known afterwards."""
        self._server = await serve(
            self._serve,
            self.host,
            self.port,
            compression=None,
            max_size=_FRAME_BYTES_MAX,
            ping_interval=_PING_S,
            process_request=self._upgrade,
        )
        self.port = next(iter(self._server.sockets)).getsockname()[1]

    async def stop(self) -> None:
        """Close all connections with 1001 and stop listening."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._server = None
        for task in list(self._warming):
            task.cancel()
        await asyncio.gather(*self._warming, return_exceptions=True)

    async def __aenter__(self) -> "RealtimeSimulator":
        await self.start()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.stop()

    # --- The upgrade --------------------------------------------------------------------

    def _configured_faults(self, model: str) -> Faults:
        return self.faults_by_model.get(model, self.faults)

    def _upgrade(self, connection: ServerConnection, request: Request) -> Response | None:
        """Refuse the upgrade if a fault says so. OpenAI: the upgrade itself always succeeds."""
        url = urllib.parse.urlsplit(request.path)
        if url.path != _PATH:
            return connection.respond(http.HTTPStatus.NOT_FOUND, "No such path.\n")
        faults = self._configured_faults(_model_of(request.path))
        refused = bool(faults.http_status) and not faults.refuse_first_n
        if faults.refusals_made < faults.refuse_first_n:
            faults.refusals_made += 1
            refused = True
        if not refused:
            return None
        status = http.HTTPStatus(faults.http_status or 503)
        return connection.respond(status, "Refused by a simulated fault.\n")

    def _refusal(self, headers: Mapping[str, str], model: str) -> tuple[Refusal, int] | None:
        """Return why a connection is not welcome, and the close code."""
        # OpenAI: reported after the upgrade, as an error event followed at once by a close.
        if headers.get("openai-beta"):
            text = "The Realtime Beta API is no longer supported. Please use /v1/realtime."
            return Refusal("beta_api_shape_disabled", text), 4000
        scheme, _, key = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key:
            return Refusal(None, "Missing bearer or basic authentication in header"), 3000
        if self.api_key is not None and key != self.api_key:
            return Refusal("invalid_api_key", "Incorrect API key provided."), 3000
        if not model:
            return Refusal("missing_model", "You must provide a model parameter."), 4000
        if model not in self.scripts:
            text = f"The model '{model}' does not exist or you do not have access to it."
            return Refusal("invalid_model", text), 4000
        return None

    # --- A connection -------------------------------------------------------------------

    async def _serve(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        headers = {name.lower(): value for name, value in socket.request.headers.raw_items()}
        record = Connection(_model_of(socket.request.path), headers)
        self.connections.append(record)
        try:
            await self._converse(socket, record)
        except ConnectionClosed:
            pass  # by the client, or by `stop`: the record says how
        finally:
            record.actions.clear()
            await socket.wait_closed()
            record.closed = True
            record.close_code = socket.close_code
            record.close_reason = socket.close_reason or ""

    async def _converse(self, socket: ServerConnection, record: Connection) -> None:
        refused = self._refusal(record.headers, record.model)
        if refused is not None:
            refusal, close_code = refused
            event = {**refusal.event(None), "event_id": Ids(self._rng).new("event")}
            code = f".{refusal.code}" if refusal.code else ""
            close = Close(close_code, f"invalid_request_error{code}")
            await self._perform([Send(event), close], socket, record)
            return
        faults = self._live_faults(record.model)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(socket.wait_closed(), faults().dial_delay_ms / 1000)
            return  # the client has lost patience
        record.session = session = Session(
            model=record.model,
            script=self.scripts[record.model],
            faults=faults,
            unix_time=int(time.time()),
            rng=random.Random(self._rng.random()),  # noqa: S311 - as above
            generation_speed=self.generation_speed,
        )
        await self._run(socket, record, session)

    def _live_faults(self, model: str) -> Callable[[], Faults]:
        """Return a look at the faults as they are now, honouring `first_n`."""
        at_connect = self._configured_faults(model)
        at_connect.connections_seen += 1
        spared = 0 < at_connect.first_n < at_connect.connections_seen
        healthy = Faults()

        def faults() -> Faults:
            now = self._configured_faults(model)
            return healthy if spared and now is at_connect else now

        return faults

    async def _run(self, socket: ServerConnection, record: Connection, session: Session) -> None:
        """Take a frame or wake at the session's next timer, and do what it says; repeat."""
        clock = asyncio.get_running_loop().time
        commands: deque[list[Output]] = deque()
        command = asyncio.Event()

        def enqueue(outputs: list[Output]) -> None:
            commands.append(outputs)
            command.set()

        record.actions = {
            "abort": lambda: enqueue([Abort()]),
            "expire": lambda: enqueue(session.expire(clock())),
            "send_error": lambda error: enqueue(session.send_error(error, clock())),
        }
        if not await self._perform(session.start(clock()), socket, record):
            return
        reading = asyncio.create_task(socket.recv())
        commanded = asyncio.create_task(command.wait())
        try:
            while True:
                at = session.next_timer()
                timeout = None if at is None else max(0.0, at - clock())
                awaited = {commanded, reading} if session.accepting else {commanded}
                if not (session.accepting and reading.done()) and not commanded.done():
                    await asyncio.wait(
                        awaited, timeout=timeout, return_when=asyncio.FIRST_COMPLETED
                    )
                outputs = session.handle_timer(clock())
                if commanded.done():
                    command.clear()
                    commanded = asyncio.create_task(command.wait())
                    while commands:
                        outputs += commands.popleft()
                elif reading.done() and session.accepting:
                    message = reading.result()
                    reading = asyncio.create_task(socket.recv())
                    self._note_received(message, record)
                    outputs += session.receive(message, clock())
                if not await self._perform(outputs, socket, record):
                    return
        finally:
            for task in (reading, commanded):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, ConnectionClosed):
                    await task

    async def _perform(
        self, outputs: list[Output], socket: ServerConnection, record: Connection
    ) -> bool:
        """Do what the session says; return whether the connection goes on."""
        for output in outputs:
            match output:
                case Send(event=event):
                    record.note_sent(output)
                    self._log("<", record.sent[-1])
                    await socket.send(json.dumps(event, ensure_ascii=False))
                    if event["type"] == "session.updated":
                        self._warm_up(event["session"])
                case Close(code=code, reason=reason):
                    await socket.close(code, reason)
                    return False
                case Abort():
                    await asyncio.sleep(_ABORT_GRACE_S)
                    socket.transport.abort()
                    return False
        return True

    def _note_received(self, message: str | bytes, record: Connection) -> None:
        try:
            event = json.loads(message)
        except ValueError:
            event = None
        if not isinstance(event, dict):
            event = {"type": "(not an event)", "length": len(message)}
        record.note_received(event)
        if event.get("type") != "input_audio_buffer.append":
            self._log(">", event)

    def _log(self, direction: str, event: Json) -> None:
        if self._on_event is not None:
            self._on_event(direction, event)

    # --- Speaking without delay ---------------------------------------------------------

    def _warm_up(self, config: Json) -> None:
        """Render the script's sentences in a thread, once a session has chosen its voice.

        A sentence takes eSpeak some 20 ms, which would hold up every other call of this process.
        """
        output = config["audio"]["output"]
        key = (config["model"], json.dumps([output["voice"], output["format"]]))
        if key in self._warmed or config["output_modalities"] != ["audio"]:
            return
        self._warmed.add(key)
        texts = _fixed_texts(self.scripts[config["model"]])
        voice, audio_format = output["voice"], output["format"]
        task = asyncio.create_task(asyncio.to_thread(_render_all, texts, voice, audio_format))
        self._warming.add(task)
        task.add_done_callback(self._warming.discard)


def _model_of(path: str) -> str:
    query = urllib.parse.parse_qs(urllib.parse.urlsplit(path).query)
    return query.get("model", [""])[0]


def _fixed_texts(script: Script) -> list[str]:
    steps: deque[Step | None] = deque(
        [script.greeting, *script.turns, script.otherwise, script.idle, script.waiting]
    )
    texts: list[str] = []
    while steps and len(texts) < _STEPS_WARMED_MAX:
        step = steps.popleft()
        if step is not None:
            steps.append(step.then)
            texts += [step.say] if step.say and "{" not in step.say else []
    return texts


def _render_all(texts: list[str], voice: str | Json, audio_format: Json) -> None:
    for text in texts:
        speaking.render(text, voice=voice, audio_format=audio_format, audio_ms=None)
