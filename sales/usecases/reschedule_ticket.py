"""A guest's ticket is moved to another date or slot; a difference of price is booked by the product's rule.

The difference is quoted first, and the move must name the one that the guest agreed to. It is paid, or paid back, as
the order was: by the provider only back, since a payment cannot be captured a second time.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from parkgate.sales.v1 import sales_pb2 as pb
from sales.catalogues import Published
from sales.context import Sales, park_date
from sales.errors import DuplicateRequestError
from sales.identity import Caller
from sales.requests import RequestKey, complete, find, key_of, remember
from sales.rows import insert_rows
from sales.tables import orders, tickets, voids
from sales.usecases.quote_refunds import used_by_ticket, words_of_use
from sales.usecases.read_tickets import load_ticket
from sales.usecases.refund_tickets import FIRST_RETRY, void_row
from sales.usecases.settle_voids import settle
from sales.usecases.voids import load_tickets, rows_of_request
from sales.wire import parse_date, ticket_message
from ticketcore.errors import ConflictError, TransientError
from ticketcore.postings import Method
from ticketcore.refunds import Move, MoveQuote, RefundQuote, quote_move

OUTCOMES = {
    "requested": pb.RESCHEDULE_OUTCOME_PENDING,
    "done": pb.RESCHEDULE_OUTCOME_DONE,
    "already_used": pb.RESCHEDULE_OUTCOME_ALREADY_USED,
    "not_allowed": pb.RESCHEDULE_OUTCOME_NOT_ALLOWED,
}


@dataclass(frozen=True, slots=True)
class Wish:
    """Where a ticket is to be moved to."""

    visit_date: date
    slot: int


async def quote_reschedule(
    sales: Sales, caller: Caller, request: pb.QuoteRescheduleRequest
) -> pb.QuoteRescheduleResponse:
    """What a move would cost or pay back now, and whether the ticket was used. Writes nothing."""
    caller.check_sells_at(caller.own_window)
    wish = Wish(parse_date(request.visit_date, "visit_date"), request.slot)
    async with sales.database.reading() as connection:
        ticket = (await load_tickets(connection, [request.ticket_id], lock=False))[request.ticket_id]
        method = await _paid_by(connection, ticket)
    quote, _ = await _quote(sales, ticket, wish, method)
    used = None if quote.refusal else await used_by_ticket(sales, [ticket.id])
    persons = (used or {}).get(ticket.id, 0)
    return pb.QuoteRescheduleResponse(
        difference_minor=0 if persons else quote.difference_minor,
        new_price_minor=quote.price_minor,
        refusal=words_of_use(persons) if persons else quote.refusal,
        use_unknown=used is None and not quote.refusal,
    )


async def reschedule_ticket(
    sales: Sales, caller: Caller, request: pb.RescheduleTicketRequest
) -> pb.RescheduleTicketResponse:
    """Voids the old code and issues a new ticket, or does neither.

    Raises:
        ConflictError: the rules do not allow it, or the difference is not the one agreed; says why.
    """
    caller.check_sells_at(caller.own_window)
    key = key_of(caller, request)
    response = pb.RescheduleTicketResponse()
    if await find(sales.books, key, response):
        return response
    rows = await rows_of_request(sales, key.request_id)
    if not rows:
        rows = await _request(sales, caller, key, request)
        sales.seam("move.requested")
    with suppress(TransientError):  # PENDING: the row is kept, and the sweep asks until it is answered
        await settle(sales, [row for row in rows if row.state == "requested"])
    row = (await rows_of_request(sales, key.request_id))[0]
    response = pb.RescheduleTicketResponse(outcome=OUTCOMES[row.state])
    if row.new_ticket_id is not None:
        response.ticket.CopyFrom(ticket_message(await load_ticket(sales, row.new_ticket_id)))
        response.difference_minor = row.difference_minor
    if row.state != "requested":
        async with sales.database.transaction() as connection:
            await complete(connection, key, response)
    return response


async def _request(sales: Sales, caller: Caller, key: RequestKey, request: pb.RescheduleTicketRequest) -> Sequence[Any]:
    now = sales.clock()
    try:
        async with sales.database.transaction() as connection:
            await remember(connection, key, None, now)
            ticket = (await load_tickets(connection, [request.ticket_id], lock=True))[request.ticket_id]
            method = await _paid_by(connection, ticket)
            wish = Wish(parse_date(request.visit_date, "visit_date"), request.slot)
            quote, published = await _quote(sales, ticket, wish, method)
            _check(caller, request, quote, method)
            row = void_row(key, 0, ticket, RefundQuote(ticket.price_minor, ticket.price_minor)) | {
                "kind": "reschedule",
                "window_id": caller.own_window or ticket.window_id,
                "visit_date": wish.visit_date,
                "slot": wish.slot,
                "difference_minor": quote.difference_minor,
                "catalogue_version": published.version,
                "request_time": now,
                "next_attempt_time": now + FIRST_RETRY,
            }
            await insert_rows(connection, voids, [row])
            await connection.execute(sa.update(tickets).where(tickets.c.id == ticket.id).values(lifecycle="voiding"))
    except DuplicateRequestError:
        pass  # the same call, at the same time, elsewhere: its row is ours
    return await rows_of_request(sales, key.request_id)


def _check(caller: Caller, request: pb.RescheduleTicketRequest, quote: MoveQuote, method: Method) -> None:
    if quote.refusal:
        raise ConflictError(f"ticket {request.ticket_id} cannot be moved: {quote.refusal}")
    if quote.difference_minor != request.agreed_difference_minor:
        raise ConflictError(
            f"agreed_difference_minor: is {request.agreed_difference_minor}, and moving ticket {request.ticket_id} "
            f"costs {quote.difference_minor}; ask the guest again"
        )
    if quote.difference_minor and method is Method.AGENCY:
        caller.check_is_service("change what an agency owes")


async def _quote(sales: Sales, ticket: Any, wish: Wish, method: Method) -> tuple[MoveQuote, Published]:
    published = await sales.catalogues.current()
    product = published.catalogue.products.get(ticket.product_id)
    if ticket.lifecycle != "active" or product is None:
        why = f"the ticket is {ticket.lifecycle}" if product else "its product is sold no more"
        return MoveQuote(ticket.price_minor, refusal=why), published
    if ticket.bundle_id:
        why = f"it is part of {ticket.bundle_id!r}; refund all its tickets together and buy another"
        return MoveQuote(ticket.price_minor, refusal=why), published
    move = Move(ticket.concession, ticket.channel, ticket.visit_date, ticket.slot, wish.visit_date, wish.slot)
    today = park_date(published.catalogue.venue, sales.clock())
    quote = quote_move(published.catalogue, product, move, ticket.price_minor, today)
    if quote.difference_minor > 0 and method is Method.PROVIDER:
        why = f"{wish.visit_date} costs more and was paid by the provider; refund the ticket and buy another"
        return MoveQuote(ticket.price_minor, refusal=why), published
    return quote, published


async def _paid_by(connection: AsyncConnection, ticket: Any) -> Method:
    query = sa.select(orders.c.payment_method).where(orders.c.id == ticket.order_id)
    return Method((await connection.execute(query)).scalar_one())
