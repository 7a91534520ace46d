"""The outbox: what others must be told is written with what happened, and the relay tells them until they acknowledge.

A row is deleted when it is acknowledged. Rows of one aggregate go in their order; different ones go side by side. A
refusal that should not be (a confirmed hold that is gone) stays in the table with its error, is counted,
and is asked again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import nullcontext
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from parkgate.cluster.v1 import control_pb2 as control
from sales import metrics, provider
from sales.context import Sales
from sales.rows import insert_rows
from sales.tables import outbox
from ticketcore.errors import ParkgateError, TransientError

BATCH = 500
"""Rows a round: a RegisterTickets call takes 10,000 tickets, and most orders have a few."""
MAX_REGISTERED = 10_000
SIDE_BY_SIDE = 32
"""Calls of the payment provider in flight at once; what goes to the cluster goes together anyway."""
TO_PROVIDER = frozenset({"payment_intent", "money_back"})
FIRST_BACKOFF_MS = 200
MAX_BACKOFF_MS = 30_000
POLL_S = 0.5
"""How late a row of another process may be seen; our own wake the relay at once."""
log = logging.getLogger(__name__)


class Kind(Enum):
    """What is told, and to whom."""

    CONFIRM_HOLD = "confirm_hold"
    RELEASE_HOLD = "release_hold"
    RETURN_UNITS = "return_units"
    REGISTER_TICKETS = "register_tickets"
    PUBLISH_CATALOGUE = "publish_catalogue"
    PAYMENT_INTENT = "payment_intent"
    MONEY_BACK = "money_back"


DONE_WHEN = {
    Kind.CONFIRM_HOLD: frozenset({control.HOLD_OUTCOME_DONE}),
    Kind.RELEASE_HOLD: frozenset({control.HOLD_OUTCOME_DONE, control.HOLD_OUTCOME_GONE, control.HOLD_OUTCOME_UNKNOWN}),
}

_CLAIM = sa.text(
    """
    SELECT id, kind, payload, attempts FROM sales.outbox o
    WHERE next_attempt_time <= :now
      AND NOT EXISTS (SELECT FROM sales.outbox e WHERE e.aggregate = o.aggregate AND e.id < o.id)
    ORDER BY id LIMIT :batch FOR UPDATE OF o SKIP LOCKED
    """
)


def row(aggregate: bytes, kind: Kind, payload: bytes, now: datetime) -> dict[str, Any]:
    """A row to be put in with `put`."""
    return {
        "aggregate": aggregate,
        "kind": kind.value,
        "payload": payload,
        "create_time": now,
        "attempts": 0,
        "next_attempt_time": now,
        "last_error": "",
    }


async def put(connection: AsyncConnection, *rows: dict[str, Any]) -> None:
    """Writes rows in the transaction of what they tell of. Wake the relay after the commit: `outbox_filled.set()`."""
    await insert_rows(connection, outbox, rows)


def backoff_ms(attempts: int) -> int:
    """How long to wait after so many failures."""
    return int(min(MAX_BACKOFF_MS, FIRST_BACKOFF_MS * 2 ** min(attempts, 16)))


async def relay_once(sales: Sales) -> int:
    """Tells what is due, and returns how many rows were tried."""
    now = sales.clock()
    async with sales.database.transaction() as connection:
        rows = (await connection.execute(_CLAIM, {"now": now, "batch": BATCH})).all()
        if not rows:
            return 0
        failures = await _deliver(sales, rows)
        done = [row.id for row in rows if row.id not in failures]
        await connection.execute(sa.delete(outbox).where(outbox.c.id.in_(done)))
        for row in rows:
            if row.id in failures:
                await connection.execute(
                    sa.update(outbox)
                    .where(outbox.c.id == row.id)
                    .values(
                        attempts=row.attempts + 1,
                        next_attempt_time=now + timedelta(milliseconds=backoff_ms(row.attempts)),
                        last_error=failures[row.id][:400],
                    )
                )
    metrics.OUTBOX_SENT.inc(len(done))
    return len(rows)


async def relay(sales: Sales) -> None:
    """Relays until it is cancelled."""
    while True:
        sales.outbox_filled.clear()
        try:
            if await relay_once(sales):
                continue
        except ParkgateError as error:
            log.warning("outbox: %s", error)
            await asyncio.sleep(POLL_S)
        try:
            await asyncio.wait_for(sales.outbox_filled.wait(), POLL_S)
        except TimeoutError:
            continue


async def _deliver(sales: Sales, rows: Sequence[Any]) -> dict[int, str]:
    """The rows that were not acknowledged, with the reason."""
    failures: dict[int, str] = {}
    limit = asyncio.Semaphore(SIDE_BY_SIDE)

    async def guarded(row: Any) -> None:
        async with limit if row.kind in TO_PROVIDER else nullcontext():
            failure = await _attempt(sales, Kind(row.kind), row.payload)
        if failure:
            failures[row.id] = failure

    registrations = [row for row in rows if row.kind == Kind.REGISTER_TICKETS.value]
    others = [row for row in rows if row.kind != Kind.REGISTER_TICKETS.value]
    await asyncio.gather(_register(sales, registrations, failures), *(guarded(row) for row in others))
    return failures


async def _attempt(sales: Sales, kind: Kind, payload: bytes) -> str:
    try:
        refusal = await _tell(sales, kind, payload)
    except TransientError as error:
        return str(error)
    if refusal:
        metrics.OUTBOX_REFUSED.inc()
        log.error("outbox: %s was refused: %s", kind.value, refusal)
    return refusal


async def _tell(sales: Sales, kind: Kind, payload: bytes) -> str:
    match kind:
        case Kind.CONFIRM_HOLD:
            outcome = (await sales.cluster.confirm_hold(payload)).outcome
            return "" if outcome in DONE_WHEN[kind] else control.HoldOutcome.Name(outcome)
        case Kind.RELEASE_HOLD:
            outcome = (await sales.cluster.release_hold(payload)).outcome
            return "" if outcome in DONE_WHEN[kind] else control.HoldOutcome.Name(outcome)
        case Kind.RETURN_UNITS:
            await sales.cluster.return_units(control.ReturnUnitsRequest.FromString(payload))
        case Kind.PUBLISH_CATALOGUE:
            await _publish(sales, int.from_bytes(payload, "big"))
        case Kind.PAYMENT_INTENT:
            await provider.post(sales.config, "/intents", payload)
        case Kind.MONEY_BACK:
            await provider.post(sales.config, "/refunds", payload)
        case Kind.REGISTER_TICKETS:
            raise NotImplementedError("registrations go together")
    return ""


async def _publish(sales: Sales, version: int) -> None:
    """A version that a later one has replaced is not told any more: if the cluster refused it for good, the later one
    would wait behind it for ever. The one that is told is the row's own: what is in force may be seen late here."""
    if version < (await sales.catalogues.current()).version:
        return
    published = await sales.catalogues.version(version)
    await sales.cluster.publish_catalogue(published.version, published.document)


