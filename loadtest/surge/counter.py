"""Calls of the sales service as a window makes them, for greenlets. Decides nothing.

Each call that changes something has one request_id, and is made again while sales are away.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

import gevent
import grpc

from loadtest.surge.presale import SoldOut
from loadtest.surge.scenario import Tickets
from parkgate.sales.v1 import sales_pb2 as pb
from parkgate.sales.v1.sales_pb2_grpc import SalesServiceStub

PATIENCE_S = 30.0
RETRY_S = 0.1
CALL_S = 20.0
POLL_S = 0.05
AWAY = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


class Counter:
    """Sells for a channel; `visit_date` is the day of every ticket."""

    def __init__(self, stub: SalesServiceStub, visit_date: str) -> None:
        self._stub: Any = stub
        self._visit_date = visit_date
        self.retries = 0

    def lines(self, tickets: Sequence[Tickets]) -> list[pb.OrderLine]:
        """What a party wants, as lines of an order."""
        return [self.line(one.product, one.concession, one.slot, one.count) for one in tickets]

    def line(self, product: str, concession: str, slot: int, count: int) -> pb.OrderLine:
        """One line."""
        return pb.OrderLine(
            product_id=product, concession=concession, count=count, visit_date=self._visit_date, slot=slot
        )

    def sell(
        self, lines: Sequence[pb.OrderLine], channel: str, method: pb.PaymentMethod.ValueType, window_id: str = ""
    ) -> pb.SellTicketsResponse:
        """Over the counter, in one call. Raises: SoldOut."""
        request = pb.SellTicketsRequest(
            request_id=os.urandom(16), lines=lines, channel=channel, window_id=window_id, method=method
        )
        sold: pb.SellTicketsResponse = self.call("SellTickets", request)
        return sold

    def order(self, lines: Sequence[pb.OrderLine], channel: str) -> pb.Order:
        """An order whose places are held, until it is paid or lapses. Raises: SoldOut."""
        wanted = pb.CreateOrderRequest(request_id=os.urandom(16), lines=lines, channel=channel)
        made: pb.CreateOrderResponse = self.call("CreateOrder", wanted)
        return made.order

    def cancel(self, order_id: int) -> None:
        """Gives an order up that nobody has paid."""
        self.call("CancelOrder", pb.CancelOrderRequest(request_id=os.urandom(16), order_id=order_id))

    def buy_online(self, lines: Sequence[pb.OrderLine], channel: str) -> tuple[pb.Order, list[pb.Ticket]]:
        """Order, payment by the provider, and the tickets once its webhook has come. Raises: SoldOut, TimeoutError."""
        order = self.order(lines, channel)
        payment = pb.PayOrderRequest(
            request_id=os.urandom(16), order_id=order.order_id, method=pb.PAYMENT_METHOD_PROVIDER
        )
        self.call("PayOrder", payment)
        deadline = time.monotonic() + PATIENCE_S
        while (order := self.call("GetOrder", pb.GetOrderRequest(order_id=order.order_id)).order).state != (
            pb.ORDER_STATE_ISSUED
        ):
            if time.monotonic() > deadline:
                raise TimeoutError(f"the payment of order {order.order_id} was not confirmed within {PATIENCE_S:g} s")
            gevent.sleep(POLL_S)
        found = self.call("ListTickets", pb.ListTicketsRequest(order_id=order.order_id, page_size=1_000))
        return order, list(found.tickets)

    def refund(self, ticket_id: int) -> pb.RefundResult:
        """Asks the money back; asks on while it is pending."""
        request = pb.RefundTicketsRequest(request_id=os.urandom(16), ticket_ids=[ticket_id])
        deadline = time.monotonic() + PATIENCE_S
        while True:
            result: pb.RefundResult = self.call("RefundTickets", request).results[0]
            if result.outcome != pb.REFUND_OUTCOME_PENDING or time.monotonic() > deadline:
                return result
            gevent.sleep(RETRY_S)

    def open_shift(self, window_id: str) -> int:
        """Begins a shift with an empty till."""
        request = pb.OpenShiftRequest(request_id=os.urandom(16), window_id=window_id, operator="Rehearsal")
        return int(self.call("OpenShift", request).shift.shift_id)

    def close_shift(self, shift_id: int, counted_minor: int) -> pb.Shift:
        """Counts the till."""
        request = pb.CloseShiftRequest(request_id=os.urandom(16), shift_id=shift_id, counted_minor=counted_minor)
        closed: pb.CloseShiftResponse = self.call("CloseShift", request)
        return closed.shift

    def call(self, method: str, request: Any) -> Any:
        """One call, the same one again while sales are away. Raises: SoldOut, grpc.RpcError."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                return getattr(self._stub, method)(request, timeout=CALL_S)
            except grpc.RpcError as error:
                code = error.code()
                if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
                    raise SoldOut(str(request)) from error
                if code not in AWAY or time.monotonic() > deadline:
                    raise
            self.retries += 1
            gevent.sleep(RETRY_S)
