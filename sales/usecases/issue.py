"""Issue: an order's money is in, so its tickets are signed and written, all or nothing, with postings and outbox.

`prepare` signs and writes nothing; `issuing` and `issued_rows` are what is then written, by `Books.commit` or, inside
the caller's transaction, by `record`. Between the two nothing is lost but ids.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from parkgate.cluster.v1 import control_pb2 as control
from parkgate.events.v1 import events_pb2 as events
from sales import metrics, outbox
from sales.books import changed_meanwhile
from sales.context import Sales, park_date
from sales.database import driver_of
from sales.tables import outbox as outbox_table
from sales.tables import postings, tickets, transactions
from sales.wire import line_of_record
from sales.writes import OrderMove, Rows, send_inserts, send_moves
from ticketcore.catalogue import Catalogue, Product
from ticketcore.errors import DamagedDataError
from ticketcore.orders import OrderEvent, OrderState, step
from ticketcore.postings import Dates, Method, SoldLine, Transaction, sale
from ticketcore.pricing import PricedLine, quota_limits
from ticketcore.token import Claims, Flags, sign, ticket_id_of

SIGNED_INLINE = 100
"""Signing takes about 40 µs a ticket: more than this many are signed in a thread, so that others go on."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """An issue, ready to be written."""

    order: Any
    now: datetime
    day: date
    rows: list[dict[str, Any]]
    booking: Transaction
    method: Method


@dataclass(frozen=True, slots=True)
class TicketSpec:
    """What a new ticket is for. A replacement has `replaces` and its first ticket's dates."""

    product: Product
    concession: str
    visit_date: date
    slot: int
    price_minor: int
    line_number: int
    sold_time: datetime
    paid_time: datetime
    replaces: int | None = None
    bundle_id: str = ""
    bundle_number: int = 0


async def prepare(sales: Sales, order: Any, method: Method, now: datetime) -> Prepared:
    """Signs the tickets of an order and makes its postings."""
    catalogue = (await sales.catalogues.version(order.catalogue_version)).catalogue
    lines = [line_of_record(record) for record in order.lines]
    specs = list(_specs(catalogue, lines, order, now))
    sequence = await sales.ticket_sequence.take(len(specs))
    day = park_date(catalogue.venue, now)
    arguments = (sales, catalogue, order, specs, sequence, day)
    rows = await asyncio.to_thread(_sign_all, *arguments) if len(specs) > SIGNED_INLINE else _sign_all(*arguments)
    sold = tuple(SoldLine(line.product_number, line.line.visit_date, line.total_minor) for line in lines)
    booking = sale(method, sold, order.currency, Dates(order.create_time, now))
    return Prepared(order, now, day, rows, booking, method)


def _specs(catalogue: Catalogue, lines: Sequence[PricedLine], order: Any, now: datetime) -> Iterable[TicketSpec]:
    for number, priced in enumerate(lines):
        line = priced.line
        product = catalogue.products.get(line.product_id)
        if product is None:
            raise DamagedDataError(f"order {order.id} names product {line.product_id!r}, not in its catalogue")
        for index, price in enumerate(priced.ticket_prices()):
            yield TicketSpec(
                product=product,
                concession=line.concession,
                visit_date=line.visit_date,
                slot=line.slot,
                price_minor=price,
                line_number=number,
                sold_time=order.create_time,
                paid_time=now,
                bundle_id=priced.bundle_id,
                bundle_number=priced.first_bundle + index if priced.bundle_id else 0,
            )


def _sign_all(
    sales: Sales, catalogue: Catalogue, order: Any, specs: Sequence[TicketSpec], sequence: Sequence[int], day: date
) -> list[dict[str, Any]]:
    return [
        ticket_row(sales, catalogue, order, spec, number, day) for spec, number in zip(specs, sequence, strict=True)
    ]


def ticket_row(
    sales: Sales, catalogue: Catalogue, order: Any, spec: TicketSpec, sequence: int, day: date
) -> dict[str, Any]:
    """A signed ticket as a row of `tickets`. `order` gives its id, channel, window and currency."""
    product = spec.product
    claims = claims_of(sales, catalogue, spec, sequence)
    return {
        "id": claims.ticket_id,
        "order_id": order.id,
        "line_number": spec.line_number,
        "product_number": product.number,
        "product_id": product.id,
        "concession": spec.concession,
        "channel": order.channel,
        "window_id": order.window_id,
        "visit_date": spec.visit_date,
        "valid_days": product.valid_days,
        "slot": spec.slot,
        "persons": product.persons,
        "price_minor": spec.price_minor,
        "currency": order.currency,
        "catalogue_version": order.catalogue_version,
        "quota_keys": " ".join(quota_limits(catalogue, product, spec.visit_date, spec.slot)),
        "sold_time": spec.sold_time,
        "paid_time": spec.paid_time,
        "park_date": day,
        "lifecycle": "active",
        "replaces_ticket_id": spec.replaces,
        "bundle_id": spec.bundle_id,
        "bundle_number": spec.bundle_number,
        "token": sign(claims, sales.config.signing_key),
    }


