"""Which track plays, and from where: the stores, the cache and the built-in track in one place.

`pick` always has an answer, within `PICK_S`: what cannot be had by then is fetched on, for the next
time.  A version of a track is its key and its ETag; it is decoded once for each audio format.
"""

import asyncio
import collections
import concurrent.futures
import functools
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final, Literal, TypeVar

from services.holdmusic import builtin, decoding, metrics
from services.holdmusic.cache import Cache, Version
from services.holdmusic.decoding import NotMusicError
from services.holdmusic.settings import HoldMusicSettings
from services.holdmusic.stores import (
    Bucket,
    Found,
    NoSuchTrackError,
    Store,
    StoreError,
    TooLargeError,
)
from shared.audio import FORMATS, FormatName
from shared.messages import MusicFile, MusicFiles, StoreState

log = logging.getLogger(__name__)

#: A caller waits in silence for this: the promise is 1 s from request to answer.
PICK_S: Final = 0.75
#: What is on disk may take this in any case.
DISK_S: Final = 0.15
#: How long a list of tracks for a person may take.
FILES_S: Final = 2.0
#: How long the start waits for the stores; later they come by themselves.
START_S: Final = 2.0
#: Decoding takes a core: of two, one is left for the music that plays.
DECODERS: Final = 1
DISK_THREADS: Final = 2
#: Tracks on their way at once; each holds its file and its samples in memory.
FETCHES_MAX: Final = 4
#: Decoded tracks in memory: ten of ordinary length for phones.
MEMORY_BYTES: Final = 64 * 1024 * 1024
#: Versions remembered as no music.
BAD_MAX: Final = 1000

Source = Literal["store", "fallback-store", "cache", "built-in"]
_SOURCES: Final[dict[str, Source]] = {"primary": "store", "fallback": "fallback-store"}

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Pick:
    """What plays.  `fallback`: why it is not the track that was asked for."""

    track: str
    source: Source
    fallback: str | None
    audio: bytes


class _UnavailableError(Exception):
    """A track that cannot play now, and why."""


