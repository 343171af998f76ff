"""`switchboard tracks`: what callers hear while they wait."""

import pathlib
import re
import wave
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Final

import typer
from pydantic import ValidationError
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from cli import here
from cli.screen import console, errors, fail
from services.holdmusic import builtin, decoding, loudness, waves
from services.holdmusic.decoding import NotMusicError
from services.holdmusic.settings import S3Settings
from services.holdmusic.stores import Bucket, Found, NoSuchTrackError, StoreError, TooLargeError
from shared.audio import PCMU
from shared.settings import faults

app = typer.Typer(
    help="Look at and change the hold music. The store is the one of S3_URL, else the one of a "
    "running `switchboard up`.",
    no_args_is_help=True,
)

#: Smaller files are there before a bar could be read.
PROGRESS_BYTES: Final = 2_000_000
#: What a key may hold: what every store and every file system can keep.
KEY: Final = re.compile(r"[^\x00-\x1f\x7f\\]{1,512}")
UNITS: Final = ("bytes", "kB", "MB", "GB")


# --- the store -----------------------------------------------------------------------------------


def _settings() -> S3Settings:
    """From the environment and `.env`; without S3_URL there, of the running `switchboard up`."""
    try:
        settings = S3Settings()
        known = {name: value for name, value in here.running().items() if name.startswith("s3_")}
        if settings.s3_url is None and "s3_url" in known:
            settings = S3Settings.model_validate({**settings.model_dump(), **known})
    except ValidationError as error:
        lines = "\n".join(faults(error, S3Settings))
        fail(f"the settings of the store are wrong:\n{lines}", "correct them in .env")
    if settings.s3_url is None:
        fail("no object store found", "start `switchboard up`, or set S3_URL in .env")
    return settings


def _bucket(settings: S3Settings) -> Bucket:
    return Bucket(settings.stores[0])


@contextmanager
def _talking(settings: S3Settings, key: str = "") -> Iterator[None]:
    """Whatever the store says, in a sentence with a remedy."""
    try:
        yield
    except NoSuchTrackError:
        fail(f"no track {key!r}", "see `switchboard tracks list`")
    except TooLargeError:
        fail(f"{key} is larger than {settings.track_limit_bytes} bytes", "raise TRACK_LIMIT_BYTES")
    except StoreError as error:
        fail(
            f"the store at {settings.s3_url} (bucket {settings.s3_bucket}): {error}",
            "check that it runs, and S3_URL, S3_ACCESS_KEY, S3_SECRET_KEY and S3_BUCKET",
        )


# --- commands ------------------------------------------------------------------------------------


@app.command("list")
def list_tracks() -> None:
    """The tracks of the store; the default one is marked."""
    settings = _settings()
    with _talking(settings):
        found = _bucket(settings).objects()
    if not found:
        console.print(
            f"no tracks in {settings.s3_url}, bucket {settings.s3_bucket}: the built-in one plays\n"
            "add some: switchboard tracks add FILE..."
        )
        return
    table = Table(box=None, padding=(0, 2), show_edge=False)
    for name in ("track", "size", "uploaded", ""):
        table.add_column(name, justify="right" if name == "size" else "left")
    for one in found:
        when = one.uploaded.astimezone().strftime("%Y-%m-%d %H:%M") if one.uploaded else ""
        table.add_row(escape(one.key), _size(one.size), when, _note(one))
    console.print(table)


def _note(one: Found) -> str:
    ending = pathlib.PurePosixPath(one.key).suffix.lower()
    return "" if ending in decoding.SUPPORTED else "[yellow]not music by its name[/]"


@app.command()
def add(
    files: Annotated[list[pathlib.Path], typer.Argument(help="music files of any usual format")],
    force: Annotated[
        bool, typer.Option("--force", help="replace a track of the same name")
    ] = False,
) -> None:
    """Check that each file can be played, then upload it under its own name.

    Nothing is uploaded unless all of them can.
    """
    settings = _settings()
    bucket = _bucket(settings)
    with _talking(settings):
        there = {one.key for one in bucket.objects()}
    _check_names(files, there, force=force)
    for file in files:
        seconds = len(_decoded(_read(file, settings), file.name, settings)) / PCMU.rate_hz
        console.print(f"{escape(file.name)}: {_length(seconds)}, can be played")
    for file in files:
        with _talking(settings, file.name):
            _upload(bucket, file)
        console.print(f"[green]added[/] {escape(file.name)}")
    console.print("the service plays it within MUSIC_REFRESH_S, by name at once", style="dim")


