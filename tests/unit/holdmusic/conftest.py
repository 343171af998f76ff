"""A real object store, and settings for a service on it."""

import asyncio
import contextlib
import pathlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from services.holdmusic.settings import HoldMusicSettings
from services.holdmusic.stores import Bucket
from tests.object_store import ObjectStore, object_store, own_object_store

__all__ = ["object_store", "own_object_store"]

SettingsOf = Callable[..., HoldMusicSettings]


@pytest.fixture
def bucket(object_store: ObjectStore) -> Bucket:
    """An empty bucket of this test's own."""
    return object_store.new_bucket()


@pytest.fixture
def settings_of(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> SettingsOf:
    """Settings with this test's own cache, and nothing from the machine's environment."""
    for name in HoldMusicSettings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)

    def make(**fields: Any) -> HoldMusicSettings:
        return HoldMusicSettings(
            **{"music_cache": tmp_path / "music", "music_refresh_s": 3600, **fields},
            _env_file=None,
        )

    return make


@contextlib.asynccontextmanager
async def hung_server() -> AsyncIterator[str]:
    """Accepts, reads, and never answers: the worst that a store can do."""
    held: dict[asyncio.StreamWriter, asyncio.Task[None] | None] = {}

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held[writer] = asyncio.current_task()
        with contextlib.suppress(OSError):
            while await reader.read(65536):
                pass

    server = await asyncio.start_server(swallow, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for writer in held:
            writer.transport.abort()
        await asyncio.gather(*(task for task in held.values() if task is not None))
        await server.wait_closed()
