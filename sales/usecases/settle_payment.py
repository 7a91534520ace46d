"""The provider says what became of a payment: the order's own record decides what follows, however late it comes.

A PAYING order whose money is captured is issued, in one transaction with the capture. Money for an order that was given
up is booked as the guest's and sent back. A second telling of the same event changes nothing.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from sales import outbox, provider
from sales.context import Sales, park_date
from sales.payment_event import PaymentEvent
from sales.tables import orders, payment_events, payments
from sales.usecases.issue import Prepared, book, derive, prepare, record
from ticketcore.errors import ConflictError, InvalidInputError, NotFoundError
from ticketcore.orders import OrderEvent, OrderState, step
from ticketcore.postings import Dates, Method, late_payment


async def settle_payment(sales: Sales, event: PaymentEvent) -> str:
    """Acts on an event once, and says what was done: issued, canceled, returned, or ignored.

    Raises:
        NotFoundError: no such payment.
        InvalidInputError: another amount than was asked for: nothing is done, operations must look.
    """
    payment, order = await _load(sales, event.payment_id)
    if (event.amount_minor, event.currency) != (payment.amount_minor, payment.currency):
        raise InvalidInputError(
            f"event {event.event_id} is about {event.amount_minor} {event.currency}, "
            f"the payment is of {payment.amount_minor} {payment.currency}"
        )
    now = sales.clock()
    wanted = event.kind == "captured" and order.state == OrderState.PAYING.value
    prepared = await prepare(sales, order, Method.PROVIDER, now) if wanted else None
    venue = (await sales.catalogues.version(order.catalogue_version)).catalogue.venue
    sales.seam("settle.prepared")
    async with sales.database.transaction() as connection:
        order, payment = await _lock(connection, order.id, event.payment_id)
        if await _seen(connection, event):
            return "ignored"
        effect = await _act(sales, connection, event, order, payment, prepared)
        if effect == "returned":
            booking = late_payment(event.amount_minor, event.currency, Dates(order.create_time, now))
            await book(connection, order.id, derive(b"late", payment.id), booking, now, park_date(venue, now))
        await connection.execute(
            sa.insert(payment_events),
            {
                "event_id": event.event_id,
                "payment_id": event.payment_id,
                "kind": event.kind,
                "effect": effect,
                "event_time": event.event_time,
                "receive_time": now,
            },
        )
        sales.seam("settle.recorded")
    sales.outbox_filled.set()
    return effect


async def _load(sales: Sales, payment_id: bytes) -> tuple[Any, Any]:
    async with sales.database.reading() as connection:
        payment = (await connection.execute(sa.select(payments).where(payments.c.id == payment_id))).one_or_none()
        if payment is None:
            raise NotFoundError(f"payment {payment_id.hex()} does not exist")
        order = (await connection.execute(sa.select(orders).where(orders.c.id == payment.order_id))).one()
    return payment, order


async def _lock(connection: AsyncConnection, order_id: int, payment_id: bytes) -> tuple[Any, Any]:
    order = (await connection.execute(sa.select(orders).where(orders.c.id == order_id).with_for_update())).one()
    payment = (await connection.execute(sa.select(payments).where(payments.c.id == payment_id))).one()
    return order, payment


async def _seen(connection: AsyncConnection, event: PaymentEvent) -> bool:
    """The order's row is locked, so nobody else acts on this event meanwhile."""
    known = sa.select(payment_events.c.event_id).where(payment_events.c.event_id == event.event_id)
    return (await connection.execute(known)).first() is not None


async def _act(
    sales: Sales,
    connection: AsyncConnection,
    event: PaymentEvent,
    order: Any,
    payment: Any,
    prepared: Prepared | None,
) -> str:
    now, state = sales.clock(), OrderState(order.state)
    if event.kind == "failed":
        if state is not OrderState.PAYING or payment.state != "pending":
            return "ignored"
        after = step(state, OrderEvent.FAIL)
        await connection.execute(sa.update(orders).where(orders.c.id == order.id).values(state=after.value))
        await _mark(connection, payment.id, "failed", None)
        if order.hold_id is not None:
            await outbox.put(connection, outbox.row(order.hold_id, outbox.Kind.RELEASE_HOLD, order.hold_id, now))
        return "canceled"
    if payment.state in {"captured", "returned"}:
        return "ignored"
    if state is OrderState.PAYING:
        if prepared is None:
            raise ConflictError(f"order {order.id} changed meanwhile; send the event again")
        await _mark(connection, payment.id, "captured", now)
        await record(connection, prepared, OrderState.PAYING)
        return "issued"
    await _mark(connection, payment.id, "returned", now)
    body = provider.money_back(derive(b"late", payment.id), payment.id, event.amount_minor, event.currency)
    await outbox.put(connection, outbox.row(payment.id, outbox.Kind.MONEY_BACK, body, now))
    return "returned"


async def _mark(connection: AsyncConnection, payment_id: bytes, state: str, capture_time: datetime | None) -> None:
    await connection.execute(
        sa.update(payments).where(payments.c.id == payment_id).values(state=state, capture_time=capture_time)
    )
