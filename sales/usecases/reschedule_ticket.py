"""A guest's ticket is moved to another date or slot, at the price that was paid."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import sqlalchemy as sa

from parkgate.sales.v1 import sales_pb2 as pb
from sales.context import Sales, park_date
from sales.errors import DuplicateRequestError
from sales.identity import Caller
from sales.requests import RequestKey, complete, find, key_of, remember
from sales.rows import insert_rows
from sales.tables import tickets, voids
from sales.usecases.read_tickets import load_ticket
from sales.usecases.refund_tickets import FIRST_RETRY, void_row
from sales.usecases.settle_voids import settle
from sales.usecases.voids import load_tickets, rows_of_request
from sales.wire import parse_date, ticket_message
from ticketcore.errors import ConflictError, TransientError
from ticketcore.refunds import Move, RefundQuote, move_refusal

OUTCOMES = {
    "requested": pb.RESCHEDULE_OUTCOME_PENDING,
    "done": pb.RESCHEDULE_OUTCOME_DONE,
    "already_used": pb.RESCHEDULE_OUTCOME_ALREADY_USED,
    "not_allowed": pb.RESCHEDULE_OUTCOME_NOT_ALLOWED,
}


async def reschedule_ticket(
    sales: Sales, caller: Caller, request: pb.RescheduleTicketRequest
) -> pb.RescheduleTicketResponse:
    """Voids the old code and issues a new ticket, or does neither.

    Raises:
        ConflictError: the rules do not allow it; says why.
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
    if row.state != "requested":
        async with sales.database.transaction() as connection:
            await complete(connection, key, response)
    return response


async def _request(sales: Sales, caller: Caller, key: RequestKey, request: pb.RescheduleTicketRequest) -> Sequence[Any]:
    now = sales.clock()
    to_date = parse_date(request.visit_date, "visit_date")
    published = await sales.catalogues.current()
    try:
        async with sales.database.transaction() as connection:
            await remember(connection, key, None, now)
            ticket = (await load_tickets(connection, [request.ticket_id], lock=True))[request.ticket_id]
            move = Move(ticket.concession, ticket.channel, ticket.visit_date, ticket.slot, to_date, request.slot)
            product = published.catalogue.products.get(ticket.product_id)
            if ticket.lifecycle != "active" or product is None:
                raise ConflictError(f"the ticket is {ticket.lifecycle}" if product else "its product is sold no more")
            if refusal := move_refusal(published.catalogue, product, move, park_date(published.catalogue.venue, now)):
                raise ConflictError(f"ticket {ticket.id} cannot be moved: {refusal}")
            row = void_row(key, 0, ticket, RefundQuote(ticket.price_minor, ticket.price_minor)) | {
                "kind": "reschedule",
                "window_id": caller.own_window or ticket.window_id,
                "visit_date": to_date,
                "slot": request.slot,
                "catalogue_version": published.version,
                "request_time": now,
                "next_attempt_time": now + FIRST_RETRY,
            }
            await insert_rows(connection, voids, [row])
            await connection.execute(sa.update(tickets).where(tickets.c.id == ticket.id).values(lifecycle="voiding"))
    except DuplicateRequestError:
        pass  # the same call, at the same time, elsewhere: its row is ours
    return await rows_of_request(sales, key.request_id)
