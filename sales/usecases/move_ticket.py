"""The steps that move a ticket to another date or slot, each of which may be repeated until the row is settled.

Hold and pin the new units; ask the owner to void the old ticket; sign the new one and book. A hold that has lapsed
before it was pinned proves that the owner was never asked, so the move can be refused safely.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from parkgate.cluster.v1 import control_pb2 as control
from sales import metrics, outbox, provider
from sales.catalogues import Published
from sales.context import Sales, park_date
from sales.rows import insert_rows
from sales.tables import orders, tickets, voids
from sales.usecases.create_order import hold_units
from sales.usecases.issue import TicketSpec, book, derive, registration, ticket_row
from sales.usecases.pay_order import OPEN_SHIFT
from sales.usecases.voids import ask_owners, return_rows
from ticketcore.errors import ConflictError, SoldOutError
from ticketcore.postings import Dates, Method, TicketValue, reschedule
from ticketcore.pricing import OrderLine, QuotaNeed, quota_needs


async def settle_move(sales: Sales, row: Any) -> None:
    """Takes a requested reschedule as far as it goes.

    Raises:
        TransientError: the cluster or the database is away; asked again later.
    """
    async with sales.database.reading() as connection:
        ticket = (await connection.execute(sa.select(tickets).where(tickets.c.id == row.ticket_id))).one()
        order = (await connection.execute(sa.select(orders).where(orders.c.id == ticket.order_id))).one()
    published = await sales.catalogues.version(row.catalogue_version)
    line = OrderLine(ticket.product_id, ticket.concession, 1, row.visit_date, row.slot)
    needs = quota_needs(published.catalogue, [line])
    refusal = await _hold(sales, row, needs, published) if needs else ""
    sales.seam("move.held")
    if refusal:
        await _finish(sales, row, "not_allowed", refusal, release=bool(needs))
        return
    state = (await ask_owners(sales, [row])).get(row.id)
    sales.seam("move.asked")
    if state == "done":
        await _replace(sales, row, ticket, order, bool(needs))
    elif state is not None:
        await _finish(sales, row, state, "", release=bool(needs))
    if state is not None:
        metrics.VOIDS_SETTLED.labels("reschedule", state).inc()


async def _hold(sales: Sales, row: Any, needs: Sequence[QuotaNeed], published: Published) -> str:
    """Holds and pins the new units; why it cannot be, or empty."""
    try:
        await hold_units(sales, hold_of(row.id), needs, published)
    except (SoldOutError, ConflictError) as error:
        return str(error)
    pinned = await sales.cluster.pin_hold(hold_of(row.id))
    return "" if pinned.outcome == control.HOLD_OUTCOME_DONE else "its new place could not be held; ask again"


def hold_of(void_id: bytes) -> bytes:
    """The hold that a reschedule takes."""
    return derive(b"move", void_id)


async def _lock(connection: AsyncConnection, row: Any) -> bool:
    """Whether the row is still to be settled; locked."""
    query = sa.select(voids.c.state).where(voids.c.id == row.id).with_for_update()
    return bool((await connection.execute(query)).scalar_one() == "requested")


async def _finish(sales: Sales, row: Any, state: str, refusal: str, *, release: bool) -> None:
    now = sales.clock()
    venue = (await sales.catalogues.version(row.catalogue_version)).catalogue.venue
    async with sales.database.transaction() as connection:
        if not await _lock(connection, row):
            return
        await connection.execute(
            sa.update(voids)
            .where(voids.c.id == row.id)
            .values(state=state, refusal=refusal, settle_time=now, park_date=park_date(venue, now))
        )
        await connection.execute(sa.update(tickets).where(tickets.c.id == row.ticket_id).values(lifecycle="active"))
        if release:
            hold = hold_of(row.id)
            await outbox.put(connection, outbox.row(hold, outbox.Kind.RELEASE_HOLD, hold, now))
    sales.outbox_filled.set()


async def _replace(sales: Sales, row: Any, ticket: Any, order: Any, held: bool) -> None:
    now = sales.clock()
    catalogue = (await sales.catalogues.version(row.catalogue_version)).catalogue
    day = park_date(catalogue.venue, now)
    spec = TicketSpec(
        product=catalogue.products[ticket.product_id],
        concession=ticket.concession,
        visit_date=row.visit_date,
        slot=row.slot,
        price_minor=ticket.price_minor + row.difference_minor,
        line_number=ticket.line_number,
        sold_time=ticket.sold_time,
        paid_time=ticket.paid_time,
        replaces=ticket.id,
    )
    sequence = (await sales.ticket_sequence.take(1))[0]
    new = ticket_row(sales, catalogue, order, spec, sequence, day) | {"catalogue_version": row.catalogue_version}
    async with sales.database.transaction() as connection:
        if not await _lock(connection, row):
            return
        await insert_rows(connection, tickets, [new])
        await connection.execute(
            sa.update(tickets)
            .where(tickets.c.id == ticket.id)
            .values(lifecycle="rescheduled", replaced_by_ticket_id=new["id"])
        )
        await connection.execute(
            sa.update(voids)
            .where(voids.c.id == row.id)
            .values(state="done", settle_time=now, park_date=day, new_ticket_id=new["id"])
        )
        await _count_cash(connection, row, order)
        booking = reschedule(_value(ticket), _value(ticket, new), Method(order.payment_method))
        await book(connection, order.id, derive(b"reschedule", row.id), booking, now, day)
        await outbox.put(connection, *_outbox_rows(row, ticket, new, now, held), *_money_back(row, order, now))
        sales.seam("move.booked")
    sales.outbox_filled.set()


async def _count_cash(connection: AsyncConnection, row: Any, order: Any) -> None:
    """A difference in cash goes through the till of the window: what was paid up counts as negative cash paid out."""
    if order.payment_method != Method.CASH.value or not row.difference_minor:
        return
    shift = await connection.execute(OPEN_SHIFT, {"window_id": row.window_id})
    values = {"cash_minor": -row.difference_minor, "shift_id": shift.scalar()}
    await connection.execute(sa.update(voids).where(voids.c.id == row.id).values(values))


def _value(ticket: Any, new: dict[str, Any] | None = None) -> TicketValue:
    """A ticket's value, or that of the one that replaces it."""
    identity = new or {"id": ticket.id, "price_minor": ticket.price_minor, "visit_date": ticket.visit_date}
    dates = Dates(ticket.sold_time, ticket.paid_time, identity["visit_date"])
    return TicketValue(identity["id"], ticket.product_number, identity["price_minor"], ticket.currency, dates)


def _money_back(row: Any, order: Any, now: datetime) -> list[dict[str, Any]]:
    if order.payment_method != Method.PROVIDER.value or row.difference_minor >= 0:
        return []
    body = provider.money_back(row.id, order.payment_id, -row.difference_minor, order.currency)
    return [outbox.row(order.payment_id, outbox.Kind.MONEY_BACK, body, now)]


def _outbox_rows(row: Any, ticket: Any, new: dict[str, Any], now: datetime, held: bool) -> list[dict[str, Any]]:
    rows = [outbox.row(row.id, outbox.Kind.REGISTER_TICKETS, registration([new]), now)]
    if held:
        hold = hold_of(row.id)
        rows.append(outbox.row(hold, outbox.Kind.CONFIRM_HOLD, hold, now))
    return rows + return_rows(row.id, ticket.quota_keys, ticket.persons, now)
