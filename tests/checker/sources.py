"""Reads a real ledger and a real Postgres for the checker. Knows their formats, and nothing of who wrote them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import psycopg
import redis

from tests.checker.books import Books, Key, Sold
from tests.checker.ledger import StoredEntry
from tests.checker.trims import Trimmed

MS = "(extract(epoch FROM {}) * 1000)::bigint"
"""An instant as milliseconds."""
SCAN_KEY = "gate_number, zone_number, product_number, direction, decision, reason, kind"
PASSAGE_KEY = "gate_number, zone_number, product_number, kind, outcome"
TICKET_KEY = "product_number, from_lifecycle, to_lifecycle, registered"
FIRST = (
    "SELECT ticket_id, string_agg(encode(scan_id, 'hex'), ' ' ORDER BY admit_time, scan_id)"
    " FROM reporting.first_admissions GROUP BY ticket_id"
)
"""A ticket that is there twice has two scans: no key forbids it."""
SOLD = "SELECT id, order_id, product_number, price_minor, currency, replaces_ticket_id FROM sales.tickets"
POSTINGS = (
    "SELECT encode(transaction_id, 'hex'), kind, order_id, ticket_id, product_number, account, currency, amount_minor"
    " FROM sales.postings JOIN sales.transactions ON id = transaction_id"
)


def ledger_of(url: str, partitions: Sequence[str]) -> list[StoredEntry]:
    """All entries of these partitions. A log that was trimmed begins with a gap, and the checker will say so, unless
    what was trimmed had been read before: see `with_what_was_trimmed`."""
    stored: list[StoredEntry] = []
    with redis.Redis.from_url(url) as client:
        for name in partitions:
            rows: Any = client.xrange(f"pg:{{{name}}}:log")
            stored += [StoredEntry(name, int(key.split(b"-")[0]), fields[b"e"]) for key, fields in rows]
    return stored


def with_what_was_trimmed(before: Iterable[StoredEntry], now: Sequence[StoredEntry]) -> list[StoredEntry]:
    """What there is now, and what lay below it when the ledger was read before: a snapshot stands for it since.

    Only what is below a log's first entry can have been trimmed. Whatever else is missing is missing, and an entry that
    is another than before comes instead of it: the checker will see both.
    """
    begins: dict[str, int] = {}
    for entry in now:
        begins[entry.partition] = min(entry.number, begins.get(entry.partition, entry.number))
    return [*(entry for entry in before if entry.number < begins.get(entry.partition, 0)), *now]


def trims_of(url: str, partitions: Sequence[str]) -> list[Trimmed]:
    """What these partitions' logs have no more. Read before the books, which are later then and have read no less."""
    with redis.Redis.from_url(url) as client:
        firsts: dict[str, Any] = {name: client.xrange(f"pg:{{{name}}}:log", count=1) for name in partitions}
        snapshots: dict[str, Any] = {name: client.hget(f"pg:{{{name}}}:snapshot", "sequence") for name in partitions}
    return [
        Trimmed(name, number - 1, int(snapshots[name] or 0))
        for name, rows in firsts.items()
        for number in (int(key.split(b"-")[0]) for key, _ in rows)
        if number > 1
    ]


def books_of(url: str, *, sales: bool = False) -> Books:
    """What Postgres holds of the ledger; with `sales`, their double entries and tickets too."""
    with psycopg.connect(url, options="-c timezone=UTC") as connection:
        # All of one instant: a worker that commits between two queries would be taken for one that loses rows.
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ

        def rows(statement: str) -> list[Key]:
            return connection.execute(statement.encode()).fetchall()

        books = Books(
            scans=rows(
                "SELECT partition, sequence, encode(scan_id, 'hex'), ticket_id, gate_number, decision, reason, kind,"
                " persons, first_admission FROM reporting.scan_events"
            ),
            passages=rows(
                "SELECT partition, sequence, encode(scan_id, 'hex'), ticket_id, gate_number, outcome,"
                " persons_given_back FROM reporting.passage_events"
            ),
            tickets=rows(
                "SELECT partition, sequence, ticket_id, to_lifecycle, price_minor, registered"
                " FROM reporting.ticket_events"
            ),
            scan_sums=_sums(rows(_minutes("scan_minutes", SCAN_KEY, "scans, persons"))),
            passage_sums=_sums(rows(_minutes("passage_minutes", PASSAGE_KEY, "passages, persons_given_back"))),
            ticket_sums=_sums(
                rows(
                    f"SELECT partition, park_date::text, {TICKET_KEY}, tickets, price_minor FROM reporting.ticket_days"
                )
            ),
            first=dict(rows(FIRST)),
            offsets=dict(rows("SELECT partition, sequence FROM reporting.offsets")),
        )
        if sales:
            books.sold, books.postings = sold_of(rows(SOLD)), rows(POSTINGS)
        return books


def sold_of(rows: Iterable[Sequence[Any]]) -> dict[int, Sold]:
    """The answer to `SOLD`, by ticket."""
    return {ticket: Sold(*as_sold) for ticket, *as_sold in rows}


def _minutes(table: str, key: str, sums: str) -> str:
    minute = MS.format("minute")
    return f"SELECT partition, {minute}, park_date::text, {key}, {sums} FROM reporting.{table}"


def _sums(rows: list[Key]) -> dict[Key, tuple[int, int]]:
    return {row[:-2]: (row[-2], row[-1]) for row in rows}