def claims_of(sales: Sales, catalogue: Catalogue, spec: TicketSpec, sequence: int) -> Claims:
    """The claims of a new ticket: what the catalogue says its product entitles to."""
    product = spec.product
    flags = Flags.IDENTITY if product.identity_required else Flags.NONE
    if catalogue.concessions[spec.concession].proof_required:
        flags |= Flags.CONCESSION_PROOF
    return Claims(
        key_id=sales.config.signing_key_id,
        ticket_id=ticket_id_of(sales.config.issuer_id, sequence),
        product_number=product.number,
        first_day=spec.visit_date,
        valid_days=product.valid_days,
        slot=spec.slot,
        party=product.persons,
        entries=product.entries,
        flags=flags,
    )


async def record(connection: AsyncConnection, prepared: Prepared, expected: OrderState) -> None:
    """Writes an issue in the caller's transaction.

    Raises:
        ConflictError: the order is not in the expected state any more; nothing is to be committed.
    """
    move = issuing(prepared, expected)
    driver = await driver_of(connection)
    if not await (await send_moves(driver, [move])).fetchall():
        raise changed_meanwhile(move)
    await send_inserts(driver, issued_rows(prepared), {})
    metrics.TICKETS_ISSUED.inc(len(prepared.rows))


def issuing(prepared: Prepared, expected: OrderState) -> OrderMove:
    """The order's way from the expected state to ISSUED."""
    before = (OrderEvent.PAY,) if expected is OrderState.HELD else ()
    after = step(expected, *before, OrderEvent.CAPTURE, OrderEvent.ISSUE)
    return OrderMove(prepared.order.id, expected.value, after.value, prepared.method.value, prepared.now)


def issued_rows(prepared: Prepared) -> Rows:
    """What an issue writes beside the order: its tickets, its postings, and what the cluster must be told."""
    order, now = prepared.order, prepared.now
    waiting = [outbox.row(_aggregate(order.id), outbox.Kind.REGISTER_TICKETS, registration(prepared.rows), now)]
    if order.hold_id is not None:
        waiting.append(outbox.row(order.hold_id, outbox.Kind.CONFIRM_HOLD, order.hold_id, now))
    sale_id = derive(b"sale", order.id.to_bytes(8, "big"))
    booked = booking_rows([(sale_id, order.id, prepared.booking)], now, prepared.day)
    return {tickets: prepared.rows, outbox_table: waiting} | booked


def registration(rows: Iterable[dict[str, Any]]) -> bytes:
    """The outbox's payload that registers tickets."""
    return control.RegisterTicketsRequest(
        tickets=[
            control.IssuedTicket(token=row["token"], lifecycle=events.LIFECYCLE_ACTIVE, price_minor=row["price_minor"])
            for row in rows
        ]
    ).SerializeToString()


async def book(
    connection: AsyncConnection, order_id: int, transaction_id: bytes, booking: Transaction, now: datetime, day: date
) -> None:
    """Writes one transaction; a second one with its id is refused by the database. Nothing is written for no money."""
    await book_all(connection, [(transaction_id, order_id, booking)], now, day)


async def book_all(
    connection: AsyncConnection, bookings: Sequence[tuple[bytes, int, Transaction]], now: datetime, day: date
) -> None:
    """Writes transactions, each with its id and order."""
    await send_inserts(await driver_of(connection), booking_rows(bookings, now, day), {})


def booking_rows(bookings: Sequence[tuple[bytes, int, Transaction]], now: datetime, day: date) -> Rows:
    """Transactions and their postings as rows."""
    kept = [booking for booking in bookings if booking[2].postings]
    head = [
        {"id": id_, "kind": booking.kind.value, "order_id": order_id, "booked_time": now, "park_date": day}
        for id_, order_id, booking in kept
    ]
    lines = [
        {
            "transaction_id": id_,
            "line": number,
            "account": posting.account.value,
            "amount_minor": posting.amount_minor,
            "currency": posting.currency,
            "ticket_id": posting.ticket_id,
            "product_number": posting.product_number,
            "sold_time": posting.dates.sold_time,
            "paid_time": posting.dates.paid_time,
            "visit_date": posting.dates.visit_date,
        }
        for id_, _, booking in kept
        for number, posting in enumerate(booking.postings)
    ]
    return {transactions: head, postings: lines}


def derive(purpose: bytes, source: bytes) -> bytes:
    """A 16-byte id that follows from another, so that doing something twice collides instead of doubling."""
    return hashlib.blake2b(source, digest_size=16, person=purpose).digest()


def _aggregate(order_id: int) -> bytes:
    return b"order" + order_id.to_bytes(8, "big")
