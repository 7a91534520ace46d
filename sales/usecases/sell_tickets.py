"""Tickets are sold over the counter in one call: an order and its payment, each idempotent under an id of its own.

Both ids follow from the caller's, so the same call again finds how far the first one came, and goes on from there: an
order that was made is not made again, a payment that was booked is answered from the books.
"""

from __future__ import annotations

import hashlib

from parkgate.sales.v1 import sales_pb2 as pb
from sales.context import Sales
from sales.identity import Caller
from sales.request_key import ID_LENGTH, key_of
from sales.usecases.create_order import create_order, quote_order
from sales.usecases.pay_order import pay_order
from ticketcore.errors import InvalidInputError

AT_THE_COUNTER = frozenset({pb.PAYMENT_METHOD_CASH, pb.PAYMENT_METHOD_AGENCY})


async def sell_tickets(sales: Sales, caller: Caller, request: pb.SellTicketsRequest) -> pb.SellTicketsResponse:
    """Creates an order and pays it.

    Raises:
        SoldOutError: a quota has too few units left (I4); nothing was sold.
        ConflictError: it came back after its hold had lapsed unpaid.
    """
    key_of(caller, request)
    if request.method not in AT_THE_COUNTER:
        raise InvalidInputError("method: expected PAYMENT_METHOD_CASH or PAYMENT_METHOD_AGENCY; else use CreateOrder")
    if request.tendered_minor:
        await _check_tendered(sales, caller, request)
    wanted = pb.CreateOrderRequest(
        request_id=step_id(request.request_id, b"create"),
        lines=request.lines,
        channel=request.channel,
        window_id=request.window_id,
    )
    order = (await create_order(sales, caller, wanted)).order
    cash = request.method == pb.PAYMENT_METHOD_CASH
    payment = pb.PayOrderRequest(
        request_id=step_id(request.request_id, b"pay"),
        order_id=order.order_id,
        method=request.method,
        tendered_minor=(request.tendered_minor or order.total_minor) if cash else request.tendered_minor,
    )
    paid = await pay_order(sales, caller, payment)
    return pb.SellTicketsResponse(order=paid.order, change_minor=paid.change_minor, tickets=paid.tickets)


async def _check_tendered(sales: Sales, caller: Caller, request: pb.SellTicketsRequest) -> None:
    """Too little is refused before anything is held."""
    quote = await quote_order(sales, caller, pb.QuoteOrderRequest(lines=request.lines, channel=request.channel))
    if request.tendered_minor < quote.total_minor:
        raise InvalidInputError(f"tendered_minor: is {request.tendered_minor}, the order costs {quote.total_minor}")


def step_id(request_id: bytes, step: bytes) -> bytes:
    """The request_id of a step of the call. It follows from the caller's alone: another body under the same id must
    meet what was stored, and be refused."""
    return hashlib.blake2b(request_id, digest_size=ID_LENGTH, person=b"sell " + step).digest()
