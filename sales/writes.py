"""The statements of a sale, for any number of sales at once, on psycopg's own connection: they can be pipelined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

import psycopg
import sqlalchemy as sa

from sales.database import Driver
from sales.rows import send_rows
from sales.tables import orders, outbox, payments, postings, tickets, transactions

Row = dict[str, Any]
Rows = dict[sa.Table, list[Row]]
INSERT_ORDER = (orders, payments, tickets, transactions, postings, outbox)
"""What is referred to comes first."""
CASH = "cash"

STORE_REQUESTS = b"""
    INSERT INTO sales.requests (request_id, method, body_hash, answer, create_time)
    SELECT * FROM unnest(CAST(%(request_id)s AS bytea[]), CAST(%(method)s AS text[]), CAST(%(body_hash)s AS bytea[]),
                         CAST(%(answer)s AS bytea[]), CAST(%(create_time)s AS timestamptz[]))
    ON CONFLICT DO NOTHING RETURNING request_id
    """
MOVE_ORDERS = b"""
    UPDATE sales.orders o
    SET state = m.state, payment_method = m.payment_method, pay_time = m.pay_time,
        payment_id = coalesce(m.payment_id, o.payment_id)
    FROM unnest(CAST(%(order_id)s AS bigint[]), CAST(%(expected)s AS text[]), CAST(%(state)s AS text[]),
                CAST(%(payment_method)s AS text[]), CAST(%(pay_time)s AS timestamptz[]),
                CAST(%(payment_id)s AS bytea[]))
         AS m(order_id, expected, state, payment_method, pay_time, payment_id)
    WHERE o.id = m.order_id AND o.state = m.expected
    RETURNING o.id
    """
OPEN_SHIFTS = b"""
    SELECT window_id, id FROM sales.shifts WHERE window_id = ANY(CAST(%(windows)s AS text[])) AND close_time IS NULL
    ORDER BY id FOR KEY SHARE
    """
"""Locks open shifts against being closed until the payments are in them."""


@dataclass(frozen=True, slots=True)
class OrderMove:
    """An order's next state, if it is still in the expected one."""

    order_id: int
    expected: str
    state: str
    payment_method: str
    pay_time: datetime | None = None
    payment_id: bytes | None = None


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """A row of `requests`: what a call was answered."""

    request_id: bytes
    method: str
    body_hash: bytes
    answer: bytes
    create_time: datetime


Cursor = psycopg.AsyncCursor[Any]


async def send_answers(driver: Driver, answers: Sequence[StoredAnswer]) -> Cursor:
    """Stores answers; the cursor gives the ids that were not known. In the order of ids, so that no two callers wait
    crosswise."""
    ordered = sorted(answers, key=lambda answer: answer.request_id)
    return await driver.execute(STORE_REQUESTS, _columns(StoredAnswer, ordered))


async def send_moves(driver: Driver, moves: Sequence[OrderMove]) -> Cursor:
    """Moves orders, of which each is named once; the cursor gives the ids of those that were in the expected state."""
    ordered = sorted(moves, key=lambda move: move.order_id)
    return await driver.execute(MOVE_ORDERS, _columns(OrderMove, ordered))


def _columns(kind: type, values: Sequence[object]) -> dict[str, list[Any]]:
    return {field.name: [getattr(value, field.name) for value in values] for field in fields(kind)}


async def send_shift_look_up(driver: Driver, rows: Rows) -> Cursor:
    """Looks for the open shifts that the cash of these payments goes into; the cursor gives windows and shifts."""
    windows = {row["window_id"] for row in rows.get(payments, []) if row["method"] == CASH and row["window_id"]}
    return await driver.execute(OPEN_SHIFTS, {"windows": sorted(windows)})


async def send_inserts(driver: Driver, rows: Rows, shifts: dict[str, int]) -> None:
    """Inserts rows of several tables; a cash payment goes into the open shift of its window, if it has one."""
    paid = [
        row | {"shift_id": shifts.get(row["window_id"]) if row["method"] == CASH else None}
        for row in rows.get(payments, [])
    ]
    for table in INSERT_ORDER:
        await send_rows(driver, table, paid if table is payments else rows.get(table, []))
