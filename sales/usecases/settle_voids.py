"""What the owners answered to refunds and reschedules is booked, once; what they did not answer is asked again.

Settling locks the requested rows, so that of two settlers (the caller's and the sweep's) one books and the other finds
nothing left to do. A row that is settled never changes again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from sales import metrics, outbox, provider
from sales.context import Sales, park_date
from sales.tables import orders, tickets, voids
from sales.usecases.issue import book_all, derive
from sales.usecases.move_ticket import settle_move
from sales.usecases.pay_order import OPEN_SHIFT
from sales.usecases.void_bundle import ask_for_bundle
from sales.usecases.voids import ask_owners, claim_waiting, return_rows, rows_of_request
from ticketcore.orders import OrderEvent, OrderState, step
from ticketcore.postings import Dates, Method, TicketValue, Transaction, refund

SWEPT = 200
"""Voids a sweep."""


async def settle(sales: Sales, rows: Sequence[Any]) -> None:
    """Asks the owners about requested rows, and books what they answer.

    Raises:
        TransientError: the cluster or the database is away; what was not settled is still requested.
    """
    refunds = [row for row in rows if row.kind == "refund" and not row.bundle]
    if refunds:
        states = await ask_owners(sales, refunds)
        sales.seam("void.asked")
        await _book_refunds(sales, states)
    for request_id, bundle in {(row.request_id, row.bundle): None for row in rows if row.bundle}:
        await _settle_bundle(sales, request_id, bundle)
    for row in rows:
        if row.kind == "reschedule":
            await settle_move(sales, row)


async def _settle_bundle(sales: Sales, request_id: bytes, bundle: str) -> None:
    """All rows of a bundle together, however many of them a sweep has claimed."""
    found = await rows_of_request(sales, request_id)
    rows = [row for row in found if row.bundle == bundle and row.state == "requested"]
    if rows:
        states = await ask_for_bundle(sales, rows)
        sales.seam("void.asked")
        await _book_refunds(sales, states)


async def sweep_voids(sales: Sales) -> int:
    """Settles what a crash or an absent cluster has left; returns how many rows were tried."""
    rows = await claim_waiting(sales, SWEPT)
    await settle(sales, rows)
    return len(rows)


async def _book_refunds(sales: Sales, states: Mapping[bytes, str]) -> None:
    now = sales.clock()
    settled: list[Any] = []
    async with sales.database.transaction() as connection:
        found = await _lock(connection, list(states))
        if found:
            version = found[0].catalogue_version
            day = park_date((await sales.catalogues.version(version)).catalogue.venue, now)
            for row in found:
                await _mark(connection, row, states[row.id], now, day)
            settled = [row for row in found if states[row.id] == "done"]
            await _book(connection, settled, now, day)
            sales.seam("void.booked")
    for row in found:
        metrics.VOIDS_SETTLED.labels("refund", states[row.id]).inc()
    if settled:
        sales.outbox_filled.set()


async def _lock(connection: AsyncConnection, ids: list[bytes]) -> Sequence[Any]:
    """Requested rows with their tickets and orders; orders first and in order, so that settlers never cross."""
    of_voids = sa.select(tickets.c.order_id).join(voids, voids.c.ticket_id == tickets.c.id).where(voids.c.id.in_(ids))
    await connection.execute(
        sa.select(orders.c.id).where(orders.c.id.in_(of_voids)).order_by(orders.c.id).with_for_update()
    )
    query = (
        sa.select(
            voids,
            tickets.c.order_id,
            tickets.c.product_number,
            tickets.c.currency,
            tickets.c.sold_time,
            tickets.c.paid_time,
            tickets.c.visit_date.label("ticket_visit_date"),
            tickets.c.persons,
            tickets.c.quota_keys,
            orders.c.payment_method,
            orders.c.payment_id,
        )
        .join(tickets, tickets.c.id == voids.c.ticket_id)
        .join(orders, orders.c.id == tickets.c.order_id)
        .where(voids.c.id.in_(ids), voids.c.state == "requested")
        .order_by(voids.c.id)
        .with_for_update(of=voids)
    )
    return (await connection.execute(query)).all()


async def _mark(connection: AsyncConnection, row: Any, state: str, now: datetime, day: date) -> None:
    values: dict[str, Any] = {"state": state, "settle_time": now, "park_date": day}
    if state == "done" and row.payment_method == Method.CASH.value:
        shift = await connection.execute(OPEN_SHIFT, {"window_id": row.window_id})
        values |= {"cash_minor": row.refund_minor, "shift_id": shift.scalar()}
    await connection.execute(sa.update(voids).where(voids.c.id == row.id).values(values))
    lifecycle = "refunded" if state == "done" else "active"
    await connection.execute(sa.update(tickets).where(tickets.c.id == row.ticket_id).values(lifecycle=lifecycle))


async def _book(connection: AsyncConnection, rows: Sequence[Any], now: datetime, day: date) -> None:
    bookings = [(derive(b"refund", row.id), row.order_id, _booking(row)) for row in rows]
    await book_all(connection, bookings, now, day)
    await outbox.put(connection, *(line for row in rows for line in _outbox_rows(row, now)))
    counts = Counter(row.order_id for row in rows)
    for order_id in sorted(counts):
        await _refund_order(connection, order_id, [row for row in rows if row.order_id == order_id])


def _booking(row: Any) -> Transaction:
    value = TicketValue(
        row.ticket_id,
        row.product_number,
        row.price_minor,
        row.currency,
        Dates(row.sold_time, row.paid_time, row.ticket_visit_date),
    )
    return refund(value, Method(row.payment_method), row.fee_minor)


def _outbox_rows(row: Any, now: datetime) -> list[dict[str, Any]]:
    rows = return_rows(row.id, row.quota_keys, row.persons, now)
    if row.payment_method == Method.PROVIDER.value and row.refund_minor:
        body = provider.money_back(row.id, row.payment_id, row.refund_minor, row.currency)
        rows.append(outbox.row(row.payment_id, outbox.Kind.MONEY_BACK, body, now))
    return rows


async def _refund_order(connection: AsyncConnection, order_id: int, rows: Sequence[Any]) -> None:
    order = (await connection.execute(sa.select(orders).where(orders.c.id == order_id))).one()
    count = order.refunded_count + len(rows)
    event = OrderEvent.REFUND_LAST if count == order.ticket_count else OrderEvent.REFUND_SOME
    await connection.execute(
        sa.update(orders)
        .where(orders.c.id == order_id)
        .values(
            state=step(OrderState(order.state), event).value,
            refunded_count=count,
            refunded_minor=order.refunded_minor + sum(row.refund_minor for row in rows),
        )
    )
