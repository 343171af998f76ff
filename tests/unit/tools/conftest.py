"""Databases and a local Open-Meteo."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.unit.tools import postgres as postgres_server
from tests.unit.tools.house import Meteo, meteo_server
from tests.unit.tools.postgres import Postgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    yield from postgres_server.run_or_skip()


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of its own for one test, of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/new/folder/prescriptions.db"
    server: Postgres = request.getfixturevalue("postgres")
    return server.new_database()


@pytest.fixture
async def server() -> AsyncIterator[Meteo]:
    async with meteo_server() as meteo:
        yield meteo
