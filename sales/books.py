"""The books as busy use cases use them: look-ups and changes of many calls at once go to Postgres together.

A use case describes its change as a value and awaits its commit. Changes that arrive while a transaction is in flight
are written by the next one (group commit): one statement a table, one fsync, whatever their number. Each succeeds or
fails on its own: a request that is stored already, or an order that has changed meanwhile, is left out and told so; and
where the database refuses a row, the transaction is rolled back and each change is tried alone, so that only the bad
one fails. Nothing is answered before its commit.

Changes that need to look and decide under a lock (refunds, webhooks, shifts) have transactions of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

import psycopg
from google.protobuf.message import Message
from psycopg.rows import namedtuple_row

from sales.batching import Batcher
from sales.database import Database, driver_of
from sales.errors import DuplicateRequestError
from sales.request_key import RequestKey
from sales.writes import (
    OrderMove,
    Rows,
    StoredAnswer,
    send_answers,
    send_inserts,
    send_moves,
    send_shift_look_up,
)
from ticketcore.errors import ConflictError

MOST_LOOK_UPS = 500
MOST_CHANGES = 200
"""Changes a transaction: a bound on how long its first waits for its last; 128 windows never reach it."""

FIND_REQUESTS = b"""
    SELECT request_id, body_hash, answer FROM sales.requests WHERE request_id = ANY(CAST(%(ids)s AS bytea[]))
    """


class FoundRequest(NamedTuple):
    """A stored request. `answer` is None while it is not settled."""

    request_id: bytes
    body_hash: bytes
    answer: bytes | None


FIND_ORDERS = b"SELECT * FROM sales.orders WHERE id = ANY(CAST(%(ids)s AS bigint[]))"


def nothing() -> None:
    """What production does before a commit."""


@dataclass(frozen=True, slots=True)
class Change:
    """What one call writes: its stored answer, at most one order's move, and new rows. All of it or nothing."""

    key: RequestKey
    answer: Message
    now: datetime
    rows: Rows
    move: OrderMove | None = None
    recorded: Callable[[], None] = field(default=nothing, compare=False)
    """Called between the last statement and the commit; tests raise from it."""


class Books:
    """Look-ups and changes over one database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._requests: Batcher[bytes, FoundRequest | None] = Batcher(self._find_requests, MOST_LOOK_UPS)
        self._orders: Batcher[int, Any] = Batcher(self._find_orders, MOST_LOOK_UPS)
        self._changes: Batcher[Change, None] = Batcher(self._commit, MOST_CHANGES)

    async def request(self, request_id: bytes) -> FoundRequest | None:
        """A stored request, or None."""
        return await self._requests.ask(request_id)

    async def order(self, order_id: int) -> Any:
        """An order's row, or None."""
        return await self._orders.ask(order_id)

    async def commit(self, change: Change) -> None:
        """Writes a change; durable when it returns.

        Raises:
            DuplicateRequestError: the request is stored already.
            ConflictError: the order is not in the expected state any more.
        """
        await self._changes.ask(change)

    async def _find_requests(self, ids: Sequence[bytes]) -> list[FoundRequest | None]:
        async with self._database.reading() as connection:
            driver = await driver_of(connection)
            rows = await (await driver.execute(FIND_REQUESTS, {"ids": list(ids)})).fetchall()
        found = {row[0]: FoundRequest(*row) for row in rows}
        return [found.get(request_id) for request_id in ids]

    async def _find_orders(self, ids: Sequence[int]) -> list[Any]:
        async with self._database.reading() as connection:
            cursor = (await driver_of(connection)).cursor(row_factory=namedtuple_row)
            rows = await (await cursor.execute(FIND_ORDERS, {"ids": list(ids)})).fetchall()
        found: dict[int, Any] = {row.id: row for row in rows}  # type: ignore[attr-defined]
        return [found.get(order_id) for order_id in ids]

    async def _commit(self, changes: Sequence[Change]) -> list[Exception | None]:
        outcomes: dict[int, Exception | None] = {}
        waiting = list(enumerate(changes))
        while waiting:
            numbered, waiting = _apart(waiting)
            written = await self._write_or_each_alone([change for _, change in numbered])
            outcomes.update(zip([number for number, _ in numbered], written, strict=True))
        return [outcomes[number] for number in range(len(changes))]

    async def _write_or_each_alone(self, changes: Sequence[Change]) -> list[Exception | None]:
        try:
            return await self._write(changes)
        except (psycopg.Error, _PartlyDoneError) as error:  # that the database is away is another error, and for all
            if len(changes) == 1:
                return [error.refusal if isinstance(error, _PartlyDoneError) else error]
        return [outcome for change in changes for outcome in await self._write_or_each_alone([change])]

    async def _write(self, changes: Sequence[Change]) -> list[Exception | None]:
        moves = [change.move for change in changes if change.move]
        async with self._database.pipeline() as driver:
            answers = await send_answers(driver, [_answer(change) for change in changes])
            moving = await send_moves(driver, moves) if moves else None
            shifts = await send_shift_look_up(driver, _joined(change.rows for change in changes))
            stored = {request_id for (request_id,) in await answers.fetchall()}
            moved = {order_id for (order_id,) in await moving.fetchall()} if moving else set()
            outcomes = [_outcome(change, stored, moved) for change in changes]
            kept = [change for change, outcome in zip(changes, outcomes, strict=True) if outcome is None]
            await send_inserts(driver, _joined(change.rows for change in kept), dict(await shifts.fetchall()))
            for change in kept:
                change.recorded()
        return outcomes


class _PartlyDoneError(Exception):
    """A change was refused after some of it was written: the transaction must be rolled back."""

    def __init__(self, refusal: Exception) -> None:
        super().__init__(str(refusal))
        self.refusal = refusal


def _answer(change: Change) -> StoredAnswer:
    key, answer = change.key, change.answer.SerializeToString(deterministic=True)
    return StoredAnswer(key.request_id, key.method, key.body_hash, answer, change.now)


def _outcome(change: Change, stored: set[bytes], moved: set[int]) -> Exception | None:
    """None for a change that goes on; the refusal of one that has left no trace so far.

    Raises:
        _PartlyDoneError: it is refused, and has.
    """
    is_new = change.key.request_id in stored
    is_moved = change.move is not None and change.move.order_id in moved
    if is_new and (is_moved or change.move is None):
        return None
    duplicate = DuplicateRequestError(f"request {change.key.request_id.hex()}")
    refusal = duplicate if change.move is None or not is_new else changed_meanwhile(change.move)
    if is_new or is_moved:
        raise _PartlyDoneError(refusal)
    return refusal


def _apart(numbered: list[tuple[int, Change]]) -> tuple[list[tuple[int, Change]], list[tuple[int, Change]]]:
    """Changes that do not touch the same request or order, and the rest: those must see what became of the first."""
    seen: set[object] = set()
    now: list[tuple[int, Change]] = []
    later: list[tuple[int, Change]] = []
    for item in numbered:
        touched = {item[1].key.request_id, item[1].move.order_id if item[1].move else None} - {None}
        (later if touched & seen else now).append(item)
        seen |= touched
    return now, later


def changed_meanwhile(move: OrderMove) -> ConflictError:
    """What is told of an order that is not in the expected state any more."""
    return ConflictError(f"order {move.order_id} changed meanwhile; look at it again")


def _joined(parts: Iterable[Rows]) -> Rows:
    joined: Rows = {}
    for part in parts:
        for table, rows in part.items():
            joined.setdefault(table, []).extend(rows)
    return joined
