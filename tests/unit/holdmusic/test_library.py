"""Which track plays, and from where: on a real object store that is filled, changed and killed."""

import asyncio
import contextlib
import pathlib
import socket
import time
from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr

from services.holdmusic import builtin
from services.holdmusic.cache import Version
from services.holdmusic.library import Library, Pick
from services.holdmusic.settings import HoldMusicSettings, StoreAddress
from services.holdmusic.stores import (
    Bucket,
    NoSuchTrackError,
    RefusedError,
    StoreError,
    TooLargeError,
)
from shared.audio import FORMATS, PCMU
from tests.helpers import eventually
from tests.object_store import ObjectStore
from tests.unit.holdmusic.conftest import SettingsOf, hung_server
from tests.unit.holdmusic.music import likeness, mp3, samples, tune

pytestmark = pytest.mark.e2e

#: The service promises an answer within this, whatever a store does.
PROMISE_S = 1.0


@contextlib.asynccontextmanager
async def library(settings: HoldMusicSettings) -> AsyncIterator[Library]:
    one = Library(settings)
    await one.start()
    try:
        yield one
    finally:
        await one.stop()


def is_tune(pick: Pick, seed: int) -> bool:
    return likeness(samples(pick.audio, PCMU), tune(3.0, 8000, seed=seed)) > 0.9


async def eventually_picks(lib: Library, key: str | None, track: str) -> Pick:
    """The first request may be answered before the track has been fetched."""
    found: list[Pick] = []

    async def picks() -> bool:
        found.append(await lib.pick(key, "pcmu"))
        return found[-1].track == track

    await eventually(picks)
    return found[-1]


