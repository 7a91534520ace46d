"""An order is paid: at once in cash or on account, or later, when the provider's webhook comes."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from parkgate.cluster.v1 import control_pb2 as control
from parkgate.sales.v1 import sales_pb2 as pb
from sales import metrics, outbox, provider
from sales.books import Change
from sales.context import Sales
from sales.identity import Caller
from sales.requests import RequestKey, key_of, once
from sales.tables import outbox as outbox_table
from sales.tables import payments
from sales.usecases.issue import issued_rows, issuing, prepare
from sales.usecases.read_orders import load_order
from sales.wire import order_message, payment_url, ticket_message
from sales.writes import OrderMove
from ticketcore.errors import ConflictError, InvalidInputError
from ticketcore.orders import OrderEvent, OrderState, step
from ticketcore.postings import Method

MAX_TICKETS_ANSWERED = 200
METHODS = {
    pb.PAYMENT_METHOD_CASH: Method.CASH,
    pb.PAYMENT_METHOD_PROVIDER: Method.PROVIDER,
    pb.PAYMENT_METHOD_AGENCY: Method.AGENCY,
}
OPEN_SHIFT = sa.text(
    "SELECT id FROM sales.shifts WHERE window_id = :window_id AND close_time IS NULL FOR KEY SHARE"
).bindparams(sa.bindparam("window_id"))
"""Locks the open shift against being closed until the payment is in it."""


async def pay_order(sales: Sales, caller: Caller, request: pb.PayOrderRequest) -> pb.PayOrderResponse:
    """Pins the hold, then takes the money.

    Raises:
        ConflictError: the order has lapsed, or is paid or given up already.
    """
    key = key_of(caller, request)
    return await once(sales.books, key, pb.PayOrderResponse(), lambda: _pay(sales, caller, key, request))


async def _pay(sales: Sales, caller: Caller, key: RequestKey, request: pb.PayOrderRequest) -> pb.PayOrderResponse:
    method = METHODS.get(request.method)
    if method is None:
        raise InvalidInputError(
            "method: expected PAYMENT_METHOD_CASH, PAYMENT_METHOD_PROVIDER or PAYMENT_METHOD_AGENCY"
        )
    order = await load_order(sales, request.order_id)
    caller.check_sells_at(order.window_id)
    if method is Method.AGENCY:
        caller.check_is_service("sell on an agency's account")
    _check_tendered(method, request.tendered_minor, order)
    now = sales.clock()
    step(OrderState(order.state), OrderEvent.PAY)
    await _pin(sales, order, now)
    sales.seam("pay.pinned")
    if method is Method.PROVIDER:
        return await _begin(sales, key, order, now)
    return await _take(sales, key, order, method, request.tendered_minor)


def _check_tendered(method: Method, tendered_minor: int, order: Any) -> None:
    if method is not Method.CASH and tendered_minor:
        raise InvalidInputError("tendered_minor: only goes with cash, expected 0")
    if method is Method.CASH and tendered_minor < order.total_minor:
        raise InvalidInputError(f"tendered_minor: is {tendered_minor}, the order costs {order.total_minor}")


async def _pin(sales: Sales, order: Any, now: datetime) -> None:
    """From here on no clock takes the units away. An order without quota lapses by our own clock."""
    if order.hold_id is None:
        lapsed = now >= order.hold_lapse_time
    else:
        lapsed = (await sales.cluster.pin_hold(order.hold_id)).outcome != control.HOLD_OUTCOME_DONE
    if lapsed:
        raise ConflictError(f"order {order.id} cannot be paid: its hold has lapsed; make a new order")


async def _take(sales: Sales, key: RequestKey, order: Any, method: Method, tendered_minor: int) -> pb.PayOrderResponse:
    now = sales.clock()
    prepared = await prepare(sales, order, method, now)
    sales.seam("pay.signed")
    answered = prepared.rows if len(prepared.rows) <= MAX_TICKETS_ANSWERED else []
    response = pb.PayOrderResponse(
        order=order_message(order),
        change_minor=max(0, tendered_minor - order.total_minor),
        tickets=[ticket_message(_Row(row)) for row in answered],
    )
    response.order.state = pb.ORDER_STATE_ISSUED
    response.order.pay_time_ms = round(now.timestamp() * 1000)
    response.order.payment_method = pb.PAYMENT_METHOD_CASH if method is Method.CASH else pb.PAYMENT_METHOD_AGENCY
    rows = issued_rows(prepared) | {payments: [_payment(key, order, method, tendered_minor, now)]}
    move = issuing(prepared, OrderState.HELD)
    await sales.books.commit(Change(key, response, now, rows, move, lambda: sales.seam("pay.recorded")))
    metrics.TICKETS_ISSUED.inc(len(prepared.rows))
    sales.outbox_filled.set()
    sales.seam("pay.committed")
    return response


async def _begin(sales: Sales, key: RequestKey, order: Any, now: datetime) -> pb.PayOrderResponse:
    payment_id = key.derive("payment")
    patience = timedelta(milliseconds=sales.config.ask_payment_after_ms)
    body = provider.intent(payment_id, order.id, order.total_minor, order.currency)
    response = pb.PayOrderResponse(order=order_message(order))
    response.order.state = pb.ORDER_STATE_PAYING
    response.order.payment_method = pb.PAYMENT_METHOD_PROVIDER
    response.order.payment_url = payment_url(sales.config.provider_url, payment_id)
    rows = {
        payments: [_payment(key, order, Method.PROVIDER, 0, now) | {"next_ask_time": now + patience}],
        outbox_table: [outbox.row(payment_id, outbox.Kind.PAYMENT_INTENT, body, now)],
    }
    paying = step(OrderState.HELD, OrderEvent.PAY)
    move = OrderMove(order.id, OrderState.HELD.value, paying.value, Method.PROVIDER.value, payment_id=payment_id)
    await sales.books.commit(Change(key, response, now, rows, move))
    sales.outbox_filled.set()
    return response


def _payment(key: RequestKey, order: Any, method: Method, tendered_minor: int, now: datetime) -> dict[str, Any]:
    captured = method is not Method.PROVIDER
    return {
        "id": key.derive("payment"),
        "order_id": order.id,
        "method": method.value,
        "state": "captured" if captured else "pending",
        "amount_minor": order.total_minor,
        "tendered_minor": tendered_minor,
        "currency": order.currency,
        "window_id": order.window_id,
        "shift_id": None,
        "create_time": now,
        "capture_time": now if captured else None,
        "next_ask_time": None,
    }


class _Row:
    """A dict with the attributes of a row that was read back."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.__dict__.update(values)
        self.replaced_by_ticket_id = None
