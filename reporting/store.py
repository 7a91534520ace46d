"""Writes a batch and moves the offset, in one transaction: the heart of counting exactly once.

The offset's row is locked first. Whoever holds the lock alone reads and moves it, so what is after the offset has never
been written, and a batch that was read from an older offset is not written at all. A crash before the commit leaves
nothing; one after it leaves everything; an unknown commit is resolved by reading the offset again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

import psycopg
from psycopg import sql

from reporting.batch import Batch, utc_text
from reporting.database import Connection
from ticketcore.errors import DamagedDataError

DAY_LOCK = 0x7061726D
"""Advisory lock for making a day's tables: two workers meet each new day at the same moment."""
DAILY_TABLES = ("scan_events", "passage_events")

TICKET_COLUMNS = (
    "park_date, partition, sequence, position, event_time, ticket_id, product_number, from_lifecycle, to_lifecycle, "
    "price_minor, request_id, registered"
)


@dataclass(frozen=True, slots=True)
class Offset:
    """How far a partition has been read."""

    sequence: int = 0
    epoch: int = 0


async def read_offset(connection: Connection, partition: str) -> Offset:
    """The offset of a partition, committed; makes its row at the first time."""
    await connection.execute(
        "INSERT INTO reporting.offsets (partition, sequence, epoch) VALUES (%s, 0, 0) ON CONFLICT DO NOTHING",
        (partition,),
    )
    cursor = await connection.execute(
        "SELECT sequence, epoch FROM reporting.offsets WHERE partition = %s", (partition,)
    )
    row = await cursor.fetchone()
    await connection.commit()
    return _offset_of(row)


async def write(connection: Connection, batch: Batch, read_from: Offset) -> tuple[Offset, bool]:
    """Writes a batch that follows `read_from`, and commits; answers the offset then, and whether it was written.

    If another worker has moved the offset meanwhile, nothing is written and its offset is answered.

    Raises:
        DamagedDataError: the books contradict the ledger (a ticket's first admission comes twice).
        psycopg.OperationalError: Postgres is away; the outcome may be unknown.
    """
    await _make_days(connection, batch)
    async with connection.transaction():
        cursor = await connection.execute(
            "SELECT sequence, epoch FROM reporting.offsets WHERE partition = %s FOR UPDATE", (batch.partition,)
        )
        present = _offset_of(await cursor.fetchone())
        if present != read_from:
            return present, False
        await _copy_events(connection, batch)
        await _add_sums(connection, batch)
        await _write_first_admissions(connection, batch)
        await connection.execute(
            "UPDATE reporting.offsets SET sequence = %s, epoch = %s, entry_time = %s, park_date = %s"
            " WHERE partition = %s",
            (batch.last_sequence, batch.last_epoch, utc_text(batch.last_time_ms), batch.last_day, batch.partition),
        )
    return Offset(batch.last_sequence, batch.last_epoch), True


def _offset_of(row: tuple[object, ...] | None) -> Offset:
    if row is None:
        raise DamagedDataError("a partition's offset is gone from reporting.offsets; restore it from the backup")
    return Offset(int(str(row[0])), int(str(row[1])))


async def _make_days(connection: Connection, batch: Batch) -> None:
    """Makes the tables of days that are new, before the batch's own transaction. Attaching locks out no reader."""
    for day in sorted(batch.days):
        async with connection.transaction():
            if await _has_day(connection, day):
                continue
            await connection.execute("SELECT pg_advisory_xact_lock(%s)", (DAY_LOCK,))
            if not await _has_day(connection, day):
                for table in DAILY_TABLES:
                    await _make_day(connection, table, day)


async def _has_day(connection: Connection, day: date) -> bool:
    """Asks the catalogue's tables: `to_regclass` may answer from a cache older than the lock that was waited for."""
    cursor = await connection.execute(
        "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = 'reporting' AND c.relname = %s",
        (_day_table(day),),
    )
    row = await cursor.fetchone()
    return row is not None and row[0] == 1


def _day_table(day: date, table: str = DAILY_TABLES[-1]) -> str:
    return f"{table}_{day:%Y%m%d}"