def dead_url() -> str:
    """Nobody listens there."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


# --- the store ------------------------------------------------------------------------------------


def test_a_bucket_keeps_lists_and_removes(bucket: Bucket) -> None:
    bucket.write_bytes("b/ü 1.mp3", b"x" * 5000)
    bucket.write_bytes("a.mp3", b"y")
    assert [(one.key, one.size) for one in bucket.objects()] == [("a.mp3", 1), ("b/ü 1.mp3", 5000)]
    data, etag = bucket.read("b/ü 1.mp3", 5000)
    assert data == b"x" * 5000
    assert etag == bucket.find("b/ü 1.mp3").etag != bucket.find("a.mp3").etag
    with pytest.raises(TooLargeError):
        bucket.read("b/ü 1.mp3", 4999)
    bucket.remove("a.mp3")
    for work in (bucket.find, bucket.remove):
        with pytest.raises(NoSuchTrackError):
            work("a.mp3")


def test_the_bucket_is_made_when_it_is_not_there(object_store: ObjectStore) -> None:
    given = object_store.new_bucket().address
    address = StoreAddress(
        "primary", given.url, "made-by-us", given.access_key, given.secret_key, None, 5
    )
    assert Bucket(address).objects() == []
    assert Bucket(address).objects() == []


def test_wrong_keys_are_told_without_showing_them(bucket: Bucket) -> None:
    given = bucket.address
    address = StoreAddress(
        "primary", given.url, given.bucket, given.access_key, SecretStr("wrong-secret"), None, 5
    )
    with pytest.raises(RefusedError) as caught:
        Bucket(address).objects()
    assert "Signature" in str(caught.value)
    assert "wrong-secret" not in str(caught.value)


async def test_what_is_no_store_is_told_in_a_sentence() -> None:
    async def speak_http(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(speak_http, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        for url in (dead_url(), f"http://127.0.0.1:{port}"):
            address = StoreAddress("primary", url, "hold-music", None, None, "us-east-1", 2)
            bucket = Bucket(address)
            with pytest.raises(StoreError):
                await asyncio.to_thread(bucket.objects)
            bucket.close()


# --- what plays -----------------------------------------------------------------------------------


async def test_a_track_is_uploaded_and_plays(
    object_store: ObjectStore, bucket: Bucket, settings_of: SettingsOf
) -> None:
    bucket.write_bytes("b.mp3", mp3(seed=2))
    bucket.write_bytes("a.mp3", mp3(seed=1))
    bucket.write_bytes("README.txt", b"not music")
    async with library(settings_of(**object_store.settings(bucket))) as lib:
        assert lib.default == "a.mp3"
        first = await eventually_picks(lib, None, "a.mp3")
        assert (first.source, first.fallback) == ("store", None)
        assert is_tune(first, 1)
        named = await eventually_picks(lib, "b.mp3", "b.mp3")
        assert is_tune(named, 2)
        # Uploaded after the last look, and asked for by name: it is looked up at once.
        bucket.write_bytes("c.mp3", mp3(seed=3))
        assert is_tune(await eventually_picks(lib, "c.mp3", "c.mp3"), 3)


async def test_a_track_is_decoded_once_and_survives_a_restart(
    object_store: ObjectStore, bucket: Bucket, settings_of: SettingsOf, tmp_path: pathlib.Path
) -> None:
    bucket.write_bytes("a.mp3", mp3())
    settings = settings_of(**object_store.settings(bucket))
    async with library(settings) as lib:
        await eventually_picks(lib, "a.mp3", "a.mp3")
    (file,) = (tmp_path / "music").iterdir()
    made = file.stat().st_ino
    async with library(settings) as lib:
        again = await lib.pick("a.mp3", "pcmu")
        assert again.source == "store"
        assert is_tune(again, 1)
    assert file.stat().st_ino == made


async def test_a_changed_track_is_refreshed_and_the_old_version_removed(
    object_store: ObjectStore, bucket: Bucket, settings_of: SettingsOf
) -> None:
    bucket.write_bytes("a.mp3", mp3(seed=1))
    settings = settings_of(**object_store.settings(bucket), music_refresh_s=1)
    async with library(settings) as lib:
        assert is_tune(await eventually_picks(lib, None, "a.mp3"), 1)
        (old,) = lib.cache.versions
        bucket.write_bytes("a.mp3", mp3(seed=2))
        await eventually(lambda: len(lib.cache.versions) == 1 and lib.cache.versions != [old])
        assert is_tune(await lib.pick(None, "pcmu"), 2)
        bucket.remove("a.mp3")
        await eventually(lambda: lib.cache.versions == [])
        gone = await lib.pick("a.mp3", "pcmu")
        assert (gone.track, gone.source) == (builtin.NAME, "built-in")
        assert gone.fallback == "a.mp3: no such track"


async def test_a_missing_track_falls_back_to_the_default_and_says_why(
    object_store: ObjectStore, bucket: Bucket, settings_of: SettingsOf
) -> None:
    bucket.write_bytes("default.mp3", mp3())
    settings = settings_of(**object_store.settings(bucket), hold_track="default.mp3")
    async with library(settings) as lib:
        await eventually_picks(lib, None, "default.mp3")
        pick = await lib.pick("nope.mp3", "pcmu")
        assert (pick.track, pick.source) == ("default.mp3", "store")
        assert pick.fallback == "nope.mp3: no such track"


async def test_the_built_in_track_can_be_asked_for_by_name(
    object_store: ObjectStore, bucket: Bucket, settings_of: SettingsOf
) -> None:
    bucket.write_bytes("a.mp3", mp3())
    async with library(settings_of(**object_store.settings(bucket))) as lib:
        pick = await lib.pick(builtin.NAME, "pcmu")
        assert (pick.track, pick.source, pick.fallback) == (builtin.NAME, "built-in", None)
    async with library(settings_of(s3_url=dead_url(), hold_track=builtin.NAME)) as lib:
        assert (await lib.pick(None, "pcmu")).fallback is None


async def test_a_file_that_is_no_music_is_refused_once_for_its_version(
    object_store: ObjectStore, bucket: Bucket, settings_of: SettingsOf
) -> None:
    bucket.write_bytes("bad.mp3", b"not music at all" * 1000)
    bucket.write_bytes("good.mp3", mp3())
    settings = settings_of(**object_store.settings(bucket), hold_track="good.mp3")
    async with library(settings) as lib:
        await eventually_picks(lib, None, "good.mp3")
        for _ in range(2):
            pick = await lib.pick("bad.mp3", "pcmu")
            assert pick.track == "good.mp3"
            assert pick.fallback is not None
            assert "no audio file" in pick.fallback
        began = time.monotonic()
        lib.stores[0].bucket.close()  # a download would fail now, and be told as such
        again = await lib.pick("bad.mp3", "pcmu")
        assert "no audio file" in (again.fallback or ""), "it is not fetched again"
        assert time.monotonic() - began < PROMISE_S


async def test_a_bad_file_does_not_become_the_default(
    object_store: ObjectStore, bucket: Bucket, settings_of: SettingsOf
) -> None:
    bucket.write_bytes("a.mp3", b"not music at all" * 1000)
    bucket.write_bytes("b.mp3", mp3(seed=2))
    async with library(settings_of(**object_store.settings(bucket))) as lib:
        assert is_tune(await eventually_picks(lib, None, "b.mp3"), 2)


async def test_limits_of_a_track(
    object_store: ObjectStore, bucket: Bucket, settings_of: SettingsOf
) -> None:
    bucket.write_bytes("a.mp3", mp3())
    for limit, name in (({"track_limit_bytes": 1000}, "BYTES"), ({"track_limit_s": 1}, "LIMIT_S")):
        async with library(settings_of(**object_store.settings(bucket), **limit)) as lib:
            pick = await lib.pick("a.mp3", "pcmu")
            assert pick.source == "built-in"
            assert name in (pick.fallback or "")


async def test_a_killed_store_leaves_the_cache(
    own_object_store: ObjectStore, settings_of: SettingsOf
) -> None:
    bucket = own_object_store.new_bucket()
    bucket.write_bytes("a.mp3", mp3())
    settings = settings_of(**own_object_store.settings(bucket), music_refresh_s=1)
    async with library(settings) as lib:
        await eventually_picks(lib, None, "a.mp3")
        own_object_store.kill()
        await eventually(lambda: not lib.stores[0].ok)
        for key in (None, "a.mp3"):
            pick = await lib.pick(key, "pcmu")
            assert (pick.track, pick.source, pick.fallback) == ("a.mp3", "cache", None)
        other = await lib.pick("other.mp3", "pcmu")
        assert other.track == "a.mp3"
        assert "away" in (other.fallback or "")
    # A service that starts while the store is away knows its cache as well.
    async with library(settings) as lib:
        began = time.monotonic()
        pick = await lib.pick(None, "pcmu")
        assert time.monotonic() - began < PROMISE_S
        assert (pick.track, pick.source) == ("a.mp3", "cache")
        # And it comes back by itself.
        own_object_store.start()
        await eventually(lambda: lib.stores[0].ok)
        assert (await lib.pick(None, "pcmu")).source == "store"


async def test_no_store_and_no_cache_is_the_built_in_track(settings_of: SettingsOf) -> None:
    async with library(settings_of()) as lib:
        for name in FORMATS:
            pick = await lib.pick(None, name)
            assert pick == Pick(builtin.NAME, "built-in", None, builtin.track(name))
        assert (await lib.pick("x.mp3", "pcmu")).fallback == "x.mp3: no such track"
    async with library(settings_of(s3_url=dead_url())) as lib:
        pick = await lib.pick(None, "pcmu")
        assert pick.source == "built-in"
        assert "primary store" in (pick.fallback or "")


async def test_the_second_store_is_used_while_the_first_is_away(
    object_store: ObjectStore, bucket: Bucket, settings_of: SettingsOf
) -> None:
    bucket.write_bytes("a.mp3", mp3())
    second = {
        name.replace("s3_", "s3_fallback_"): value
        for name, value in object_store.settings(bucket).items()
    }
    async with library(settings_of(s3_url=dead_url(), **second)) as lib:
        pick = await eventually_picks(lib, None, "a.mp3")
        assert (pick.source, pick.fallback) == ("fallback-store", None)
        assert is_tune(pick, 1)
        files = await lib.files()
        assert [one.key for one in files.files] == ["a.mp3"]
        assert "primary store" in files.error
        assert [(one.name, one.ok, one.tracks) for one in lib.states()] == [
            ("primary", False, 0),
            ("fallback", True, 1),
        ]


async def test_a_hung_store_delays_nobody(
    object_store: ObjectStore, bucket: Bucket, settings_of: SettingsOf
) -> None:
    bucket.write_bytes("a.mp3", mp3())
    second = {
        name.replace("s3_", "s3_fallback_"): value
        for name, value in object_store.settings(bucket).items()
    }
    async with hung_server() as url:
        async with library(settings_of(s3_url=url, s3_timeout_s=4)) as lib:
            began = time.monotonic()
            picks = await asyncio.gather(*(lib.pick(key, "pcmu") for key in (None, "x.mp3") * 10))
            assert time.monotonic() - began < PROMISE_S
            assert {pick.source for pick in picks} == {"built-in"}
        async with library(settings_of(s3_url=url, s3_timeout_s=4, **second)) as lib:
            assert (await eventually_picks(lib, None, "a.mp3")).source == "fallback-store"
            began = time.monotonic()
            assert (await lib.pick("nope.mp3", "pcmu")).track == "a.mp3"
            assert time.monotonic() - began < PROMISE_S


async def test_a_store_that_hangs_in_the_middle_delays_nobody(
    own_object_store: ObjectStore, settings_of: SettingsOf
) -> None:
    """It answered when it was last looked at, and now it is stopped in its tracks."""
    bucket = own_object_store.new_bucket()
    bucket.write_bytes("a.mp3", mp3(seed=1))
    bucket.write_bytes("b.mp3", mp3(seed=2))
    settings = settings_of(**own_object_store.settings(bucket), s3_timeout_s=3)
    async with library(settings) as lib:
        await eventually_picks(lib, None, "a.mp3")
        with own_object_store.suspended():
            began = time.monotonic()
            picks = await asyncio.gather(
                *(lib.pick(key, "pcmu") for key in ("a.mp3", "b.mp3", "new.mp3") * 7)
            )
            assert time.monotonic() - began < PROMISE_S
            assert {pick.track for pick in picks} == {"a.mp3"}
            assert picks[0].fallback is None
            assert "has not sent it yet" in (picks[1].fallback or "")
        # The fetch went on: the next caller hears it.
        assert is_tune(await eventually_picks(lib, "b.mp3", "b.mp3"), 2)


async def test_a_folder_that_cannot_be_written_costs_only_time(
    object_store: ObjectStore, bucket: Bucket, settings_of: SettingsOf, tmp_path: pathlib.Path
) -> None:
    bucket.write_bytes("a.mp3", mp3())
    (tmp_path / "file").write_text("in the way")
    settings = settings_of(**object_store.settings(bucket), music_cache=tmp_path / "file" / "music")
    async with library(settings) as lib:
        pick = await eventually_picks(lib, None, "a.mp3")
        assert is_tune(pick, 1)
        assert (await lib.pick(None, "pcmu")).audio is pick.audio, "kept in memory"


async def test_two_formats_are_two_versions(
    object_store: ObjectStore, bucket: Bucket, settings_of: SettingsOf
) -> None:
    bucket.write_bytes("a.mp3", mp3())
    async with library(settings_of(**object_store.settings(bucket))) as lib:
        phone = await eventually_picks(lib, None, "a.mp3")
        browser = phone

        async def browsers() -> bool:
            nonlocal browser
            browser = await lib.pick(None, "pcm24k")
            return browser.track == "a.mp3"

        await eventually(browsers)
        assert abs(len(browser.audio) / 48 - len(phone.audio) / 8) < 5
        etag = bucket.find("a.mp3").etag
        versions = {Version("a.mp3", etag, "pcmu"), Version("a.mp3", etag, "pcm24k")}
        assert set(lib.cache.versions) == versions
