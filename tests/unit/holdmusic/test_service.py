"""The service on a real broker and a real store: requests in, music out, judged by its bytes."""

import asyncio
import contextlib
import os
import pathlib
import secrets
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from nats.aio.msg import Msg

from services.holdmusic import builtin
from services.holdmusic.app import serve
from services.holdmusic.cache import Cache, Version
from services.holdmusic.player import FADE_MS, LEAD_MS, TICK_MS, Player, fade_in
from services.holdmusic.stores import Bucket
from shared import subjects
from shared.audio import FORMATS, PCM24K, PCMU, AudioFormat
from shared.bus import Bus, NoAnswerError, NoResponderError
from shared.lifecycle import Lifecycle
from shared.messages import (
    MUSIC_ANSWER,
    Ask,
    MusicFiles,
    MusicRefused,
    MusicStarted,
    MusicStatus,
    PlayMusic,
    StopMusic,
)
from shared.settings import ServiceSettings
from tests.broker import Broker
from tests.helpers import eventually
from tests.object_store import ObjectStore
from tests.unit.holdmusic.conftest import SettingsOf, hung_server
from tests.unit.holdmusic.music import likeness, mp3, samples, tune

pytestmark = pytest.mark.e2e

#: The promise of `holdmusic.play`.
ANSWER_S = 1.0
#: How far a shared machine may be behind its own clock, in these tests.
SLACK_MS = 400


def new_call() -> str:
    return "CA" + secrets.token_hex(16)


@dataclass
class Ear:
    """A gateway's ear: what came for one hold, and when."""

    call: str
    hold: int
    format: AudioFormat = PCMU
    pieces: list[tuple[float, bytes]] = field(default_factory=list)

    async def on_audio(self, message: Msg) -> None:
        self.pieces.append((asyncio.get_running_loop().time(), message.data))

    @property
    def audio(self) -> bytes:
        return b"".join(data for _, data in self.pieces)

    @property
    def ms(self) -> int:
        return self.format.ms(sum(len(data) for _, data in self.pieces))

    async def hears(self, ms: int) -> None:
        await eventually(lambda: self.ms >= ms, ms / 1000 + 10)


@dataclass
class House:
    bus: Bus

    async def listen(self, call: str = "", hold: int = 1, format_: AudioFormat = PCMU) -> Ear:
        ear = Ear(call or new_call(), hold, format_)
        await self.bus.subscribe(subjects.hold_audio(ear.call, hold), ear.on_audio)
        await self.bus.flush()
        return ear

    async def play(self, ear: Ear, **fields: Any) -> MusicStarted | MusicRefused:
        request = PlayMusic(call=ear.call, hold=ear.hold, audio=ear.format.name, **fields)
        began = asyncio.get_running_loop().time()
        answer = await self.bus.request(subjects.HOLD_PLAY, request, timeout_s=5)
        assert asyncio.get_running_loop().time() - began < ANSWER_S
        return MUSIC_ANSWER.validate_json(answer)

    async def stop(self, ear: Ear) -> None:
        self.bus.send_control(subjects.hold_stop(ear.call, ear.hold), StopMusic(), urgent=True)
        await self.bus.flush()

    async def status(self) -> MusicStatus:
        return MusicStatus.decode(await self.bus.request(subjects.HOLD_STATUS, Ask(), timeout_s=5))


@pytest.fixture
async def house(bus: Bus) -> House:
    return House(bus)


@contextlib.asynccontextmanager
async def service(nats_url: str, settings_of: SettingsOf, **fields: Any) -> AsyncIterator[Bus]:
    """The whole service in this process, on a connection of its own."""
    settings = settings_of(nats_url=nats_url, **fields)
    life = Lifecycle("holdmusic")
    own = await Bus.connect(ServiceSettings(nats_url=nats_url, _env_file=None), "hm", name="hm")
    running = asyncio.create_task(serve(settings, life, own))
    try:
        await eventually(lambda: running.done() or (own.subscriptions == 4 and not life.failing()))
        yield own
    finally:
        life.stopping.set()
        try:
            await running
        finally:
            await own.close()