async def _make_day(connection: Connection, table: str, day: date) -> None:
    parent, child = sql.Identifier("reporting", table), sql.Identifier("reporting", _day_table(day, table))
    await connection.execute(sql.SQL("CREATE TABLE {} (LIKE {} INCLUDING ALL)").format(child, parent))
    await connection.execute(
        sql.SQL("ALTER TABLE {} ATTACH PARTITION {} FOR VALUES FROM ({}) TO ({})").format(
            parent, child, sql.Literal(day.isoformat()), sql.Literal((day + timedelta(days=1)).isoformat())
        )
    )


async def _copy_events(connection: Connection, batch: Batch) -> None:
    await _copy(connection, "COPY reporting.scan_events FROM STDIN", batch.scans)
    await _copy(connection, "COPY reporting.passage_events FROM STDIN", batch.passages)
    await _copy(connection, f"COPY reporting.ticket_events ({TICKET_COLUMNS}) FROM STDIN", batch.tickets)
    if batch.quotas:
        async with connection.cursor() as cursor:
            await cursor.executemany(
                "INSERT INTO reporting.quota_events (park_date, partition, sequence, position, event_time, kind, body)"
                " VALUES (%s, %s, %s, %s, %s, %s, %s)",
                batch.quotas,
            )


async def _copy(connection: Connection, statement: str, lines: list[str]) -> None:
    if not lines:
        return
    async with connection.cursor() as cursor, cursor.copy(statement.encode()) as copy:
        await copy.write("".join(lines))


async def _add_sums(connection: Connection, batch: Batch) -> None:
    """Adds to the aggregates. Only this partition's rows are touched, and only under its lock."""
    scans = [(batch.partition, utc_text(key[0]), *key[1:], *sums) for key, sums in batch.scan_sums.items()]
    passages = [(batch.partition, utc_text(key[0]), *key[1:], *sums) for key, sums in batch.passage_sums.items()]
    tickets = [(batch.partition, *key, *sums) for key, sums in batch.ticket_sums.items()]
    async with connection.cursor() as cursor:
        for statement, rows in ((_ADD_SCANS, scans), (_ADD_PASSAGES, passages), (_ADD_TICKETS, tickets)):
            if rows:
                await cursor.executemany(statement, rows)


async def _write_first_admissions(connection: Connection, batch: Batch) -> None:
    if batch.undone:
        await connection.execute(
            "DELETE FROM reporting.first_admissions WHERE ticket_id = ANY(%s)", (list(batch.undone),)
        )
    lines = [
        f"{ticket_id}\t{batch.partition}\t{first.park_date}\t{utc_text(first.time_ms)}\t{first.gate_number}"
        f"\t{first.product_number}\t\\\\x{first.scan_id.hex()}\n"
        for ticket_id, first in batch.first.items()
    ]
    try:
        await _copy(connection, "COPY reporting.first_admissions FROM STDIN", lines)
    except psycopg.errors.UniqueViolation as error:
        raise DamagedDataError(
            f"the ledger of {batch.partition} up to {batch.last_sequence} has a second first admission"
            f" of a ticket: {error.diag.message_detail}"
        ) from error


def _upsert(table: str, key: str, sums: tuple[str, str]) -> str:
    columns = [*key.split(", "), *sums]
    marks = ", ".join(["%s"] * len(columns))
    adds = ", ".join(f"{column} = t.{column} + excluded.{column}" for column in sums)
    unique = ", ".join(column for column in key.split(", ") if column != "park_date" or table == "ticket_days")
    return (
        f"INSERT INTO reporting.{table} AS t ({', '.join(columns)}) VALUES ({marks})"  # noqa: S608 - names of ours
        f" ON CONFLICT ({unique}) DO UPDATE SET {adds}"
    )


_ADD_SCANS = _upsert(
    "scan_minutes",
    "partition, minute, park_date, gate_number, zone_number, product_number, direction, decision, reason, kind",
    ("scans", "persons"),
)
_ADD_PASSAGES = _upsert(
    "passage_minutes",
    "partition, minute, park_date, gate_number, zone_number, product_number, kind, outcome",
    ("passages", "persons_given_back"),
)
_ADD_TICKETS = _upsert(
    "ticket_days",
    "partition, park_date, product_number, from_lifecycle, to_lifecycle, registered",
    ("tickets", "price_minor"),
)
