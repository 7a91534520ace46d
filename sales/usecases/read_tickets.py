"""Tickets are read, with their QR codes if asked for."""

from __future__ import annotations

import asyncio
from typing import Any

import sqlalchemy as sa

from parkgate.sales.v1 import sales_pb2 as pb
from sales.context import Sales
from sales.identity import Caller
from sales.qr import qr_png
from sales.tables import tickets
from sales.usecases.read_orders import get_order, page_size, page_start
from sales.wire import ticket_message
from ticketcore.errors import NotFoundError

DEFAULT_PAGE = 100


async def load_ticket(sales: Sales, ticket_id: int) -> Any:
    """A ticket's row.

    Raises:
        NotFoundError: there is none.
    """
    async with sales.database.reading() as connection:
        query = sa.select(tickets).where(tickets.c.id == min(ticket_id, 2**63 - 1))
        row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise NotFoundError(f"ticket {ticket_id} does not exist")
    return row


async def get_ticket(sales: Sales, caller: Caller, request: pb.GetTicketRequest) -> pb.GetTicketResponse:
    """A ticket. Whoever gets its token has the ticket, so finance gets none."""
    row = await load_ticket(sales, request.ticket_id)
    caller.check_sells_at(caller.own_window)
    response = pb.GetTicketResponse(ticket=ticket_message(row))
    if request.include_qr_png:
        response.ticket.qr_png = await asyncio.to_thread(qr_png, row.token)
    return response


async def list_tickets(sales: Sales, caller: Caller, request: pb.ListTicketsRequest) -> pb.ListTicketsResponse:
    """A page of an order's tickets. Codes are drawn in a thread: a thousand take half a second."""
    caller.check_sells_at(caller.own_window)
    await get_order(sales, caller, pb.GetOrderRequest(order_id=request.order_id))
    size = page_size(request.page_size, DEFAULT_PAGE)
    query = sa.select(tickets).where(tickets.c.order_id == request.order_id).order_by(tickets.c.id).limit(size + 1)
    if request.page_token:
        query = query.where(tickets.c.id > page_start(request.page_token))
    async with sales.database.reading() as connection:
        rows = (await connection.execute(query)).all()
    messages = [ticket_message(row) for row in rows[:size]]
    if request.include_qr_png:
        codes = await asyncio.to_thread(lambda: [qr_png(message.token) for message in messages])
        for message, code in zip(messages, codes, strict=True):
            message.qr_png = code
    return pb.ListTicketsResponse(tickets=messages, next_page_token=str(rows[size - 1].id) if len(rows) > size else "")