# --- playing --------------------------------------------------------------------------------------


@pytest.mark.parametrize("format_", FORMATS.values(), ids=lambda one: one.name)
async def test_music_plays_and_loops_for_ever(
    nats_url: str, house: House, settings_of: SettingsOf, format_: AudioFormat
) -> None:
    """The earlier system went silent after one pass."""
    track = b"".join(bytes([n % 251 + 1]) for n in range(8 * 700))  # 0.7 s: many passes
    folder = settings_of().music_cache
    cache = Cache(folder, 1 << 30)
    cache.open()
    cache.save(Version("short.raw", "e", format_.name), track)
    async with service(nats_url, settings_of):
        ear = await house.listen(format_=format_)
        answer = await house.play(ear)
        assert isinstance(answer, MusicStarted)
        assert (answer.track, answer.source, answer.fallback) == ("short.raw", "cache", None)
        await ear.hears(2500)
    head = fade_in(track, format_)
    assert ear.audio[: len(head)] == head
    forever = track * (len(ear.audio) // len(track) + 1)
    assert ear.audio[len(head) :] == forever[len(head) : len(ear.audio)]
    assert all(len(data) % format_.frame_bytes == 0 for _, data in ear.pieces)


async def test_a_track_of_the_store_is_heard_and_never_its_files_bytes(
    nats_url: str,
    house: House,
    settings_of: SettingsOf,
    object_store: ObjectStore,
    bucket: Bucket,
) -> None:
    file = mp3()
    bucket.write_bytes("bossa.mp3", file)
    async with service(nats_url, settings_of, **object_store.settings(bucket)):

        async def ready() -> bool:
            return (await house.status()).cached > 0

        await eventually(ready)
        ear = await house.listen()
        answer = await house.play(ear, track="bossa.mp3")
        assert answer == MusicStarted(track="bossa.mp3", source="store", fallback=None)
        await ear.hears(4000)
    heard = samples(ear.audio, PCMU)[FADE_MS * 8 : 3000 * 8]
    assert likeness(heard, tune(3.0, 8000)[FADE_MS * 8 :]) > 0.85
    assert file[:100] not in ear.audio


async def test_it_fades_in(nats_url: str, house: House, settings_of: SettingsOf) -> None:
    async with service(nats_url, settings_of):
        ear = await house.listen()
        await house.play(ear)
        await ear.hears(1500)
    heard = np.abs(samples(ear.audio, PCMU))
    assert heard[:160].max() < 0.01
    assert heard[: 100 * 8].max() < heard[FADE_MS * 8 : 1500 * 8].max() / 4


async def test_two_calls_hear_two_tracks_and_each_from_its_beginning(
    nats_url: str,
    house: House,
    settings_of: SettingsOf,
    object_store: ObjectStore,
    bucket: Bucket,
) -> None:
    """The earlier system had one player for all calls."""
    for seed in (1, 2):
        bucket.write_bytes(f"{seed}.mp3", mp3(seed=seed))
    async with service(nats_url, settings_of, **object_store.settings(bucket)):
        for seed in (1, 2):

            async def ready(seed: int = seed) -> bool:
                warm = await house.listen()
                answer = await house.play(warm, track=f"{seed}.mp3", limit_s=1)
                return isinstance(answer, MusicStarted) and answer.track == f"{seed}.mp3"

            await eventually(ready)
        ears = [await house.listen() for _ in (1, 2, 1)]
        await house.play(ears[0], track="1.mp3")
        await house.play(ears[1], track="2.mp3")
        await ears[0].hears(1000)
        await house.play(ears[2], track="1.mp3")
        for ear in ears:
            await ear.hears(2500)
        await house.stop(ears[0])
        await ears[1].hears(3000)
        assert len((await house.status()).holds) == 2
    size = 2500 * 8
    assert ears[0].audio[:size] == ears[2].audio[:size]
    assert ears[0].audio[:size] != ears[1].audio[:size]


async def test_twenty_holds_at_once_keep_time_and_do_not_drift(
    nats_url: str, house: House, settings_of: SettingsOf
) -> None:
    loop = asyncio.get_running_loop()
    async with service(nats_url, settings_of):
        ears = [await house.listen(format_=PCM24K if n % 2 else PCMU) for n in range(20)]
        began = loop.time()
        answers = await asyncio.gather(*(house.play(ear) for ear in ears))
        asked = loop.time()
        assert all(isinstance(answer, MusicStarted) for answer in answers)
        for ear in ears:
            await ear.hears(4000)
        for ear in ears:
            # At each arrival: never more than the lead ahead of real time.
            got_ms = 0
            for at, data in ear.pieces:
                got_ms += ear.format.ms(len(data))
                assert got_ms <= (at - began) * 1000 + LEAD_MS
            last_ms = (ear.pieces[-1][0] - asked) * 1000
            assert got_ms >= last_ms - TICK_MS - SLACK_MS
        spread = [ear.ms for ear in ears]
        assert max(spread) - min(spread) <= TICK_MS + (asked - began) * 1000 + SLACK_MS


# --- ending ---------------------------------------------------------------------------------------


async def test_a_stop_is_obeyed_within_a_tick(
    nats_url: str, house: House, settings_of: SettingsOf
) -> None:
    async with service(nats_url, settings_of):
        stopped, other = await house.listen(), await house.listen()
        await house.play(other)
        await house.play(stopped)
        await stopped.hears(600)
        await house.stop(stopped)

        async def gone() -> bool:
            return stopped.call not in (await house.status()).holds

        await eventually(gone)
        count, clock = len(stopped.pieces), other.ms
        await other.hears(clock + 5 * TICK_MS)
        assert len(stopped.pieces) == count
        assert (await house.status()).holds == [other.call]


async def test_the_limit_ends_it_to_the_frame(
    nats_url: str, house: House, settings_of: SettingsOf
) -> None:
    async with service(nats_url, settings_of):
        ear, other = await house.listen(), await house.listen()
        await house.play(other)
        await house.play(ear, limit_s=1)
        await other.hears(2000)
        assert ear.ms == 1000
        assert (await house.status()).holds == [other.call]


async def test_a_repeated_request_is_one_player(
    nats_url: str, house: House, settings_of: SettingsOf
) -> None:
    async with service(nats_url, settings_of):
        ear = await house.listen()
        began = asyncio.get_running_loop().time()
        answers = await asyncio.gather(*(house.play(ear) for _ in range(5)))
        answers.append(await house.play(ear))
        assert len({answer.model_dump_json() for answer in answers}) == 1
        await ear.hears(1500)
        elapsed_ms = (asyncio.get_running_loop().time() - began) * 1000
        assert ear.ms <= elapsed_ms + LEAD_MS
        assert (await house.status()).holds == [ear.call]
        again = await house.listen(ear.call, hold=2)
        await house.play(again)
        assert len((await house.status()).holds) == 2, "another hold of the call is another player"


async def test_a_request_that_reached_two_instances_is_one_player(
    nats_url: str, house: House, settings_of: SettingsOf
) -> None:
    async with service(nats_url, settings_of), service(nats_url, settings_of):
        ears = [await house.listen() for _ in range(4)]
        # The queue group spreads these at random: each hold reaches both, most likely.
        for ear in ears * 8:
            assert isinstance(await house.play(ear), MusicStarted)
        instances: dict[str, MusicStatus] = {}

        async def all_asked() -> bool:
            status = await house.status()
            instances[status.instance] = status
            return len(instances) == 2

        await eventually(all_asked)

        async def one_each() -> bool:
            await all_asked()
            holds = [call for status in instances.values() for call in status.holds]
            return sorted(holds) == sorted(ear.call for ear in ears)

        await eventually(one_each)
        clock = [(ear.ms, asyncio.get_running_loop().time()) for ear in ears]
        for ear, (ms, _) in zip(ears, clock, strict=True):
            await ear.hears(ms + 1000)
        for ear, (ms, at) in zip(ears, clock, strict=True):
            elapsed_ms = (asyncio.get_running_loop().time() - at) * 1000
            assert ear.ms - ms <= elapsed_ms + LEAD_MS + TICK_MS, "not two at once"


async def test_a_request_that_comes_after_its_stop_does_not_play(
    nats_url: str, house: House, settings_of: SettingsOf
) -> None:
    async with service(nats_url, settings_of):
        ear = await house.listen()
        await house.stop(ear)
        await house.status()  # behind the stop
        answer = await house.play(ear)
        assert isinstance(answer, MusicRefused)
        assert "stopped" in answer.message
        assert ear.pieces == []


async def test_one_more_than_max_holds_is_refused(
    nats_url: str, house: House, settings_of: SettingsOf
) -> None:
    async with service(nats_url, settings_of, max_holds=2):
        ears = [await house.listen() for _ in range(3)]
        answers = await asyncio.gather(*(house.play(ear) for ear in ears))
        refused = [answer for answer in answers if isinstance(answer, MusicRefused)]
        assert [answer.code for answer in refused] == ["full"]
        playing = next(
            ear
            for ear, answer in zip(ears, answers, strict=True)
            if isinstance(answer, MusicStarted)
        )
        await house.stop(playing)
        late = await house.listen()

        async def plays() -> bool:
            return isinstance(await house.play(late), MusicStarted)

        await eventually(plays)


# --- telling --------------------------------------------------------------------------------------


async def test_status_and_files(
    nats_url: str,
    house: House,
    settings_of: SettingsOf,
    object_store: ObjectStore,
    bucket: Bucket,
) -> None:
    bucket.write_bytes("a.mp3", mp3())
    bucket.write_bytes("notes.txt", b"x")
    async with service(nats_url, settings_of, **object_store.settings(bucket)):
        status = await house.status()
        (store,) = status.stores
        assert (store.name, store.ok, store.tracks, store.error) == ("primary", True, 2, "")
        assert store.endpoint == object_store.url
        assert status.default_track == "a.mp3"
        assert object_store.secret_key not in status.model_dump_json()
        bucket.write_bytes("b.mp3", mp3())
        files = MusicFiles.decode(await house.bus.request(subjects.HOLD_FILES, Ask(), timeout_s=5))
        assert [one.key for one in files.files] == ["a.mp3", "b.mp3", "notes.txt"]
        assert files.files[0].size > 1000
        assert files.files[0].uploaded is not None
        assert {".mp3", ".wav", ".raw"} <= set(files.supported)
        assert files.error == ""


async def test_without_a_store_it_says_so_and_plays_the_built_in_track(
    nats_url: str, house: House, settings_of: SettingsOf
) -> None:
    async with service(nats_url, settings_of):
        status = await house.status()
        assert (status.stores, status.default_track) == ([], builtin.NAME)
        files = MusicFiles.decode(await house.bus.request(subjects.HOLD_FILES, Ask(), timeout_s=5))
        assert (files.files, "S3_URL" in files.error) == ([], True)
        ear = await house.listen()
        answer = await house.play(ear, track="bossa.mp3")
        assert answer == MusicStarted(
            track=builtin.NAME, source="built-in", fallback="bossa.mp3: no such track"
        )
        await ear.hears(1000)
    assert ear.audio[FADE_MS * 8 : 8000] == builtin.track("pcmu")[FADE_MS * 8 : 8000]


async def test_a_hung_store_does_not_delay_the_answer(
    nats_url: str, house: House, settings_of: SettingsOf
) -> None:
    async with hung_server() as url, service(nats_url, settings_of, s3_url=url, s3_timeout_s=3):
        ears = [await house.listen() for _ in range(10)]
        await asyncio.gather(*(house.play(ear, track="x.mp3") for ear in ears))  # checks the time
        for ear in ears:
            await ear.hears(500)


async def test_garbage_is_survived(nats_url: str, house: House, settings_of: SettingsOf) -> None:
    async with service(nats_url, settings_of):
        ear = await house.listen()
        await house.play(ear)
        client = house.bus.client
        for data in (b"", b"{", b"\xff" * 1000, b'{"call": "*", "hold": 1}', b"[]"):
            answer = await client.request(subjects.HOLD_PLAY, data, timeout=5)
            refusal = MUSIC_ANSWER.validate_json(answer.data)
            assert isinstance(refusal, MusicRefused)
            assert refusal.code == "invalid"
            await client.publish(subjects.HOLD_PLAY, data)
            await client.request(subjects.HOLD_STATUS, data, timeout=5)
        for subject in ("call.x.hold.1.stop", f"call.{ear.call}.hold.{'9' * 500}.stop"):
            await client.publish(subject, b"")
        await client.publish(f"call.{ear.call}.hold.-1.stop", b"")
        clock = ear.ms
        await ear.hears(clock + 500)
        await client.publish(subjects.hold_stop(ear.call, 1), b"not JSON, but it says stop")

        async def gone() -> bool:
            return (await house.status()).holds == []

        await eventually(gone)


async def test_a_ticker_that_fails_takes_the_service_with_it(
    nats_url: str, house: House, settings_of: SettingsOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service that answers and plays nothing would be worse: whoever runs it starts it anew."""

    def fails(*_: object) -> bytes:
        raise RuntimeError("a fault of ours")

    async def gone() -> bool:
        try:
            await house.status()
        except (NoResponderError, NoAnswerError):
            return True
        return False

    async def until_it_fails() -> None:
        async with service(nats_url, settings_of):
            await house.play(await house.listen())
            monkeypatch.setattr(Player, "due", fails)
            await eventually(gone)

    with pytest.raises(RuntimeError, match="a fault of ours"):
        await until_it_fails()


# --- trouble --------------------------------------------------------------------------------------


async def test_music_goes_on_after_an_outage_of_nats(
    own_broker: Broker, settings_of: SettingsOf
) -> None:
    settings = ServiceSettings(nats_url=own_broker.url, _env_file=None)
    bus = await Bus.connect(settings, "test", name="test")
    house = House(bus)
    async with service(own_broker.url, settings_of) as own:
        ear = await house.listen()
        await house.play(ear)
        await ear.hears(500)
        own_broker.stop()
        await eventually(lambda: not own.connected)
        own_broker.start()
        await eventually(lambda: own.connected and bus.connected, 20)
        clock = ear.ms
        await ear.hears(clock + 1000)
        assert (await house.status()).holds == [ear.call]
        await house.stop(ear)

        async def gone() -> bool:
            return (await house.status()).holds == []

        await eventually(gone)
    await bus.close()


@pytest.mark.timeout(90)
async def test_sigterm_ends_all_players_and_the_process(
    nats_url: str, house: House, tmp_path: pathlib.Path
) -> None:
    kept = {key: value for key, value in os.environ.items() if key in ("PATH", "HOME", "LANG")}
    env = {**kept, "NATS_URL": nats_url, "MUSIC_CACHE": str(tmp_path / "music")}
    root = pathlib.Path(__file__).parent.parent.parent.parent
    with (tmp_path / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "services.holdmusic"),
            cwd=tmp_path,
            env={**env, "PYTHONPATH": str(root)},
            stdout=log,
            stderr=log,
        )
    try:

        async def up() -> bool:
            assert process.returncode is None, (tmp_path / "log").read_text()
            try:
                await house.status()
            except NoResponderError:
                return False
            return True

        await eventually(up, 30)
        ears = [await house.listen() for _ in range(5)]
        for ear in ears:
            await house.play(ear)
        for ear in ears:
            await ear.hears(500)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 10) == 0
        await house.bus.flush()
        heard = [ear.ms for ear in ears]
        with pytest.raises(NoResponderError):
            await house.status()
        assert [ear.ms for ear in ears] == heard
        assert "music ended" in (tmp_path / "log").read_text()
        assert "Traceback" not in (tmp_path / "log").read_text()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
