"""The prescriptions' database: made when it can be, filled when empty, away without harm."""

import asyncio
import contextlib
import datetime
import logging
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
import sqlalchemy.exc
from sqlalchemy import func, select, text

from services.tools.database import Base, Database, Owner, Patient, Prescription, async_url
from services.tools.registry import ToolError
from services.tools.seed import samples
from tests.unit.tools.postgres import Postgres

pytestmark = pytest.mark.unit


@contextlib.asynccontextmanager
async def opened(url: str, seed: Sequence[Base] = ()) -> AsyncIterator[Database]:
    database = Database(url, seed=seed)
    try:
        yield database
    finally:
        await database.close()


async def count(database: Database, table: type[Base]) -> int:
    async with database.session() as session:
        return await session.scalar(select(func.count()).select_from(table)) or 0


async def away(database: Database) -> None:
    with pytest.raises(ToolError) as caught:
        await count(database, Owner)
    assert caught.value.code == "unavailable"
    assert "prescription records" in caught.value.message


def remove_all(folder: Path) -> None:
    for each in folder.iterdir():
        each.unlink()


async def insert_half(database: Database, secret: str) -> None:
    """A row without a name, which the table refuses."""
    async with database.session() as session:
        insert = text("INSERT INTO owners (id, phone) VALUES (:secret, '')")
        await session.execute(insert, {"secret": secret})


def test_urls_get_the_driver_that_works() -> None:
    for given, wanted in {
        "sqlite:///a/b.db": "sqlite+aiosqlite:///a/b.db",
        "sqlite+aiosqlite:////data/b.db": "sqlite+aiosqlite:////data/b.db",
        "postgres://u:p@h:1/d": "postgresql+asyncpg://u:p@h:1/d",
        "postgresql://h/d?sslmode=require&channel_binding=require": (
            "postgresql+asyncpg://h/d?ssl=require"
        ),
        "postgresql+asyncpg://h/d?ssl=disable": "postgresql+asyncpg://h/d?ssl=disable",
    }.items():
        assert async_url(given).render_as_string(hide_password=False) == wanted


async def test_an_empty_database_is_made_and_filled_once(database_url: str) -> None:
    async with opened(database_url, samples()) as database:
        await database.prepare()
        assert await count(database, Owner) == 4
        async with database.session() as session:
            rosie = await session.get(Patient, "rosie-dog")
            assert rosie is not None
            await session.delete(await session.get(Prescription, "sample-1"))
    async with opened(database_url, samples()) as database:
        # What was changed stays: only an empty database is filled.
        assert await count(database, Prescription) == 4


async def test_a_database_with_data_is_not_filled(database_url: str) -> None:
    async with opened(database_url) as database, database.session() as session:
        day = datetime.date(1985, 3, 14)
        session.add(Owner(name="Real Person", date_of_birth=day, phone="+15550001"))
    async with opened(database_url, samples()) as database:
        assert await count(database, Owner) == 1
        assert await count(database, Patient) == 0


async def test_services_that_start_together_fill_it_once(database_url: str) -> None:
    async with contextlib.AsyncExitStack() as stack:
        several = [await stack.enter_async_context(opened(database_url, samples())) for _ in "123"]
        async with asyncio.TaskGroup() as group:
            for database in several:
                group.create_task(database.prepare())
        assert [await count(database, Owner) for database in several] == [4, 4, 4]


async def test_the_sample_of_the_earlier_system_is_there(database_url: str) -> None:
    async with opened(database_url, samples()) as database, database.session() as session:
        found = await session.execute(
            select(Patient.species, Prescription)
            .join(Prescription, Prescription.patient_id == Patient.id)
            .where(Patient.name == "Rosie", Patient.species == "dog")
        )
        ((species, prescription),) = found.all()
        assert species == "dog"
        assert (prescription.medication, prescription.strength) == (
            "Simparica-Trio",
            "30 mg tablet",
        )
        assert (prescription.price_cents, prescription.refills) == (10_000, 3)
        assert prescription.status == "ready for pickup"
        assert prescription.veterinarian == "Dr. Suzy Greenberg"
        assert prescription.clinic == "Forbin's Veterinary Clinic"


def test_two_samples_share_a_first_name() -> None:
    names = [each.name for each in samples() if isinstance(each, Patient)]
    assert names.count("Rosie") == 2


async def test_a_file_that_cannot_be_made_is_away_until_it_can(tmp_path: Path) -> None:
    blocker = tmp_path / "folder"
    blocker.write_text("a file where a folder should be")
    async with opened(f"sqlite:///{blocker}/prescriptions.db", samples()) as database:
        await database.prepare()  # at start: no harm
        await away(database)
        blocker.unlink()
        assert await count(database, Owner) == 4


async def test_a_file_that_is_no_database_is_an_error_and_not_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "prescriptions.db"
    content = "something else entirely, and longer than a header of SQLite " * 20
    file.write_text(content)
    async with opened(f"sqlite:///{file}") as database:
        await away(database)
    assert file.read_text() == content


async def test_a_file_that_is_deleted_comes_back(tmp_path: Path) -> None:
    file = tmp_path / "prescriptions.db"
    async with opened(f"sqlite:///{file}", samples()) as database:
        assert await count(database, Owner) == 4
        await database.close()  # its connections; new ones open by themselves
        remove_all(tmp_path)
        await away(database)
        assert await count(database, Owner) == 4


async def test_a_mistake_of_ours_is_not_an_outage(database_url: str) -> None:
    async with opened(database_url) as database:
        with pytest.raises(sqlalchemy.exc.DBAPIError) as caught:
            await insert_half(database, "Rosie")
        assert "Rosie" not in str(caught.value)
        assert await count(database, Owner) == 0


async def test_an_outage_of_postgres_passes(
    postgres: Postgres, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(postgres.new_database(), samples()) as database:
        assert await count(database, Owner) == 4
        postgres.stop()
        try:
            await away(database)
            await away(database)
        finally:
            postgres.start()
        assert await count(database, Owner) == 4
    assert "of-the-tests" not in caplog.text
    assert any(record.levelno == logging.WARNING for record in caplog.records)


async def test_a_postgres_that_refuses_us_is_away(
    postgres: Postgres, caplog: pytest.LogCaptureFixture
) -> None:
    for url in (
        postgres.url("postgres", password="wrong-secret"),
        postgres.url("no_such_database"),
        "postgresql://nobody@127.0.0.1:1/none",
    ):
        async with opened(url) as database:
            await away(database)
    assert "wrong-secret" not in caplog.text
