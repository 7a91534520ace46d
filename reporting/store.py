"""Writes a batch and moves the offset, in one transaction: the heart of counting exactly once.

The offset's row is locked first. Whoever holds the lock alone reads and moves it, so what is after the offset has never
been written, and a batch that was read from an older offset is not written at all. A crash before the commit leaves
nothing; one after it leaves everything; an unknown commit is resolved by reading the offset again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

from psycopg import sql

from reporting.batch import Batch, second_first_admission, utc_text
from reporting.copy_rows import HEADER, TRAILER
from reporting.database import Connection
from reporting.recognised import BLOCK, blocks_of, tickets_of
from ticketcore.errors import DamagedDataError

DAY_LOCK = 0x7061726D
"""Advisory lock for making a day's tables: two workers meet each new day at the same moment."""
DAILY_TABLES = ("scan_runs", "passage_runs")

_HAS_DAYS = (
    "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
    " WHERE n.nspname = 'reporting' AND c.relname = ANY(%s)"
)
"""Asks the catalogue's tables: `to_regclass` may answer from a cache older than the lock that was waited for."""
_BITS = "('x' || encode(m.tickets, 'hex'))::bit(2048)"
_RECOGNISE = (
    "INSERT INTO reporting.recognised_tickets AS r (partition, block, tickets)"  # noqa: S608 - ours
    f" SELECT %s, m.block, {_BITS} FROM unnest(%s::bigint[], %s::bytea[]) AS m (block, tickets)"
    " ON CONFLICT (partition, block) DO UPDATE SET tickets = r.tickets | excluded.tickets"
    " WHERE (r.tickets & excluded.tickets) = 0::bit(2048) RETURNING block"
)
"""Leaves out, and does not answer, a block of which a ticket is recognised already."""
_TWICE = (
    f"SELECT r.block, (r.tickets & {_BITS})::text FROM reporting.recognised_tickets AS r"  # noqa: S608 - ours
    " JOIN unnest(%s::bigint[], %s::bytea[]) AS m (block, tickets) USING (block)"
    " WHERE r.partition = %s AND NOT r.block = ANY(%s)"
)
_WITHDRAW = (
    f"UPDATE reporting.recognised_tickets AS r SET tickets = r.tickets & ~ {_BITS}"  # noqa: S608 - ours
    " FROM unnest(%s::bigint[], %s::bytea[]) AS m (block, tickets) WHERE r.partition = %s AND r.block = m.block"
)
_LOOK = f"SELECT sequence, epoch, ({_HAS_DAYS}) FROM reporting.offsets WHERE partition = %s FOR UPDATE"  # noqa: S608 - ours
_COPY_TICKETS = (
    b"COPY reporting.ticket_events (park_date, partition, sequence, position, event_time, ticket_id, product_number,"
    b" from_lifecycle, to_lifecycle, price_minor, request_id, registered) FROM STDIN"
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
    while True:
        async with connection.transaction():
            present, days = await _look(connection, batch)
            if present != read_from:
                return present, False
            if days == len(batch.days):
                await _write_all(connection, batch)
                return Offset(batch.last_sequence, batch.last_epoch), True
        await _make_days(connection, batch)


async def _look(connection: Connection, batch: Batch) -> tuple[Offset, int]:
    """Locks the partition's offset; answers it, and how many of the batch's days have their tables."""
    cursor = await connection.execute(_LOOK, ([_day_table(day) for day in batch.days], batch.partition))
    row = await cursor.fetchone()
    return _offset_of(row), int(str(row[2])) if row is not None else 0


async def _write_all(connection: Connection, batch: Batch) -> None:
    """Everything that a batch says. What needs no answer goes in one message."""
    await _copy_events(connection, batch)
    await _write_first_admissions(connection, batch)
    async with connection.pipeline():
        await _add_sums(connection, batch)
        await connection.execute(
            "UPDATE reporting.offsets SET sequence = %s, epoch = %s, entry_time = %s, park_date = %s"
            " WHERE partition = %s",
            (batch.last_sequence, batch.last_epoch, utc_text(batch.last_time_ms), batch.last_day, batch.partition),
        )


def _offset_of(row: tuple[object, ...] | None) -> Offset:
    if row is None:
        raise DamagedDataError("a partition's offset is gone from reporting.offsets; restore it from the backup")
    return Offset(int(str(row[0])), int(str(row[1])))


async def _make_days(connection: Connection, batch: Batch) -> None:
    """Makes the tables of days that are new, in transactions of their own. Attaching locks out no reader."""
    for day in sorted(batch.days):
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock(%s)", (DAY_LOCK,))
            cursor = await connection.execute(_HAS_DAYS, ([_day_table(day)],))
            if await cursor.fetchone() == (0,):
                for table in DAILY_TABLES:
                    await _make_day(connection, table, day)


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
    await _copy_rows(connection, "scan_runs", batch.scans)
    await _copy_rows(connection, "passage_runs", batch.passages)
    if batch.tickets:
        async with connection.cursor() as cursor, cursor.copy(_COPY_TICKETS) as copy:
            await copy.write("".join(batch.tickets))
    if batch.quotas:
        async with connection.cursor() as cursor:
            await cursor.executemany(
                "INSERT INTO reporting.quota_events (park_date, partition, sequence, position, event_time, kind, body)"
                " VALUES (%s, %s, %s, %s, %s, %s, %s)",
                batch.quotas,
            )


async def _copy_rows(connection: Connection, table: str, rows: bytes | bytearray) -> None:
    """Copies rows of the binary format."""
    if not rows:
        return
    statement = f"COPY reporting.{table} FROM STDIN (FORMAT BINARY)"
    async with connection.cursor() as cursor, cursor.copy(statement.encode()) as copy:
        await copy.write(HEADER)
        await copy.write(rows)
        await copy.write(TRAILER)


async def _add_sums(connection: Connection, batch: Batch) -> None:
    """Adds to the aggregates. Only this partition's rows are touched, and only under its lock."""
    scans = [(utc_text(key[0]), *key[1:], *sums) for key, sums in batch.scan_sums.items()]
    passages = [(utc_text(key[0]), *key[1:], *sums) for key, sums in batch.passage_sums.items()]
    tickets = [(*key, *sums) for key, sums in batch.ticket_sums.items()]
    for statement, rows in ((_ADD_SCANS, scans), (_ADD_PASSAGES, passages), (_ADD_TICKETS, tickets)):
        if rows:
            columns = [list(column) for column in zip(*rows, strict=True)]
            await connection.execute(statement.encode(), [batch.partition, *columns])


async def _write_first_admissions(connection: Connection, batch: Batch) -> None:
    await _copy_rows(connection, "first_admission_runs", batch.first)
    if batch.undone:
        async with connection.cursor() as cursor:
            await cursor.executemany(
                "INSERT INTO reporting.undone_first_admissions VALUES (%s, %s, %s, %s)", batch.undone
            )
    await _withdraw(connection, batch, batch.withdrawn)
    if recognised := batch.recognised | batch.fleeting:
        await _recognise(connection, batch, blocks_of(recognised))
    await _withdraw(connection, batch, batch.fleeting - batch.recognised)


async def _withdraw(connection: Connection, batch: Batch, ticket_ids: set[int]) -> None:
    if ticket_ids:
        blocks = blocks_of(ticket_ids)
        await connection.execute(_WITHDRAW, (list(blocks), list(blocks.values()), batch.partition))


async def _recognise(connection: Connection, batch: Batch, blocks: dict[int, bytes]) -> None:
    columns = (list(blocks), list(blocks.values()))
    cursor = await connection.execute(_RECOGNISE, (batch.partition, *columns))
    if cursor.rowcount == len(blocks):
        return
    done = [int(str(block)) for (block,) in await cursor.fetchall()]
    cursor = await connection.execute(_TWICE, (*columns, batch.partition, done))
    twice = {int(str(block)): int(str(bits), 2).to_bytes(BLOCK // 8) for block, bits in await cursor.fetchall()}
    raise second_first_admission(batch.partition, batch.last_sequence, tickets_of(twice))


def _upsert(table: str, key: str, sums: tuple[str, str]) -> str:
    """Adds to many rows at once: the partition, then an array a column. `key` is written "name type, name type"."""
    types = dict(pair.split() for pair in key.split(", ")) | dict.fromkeys(sums, "bigint")
    arrays = ", ".join(f"%s::{kind}[]" for kind in types.values())
    adds = ", ".join(f"{column} = t.{column} + excluded.{column}" for column in sums)
    unique = [column for column in types if column not in sums and (column != "park_date" or table == "ticket_days")]
    return (
        f"INSERT INTO reporting.{table} AS t (partition, {', '.join(types)})"  # noqa: S608 - names of ours
        f" SELECT %s, rows.* FROM unnest({arrays}) AS rows"
        f" ON CONFLICT (partition, {', '.join(unique)}) DO UPDATE SET {adds}"
    )


_ADD_SCANS = _upsert(
    "scan_minutes",
    "minute timestamptz, park_date date, gate_number integer, zone_number integer, product_number integer,"
    " direction smallint, decision smallint, reason smallint, kind smallint",
    ("scans", "persons"),
)
_ADD_PASSAGES = _upsert(
    "passage_minutes",
    "minute timestamptz, park_date date, gate_number integer, zone_number integer, product_number integer,"
    " kind smallint, outcome smallint",
    ("passages", "persons_given_back"),
)
_ADD_TICKETS = _upsert(
    "ticket_days",
    "park_date date, product_number integer, from_lifecycle smallint, to_lifecycle smallint, registered boolean",
    ("tickets", "price_minor"),
)
