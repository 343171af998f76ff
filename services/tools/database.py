"""The prescriptions' database: its tables, and a connection that may be away for a while.

SQLite or Postgres.  The tables are made on the first connection, whenever that succeeds.
"""

import asyncio
import contextlib
import datetime
import logging
import uuid
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Final

import sqlalchemy
from sqlalchemy import URL, ForeignKey, Index, String, event, func, make_url, select
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from services.tools import metrics
from services.tools.registry import ToolError

log = logging.getLogger(__name__)

#: Answers are short: this serves hundreds of calls.
POOL_SIZE: Final = 5
POOL_OVERFLOW: Final = 10
#: A caller waits for the answer: rather say that the database is away.
CONNECT_TIMEOUT_S: Final = 3
STATEMENT_TIMEOUT_S: Final = 5
#: Any number that nobody else locks in this Postgres.
PREPARE_LOCK: Final = 7_946_220_231


class _CannotConnectError(Exception):
    """No connection.  Says which exception the driver raised, and nothing of its text."""


_AWAY: Final = (_CannotConnectError, DBAPIError, sqlalchemy.exc.TimeoutError, OSError)


def _new_id() -> str:
    return uuid.uuid4().hex


class Base(DeclarativeBase):
    """All tables of this service."""


class Owner(Base):
    """Who may hear of a patient."""

    __tablename__ = "owners"

    id: Mapped[str] = mapped_column(String(64), primary_key=True, default=_new_id)
    name: Mapped[str] = mapped_column(String(200))
    date_of_birth: Mapped[datetime.date]
    #: E.164; another notation with a country code is understood.
    phone: Mapped[str] = mapped_column(String(40), default="")
    patients: Mapped[list["Patient"]] = relationship(back_populates="owner")


class Patient(Base):
    """An animal."""

    __tablename__ = "patients"

    id: Mapped[str] = mapped_column(String(64), primary_key=True, default=_new_id)
    owner_id: Mapped[str] = mapped_column(ForeignKey("owners.id"))
    name: Mapped[str] = mapped_column(String(200))
    species: Mapped[str] = mapped_column(String(60))
    owner: Mapped[Owner] = relationship(back_populates="patients")
    prescriptions: Mapped[list["Prescription"]] = relationship(back_populates="patient")


Index("patients_by_name", func.lower(Patient.name))


class Prescription(Base):
    """What was prescribed, and how far the pharmacy is."""

    __tablename__ = "prescriptions"

    id: Mapped[str] = mapped_column(String(64), primary_key=True, default=_new_id)
    patient_id: Mapped[str] = mapped_column(ForeignKey("patients.id"), index=True)
    medication: Mapped[str] = mapped_column(String(200))
    strength: Mapped[str] = mapped_column(String(100))
    price_cents: Mapped[int]
    status: Mapped[str] = mapped_column(String(100))
    refills: Mapped[int]
    veterinarian: Mapped[str] = mapped_column(String(200))
    clinic: Mapped[str] = mapped_column(String(200))
    patient: Mapped[Patient] = relationship(back_populates="prescriptions")


class Guesses(Base):
    """How often a call has named a wrong factor: counted here for all instances together."""

    __tablename__ = "guesses"

    call: Mapped[str] = mapped_column(String(64), primary_key=True)
    wrong: Mapped[int]
    at: Mapped[datetime.datetime] = mapped_column(
        sqlalchemy.DateTime(timezone=True), server_default=func.now(), index=True
    )


def async_url(text: str) -> URL:
    """`text` with the driver that works under asyncio, as hosting companies write it or not."""
    url = make_url(text)
    if url.get_backend_name() == "sqlite":
        return url.set(drivername="sqlite+aiosqlite")
    url = url.set(drivername="postgresql+asyncpg")
    # What libpq calls `sslmode`, asyncpg calls `ssl`; the rest of libpq's words it does not know.
    mode = url.query.get("sslmode")
    url = url.difference_update_query(["sslmode", "channel_binding", "connect_timeout"])
    return url.update_query_dict({"ssl": mode}) if mode else url


