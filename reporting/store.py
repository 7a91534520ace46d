"""Writes batches and moves their offsets, in one transaction: the heart of counting exactly once.

An offset's row is locked first. Whoever holds the lock alone reads and moves it, so what is after the offset has never
been written, and a batch that was read from an older offset is not written at all. A crash before the commit leaves
nothing; one after it leaves everything; an unknown commit is resolved by reading the offset again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from psycopg import sql

from reporting.batch import Batch, second_first_admission, utc_text
from reporting.copy_rows import HEADER, TRAILER
from reporting.database import Connection
from reporting.recognised import BLOCK_BYTES, blocks_of, tickets_of
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
_MARKED = (
    f"(SELECT partition, block, substring(%b::bytea FROM ({BLOCK_BYTES} * (nth - 1) + 1)::integer FOR {BLOCK_BYTES})"  # noqa: S608
    " FROM unnest(%s::text[], %s::bigint[]) WITH ORDINALITY AS b (partition, block, nth))"
    " AS m (partition, block, tickets)"
)
"""The bits of all blocks come in one piece: as an array they took the client 8 µs a block."""
_RECOGNISE = (
    "INSERT INTO reporting.recognised_tickets AS r (partition, block, tickets)"  # noqa: S608 - ours
    f" SELECT m.partition, m.block, {_BITS} FROM {_MARKED}"
    " ON CONFLICT (partition, block) DO UPDATE SET tickets = r.tickets | excluded.tickets"
    " WHERE (r.tickets & excluded.tickets) = 0::bit(2048) RETURNING partition, block"
)
"""Leaves out, and does not answer, a block of which a ticket is recognised already."""
_TWICE = (
    f"SELECT r.block, (r.tickets & {_BITS})::text FROM reporting.recognised_tickets AS r"  # noqa: S608 - ours
    f" JOIN {_MARKED} USING (partition, block)"
)
_WITHDRAW = (
    f"UPDATE reporting.recognised_tickets AS r SET tickets = r.tickets & ~ {_BITS}"  # noqa: S608 - ours
    f" FROM {_MARKED} WHERE r.partition = m.partition AND r.block = m.block"
)
_LOOK = (
    f"SELECT partition, sequence, epoch, ({_HAS_DAYS}) FROM reporting.offsets"  # noqa: S608 - ours
    " WHERE partition = ANY(%s) ORDER BY partition FOR UPDATE"
)
_MOVE = (
    "UPDATE reporting.offsets AS o"
    " SET sequence = m.sequence, epoch = m.epoch, entry_time = m.entry_time, park_date = m.park_date"
    " FROM unnest(%s::text[], %s::bigint[], %s::bigint[], %s::timestamptz[], %s::date[])"
    " AS m (partition, sequence, epoch, entry_time, park_date) WHERE o.partition = m.partition"
)
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


async def write(connection: Connection, batches: Sequence[tuple[Batch, Offset]]) -> dict[str, tuple[Offset, bool]]:
    """Writes batches of different partitions in one transaction, each with the offset that it follows. Answers, by
    partition, the offset then, and whether its batch was written.

    Where another worker has moved the offset meanwhile, nothing of the partition is written and its offset is answered.

    Raises:
        DamagedDataError: the books contradict the ledger of one of them (a ticket's first admission comes twice).
            Nothing was written.
        psycopg.OperationalError: Postgres is away; the outcome may be unknown.
    """
    while True:
        async with connection.transaction():
            present, days = await _look(connection, [batch for batch, _ in batches])
            fresh = [batch for batch, read_from in batches if present[batch.partition] == read_from]
            answer = {name: (offset, False) for name, offset in present.items()}
            if not fresh:
                return answer
            if days == len(_days(batches)):
                await _write_all(connection, fresh)
                return answer | {
                    batch.partition: (Offset(batch.last_sequence, batch.last_epoch), True) for batch in fresh
                }
        await _make_days(connection, _days(batches))


def _days(batches: Iterable[tuple[Batch, Offset]]) -> set[date]:
    return {day for batch, _ in batches for day in batch.days}


async def _look(connection: Connection, batches: Sequence[Batch]) -> tuple[dict[str, Offset], int]:
    """Locks the partitions' offsets, in the order of their names; answers them, and how many of the batches' days have
    their tables."""
    tables = [_day_table(day) for day in {day for batch in batches for day in batch.days}]
    cursor = await connection.execute(_LOOK, (tables, [batch.partition for batch in batches]))
    rows = await cursor.fetchall()
    if len(rows) != len(batches):
        raise _offset_is_gone()
    return {str(row[0]): _offset_of(row[1:]) for row in rows}, int(str(rows[0][3]))


async def _write_all(connection: Connection, batches: Sequence[Batch]) -> None:
    """Everything that batches say. What needs no answer goes in one message."""
    await _copy_events(connection, batches)
    await _write_first_admissions(connection, batches)
    async with connection.pipeline():
        await _add_sums(connection, batches)
        ends = [
            (batch.partition, batch.last_sequence, batch.last_epoch, utc_text(batch.last_time_ms), batch.last_day)
            for batch in batches
        ]
        await connection.execute(_MOVE, _columns(ends))


def _columns(rows: Iterable[tuple[object, ...]]) -> list[list[object]]:
    return [list(column) for column in zip(*rows, strict=True)]


def _offset_of(row: Sequence[object] | None) -> Offset:
    if row is None:
        raise _offset_is_gone()
    return Offset(int(str(row[0])), int(str(row[1])))


def _offset_is_gone() -> DamagedDataError:
    return DamagedDataError("a partition's offset is gone from reporting.offsets; restore it from the backup")


async def _make_days(connection: Connection, days: Iterable[date]) -> None:
    """Makes the tables of days that are new, in transactions of their own. Attaching locks out no reader."""
    for day in sorted(days):
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


async def _copy_events(connection: Connection, batches: Sequence[Batch]) -> None:
    await _copy_rows(connection, "scan_runs", [batch.scans for batch in batches])
    await _copy_rows(connection, "passage_runs", [batch.passages for batch in batches])
    if tickets := [line for batch in batches for line in batch.tickets]:
        async with connection.cursor() as cursor, cursor.copy(_COPY_TICKETS) as copy:
            await copy.write("".join(tickets))
    if quotas := [row for batch in batches for row in batch.quotas]:
        async with connection.cursor() as cursor:
            await cursor.executemany(
                "INSERT INTO reporting.quota_events (park_date, partition, sequence, position, event_time, kind, body)"
                " VALUES (%s, %s, %s, %s, %s, %s, %s)",
                quotas,
            )


async def _copy_rows(connection: Connection, table: str, rows: Iterable[bytes | bytearray]) -> None:
    """Copies rows of the binary format."""
    data = b"".join(rows)
    if not data:
        return
    statement = f"COPY reporting.{table} FROM STDIN (FORMAT BINARY)"
    async with connection.cursor() as cursor, cursor.copy(statement.encode()) as copy:
        await copy.write(HEADER + data + TRAILER)


async def _add_sums(connection: Connection, batches: Sequence[Batch]) -> None:
    """Adds to the aggregates. Only these partitions' rows are touched, and only under their locks."""
    scans = [
        (batch.partition, utc_text(key[0]), *key[1:], *sums)
        for batch in batches
        for key, sums in batch.scan_sums.items()
    ]
    passages = [
        (batch.partition, utc_text(key[0]), *key[1:], *sums)
        for batch in batches
        for key, sums in batch.passage_sums.items()
    ]
    tickets = [(batch.partition, *key, *sums) for batch in batches for key, sums in batch.ticket_sums.items()]
    for statement, rows in ((_ADD_SCANS, scans), (_ADD_PASSAGES, passages), (_ADD_TICKETS, tickets)):
        if rows:
            await connection.execute(statement.encode(), _columns(rows))


async def _write_first_admissions(connection: Connection, batches: Sequence[Batch]) -> None:
    await _copy_rows(connection, "first_admission_runs", [batch.first for batch in batches])
    if undone := [row for batch in batches for row in batch.undone]:
        async with connection.cursor() as cursor:
            await cursor.executemany("INSERT INTO reporting.undone_first_admissions VALUES (%s, %s, %s, %s)", undone)
    await _withdraw(connection, [(batch.partition, batch.withdrawn) for batch in batches])
    await _recognise(connection, batches)
    await _withdraw(connection, [(batch.partition, batch.fleeting - batch.recognised) for batch in batches])


Blocks = list[tuple[str, int, bytes]]
"""Partition, number and bits of each."""


def _blocks(tickets: Iterable[tuple[str, set[int]]]) -> Blocks:
    return [(partition, *block) for partition, ids in tickets for block in blocks_of(ids).items()]


def _marked(blocks: Blocks) -> tuple[object, ...]:
    """The values of `_MARKED`."""
    partitions, numbers, bits = zip(*blocks, strict=True)
    return b"".join(bits), list(partitions), list(numbers)


async def _withdraw(connection: Connection, tickets: Iterable[tuple[str, set[int]]]) -> None:
    if blocks := _blocks(tickets):
        await connection.execute(_WITHDRAW, _marked(blocks))


async def _recognise(connection: Connection, batches: Sequence[Batch]) -> None:
    blocks = _blocks((batch.partition, batch.recognised | batch.fleeting) for batch in batches)
    if not blocks:
        return
    cursor = await connection.execute(_RECOGNISE, _marked(blocks))
    if cursor.rowcount == len(blocks):
        return
    done = {(str(partition), int(str(block))) for partition, block in await cursor.fetchall()}
    missed = [block for block in blocks if block[:2] not in done]
    first = next(batch for batch in batches if batch.partition == missed[0][0])
    cursor = await connection.execute(_TWICE, _marked([block for block in missed if block[0] == first.partition]))
    twice = {int(str(block)): int(str(bits), 2).to_bytes(BLOCK_BYTES) for block, bits in await cursor.fetchall()}
    raise second_first_admission(first.partition, first.last_sequence, tickets_of(twice))


def _upsert(table: str, key: str, sums: tuple[str, str]) -> str:
    """Adds to many rows at once, an array a column. `key` is written "name type, name type"."""
    types = {"partition": "text"} | dict(pair.split() for pair in key.split(", ")) | dict.fromkeys(sums, "bigint")
    arrays = ", ".join(f"%s::{kind}[]" for kind in types.values())
    adds = ", ".join(f"{column} = t.{column} + excluded.{column}" for column in sums)
    unique = [column for column in types if column not in sums and (column != "park_date" or table == "ticket_days")]
    return (
        f"INSERT INTO reporting.{table} AS t ({', '.join(types)}) SELECT * FROM unnest({arrays})"  # noqa: S608 - ours
        f" ON CONFLICT ({', '.join(unique)}) DO UPDATE SET {adds}"
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
