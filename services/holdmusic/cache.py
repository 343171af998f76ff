"""Decoded tracks on disk: one file each, written whole or not at all, bounded.

A file is one line of JSON (what it is) and the audio, so that a folder tells what it holds when no
store answers.  Blocking, and safe to use from several threads; several processes may share a
folder, because a file never changes once it has its name.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import tempfile
import threading
import time
from dataclasses import dataclass
from typing import Final, get_args

from shared.audio import FormatName

#: Counts the ways in which we decode: a new one must not play what an older release made.
VERSION: Final = 1
SUFFIX: Final = ".track"
#: A line of JSON with the longest key.
_HEAD_LIMIT: Final = 8192
_FORMATS: Final = frozenset(get_args(FormatName))


@dataclass(frozen=True, slots=True)
class Version:
    """One decoded version of a track: what a file in the cache holds."""

    key: str
    etag: str
    audio: FormatName

    @property
    def file(self) -> str:
        """Its name on disk: keys may be long and hold any character."""
        track = hashlib.sha256(self.key.encode()).hexdigest()[:24]
        version = hashlib.sha256(self.etag.encode()).hexdigest()[:16]
        return f"{track}-{version}-{self.audio}{SUFFIX}"


class Cache:
    """`folder` may hold `limit_bytes`; what was not played for the longest time goes first."""

    def __init__(self, folder: pathlib.Path, limit_bytes: int) -> None:
        self._folder = folder
        self._limit_bytes = limit_bytes
        self._lock = threading.Lock()
        #: Version -> (last use, bytes).  Last use is the file's time of change.
        self._known: dict[Version, tuple[float, int]] = {}

    def open(self) -> None:
        """Find what is there; broken and outdated files are removed.  Raises `OSError`."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for file in self._folder.glob(f"*{SUFFIX}"):
            with contextlib.suppress(OSError):
                version = _look(file)
                if version is None or version.file != file.name:
                    file.unlink()
                    continue
                about = file.stat()
                with self._lock:
                    self._known[version] = (about.st_mtime, about.st_size)
        self._shrink(None)

    @property
    def versions(self) -> list[Version]:
        """Everything that is there, the most recently used last."""
        with self._lock:
            return sorted(self._known, key=lambda one: self._known[one][0])

    @property
    def size_bytes(self) -> int:
        """Bytes on disk."""
        with self._lock:
            return sum(size for _, size in self._known.values())

    def load(self, version: Version) -> bytes | None:
        """The audio; None when it is not there (any more)."""
        file = self._folder / version.file
        try:
            content = file.read_bytes()
            used = _use(file)
        except OSError:
            self._forget(version)
            return None
        found, start = _head(content)
        if found != version or not content[start:]:
            self.remove(version)
            return None
        with self._lock:
            self._known[version] = (used, len(content))
        return content[start:]

    def save(self, version: Version, audio: bytes) -> None:
        """Keep `audio`; older tracks give way.  Raises `OSError`."""
        fields = {"v": VERSION, "key": version.key, "etag": version.etag, "audio": version.audio}
        head = json.dumps({**fields, "bytes": len(audio)}).encode() + b"\n"
        self._folder.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=self._folder, prefix="new-")
        file = pathlib.Path(name)
        try:
            with os.fdopen(descriptor, "wb") as out:
                out.write(head)
                out.write(audio)
            used = _use(file)
            file.replace(self._folder / version.file)
        except BaseException:
            file.unlink(missing_ok=True)
            raise
        with self._lock:
            self._known[version] = (used, len(head) + len(audio))
        self._shrink(version)

    def remove(self, version: Version) -> None:
        """Harmless when it is not there."""
        with contextlib.suppress(OSError):
            (self._folder / version.file).unlink(missing_ok=True)
        self._forget(version)

    def _forget(self, version: Version) -> None:
        with self._lock:
            self._known.pop(version, None)

    def _shrink(self, newest: Version | None) -> None:
        excess = self.size_bytes - self._limit_bytes
        for version in self.versions:
            if excess <= 0:
                return
            if version != newest:  # it plays next, however large it is
                with self._lock:
                    excess -= self._known.get(version, (0.0, 0))[1]
                self.remove(version)


def _use(file: pathlib.Path) -> float:
    """Note that `file` is used now: the kernel's own stamps are too coarse to tell an order."""
    now = time.time()
    os.utime(file, (now, now))
    return now


def _look(file: pathlib.Path) -> Version | None:
    with file.open("rb") as content:
        head = content.readline(_HEAD_LIMIT)
    version, start = _head(head)
    if version is None or json.loads(head).get("bytes") != file.stat().st_size - start:
        return None  # cut short by a full disk
    return version


def _head(content: bytes) -> tuple[Version | None, int]:
    """What the file is, and where its audio begins."""
    end = content.find(b"\n", 0, _HEAD_LIMIT)
    try:
        fields = json.loads(content[:end]) if end > 0 else {}
        if fields.get("v") != VERSION or fields["audio"] not in _FORMATS:
            return None, 0
        return Version(str(fields["key"]), str(fields["etag"]), fields["audio"]), end + 1
    except (ValueError, KeyError, AttributeError):
        return None, 0
