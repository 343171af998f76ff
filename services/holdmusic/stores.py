"""One bucket in an S3 store.  `Bucket` blocks; `Store` asks it in threads of its own.

A store that accepts and never answers holds a thread until `S3_TIMEOUT_S`.  Each store has its own
few threads and refuses to queue behind them, so a hung one delays nobody else.
"""

import asyncio
import concurrent.futures
import contextlib
import datetime
import io
import itertools
import mimetypes
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final, TypeVar
from urllib.parse import urlsplit
from xml.etree.ElementTree import ParseError

import certifi
import urllib3
from minio import Minio
from minio.error import MinioException, S3Error

from services.holdmusic.settings import StoreAddress

#: Tracks of a bucket that are looked at: a list to choose from, not an archive.
LIST_LIMIT: Final = 10_000
#: Requests to one store at once, and threads.
REQUESTS_MAX: Final = 6
#: A whole download, however it trickles.
DOWNLOAD_S: Final = 120.0
_CHUNK: Final = 256 * 1024
#: A store that refuses our keys or has no such bucket is told so in these words.
_MISSING: Final = frozenset({"NoSuchKey", "NoSuchObject"})
#: What the client raises on a connection that fails, and on answers that are not S3's.
_STRANGE: Final = (
    *(MinioException, urllib3.exceptions.HTTPError, OSError, ParseError),
    *(AttributeError, LookupError, TypeError, ValueError),
)
_EXISTS: Final = frozenset({"BucketAlreadyOwnedByYou", "BucketAlreadyExists"})

T = TypeVar("T")


class StoreError(Exception):
    """The store did not do it; the message says why, without keys."""


class RefusedError(StoreError):
    """The store answers, and will not do this."""


class NoSuchTrackError(Exception):
    """The store answers, and has no object of this name."""


class TooLargeError(Exception):
    """The object is larger than was allowed."""