async def _register(sales: Sales, rows: Sequence[Any], failures: dict[int, str]) -> None:
    chunk: list[Any] = []
    tickets: list[control.IssuedTicket] = []
    for row in rows:
        issued = control.RegisterTicketsRequest.FromString(row.payload).tickets
        if tickets and len(tickets) + len(issued) > MAX_REGISTERED:
            await _register_chunk(sales, chunk, tickets, failures)
            chunk, tickets = [], []
        chunk.append(row)
        tickets.extend(issued)
    if tickets:
        await _register_chunk(sales, chunk, tickets, failures)


async def _register_chunk(
    sales: Sales, rows: Sequence[Any], tickets: Sequence[control.IssuedTicket], failures: dict[int, str]
) -> None:
    try:
        conflicts = await sales.cluster.register_tickets(tickets)
    except TransientError as error:
        failures.update({row.id: str(error) for row in rows})
        return
    if conflicts:
        metrics.OUTBOX_REFUSED.inc()
        log.error("outbox: the cluster knows %d tickets with other tokens: %s", len(conflicts), list(conflicts)[:5])
        for row in rows:
            ids = {
                int.from_bytes(ticket.token[1:9], "big")
                for ticket in control.RegisterTicketsRequest.FromString(row.payload).tickets
            }
            if ids & set(conflicts):
                failures[row.id] = f"registered with another token: {sorted(ids & set(conflicts))[:5]}"
