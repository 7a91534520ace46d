"""Postgres: the engine, its migrations, and the one place where its errors become ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from sales.tables import SCHEMA
from ticketcore.errors import UnavailableError, UnknownOutcomeError, impossible

Driver = psycopg.AsyncConnection[Any]
POOL_SIZE = 16
"""Connections at rest. Two cores' worth of Postgres is busy with fewer."""
POOL_WAIT_S = 5.0
"""Longer, and the window had better be told: it asks again with the same request_id."""
CONNECT_TIMEOUT_S = 3
MIGRATION_LOCK = 0x7061726B
"""Advisory lock, so that two services that start together do not migrate together."""


DISCONNECTS = (
    OperationalError,
    InterfaceError,
    psycopg.OperationalError,
    psycopg.InterfaceError,
    PoolTimeoutError,
    OSError,
)


def driver_url(url: str) -> str:
    """A plain Postgres address as SQLAlchemy wants it, with psycopg as the driver."""
    scheme, rest = url.split("://", 1)
    return f"postgresql+psycopg://{rest}" if scheme in {"postgres", "postgresql"} else url


class Database:
    """A pool of connections. Nothing is connected before the first use; broken connections are replaced."""

    def __init__(self, url: str) -> None:
        self._engine = create_async_engine(
            driver_url(url),
            pool_size=POOL_SIZE,
            max_overflow=POOL_SIZE,
            pool_timeout=POOL_WAIT_S,
            pool_use_lifo=True,
            connect_args={"connect_timeout": CONNECT_TIMEOUT_S, "options": "-c timezone=UTC", "prepare_threshold": 3},
        )
        self._reader = self._engine.execution_options(isolation_level="AUTOCOMMIT")

    async def close(self) -> None:
        """Closes all connections."""
        await self._engine.dispose()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """One transaction: committed whole at the end, or rolled back.

        Raises:
            UnavailableError: Postgres is away; nothing was done (I10).
            UnknownOutcomeError: Postgres went away during the commit.
        """
        committing = False
        try:
            async with self._engine.connect() as connection:
                yield connection
                committing = True
                await connection.commit()
        except DISCONNECTS as error:
            raise _away(committing=committing) from error

    @asynccontextmanager
    async def pipeline(self) -> AsyncIterator[Driver]:
        """One transaction in psycopg's pipeline mode: a statement is sent without waiting for the one before it, the
        commit too, so that ten statements cost two round trips. Results, and errors, come when they are fetched.

        Raises:
            UnavailableError: Postgres is away; nothing was done (I10).
            UnknownOutcomeError: Postgres went away during the commit.
        """
        committing = False
        try:
            async with self._engine.connect() as connection:
                driver = await driver_of(connection)
                async with driver.pipeline():
                    yield driver
                    committing = True
                    await driver.commit()
        except DISCONNECTS as error:
            raise _away(committing=committing) from error

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """A connection where every statement is its own transaction: one round trip instead of three.

        Raises:
            UnavailableError: Postgres is away.
        """
        try:
            async with self._reader.connect() as connection:
                yield connection
        except DISCONNECTS as error:
            raise _away(committing=False) from error


async def driver_of(connection: AsyncConnection) -> Driver:
    """psycopg's connection under SQLAlchemy's: in its transaction, if SQLAlchemy has sent one statement."""
    driver: Driver | None = (await connection.get_raw_connection()).driver_connection
    if driver is None:
        impossible("the pool gave a connection without a driver")
    return driver


def _away(*, committing: bool) -> UnavailableError | UnknownOutcomeError:
    if committing:
        return UnknownOutcomeError(
            "the database went away while it was storing this; ask again with the same request_id"
        )
    return UnavailableError("selling is stopped: the database is away. Nothing was done; try again shortly", 2000)


async def migrate(url: str) -> None:
    """Brings the schema `sales` to this version. Safe to call at every start, from several services at once."""
    await asyncio.to_thread(_migrate, url)


def _migrate(url: str) -> None:
    engine = sa.create_engine(driver_url(url), connect_args={"connect_timeout": CONNECT_TIMEOUT_S})
    try:
        with engine.begin() as connection:
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
            connection.execute(sa.text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"))
            config = Config()
            config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except (OperationalError, OSError) as error:
        raise UnavailableError("the database is away: its schema cannot be checked", 2000) from error
    finally:
        engine.dispose()