class Library:
    """Use `start` before, and `stop` after."""

    def __init__(self, settings: HoldMusicSettings) -> None:
        self._settings = settings
        self.stores = [Store(Bucket(address)) for address in settings.stores]
        self.cache = Cache(settings.music_cache, settings.music_cache_bytes)
        self._memory: collections.OrderedDict[Version, bytes] = collections.OrderedDict()
        #: (key, ETag) -> why it is no music.
        self._bad: collections.OrderedDict[tuple[str, str], str] = collections.OrderedDict()
        self._fetches: dict[tuple[str, Version], asyncio.Task[bytes]] = {}
        self._finds: dict[tuple[str, str], asyncio.Task[Found]] = {}
        self._refreshes: dict[str, asyncio.Task[None]] = {}
        #: Formats that calls have asked for: the default track is kept ready in these.
        self._formats: set[FormatName] = {"pcmu"}
        #: Ends only by `stop`, or by a fault of ours.
        self.tending: asyncio.Task[None] | None = None
        pool = concurrent.futures.ThreadPoolExecutor
        self._decoders = pool(DECODERS, thread_name_prefix="decode")
        self._disk = pool(DISK_THREADS, thread_name_prefix="disk")

    # --- life -------------------------------------------------------------------------------

    async def start(self) -> None:
        """Have the built-in track and the disk's at hand; give the stores a moment."""
        for name in FORMATS:
            await self._in(self._disk, functools.partial(builtin.track, name))
        try:
            await self._in(self._disk, self.cache.open)
        except OSError as error:
            log.warning("the music cache is not usable", extra={"error": str(error)})
        looks = [self._refresh(store) for store in self.stores]
        if looks:
            await asyncio.wait(looks, timeout=START_S)
        self.tending = asyncio.create_task(self._tend(), name="library")

    async def stop(self) -> None:
        """End what is on its way; threads end with their time-out."""
        tasks = [*self._fetches.values(), *self._finds.values(), *self._refreshes.values()]
        if self.tending is not None:
            tasks.append(self.tending)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for store in self.stores:
            store.close()
        for threads in (self._decoders, self._disk):
            threads.shutdown(wait=False, cancel_futures=True)

    async def _in(self, threads: concurrent.futures.ThreadPoolExecutor, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(threads, work)

    # --- choosing ---------------------------------------------------------------------------

    async def pick(self, wanted: str | None, name: FormatName) -> Pick:
        """The best that can play within `PICK_S`, and why it is not the wanted one."""
        self._formats.add(name)
        deadline = time.monotonic() + PICK_S
        why: list[str] = []
        for key in dict.fromkeys((wanted, self.default)):
            if key == builtin.NAME:  # asked for by name
                return self._built_in(name, why)
            if key is None:
                continue
            try:
                source, audio = await self._ready(key, name, deadline)
            except _UnavailableError as error:
                why.append(f"{key}: {error}")
            else:
                return Pick(key, source, "; ".join(why) or None, audio)
        if not why and wanted is None and (away := self._away()):
            why.append(away)
        return self._built_in(name, why)

    def _built_in(self, name: FormatName, why: list[str]) -> Pick:
        return Pick(builtin.NAME, "built-in", "; ".join(why) or None, builtin.track(name))

    @property
    def default(self) -> str | None:
        """The track that plays when none is named; None: the built-in one."""
        if self._settings.hold_track is not None:
            return self._settings.hold_track
        for store in self.stores:
            if store.ok and store.tracks is not None:
                found = self._first(list(store.tracks.values()))
                if found is not None:
                    return found
        if self.stores and all(store.ok for store in self.stores):
            return None  # they answer, and hold nothing to play
        return min((one.key for one in self.cache.versions), default=None)

    def _first(self, tracks: list[Found]) -> str | None:
        good = (
            one.key
            for one in tracks
            if PurePosixPath(one.key).suffix.lower() in decoding.SUPPORTED
            and (one.key, one.etag) not in self._bad
        )
        return min(good, default=None)

    def _away(self) -> str | None:
        """What is wrong with the stores; None when they answer, or there are none."""
        faults = [f"{store.name} store: {store.error}" for store in self.stores if not store.ok]
        return "; ".join(faults) or None

    async def _ready(self, key: str, name: FormatName, deadline: float) -> tuple[Source, bytes]:
        why = "no such track"
        # An earlier version plays while a store cannot say what holds now, and never against it.
        known = bool(self.stores)
        for store in self.stores:
            if not store.ok:
                why, known = f"the {store.name} store is away ({store.error})", False
                continue
            try:
                return _SOURCES[store.name], await self._from(store, key, name, deadline)
            except NoSuchTrackError:
                continue
            except NotMusicError as error:
                why = str(error)
            except StoreError as error:
                why, known = f"the {store.name} store: {error}", False
            except TimeoutError:
                why, known = f"the {store.name} store has not sent it yet", False
        audio = None if known else await self._earlier(key, name)
        if audio is None:
            raise _UnavailableError(why)
        return "cache", audio

    async def _from(self, store: Store, key: str, name: FormatName, deadline: float) -> bytes:
        """The store's version of the track: from memory, disk or the store itself.

        Raises `NoSuchTrackError`, `NotMusicError`, `StoreError`, and `TimeoutError` when it takes
        longer than `deadline`; the fetch goes on then.
        """
        found = (store.tracks or {}).get(key)
        if found is None:  # uploaded since the last look
            found = await _by(deadline, self._find(store, key))
        if (why := self._bad.get((key, found.etag))) is not None:
            raise NotMusicError(why)
        version = Version(key, found.etag, name)
        audio = await self._at_hand(version)
        if audio is not None:
            return audio
        return await _by(deadline, self._fetch(store, found, name))

    def _find(self, store: Store, key: str) -> asyncio.Task[Found]:
        """One look-up of a name, whoever asks for it meanwhile."""
        place = (store.name, key)
        task = self._finds.get(place)
        if task is None:
            task = asyncio.create_task(store.find(key), name="find")
            self._finds[place] = task
            task.add_done_callback(lambda _: self._finds.pop(place, None))
        return task

    async def _at_hand(self, version: Version) -> bytes | None:
        """From memory or disk."""
        audio = self._memory.get(version)
        if audio is not None:
            self._memory.move_to_end(version)
            return audio
        try:
            async with asyncio.timeout(DISK_S):
                audio = await self._in(self._disk, lambda: self.cache.load(version))
        except TimeoutError:
            return None
        if audio is not None:
            self._remember(version, audio)
        return audio

    async def _earlier(self, key: str, name: FormatName) -> bytes | None:
        """Any version that was decoded before, the last used first."""
        for version in reversed(self.cache.versions):
            if version.key == key and version.audio == name:
                audio = await self._at_hand(version)
                if audio is not None:
                    return audio
        return None

    def _remember(self, version: Version, audio: bytes) -> None:
        self._memory[version] = audio
        self._memory.move_to_end(version)
        size = sum(len(one) for one in self._memory.values())
        while size > MEMORY_BYTES and len(self._memory) > 1:
            size -= len(self._memory.popitem(last=False)[1])

    # --- fetching ---------------------------------------------------------------------------

    def _fetch(self, store: Store, found: Found, name: FormatName) -> asyncio.Task[bytes]:
        """One download and decoding of a version, whoever asks for it meanwhile."""
        place = (store.name, Version(found.key, found.etag, name))
        task = self._fetches.get(place)
        if task is None:
            if len(self._fetches) >= FETCHES_MAX:
                raise StoreError("other tracks are being fetched")
            task = asyncio.create_task(self._download(store, found, name), name="fetch")
            self._fetches[place] = task
            task.add_done_callback(lambda done: self._fetched(place, done))
        return task

    async def _download(self, store: Store, found: Found, name: FormatName) -> bytes:
        limit_bytes = self._settings.track_limit_bytes
        began = time.monotonic()
        too_large = NotMusicError(f"it is larger than {limit_bytes} bytes (TRACK_LIMIT_BYTES)")
        if found.size > limit_bytes:
            raise too_large
        try:
            data, etag = await store.read(found.key, limit_bytes)
        except TooLargeError as error:
            raise too_large from error
        audio = await self._in(
            self._decoders,
            lambda: decoding.decode(
                data, found.key, FORMATS[name], limit_s=self._settings.track_limit_s
            ),
        )
        # The store's word counts, if the track was replaced since it was listed.
        version = Version(found.key, etag or found.etag, name)
        self._remember(version, audio)
        try:
            await self._in(self._disk, lambda: self.cache.save(version, audio))
        except OSError as error:
            metrics.FETCH_FAILURES.labels("disk").inc()
            log.warning("a track could not be kept on disk", extra={"error": str(error)})
        metrics.FETCH_S.observe(time.monotonic() - began)
        log.info(
            "a track is ready",
            extra={"track": found.key, "store": store.name, "audio": name, "bytes": len(audio)},
        )
        return audio

    def _fetched(self, place: tuple[str, Version], task: asyncio.Task[bytes]) -> None:
        self._fetches.pop(place, None)
        if task.cancelled():
            return
        match task.exception():
            case None:
                return
            case StoreError() | NoSuchTrackError() as error:
                metrics.FETCH_FAILURES.labels("store").inc()
                fields = {"track": place[1].key, "store": place[0], "error": str(error)}
                log.warning("a track could not be fetched", extra=fields)
            case error:
                metrics.FETCH_FAILURES.labels("track").inc()
                self._bad[place[1].key, place[1].etag] = str(error) or type(error).__name__
                if len(self._bad) > BAD_MAX:
                    self._bad.popitem(last=False)
                fields = {"track": place[1].key, "store": place[0], "error": repr(error)}
                log.warning("a track cannot be played", extra=fields)

    # --- tending ----------------------------------------------------------------------------

    def _refresh(self, store: Store) -> asyncio.Task[None]:
        """One look at a store at a time."""
        task = self._refreshes.get(store.name)
        if task is None or task.done():
            task = asyncio.create_task(self._look(store), name=f"look-{store.name}")
            self._refreshes[store.name] = task
        return task

    async def _look(self, store: Store) -> None:
        before = store.error
        try:
            await store.refresh()
        except StoreError as error:
            if before != str(error):
                log.warning("a store is away", extra={"store": store.name, "error": str(error)})
        else:
            if before is not None:
                count = len(store.tracks or {})
                log.info("a store answers", extra={"store": store.name, "tracks": count})
        metrics.STORE_UP.labels(store.name).set(int(store.ok))

    async def _tend(self) -> None:
        """Look at the stores now and then, and keep what is decoded up to date."""
        while True:
            await self._update()
            await self._tidy()
            metrics.CACHE_BYTES.set(self.cache.size_bytes)
            await asyncio.sleep(self._settings.music_refresh_s)
            looks = [self._refresh(store) for store in self.stores]
            if looks:
                await asyncio.wait(looks)

    async def _update(self) -> None:
        """Fetch the default track, and new versions of tracks that were played before."""
        wanted = {(one.key, one.audio) for one in self.cache.versions}
        default = self.default
        if default is not None:
            wanted |= {(default, name) for name in self._formats}
        have = set(self.cache.versions)
        for key, name in sorted(wanted):
            for store in self.stores:
                found = (store.tracks or {}).get(key)
                if found is None or not store.ok:
                    continue
                version = Version(key, found.etag, name)
                if version not in have and (key, found.etag) not in self._bad:
                    await self._fetch_quietly(store, found, name)
                break

    async def _fetch_quietly(self, store: Store, found: Found, name: FormatName) -> None:
        try:
            task = self._fetch(store, found, name)
        except StoreError:
            return  # callers' tracks come first; next time
        await asyncio.wait([task])  # `_fetched` tells how it went

    async def _tidy(self) -> None:
        """Remove versions that no store holds any more, once their successor is there."""
        if not self.stores:
            return
        everyone = all(store.ok for store in self.stores)
        have = self.cache.versions
        for version in have:
            current = {
                store.tracks[version.key].etag
                for store in self.stores
                if store.tracks is not None and version.key in store.tracks
            }
            replaced = any(Version(version.key, etag, version.audio) in have for etag in current)
            removed = everyone and not current
            if version.etag not in current and (replaced or removed):
                self._memory.pop(version, None)
                await self._in(self._disk, functools.partial(self.cache.remove, version))

    # --- telling ----------------------------------------------------------------------------

    def states(self) -> list[StoreState]:
        """The stores, for `holdmusic.status`."""
        return [
            StoreState(
                name=store.name,
                endpoint=store.bucket.address.url,
                bucket=store.bucket.address.bucket,
                ok=store.ok,
                tracks=len(store.tracks or {}),
                error=store.error or "",
            )
            for store in self.stores
        ]

    async def files(self) -> MusicFiles:
        """What the primary store holds now, else the second one; `error` says what is wrong."""
        # Both are asked at once: there is no time to ask the second one after the first.
        looks = [(store, self._refresh(store)) for store in self.stores]
        deadline = time.monotonic() + FILES_S
        faults = []
        for store, look in looks:
            await asyncio.wait([look], timeout=max(DISK_S, deadline - time.monotonic()))
            if not store.ok or not look.done():
                faults.append(f"{store.name} store: {store.error or 'it does not answer in time'}")
                continue
            return MusicFiles(
                files=[
                    MusicFile(key=one.key, size=one.size, uploaded=one.uploaded)
                    for one in (store.tracks or {}).values()
                ],
                supported=list(decoding.SUPPORTED),
                error="; ".join(faults),
            )
        error = "; ".join(faults) or "no store is configured (S3_URL)"
        return MusicFiles(supported=list(decoding.SUPPORTED), error=error)


async def _by(deadline: float, task: asyncio.Task[T]) -> T:
    """The task's result.  Raises `TimeoutError` at `deadline`; the task goes on then."""
    done, _ = await asyncio.wait([task], timeout=max(0.0, deadline - time.monotonic()))
    if not done:
        # Nobody may look at it any more: its failure is not "never retrieved".
        task.add_done_callback(lambda late: late.cancelled() or late.exception())
        raise TimeoutError
    return task.result()
