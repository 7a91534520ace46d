"""Windows of the park: they sell, refund and hold. Each call is repeated, with its one request id, until answered."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import grpc

from parkgate.cluster.v1 import control_pb2
from parkgate.sales.v1 import sales_pb2
from tests.chaos.processes.park import HOLD_LIMIT, Park
from tests.chaos.processes.turnstiles import now_ms
from tests.checker import FAIL, OK, Violation

AGAIN = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.ABORTED}
AGAIN_S = (0.05, 0.3)
ORDER_MAX = 200
"""Tickets that come back with their order."""
HOLD_MS = 4_000
REFUNDED = {
    sales_pb2.REFUND_OUTCOME_REFUNDED: "DONE",
    sales_pb2.REFUND_OUTCOME_ALREADY_USED: "ALREADY_USED",
    sales_pb2.REFUND_OUTCOME_NOT_ALLOWED: "NOT_ALLOWED",
}


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a guest has bought."""

    product: str
    token: bytes
    number: int


@dataclass(slots=True)
class Desk:
    """All windows of the park. `surprises` are answers that no window should ever hear."""

    park: Park
    chance: random.Random
    surprises: list[Violation] = field(default_factory=list)
    _sales: Any = None
    _control: Any = None
    _exit: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def __aenter__(self) -> Desk:
        self._sales = await self._exit.enter_async_context(self.park.stack.sales())
        self._control = await self._exit.enter_async_context(self.park.stack.control())
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._exit.aclose()

    # Sales

    async def sell(self, product: str, count: int, day: date) -> list[Ticket]:
        """Tickets over the counter, for cash; none if it is sold out."""
        line = sales_pb2.OrderLine(product_id=product, concession="adult", count=count, visit_date=day.isoformat())
        request = sales_pb2.SellTicketsRequest(
            request_id=os.urandom(16),
            lines=[line],
            channel="kiosk",
            window_id="k1",
            method=sales_pb2.PAYMENT_METHOD_CASH,
        )
        sold = await self._until_answered(lambda: self._sales.SellTickets(request, timeout=10))
        return self._issued(sold.tickets) if sold is not None else []

    async def order(self, product: str, day: date) -> list[Ticket]:
        """The same in two steps, with the guest's purse between them."""
        line = sales_pb2.OrderLine(product_id=product, concession="adult", count=1, visit_date=day.isoformat())
        create = sales_pb2.CreateOrderRequest(request_id=os.urandom(16), lines=[line], channel="kiosk", window_id="k2")
        created = await self._until_answered(lambda: self._sales.CreateOrder(create, timeout=10))
        if created is None:
            return []
        pay = sales_pb2.PayOrderRequest(
            request_id=os.urandom(16),
            order_id=created.order.order_id,
            method=sales_pb2.PAYMENT_METHOD_CASH,
            tendered_minor=created.order.total_minor,
        )
        paid = await self._until_answered(lambda: self._sales.PayOrder(pay, timeout=20))
        return self._issued(paid.tickets) if paid is not None else []

    def _issued(self, tickets: Any) -> list[Ticket]:
        for ticket in tickets:
            product = self.park.products[ticket.product_id]
            terms = {"entries": product.entries, "party": product.persons, "daily_entries": product.daily_entries}
            sold = {"ticket": ticket.ticket_id, "product": ticket.product_id, "price_minor": ticket.price_minor}
            self.park.history.note("issue", "sales", now_ms(), sold | terms)
        return [Ticket(ticket.product_id, ticket.token, ticket.ticket_id) for ticket in tickets]

    async def stock(self, product: str, count: int) -> list[Ticket]:
        """Many tickets for today, in orders as large as they may be."""
        whole, rest = divmod(count, ORDER_MAX)
        sizes = [ORDER_MAX] * whole + ([rest] if rest else [])
        return [ticket for size in sizes for ticket in await self.sell(product, size, self.park.today)]

    async def refund(self, ticket: Ticket) -> None:
        """Money back: the owner is asked whether the ticket was used. PENDING is no answer yet."""
        request_id = os.urandom(16)
        asked = {"ticket": ticket.number, "request_id": request_id.hex()}
        operation = self.park.history.invoke("refund", "desk", now_ms(), **asked)
        request = sales_pb2.RefundTicketsRequest(
            request_id=request_id, ticket_ids=[ticket.number], reason=sales_pb2.REFUND_REASON_GUEST_WISH
        )
        while True:
            answer = await self._until_answered(lambda: self._sales.RefundTickets(request, timeout=10))
            if answer is None:
                return
            outcome = answer.results[0].outcome
            if outcome != sales_pb2.REFUND_OUTCOME_PENDING:
                operation.complete(now_ms(), OK, changed=REFUNDED[outcome])
                return
            await asyncio.sleep(self.chance.uniform(*AGAIN_S))

    # Holds, asked for as sales do

    async def hold(self, think_s: float) -> str:
        """A hold is placed, pinned when the guest pays, and confirmed or released."""
        hold_id, quota = os.urandom(16), self.park.hold_quota(self.park.trials)
        line = control_pb2.LimitedLine(quota_key=quota, units=1, limit=HOLD_LIMIT)
        placed = control_pb2.PlaceHoldRequest(
            hold_id=hold_id, lines=[line], time_to_live_ms=HOLD_MS, catalogue_version=1
        )
        state = await self._hold("place", hold_id, lambda: self._control.PlaceHold(placed, timeout=5))
        if state != "DONE":
            return state
        await asyncio.sleep(think_s)
        named = control_pb2.HoldRequest(hold_id=hold_id)
        state = await self._hold("pin", hold_id, lambda: self._control.PinHold(named, timeout=5))
        if state != "DONE":
            return state
        if think_s and self.chance.random() < 0.2:
            return await self._hold("release", hold_id, lambda: self._control.ReleaseHold(named, timeout=5))
        return await self._hold("confirm", hold_id, lambda: self._control.ConfirmHold(named, timeout=5))

    async def _hold(self, step: str, hold_id: bytes, call: Callable[[], Awaitable[Any]]) -> str:
        asked = {"hold_id": hold_id.hex(), "quota": self.park.hold_quota(self.park.trials), "units": 1, "step": step}
        operation = self.park.history.invoke("hold", "window", now_ms(), **asked)
        answer = await self._until_answered(call)
        if answer is None:
            return "UNANSWERED"
        state = control_pb2.HoldOutcome.Name(answer.outcome).removeprefix("HOLD_OUTCOME_")
        operation.complete(now_ms(), OK if state == "DONE" else FAIL, state=state)
        return state

    async def wait_confirmed(self, quota: str) -> None:
        """Waits until nothing of a quota is only held: confirming a sale follows from the sales' outbox."""
        request = control_pb2.GetQuotasRequest(quota_keys=[quota])
        while True:
            answer = await self._until_answered(lambda: self._control.GetQuotas(request, timeout=5))
            if answer is None or not (answer.quotas[0].held or answer.quotas[0].pinned):
                return
            await asyncio.sleep(0.1)

    async def _until_answered(self, call: Callable[[], Awaitable[Any]]) -> Any:
        """The answer; None: there is no more of it, or it was one that no window should be told, which is a surprise.
        The trial's end bounds how long it is asked."""
        while True:
            try:
                return await call()
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
                    return None
                if error.code() not in AGAIN:
                    said = f"{error.code().name}: {error.details()}"
                    self.surprises.append(Violation("I8", "a window", "was told what no window should be told", said))
                    return None
            await asyncio.sleep(self.chance.uniform(*AGAIN_S))
