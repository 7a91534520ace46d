"""Postgres: connections, the migrations of the schema `reporting`, and the one place where its errors become ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from psycopg_pool import AsyncConnectionPool, PoolTimeout
from sqlalchemy.exc import OperationalError

from ticketcore.errors import UnavailableError

SCHEMA = "reporting"
CONNECT_TIMEOUT_S = 3
POOL_WAIT_S = 5.0
MIGRATION_LOCK = 0x7061726C
"""Advisory lock, so that two services that start together do not migrate together."""

Connection = psycopg.AsyncConnection[tuple[object, ...]]
Pool = AsyncConnectionPool[Connection]


def plain_url(url: str) -> str:
    """An address as libpq wants it, without a driver's name."""
    scheme, rest = url.split("://", 1)
    return f"{scheme.partition('+')[0]}://{rest}"


async def connect(url: str) -> Connection:
    """A connection that commits nothing by itself, with times in UTC.

    Raises:
        psycopg.OperationalError: Postgres is away.
    """
    return await psycopg.AsyncConnection.connect(
        plain_url(url), connect_timeout=CONNECT_TIMEOUT_S, options="-c timezone=UTC -c application_name=reporting"
    )


def make_pool(url: str, size: int = 4) -> Pool:
    """Connections for queries; call `open` on it. Broken ones are replaced.

    Without memoize: the planner cannot know how many tickets the arrays of runs hold, and would look up each price by
    itself (a million admissions: 0.9 s instead of 2.8).
    """
    return AsyncConnectionPool(
        plain_url(url),
        min_size=1,
        max_size=size,
        timeout=POOL_WAIT_S,
        open=False,
        check=AsyncConnectionPool.check_connection,
        kwargs={
            "connect_timeout": CONNECT_TIMEOUT_S,
            "options": "-c timezone=UTC -c application_name=reports -c enable_memoize=off",
        },
    )


@asynccontextmanager
async def reading(pool: Pool) -> AsyncIterator[Connection]:
    """One consistent view of the books: every query inside it sees the same state.

    Raises:
        UnavailableError: Postgres is away.
    """
    try:
        async with pool.connection() as connection:
            await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            yield connection
    except (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout) as error:
        raise UnavailableError("the database of reports is away; ask again shortly", 2000) from error


async def migrate(url: str) -> None:
    """Brings the schema `reporting` to this version. Safe to call at every start, from several services at once.

    Raises:
        UnavailableError: Postgres is away.
    """
    await asyncio.to_thread(_migrate, url)


def _migrate(url: str) -> None:
    engine = sa.create_engine(
        plain_url(url).replace("://", "+psycopg://", 1).replace("postgres+", "postgresql+", 1),
        connect_args={"connect_timeout": CONNECT_TIMEOUT_S},
    )
    try:
        with engine.begin() as connection:
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
            connection.execute(sa.text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"))
            config = Config()
            config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except (OperationalError, OSError) as error:
        raise UnavailableError("the database is away: the schema of reports cannot be checked", 2000) from error
    finally:
        engine.dispose()
