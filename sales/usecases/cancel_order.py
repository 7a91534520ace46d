"""An order is given up before it is paid, by its window or by the clock."""

from __future__ import annotations

from datetime import timedelta

import sqlalchemy as sa

from parkgate.sales.v1 import sales_pb2 as pb
from sales import outbox
from sales.context import Sales
from sales.identity import Caller
from sales.requests import RequestKey, key_of, once, remember
from sales.tables import orders, payments
from sales.usecases.read_orders import load_order
from sales.wire import order_message
from ticketcore.errors import NotFoundError
from ticketcore.orders import OrderEvent, OrderState, step

LAPSE_GRACE = timedelta(seconds=5)
"""The cluster's clock lapses holds, ours only tidies up after it; a payment that is under way is left this long."""
SWEPT = 500
"""Orders a sweep."""


async def cancel_order(sales: Sales, caller: Caller, request: pb.CancelOrderRequest) -> pb.CancelOrderResponse:
    """Gives up an order that is HELD or PAYING. Should its money be captured all the same, it is returned.

    Raises:
        ConflictError: it is paid, or given up already.
    """
    order = await load_order(sales, request.order_id)
    caller.check_sells_at(order.window_id)
    key = key_of(caller, request)
    return await once(sales.books, key, pb.CancelOrderResponse(), lambda: _cancel(sales, key, request.order_id))


async def _cancel(sales: Sales, key: RequestKey, order_id: int) -> pb.CancelOrderResponse:
    now = sales.clock()
    async with sales.database.transaction() as connection:
        found = await connection.execute(sa.select(orders).where(orders.c.id == order_id).with_for_update())
        order = found.one_or_none()
        if order is None:
            raise NotFoundError(f"order {order_id} does not exist")
        state = step(OrderState(order.state), OrderEvent.CANCEL)
        await connection.execute(sa.update(orders).where(orders.c.id == order_id).values(state=state.value))
        await connection.execute(
            sa.update(payments)
            .where(payments.c.order_id == order_id, payments.c.state == "pending")
            .values(state="canceled")
        )
        if order.hold_id is not None:
            await outbox.put(connection, outbox.row(order.hold_id, outbox.Kind.RELEASE_HOLD, order.hold_id, now))
        response = pb.CancelOrderResponse(order=order_message(order))
        response.order.state = pb.ORDER_STATE_CANCELED
        await remember(connection, key, response, now)
    sales.outbox_filled.set()
    return response


async def lapse_orders(sales: Sales) -> int:
    """Marks orders whose hold has lapsed, and releases holds that were pinned for a payment that never began."""
    now = sales.clock()
    due = (
        sa.select(orders.c.id)
        .where(orders.c.state == OrderState.HELD.value, orders.c.hold_lapse_time < now - LAPSE_GRACE)
        .limit(SWEPT)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    state = step(OrderState.HELD, OrderEvent.LAPSE)
    async with sales.database.transaction() as connection:
        moved = await connection.execute(
            sa.update(orders).where(orders.c.id.in_(due)).values(state=state.value).returning(orders.c.hold_id)
        )
        holds = [row.hold_id for row in moved]
        waiting = [outbox.row(hold, outbox.Kind.RELEASE_HOLD, hold, now) for hold in holds if hold is not None]
        await outbox.put(connection, *waiting)
    if waiting:
        sales.outbox_filled.set()
    return len(holds)
