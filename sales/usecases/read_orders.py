"""Orders are read."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from parkgate.sales.v1 import sales_pb2 as pb
from sales.context import Sales
from sales.identity import Caller
from sales.tables import orders
from sales.wire import STATE_NAMES, order_message
from ticketcore.errors import InvalidInputError, NotFoundError

DEFAULT_PAGE = 50
MAX_PAGE = 1_000


async def load_order(sales: Sales, order_id: int) -> Any:
    """An order's row.

    Raises:
        NotFoundError: there is none.
    """
    row = await sales.books.order(min(order_id, 2**63 - 1))
    if row is None:
        raise NotFoundError(f"order {order_id} does not exist")
    return row


async def get_order(sales: Sales, caller: Caller, request: pb.GetOrderRequest) -> pb.GetOrderResponse:
    """An order; a window sees its own only."""
    row = await load_order(sales, request.order_id)
    if caller.own_window and row.window_id != caller.own_window:
        raise NotFoundError(f"order {request.order_id} does not exist at this window")
    return pb.GetOrderResponse(order=order_message(row, sales.config.provider_url))


async def list_orders(sales: Sales, caller: Caller, request: pb.ListOrdersRequest) -> pb.ListOrdersResponse:
    """A page of orders, newest first. The page token is the last id of the page before."""
    size = page_size(request.page_size, DEFAULT_PAGE)
    query = sa.select(orders).order_by(orders.c.id.desc()).limit(size + 1)
    if request.page_token:
        query = query.where(orders.c.id < page_start(request.page_token))
    if window_id := caller.own_window or request.window_id:
        query = query.where(orders.c.window_id == window_id)
    if request.channel:
        query = query.where(orders.c.channel == request.channel)
    if request.state:
        query = query.where(orders.c.state == STATE_NAMES.get(request.state, ""))
    async with sales.database.reading() as connection:
        rows = (await connection.execute(query)).all()
    return pb.ListOrdersResponse(
        orders=[order_message(row, sales.config.provider_url) for row in rows[:size]],
        next_page_token=str(rows[size - 1].id) if len(rows) > size else "",
    )


def page_size(asked: int, default: int) -> int:
    """The size of a page.

    Raises:
        InvalidInputError: too large.
    """
    if asked > MAX_PAGE:
        raise InvalidInputError(f"page_size: is {asked}, at most {MAX_PAGE}")
    return asked or default


def page_start(token: str) -> int:
    """The id in a page token.

    Raises:
        InvalidInputError: no token of ours.
    """
    if not token.isascii() or not token.isdigit() or int(token[:20]) >= 2**63:
        raise InvalidInputError("page_token: expected next_page_token of the page before")
    return int(token)