@dataclass(frozen=True, slots=True)
class Found:
    """One object, as the store lists it."""

    key: str
    etag: str
    size: int
    uploaded: datetime.datetime | None


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Whatever goes wrong on the way to a store, as one of ours."""
    try:
        yield
    except S3Error as error:
        if error.code in _MISSING:
            raise NoSuchTrackError(error.message) from error
        raise RefusedError(f"{error.code}: {error.message}") from error
    except urllib3.exceptions.TimeoutError as error:
        raise StoreError("it does not answer in time") from error
    except _STRANGE as error:
        raise StoreError(f"it cannot be reached or does not speak S3 ({_brief(error)})") from error


def _brief(error: Exception) -> str:
    """Without the object addresses that urllib3 puts into its texts."""
    reason = getattr(error, "reason", None)
    return type(reason if isinstance(reason, Exception) else error).__name__


class Bucket:
    """Blocking.  Every method raises `StoreError` when the store fails."""

    def __init__(self, address: StoreAddress) -> None:
        self.address = address
        self._bucket = address.bucket
        parts = urlsplit(address.url)
        secret = address.secret_key
        self._made = False
        self.closed = False
        self._http = urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=address.timeout_s, read=address.timeout_s),
            maxsize=REQUESTS_MAX,
            retries=False,  # who asks decides whether to ask again
            cert_reqs="CERT_REQUIRED",
            ca_certs=certifi.where(),
        )
        self._client = Minio(
            parts.netloc,
            access_key=address.access_key,
            secret_key=secret.get_secret_value() if secret is not None else None,
            secure=parts.scheme == "https",
            region=address.region,
            http_client=self._http,
        )

    def ensure(self) -> None:
        """Make the bucket if it is not there and we may."""
        if self._made:
            return
        with _explained():
            if not self._client.bucket_exists(self._bucket):
                try:
                    self._client.make_bucket(self._bucket)
                except S3Error as error:
                    if error.code not in _EXISTS:  # somebody else was first
                        raise
        self._made = True

    def objects(self) -> list[Found]:
        """Every object, by name; at most `LIST_LIMIT`."""
        self.ensure()
        try:
            with _explained():
                listing = self._client.list_objects(self._bucket, recursive=True)
                found = [
                    Found(
                        one.object_name,
                        (one.etag or "").strip('"'),
                        one.size or 0,
                        one.last_modified,
                    )
                    for one in itertools.islice(listing, LIST_LIMIT)
                    if one.object_name and not one.is_dir
                ]
        except StoreError:
            self._made = False  # it may have been removed meanwhile
            raise
        return sorted(found, key=lambda one: one.key)

    def find(self, key: str) -> Found:
        """One object.  Raises `NoSuchTrackError`."""
        with _explained():
            one = self._client.stat_object(self._bucket, key)
        return Found(key, (one.etag or "").strip('"'), one.size or 0, one.last_modified)

    def read(self, key: str, limit_bytes: int) -> tuple[bytes, str]:
        """Content and its ETag.  Raises `NoSuchTrackError`, `TooLargeError`."""
        give_up = time.monotonic() + DOWNLOAD_S
        with _explained():
            answer = self._client.get_object(self._bucket, key)
            try:
                parts: list[bytes] = []
                size = 0
                while part := answer.read(_CHUNK):
                    size += len(part)
                    if size > limit_bytes:
                        raise TooLargeError(key)
                    if self.closed or time.monotonic() > give_up:
                        raise StoreError(f"{key} did not come within {DOWNLOAD_S:.0f} s")
                    parts.append(part)
                return b"".join(parts), answer.headers.get("ETag", "").strip('"')
            finally:
                answer.close()
                answer.release_conn()

    def write(self, key: str, data: BinaryIO, size: int) -> None:
        """Store `size` bytes under `key`, replacing what is there."""
        self.ensure()
        kind = mimetypes.guess_type(key)[0] or "application/octet-stream"
        with _explained():
            self._client.put_object(self._bucket, key, data, size, content_type=kind)

    def write_bytes(self, key: str, data: bytes) -> None:
        """As `write`, for what is in memory."""
        self.write(key, io.BytesIO(data), len(data))

    def remove(self, key: str) -> None:
        """Remove `key`.  Raises `NoSuchTrackError`: S3 itself would not notice."""
        self.find(key)
        with _explained():
            self._client.remove_object(self._bucket, key)

    def close(self) -> None:
        """Let go of connections; a download that runs ends with its next piece."""
        self.closed = True
        self._http.clear()


class Store:
    """A bucket for asyncio, with what is known of it."""

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket
        self.name = bucket.address.name
        #: The last list that came, by key; None before the first.
        self.tracks: dict[str, Found] | None = None
        #: Why the last request failed; None while it answers.
        self.error: str | None = "it has not answered yet"
        self._waiting = 0
        self._threads = concurrent.futures.ThreadPoolExecutor(
            REQUESTS_MAX, thread_name_prefix=f"s3-{self.name}"
        )

    @property
    def ok(self) -> bool:
        """Whether it answered when it was last asked."""
        return self.error is None

    async def refresh(self) -> None:
        """Ask for the list.  Raises `StoreError`; `tracks` keeps the last one then."""
        try:
            found = await self._ask(self.bucket.objects)
        except RefusedError as error:
            self.error = str(error)  # no list, no tracks: as good as away
            raise
        self.error = None
        self.tracks = {one.key: one for one in found}

    async def find(self, key: str) -> Found:
        """Raises `NoSuchTrackError`, `StoreError`."""
        found = await self._ask(lambda: self.bucket.find(key))
        if self.tracks is not None:
            self.tracks[key] = found
        return found

    async def read(self, key: str, limit_bytes: int) -> tuple[bytes, str]:
        """Raises `NoSuchTrackError`, `TooLargeError`, `StoreError`."""
        return await self._ask(lambda: self.bucket.read(key, limit_bytes))

    async def _ask(self, work: Callable[[], T]) -> T:
        if self._waiting >= REQUESTS_MAX:
            raise StoreError("it does not answer in time")
        loop = asyncio.get_running_loop()
        future = self._threads.submit(work)
        self._waiting += 1
        # Counted until the thread is free again, also when nobody waits for it any more.
        future.add_done_callback(lambda _: _call_soon(loop, self._free))
        try:
            return await asyncio.wrap_future(future)
        except RefusedError:
            raise
        except StoreError as error:
            self.error = str(error)
            raise

    def _free(self) -> None:
        self._waiting -= 1

    def close(self) -> None:
        """Start no more requests; those that hang end with their time-out."""
        self.bucket.close()
        self._threads.shutdown(wait=False, cancel_futures=True)


def _call_soon(loop: asyncio.AbstractEventLoop, work: Callable[[], None]) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody counts any more
        loop.call_soon_threadsafe(work)
