"""`switchboard tracks`, on a real object store."""

import json
import pathlib
import wave
from collections.abc import Callable

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from cli import here, object_store as embedded
from cli.main import app
from services.holdmusic.settings import S3Settings
from services.holdmusic.stores import Bucket
from tests.object_store import ObjectStore, object_store, own_object_store
from tests.unit.holdmusic.music import likeness, mp3, tune

__all__ = ["object_store", "own_object_store"]

pytestmark = pytest.mark.e2e

Run = Callable[..., Result]


@pytest.fixture
def place(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A folder with no .env, and no settings of the machine's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(here, "DATA", tmp_path / "data")
    monkeypatch.setenv("COLUMNS", "200")
    for name in S3Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    return tmp_path


@pytest.fixture
def bucket(object_store: ObjectStore) -> Bucket:
    return object_store.new_bucket()


@pytest.fixture
def run(
    place: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    object_store: ObjectStore,
    bucket: Bucket,
) -> Run:
    """Runs `switchboard tracks ...` with this test's bucket in the environment."""
    for name, value in object_store.settings(bucket).items():
        monkeypatch.setenv(name.upper(), value)
    return lambda *arguments: CliRunner().invoke(app, ["tracks", *map(str, arguments)])


def test_a_track_is_added_listed_played_and_removed(
    run: Run, place: pathlib.Path, bucket: Bucket
) -> None:
    assert "built-in" in run("list").output
    (place / "bossa.mp3").write_bytes(mp3())
    (place / "line.raw").write_bytes(b"\xf0\x70" * 8000)
    added = run("add", "bossa.mp3", "line.raw")
    assert added.exit_code == 0, added.output
    assert "bossa.mp3: 3.0 s, can be played" in added.output
    assert [one.key for one in bucket.objects()] == ["bossa.mp3", "line.raw"]
    assert bucket.read("bossa.mp3", 10_000_000)[0] == (place / "bossa.mp3").read_bytes()
    listed = run("list").output
    assert "bossa.mp3" in listed
    assert "kB" in listed

    played = run("play", "bossa.mp3", "--out", "heard.wav")
    assert played.exit_code == 0, played.output
    assert "dBFS" in played.output
    with wave.open(str(place / "heard.wav")) as wav:
        assert (wav.getframerate(), wav.getnchannels(), wav.getsampwidth()) == (8000, 1, 2)
        pcm = np.frombuffer(wav.readframes(wav.getnframes()), dtype="<i2")
    assert likeness(pcm.astype(np.float32), tune(3.0, 8000)) > 0.9

    removed = run("remove", "bossa.mp3")
    assert removed.exit_code == 0
    assert [one.key for one in bucket.objects()] == ["line.raw"]
    for command in ("remove", "play"):
        gone = run(command, "bossa.mp3")
        assert gone.exit_code == 1
        assert "no track 'bossa.mp3'" in gone.output


def test_the_built_in_track_can_be_heard_without_a_store(place: pathlib.Path) -> None:
    result = CliRunner().invoke(app, ["tracks", "play", "built-in"])
    assert result.exit_code == 0, result.output
    assert "-23.0 dBFS" in result.output
    with wave.open(str(place / "built-in.wav")) as wav:
        assert wav.getnframes() > 20 * 8000


def test_what_cannot_be_played_is_not_uploaded(
    run: Run, place: pathlib.Path, bucket: Bucket
) -> None:
    (place / "good.mp3").write_bytes(mp3())
    (place / "bad.mp3").write_bytes(b"this is not music" * 1000)
    result = run("add", "good.mp3", "bad.mp3")
    assert result.exit_code == 1
    assert "bad.mp3 cannot be played" in result.output
    assert bucket.objects() == []


def test_nothing_is_overwritten_without_force(
    run: Run, place: pathlib.Path, bucket: Bucket
) -> None:
    (place / "a.mp3").write_bytes(mp3(seed=1))
    assert run("add", "a.mp3").exit_code == 0
    first = bucket.find("a.mp3").etag
    (place / "a.mp3").write_bytes(mp3(seed=2))
    refused = run("add", "a.mp3")
    assert refused.exit_code == 1
    assert "--force" in refused.output
    assert bucket.find("a.mp3").etag == first
    assert run("add", "a.mp3", "--force").exit_code == 0
    assert bucket.find("a.mp3").etag != first


def test_a_large_file_is_uploaded_whole(run: Run, place: pathlib.Path, bucket: Bucket) -> None:
    """More than one part of an upload, and with a progress bar."""
    noise = np.random.default_rng(1).integers(-9000, 9000, 4_000_000).astype("<i2")
    with wave.open(str(place / "large.wav"), "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(44100)
        wav.writeframes(noise.tobytes())
    result = run("add", "large.wav")
    assert result.exit_code == 0, result.output
    assert bucket.read("large.wav", 50_000_000)[0] == (place / "large.wav").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("add", "missing.mp3"), "No such file"),
        (("add", "a/same.mp3", "b/same.mp3"), "same name"),
        (("play", "nope.mp3"), "tracks list"),
    ],
)
def test_mistakes_are_explained(run: Run, arguments: tuple[str, ...], text: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 1
    assert text in result.output


def test_a_file_that_is_too_large_names_the_setting(
    run: Run, place: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACK_LIMIT_BYTES", "1000")
    (place / "a.mp3").write_bytes(mp3())
    result = run("add", "a.mp3")
    assert result.exit_code == 1
    assert "TRACK_LIMIT_BYTES" in result.output


def test_without_a_store_it_says_what_to_do(place: pathlib.Path) -> None:
    result = CliRunner().invoke(app, ["tracks", "list"])
    assert result.exit_code == 1
    assert "switchboard up" in result.output
    assert "S3_URL" in result.output


def test_wrong_keys_and_wrong_settings_are_explained(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("S3_SECRET_KEY", "this is wrong")
    result = run("list")
    assert result.exit_code == 1
    assert "S3_SECRET_KEY" in result.output
    assert "this is wrong" not in result.output
    monkeypatch.setenv("S3_URL", "not a url")
    result = run("list")
    assert result.exit_code == 1
    assert "S3_URL: " in result.output


def test_a_running_up_lends_its_store(
    place: pathlib.Path, object_store: ObjectStore, bucket: Bucket
) -> None:
    bucket.write_bytes("bossa.mp3", mp3())
    with here.announced(nats_url="nats://x", **object_store.settings(bucket)):
        assert (place / "data" / "up.json").stat().st_mode & 0o777 == 0o600
        result = CliRunner().invoke(app, ["tracks", "list"])
        assert result.exit_code == 0, result.output
        assert "bossa.mp3" in result.output
    assert not (place / "data" / "up.json").exists()


def test_the_embedded_stores_keys_are_made_once_and_private(place: pathlib.Path) -> None:
    file = place / "data" / "objects.json"
    first = embedded.keys(file)
    assert file.stat().st_mode & 0o777 == 0o600
    assert embedded.keys(file) == first
    assert len(first.secret) >= 32
    file.write_text("half writ")
    again = embedded.keys(file)
    assert again != first
    assert json.loads(file.read_text())["access_key"] == again.access
    assert file.stat().st_mode & 0o777 == 0o600


def test_the_embedded_store_listens_on_loopback_only_and_tells_nobody() -> None:
    ports = embedded.free_ports()
    assert len(set(ports.values())) == 10
    arguments = embedded.command("weed", pathlib.Path("data"), ports)
    assert "-ip.bind=127.0.0.1" in arguments, "its filer asks for no keys"
    assert "-master.telemetry=false" in arguments


def test_a_restarted_store_keeps_its_tracks(own_object_store: ObjectStore) -> None:
    bucket = own_object_store.new_bucket()
    bucket.write_bytes("a.mp3", mp3())
    own_object_store.kill()
    own_object_store.start()
    assert bucket.read("a.mp3", 10_000_000)[0] == mp3()
