"""Books of an earlier version, carried over to this one: nothing of what they held changes."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime
from pathlib import Path

import psycopg
import pytest
import redis
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from ledger_writer import PartitionLog, admitted
from ledger_writer import passage as reported

import reporting
from parkgate.gate.v1 import gate_pb2
from reporting.config import ReportingConfig
from reporting.database import migrate
from reporting.worker import PartitionWorker
from ticketcore.errors import DamagedDataError

Row = tuple[object, ...]
EVENT_TIME = datetime(2026, 5, 1, 9, 30, tzinfo=UTC)
DAYS = (date(2026, 5, 1), date(2026, 5, 2))
SCANS = "scan_events"
PASSAGES = "passage_events"
FOREVER = "FOR VALUES FROM ('{0}') TO (date '{0}' + 1)"


RECOGNISED = [
    (ticket, partition, day, EVENT_TIME, ticket % 3, 1 + ticket % 2, ticket.to_bytes(16, "big"))
    for day, partition, first in ((DAYS[0], "p0", 1), (DAYS[0], "p1", 2), (DAYS[1], "p0", 9_001))
    for ticket in range(first, first + 3_000, 500)
]
"""Tickets, partitions, days, and when, where and by which scan they were admitted first."""


def migrate_to(url: str, revision: str) -> None:
    """As an installation that is still at `revision`."""
    engine = sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://", 1))
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE SCHEMA IF NOT EXISTS reporting"))
        config = Config()
        config.set_main_option("script_location", str(Path(reporting.__file__).parent / "migrations"))
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engine.dispose()


def scan(day: date, partition: str, sequence: int, position: int, reason: int = 0) -> Row:
    """One row of the old table; every seventh ticket is one that a forger made up."""
    number = sequence * 100 + position
    ticket_id = -number if number % 7 == 0 else number
    place = (day, partition, sequence, position, EVENT_TIME, number.to_bytes(16, "big"), ticket_id)
    return (*place, number % 3, 1, 5, 1, 2 if reason else 1, reason, 1, 2, EVENT_TIME, 1, not reason)


def passage(day: date, partition: str, sequence: int, position: int, undone: bool = False) -> Row:
    number = sequence * 100 + position
    place = (day, partition, sequence, position, EVENT_TIME, number.to_bytes(16, "big"), number)
    return (*place, number % 3, 1, 5, 2 if undone else 1, 2 * undone, 1, undone)


def rows_of(url: str, table: str) -> list[Row]:
    with psycopg.connect(url, options="-c timezone=UTC") as connection:
        statement = f"SELECT * FROM reporting.{table} ORDER BY park_date, partition, sequence, position"
        return connection.execute(statement.encode()).fetchall()


@pytest.fixture
def old_books(postgres_url: str) -> str:
    """Two days and two partitions: runs of alike, what stands between them, and lone rows."""
    migrate_to(postgres_url, "0002")
    scans = [
        scan(day, partition, sequence, position, reason=3 if position == 4 else 0)
        for day in DAYS
        for partition in ("p0", "p1")
        for sequence in (1, 2)
        for position in (0, 1, 2, 4, 5, 6)
    ]
    passages = [
        passage(day, "p0", sequence, position, undone=position == 8)
        for day in DAYS
        for sequence in (1, 2)
        for position in (7, 8, 9)
    ]
    with psycopg.connect(postgres_url) as connection, connection.cursor() as cursor:
        for table, rows in ((SCANS, scans), (PASSAGES, passages)):
            for day in DAYS:
                name = f"reporting.{table}_{day:%Y%m%d}"
                values = FOREVER.format(day)
                cursor.execute(f"CREATE TABLE {name} PARTITION OF reporting.{table} {values}".encode())
            places = ", ".join(["%s"] * len(rows[0]))
            cursor.executemany(f"INSERT INTO reporting.{table} VALUES ({places})".encode(), rows)
        cursor.executemany("INSERT INTO reporting.first_admissions VALUES (%s, %s, %s, %s, %s, %s, %s)", RECOGNISED)
    return postgres_url


async def test_rows_of_an_earlier_version_are_shown_as_they_were(old_books: str) -> None:
    """I6: every column of every row, and no row more."""
    before = {table: rows_of(old_books, table) for table in (SCANS, PASSAGES)}
    assert {table: len(rows) for table, rows in before.items()} == {SCANS: 48, PASSAGES: 12}
    await migrate(old_books)
    assert {table: rows_of(old_books, table) for table in (SCANS, PASSAGES)} == before


async def test_rows_that_are_alike_became_runs(old_books: str) -> None:
    await migrate(old_books)
    with psycopg.connect(old_books) as connection:
        runs = connection.execute(
            "SELECT position, cardinality(ticket_ids) FROM reporting.scan_runs"
            " WHERE park_date = %s AND partition = 'p1' AND sequence = 2 ORDER BY position",
            (DAYS[1],),
        ).fetchall()
        tables = connection.execute(
            "SELECT relname FROM pg_class WHERE relname ~ '_(runs|rows|events)_[0-9]{8}$' ORDER BY 1"
        ).fetchall()
    assert runs == [(0, 3), (4, 1), (5, 2)]
    days = [f"{day:%Y%m%d}" for day in DAYS]
    assert [name for (name,) in tables] == [f"{kind}_runs_{day}" for kind in ("passage", "scan") for day in days]


async def test_tickets_that_were_recognised_are_so_still(old_books: str, valkey_url: str) -> None:
    """I6: every column of every row; and none can be recognised again, though others of its block can."""
    await migrate(old_books)
    with psycopg.connect(old_books, options="-c timezone=UTC") as connection:
        kept = connection.execute("SELECT * FROM reporting.first_admissions ORDER BY ticket_id").fetchall()
    assert kept == sorted(RECOGNISED)
    with redis.Redis.from_url(valkey_url) as ledger:
        log = PartitionLog(ledger, "p0")
        log.append([admitted(502, 1), reported(admitted(501, 2), gate_pb2.PASSAGE_OUTCOME_NOT_PASSED, undone=True)])
        log.append([admitted(1_001, 3)])
    worker = PartitionWorker(ReportingConfig(old_books, valkey_url, ("p0",), "Europe/Paris"), "p0")
    with pytest.raises(DamagedDataError, match=r"second first admission of tickets 1001$"):
        await worker.catch_up()
    await worker.close()


async def test_an_admission_of_an_earlier_version_can_be_undone(old_books: str, valkey_url: str) -> None:
    await migrate(old_books)
    with redis.Redis.from_url(valkey_url) as ledger:
        log = PartitionLog(ledger, "p0")
        log.append([reported(admitted(501, 2), gate_pb2.PASSAGE_OUTCOME_NOT_PASSED, undone=True)])
    worker = PartitionWorker(ReportingConfig(old_books, valkey_url, ("p0",), "Europe/Paris"), "p0")
    await worker.catch_up()
    await worker.close()
    with psycopg.connect(old_books) as connection:
        kept = connection.execute("SELECT ticket_id FROM reporting.first_admissions ORDER BY 1").fetchall()
    assert kept == sorted((ticket,) for ticket, *_ in RECOGNISED if ticket != 501)


async def test_what_an_earlier_version_commits_meanwhile_is_moved_too(old_books: str) -> None:
    """I6: its worker may be in the midst of a transaction; what that recognises must not go with the old table."""
    late = (12_345, "p1", DAYS[1], EVENT_TIME, 2, 1, bytes(16))
    with psycopg.connect(old_books) as worker, psycopg.connect(old_books, autocommit=True) as watcher:
        worker.execute("INSERT INTO reporting.first_admissions VALUES (%s, %s, %s, %s, %s, %s, %s)", late)
        migrating = asyncio.create_task(migrate(old_books))
        waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'reporting.first_admissions'::regclass"
        async with asyncio.timeout(10):
            while watcher.execute(waits).fetchone() != (1,):  # noqa: ASYNC110 - of another process
                await asyncio.sleep(0.01)
        worker.commit()
        await migrating
        kept = watcher.execute("SELECT ticket_id FROM reporting.first_admissions ORDER BY 1").fetchall()
    assert kept == sorted((ticket,) for ticket, *_ in [*RECOGNISED, late])
