"""A real Postgres for tests, where its binaries are at hand; it is optional, so else a skip."""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

#: initdb and the start take 2 s; this allows for a machine that does something else.
START_TIMEOUT_S = 30.0
PASSWORD = "of-the-tests"


def find_binaries() -> Path | None:
    """The folder of initdb and postgres."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    on_path = shutil.which("initdb")
    folders = [*debian, *([Path(on_path).parent] if on_path else [])]
    return next((each for each in folders if (each / "postgres").exists()), None)


def _somebody() -> str | None:
    """Postgres refuses to run as root."""
    if os.geteuid() != 0:
        return None
    return "postgres" if "postgres" in {each.pw_name for each in pwd.getpwall()} else "nobody"


class Postgres:
    """A server with password `PASSWORD`; each test makes its own database."""

    def __init__(self, binaries: Path, folder: Path) -> None:
        self._binaries = binaries
        self._folder = folder
        self._user = _somebody()
        self._process: subprocess.Popen[bytes] | None = None
        self._made = 0
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port: int = probe.getsockname()[1]

    def url(self, name: str, password: str = PASSWORD) -> str:
        return f"postgres://tester:{password}@127.0.0.1:{self.port}/{name}"

    def init(self) -> None:
        """Make the cluster."""
        secret = self._folder / "password"
        secret.write_text(PASSWORD)
        if self._user is not None:
            for each in (self._folder, secret):
                shutil.chown(each, self._user)
        self._run("initdb", "-U", "tester", "-A", "scram-sha-256", "--pwfile", str(secret))

    def start(self) -> None:
        """Start, and wait until it answers."""
        arguments = ["-D", str(self._folder / "data"), "-p", str(self.port)]
        for option in ("listen_addresses=127.0.0.1", "fsync=off", "shared_buffers=16MB"):
            arguments += ["-c", option]
        with (self._folder / "log").open("ab") as output:
            self._process = subprocess.Popen(
                [str(self._binaries / "postgres"), *arguments, "-k", str(self._folder)],
                user=self._user,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._accepts():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((self._folder / "log").read_text())
            time.sleep(0.05)

    def stop(self) -> None:
        """As an outage would."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGINT)  # does not wait for its clients, as SIGTERM does
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            if process.poll() is None:
                process.kill()
                process.wait()

    def new_database(self) -> str:
        """The URL of an empty database."""
        self._made += 1
        name = f"t{self._made}"
        arguments = ["-h", "127.0.0.1", "-p", str(self.port), "-U", "tester", name]
        environment = {**os.environ, "PGPASSWORD": PASSWORD}
        subprocess.run(
            [str(self._binaries / "createdb"), *arguments], env=environment, check=True, timeout=30
        )
        return self.url(name)

    def _accepts(self) -> bool:
        ready = [str(self._binaries / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(ready, timeout=10).returncode == 0

    def _run(self, tool: str, *arguments: str) -> None:
        command = [
            str(self._binaries / tool),
            "-D",
            str(self._folder / "data"),
            "--no-sync",
            *arguments,
        ]
        done = subprocess.run(
            command, user=self._user, cwd=self._folder, capture_output=True, timeout=60
        )
        if done.returncode != 0:
            raise RuntimeError(done.stderr.decode())


def run_or_skip() -> Iterator[Postgres]:
    """For a fixture."""
    binaries = find_binaries()
    if binaries is None:
        pytest.skip("no Postgres binaries (Debian: postgresql)")
    with tempfile.TemporaryDirectory(prefix="pg-") as folder:
        server = Postgres(binaries, Path(folder))
        server.init()
        server.start()
        try:
            yield server
        finally:
            server.stop()
