"""A tool as a process of its own, as it runs in production."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent.parent
#: A Python process with SQLAlchemy needs 2 s to start; a busy machine needs more.
START_TIMEOUT_S = 40.0
STOP_TIMEOUT_S = 20.0


class Process:
    """A running Python process; what it logs is kept."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.output: list[str] = []
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self.output.append(line.decode(errors="replace").rstrip())

    @property
    def returncode(self) -> int | None:
        return self._process.returncode

    def logged(self, message: str) -> dict[str, Any] | None:
        """The first structured log line with this message."""
        for line in self.output:
            if line.startswith("{") and json.loads(line)["message"] == message:
                found = json.loads(line)
                assert isinstance(found, dict)
                return found
        return None

    async def stop(self) -> int:
        """SIGTERM; the exit status."""
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                status = await self._process.wait()
        finally:
            if self._process.returncode is None:
                self._process.kill()
                await self._process.wait()
        await self._reader
        return status


@contextlib.asynccontextmanager
async def python(folder: Path, *arguments: str, **variables: str) -> AsyncIterator[Process]:
    """`python <arguments>` in `folder`, with these variables and no others of ours."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name in ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH", "SYSTEMROOT")
    }
    environment |= {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **variables}
    process = Process(
        await asyncio.create_subprocess_exec(
            sys.executable,
            *arguments,
            cwd=folder,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
    )
    try:
        yield process
    finally:
        await process.stop()