class Database:
    """Sessions, once the tables are there.  `close` it."""

    def __init__(self, url: str, *, seed: Sequence[Base] = ()) -> None:
        self._url = async_url(url)
        #: Put into an empty database.
        self._seed = seed
        self._engine = _engine(self._url)
        self._prepared = False
        self._preparing = asyncio.Lock()

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""
        return self._url.get_backend_name()

    @contextlib.asynccontextmanager
    async def session(self) -> AsyncIterator[AsyncSession]:
        """A transaction, committed at the end of the block.

        Raises `ToolError` (`unavailable`) when the database is away.
        """
        try:
            connection = await self._connect()
            try:
                await self._prepare(connection)
                made = AsyncSession(connection, expire_on_commit=False)
                async with made as session, session.begin():
                    yield session
            finally:
                await connection.close()
        except _AWAY as error:
            if isinstance(error, DBAPIError) and not _is_away(error):
                raise
            self._prepared = False  # who knows what comes back: an empty file, a restored copy
            metrics.DATABASE_UP.set(0)
            log.warning("the database is away", extra={"error": type(error).__name__})
            raise ToolError(
                "unavailable", "the prescription records cannot be reached just now"
            ) from None
        metrics.DATABASE_UP.set(1)

    async def prepare(self) -> None:
        """Make the tables now, if the database answers; else the first request does."""
        with contextlib.suppress(ToolError):
            async with self.session() as session:
                await session.execute(select(1))

    async def close(self) -> None:
        """Close all connections."""
        await self._engine.dispose()

    async def _connect(self) -> AsyncConnection:
        """A connection of the pool; whatever prevents it is an outage."""
        if self.dialect == "sqlite" and self._url.database not in (None, "", ":memory:"):
            Path(str(self._url.database)).parent.mkdir(parents=True, exist_ok=True)
        try:
            return await self._engine.connect()
        except Exception as error:  # noqa: BLE001 - drivers raise what they like: refused, no such
            # database, a wrong password.  Their words may hold the URL, and so the password.
            raise _CannotConnectError(type(error).__name__) from None

    async def _prepare(self, connection: AsyncConnection) -> None:
        """Make and fill the tables, once; services that start together wait for each other."""
        async with self._preparing:
            if self._prepared:
                return
            async with connection.begin():
                if self.dialect == "sqlite":
                    await connection.exec_driver_sql("BEGIN IMMEDIATE")
                else:
                    await connection.execute(select(func.pg_advisory_xact_lock(PREPARE_LOCK)))
                await connection.run_sync(Base.metadata.create_all)
                await self._fill(connection)
            self._prepared = True

    async def _fill(self, connection: AsyncConnection) -> None:
        """The seed, into an empty database."""
        if not self._seed:
            return
        async with AsyncSession(connection) as session, session.begin():
            if await session.scalar(select(func.count()).select_from(Owner)) == 0:
                for row in self._seed:
                    await session.merge(row)
                log.info("the empty database was filled with samples")


def _engine(url: URL) -> AsyncEngine:
    options: dict[str, Any] = {
        # A statement's parameters are what a caller said: they must not come into an exception.
        "hide_parameters": True,
        "pool_pre_ping": True,
    }
    if url.get_backend_name() == "sqlite":
        engine = create_async_engine(url, connect_args={"timeout": STATEMENT_TIMEOUT_S}, **options)
        event.listen(engine.sync_engine, "connect", _careful_sqlite)
        return engine
    return create_async_engine(
        url,
        pool_size=POOL_SIZE,
        max_overflow=POOL_OVERFLOW,
        pool_timeout=CONNECT_TIMEOUT_S,
        connect_args={"timeout": CONNECT_TIMEOUT_S, "command_timeout": STATEMENT_TIMEOUT_S},
        **options,
    )


def _careful_sqlite(connection: Any, _record: object) -> None:
    """Readers beside a writer, and foreign keys that mean something."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _is_away(error: DBAPIError) -> bool:
    """Whether nothing is wrong with us: the server is stopping, full, locked."""
    return error.connection_invalidated or isinstance(error, OperationalError | InterfaceError)


__all__ = [
    "AsyncConnection",
    "AsyncSession",
    "Base",
    "Database",
    "Guesses",
    "Owner",
    "Patient",
    "Prescription",
    "async_url",
]