def _check_names(files: Sequence[pathlib.Path], there: set[str], *, force: bool) -> None:
    names = [file.name for file in files]
    if len(set(names)) < len(names):
        fail("two of the files have the same name", "rename one: the name is the track's key")
    for name in names:
        if not KEY.fullmatch(name):
            fail(f"{name!r} cannot be a track's key", "rename the file")
    taken = [name for name in names if name in there]
    if taken and not force:
        fail(f"already in the store: {', '.join(taken)}", "give --force to replace")


def _read(file: pathlib.Path, settings: S3Settings) -> bytes:
    try:
        size = file.stat().st_size
        if size > settings.track_limit_bytes:
            fail(
                f"{file}: {_size(size)} is more than {_size(settings.track_limit_bytes)}",
                "make it smaller, or raise TRACK_LIMIT_BYTES for the service as well",
            )
        return file.read_bytes()
    except OSError as error:
        fail(f"{file}: {error.strerror}", "give a readable file")


def _decoded(data: bytes, key: str, settings: S3Settings) -> bytes:
    """As the phone will hear it."""
    try:
        return decoding.decode(data, key, PCMU, limit_s=settings.track_limit_s)
    except NotMusicError as error:
        fail(f"{key} cannot be played: {error}", "give MP3, WAV, Ogg, FLAC, M4A, or mu-law as .raw")


def _upload(bucket: Bucket, file: pathlib.Path) -> None:
    size = file.stat().st_size
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
        console=errors,
        transient=True,
        disable=size < PROGRESS_BYTES,
    )
    with progress, progress.open(file, "rb", description=escape(file.name)) as stream:
        bucket.write(file.name, stream, size)


@app.command()
def remove(key: Annotated[str, typer.Argument(help="the track, as `list` names it")]) -> None:
    """Remove a track from the store; calls that hear it hear it to their end."""
    settings = _settings()
    with _talking(settings, key):
        _bucket(settings).remove(key)
    console.print(f"[green]removed[/] {escape(key)}")


@app.command()
def play(
    key: Annotated[
        str, typer.Argument(help=f"the track, as `list` names it; {builtin.NAME} is always there")
    ],
    out: Annotated[
        pathlib.Path | None, typer.Option(help="where to write it; default: NAME.wav here")
    ] = None,
) -> None:
    """Write a track as a caller hears it (decoded to mu-law, 8 kHz, and back) to a WAV file."""
    if key == builtin.NAME:
        audio = builtin.track("pcmu")
    else:
        settings = _settings()
        with _talking(settings, key):
            data, _ = _bucket(settings).read(key, settings.track_limit_bytes)
        audio = _decoded(data, key, settings)
    file = out or pathlib.Path(pathlib.PurePosixPath(key).name).with_suffix(".wav")
    pcm = waves.to_pcm(audio, PCMU)
    try:
        with wave.open(str(file), "wb") as wav:
            wav.setnchannels(1)
            wav.setsampwidth(2)
            wav.setframerate(PCMU.rate_hz)
            wav.writeframes(pcm.astype("<i2").tobytes())
    except OSError as error:
        fail(f"{file}: {error.strerror}", "give another file with --out")
    heard = (pcm / 32768).astype("float32")
    level = loudness.dbfs(loudness.loudness(heard, PCMU.rate_hz))
    console.print(f"{file}: {_length(len(pcm) / PCMU.rate_hz)}, {level:.1f} dBFS")


def _length(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else f"{seconds // 60:.0f} min {seconds % 60:.0f} s"


def _size(count: float) -> str:
    for unit in UNITS[:-1]:
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} {UNITS[-1]}"
