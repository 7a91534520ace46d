"""A sales window's calls of the sales service: for `parkgate sell` and `refund`, and for the demo. Decides nothing.

Every call that changes something carries a request_id that is made once, so that repeating it is harmless: what is
UNAVAILABLE is asked again until the patience ends.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ops.errors import BadInput, OpsError
from parkgate.sales.v1 import sales_pb2 as pb

if TYPE_CHECKING:
    import grpc

    from parkgate.sales.v1.sales_pb2_grpc import SalesServiceAsyncStub
    from ticketcore.catalogue import Catalogue

PATIENCE_S = 15.0
"""How long a part that is away is asked again, and a payment is waited for: a restart of sales takes some seconds."""
RETRY_S = 0.1
PAGE = 500
OPTIONS = {"product_id": "product", "visit_date": "date"}
"""Fields of an order line, as the person at the keyboard knows them."""


class Pay(StrEnum):
    """How an order is paid."""

    CASH = "cash"
    PROVIDER = "provider"


@dataclass(frozen=True, slots=True)
class Sale:
    """An order that was paid, and its tickets with their images."""

    order: pb.Order
    tickets: tuple[pb.Ticket, ...]
    change_minor: int


class SoldOut(OpsError):
    """Not enough places are left; the message says how many are."""


class Window:
    """A window with its connection. `channel` is where it sells: "window", "kiosk". `draws_codes`: whether tickets come
    with the PNG of their codes; false for those who print them otherwise."""

    def __init__(self, window_id: str, stub: SalesServiceAsyncStub, channel: str = "window") -> None:
        self.id = window_id
        self.channel = channel
        self.draws_codes = True
        self._stub = stub

    async def order(self, lines: Sequence[pb.OrderLine]) -> pb.Order:
        """Prices lines and holds their quota. Raises: SoldOut, BadInput."""
        request = pb.CreateOrderRequest(request_id=new_id(), lines=lines, channel=self.channel, window_id=self.id)
        answer: pb.CreateOrderResponse = await self.call("CreateOrder", request)
        return answer.order

    async def pay(self, order: pb.Order, how: Pay, tendered_minor: int = 0) -> Sale:
        """Pays an order and answers its tickets. Cash: `tendered_minor` 0 is the exact sum."""
        if how is Pay.CASH:
            tendered = tendered_minor or order.total_minor
            request = pb.PayOrderRequest(
                request_id=new_id(), order_id=order.order_id, method=pb.PAYMENT_METHOD_CASH, tendered_minor=tendered
            )
            paid = await self.call("PayOrder", request)
            return Sale(paid.order, await self.tickets(order.order_id), paid.change_minor)
        request = pb.PayOrderRequest(request_id=new_id(), order_id=order.order_id, method=pb.PAYMENT_METHOD_PROVIDER)
        await self.call("PayOrder", request)
        return Sale(await self._issued(order.order_id), await self.tickets(order.order_id), 0)

    async def read(self, order_id: int) -> pb.Order:
        """An order. Raises: BadInput for one that this window has not."""
        answer: pb.GetOrderResponse = await self.call("GetOrder", pb.GetOrderRequest(order_id=order_id))
        return answer.order

    async def cancel(self, order: pb.Order) -> None:
        """Gives an unpaid order up, and its quota back."""
        await self.call("CancelOrder", pb.CancelOrderRequest(request_id=new_id(), order_id=order.order_id))

    async def sell(self, lines: Sequence[pb.OrderLine], how: Pay = Pay.CASH) -> Sale:
        """Orders and pays; for cash in one call, as at the counter."""
        if how is Pay.CASH:
            return await self._sell_for_cash(lines)
        return await self.pay(await self.order(lines), how)

    async def _sell_for_cash(self, lines: Sequence[pb.OrderLine]) -> Sale:
        request = pb.SellTicketsRequest(
            request_id=new_id(),
            lines=lines,
            channel=self.channel,
            window_id=self.id,
            method=pb.PAYMENT_METHOD_CASH,
        )
        sold = await self.call("SellTickets", request)
        return Sale(sold.order, await self.tickets(sold.order.order_id), sold.change_minor)

    async def tickets(self, order_id: int) -> tuple[pb.Ticket, ...]:
        """All tickets of an order."""
        found: list[pb.Ticket] = []
        token = ""
        while True:
            request = pb.ListTicketsRequest(
                order_id=order_id, page_size=PAGE, page_token=token, include_qr_png=self.draws_codes
            )
            page = await self.call("ListTickets", request)
            found += page.tickets
            token = page.next_page_token
            if not token:
                return tuple(found)

    async def quote_refund(self, ticket_ids: Sequence[int]) -> pb.QuoteRefundResponse:
        """What a refund would pay."""
        answer: pb.QuoteRefundResponse = await self.call("QuoteRefund", pb.QuoteRefundRequest(ticket_ids=ticket_ids))
        return answer

    async def refund(self, ticket_ids: Sequence[int]) -> pb.RefundTicketsResponse:
        """Refunds tickets; asks again while one is pending, within the patience."""
        request = pb.RefundTicketsRequest(request_id=new_id(), ticket_ids=ticket_ids)
        deadline = time.monotonic() + PATIENCE_S
        while True:
            answer: pb.RefundTicketsResponse = await self.call("RefundTickets", request)
            pending = any(result.outcome == pb.REFUND_OUTCOME_PENDING for result in answer.results)
            if not pending or time.monotonic() > deadline:
                return answer
            await asyncio.sleep(RETRY_S)

    async def quote_reschedule(self, ticket_id: int, visit_date: str, slot: int = 0) -> pb.QuoteRescheduleResponse:
        """What moving a ticket would cost, or pay back."""
        request = pb.QuoteRescheduleRequest(ticket_id=ticket_id, visit_date=visit_date, slot=slot)
        answer: pb.QuoteRescheduleResponse = await self.call("QuoteReschedule", request)
        return answer

    async def reschedule(
        self, ticket_id: int, visit_date: str, slot: int = 0, agreed_minor: int = 0
    ) -> pb.RescheduleTicketResponse:
        """Moves a ticket at the agreed difference; the new one comes without an image, ask `ticket` for it."""
        request = pb.RescheduleTicketRequest(
            request_id=new_id(),
            ticket_id=ticket_id,
            visit_date=visit_date,
            slot=slot,
            agreed_difference_minor=agreed_minor,
        )
        answer: pb.RescheduleTicketResponse = await self.call("RescheduleTicket", request)
        return answer

    async def ticket(self, ticket_id: int) -> pb.Ticket:
        """A ticket with the PNG of its code."""
        request = pb.GetTicketRequest(ticket_id=ticket_id, include_qr_png=True)
        answer: pb.GetTicketResponse = await self.call("GetTicket", request)
        return answer.ticket

    async def catalogue(self) -> Catalogue:
        """The catalogue in force."""
        from ticketcore.catalogue_document import read_catalogue

        answer: pb.GetCatalogueResponse = await self.call("GetCatalogue", pb.GetCatalogueRequest())
        return read_catalogue(answer.document)

    async def open_shift(self, operator: str, float_minor: int) -> pb.Shift:
        """Begins a shift."""
        request = pb.OpenShiftRequest(
            request_id=new_id(), window_id=self.id, operator=operator, float_minor=float_minor
        )
        answer: pb.OpenShiftResponse = await self.call("OpenShift", request)
        return answer.shift

    async def close_shift(self, shift_id: int, counted_minor: int) -> pb.Shift:
        """Ends a shift."""
        request = pb.CloseShiftRequest(request_id=new_id(), shift_id=shift_id, counted_minor=counted_minor)
        answer: pb.CloseShiftResponse = await self.call("CloseShift", request)
        return answer.shift

    async def call(self, method: str, request: Any) -> Any:
        """One call of the service, repeated while it is unavailable. Raises: OpsError, by what can be done."""
        import grpc

        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                return await getattr(self._stub, method)(request)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE or time.monotonic() > deadline:
                    raise refused(error) from error
            await asyncio.sleep(RETRY_S)

    async def _issued(self, order_id: int) -> pb.Order:
        """The order once the provider's webhook has come."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            order = await self.read(order_id)
            if order.state == pb.ORDER_STATE_ISSUED:
                return order
            await asyncio.sleep(RETRY_S)
        raise OpsError(
            f"The payment of order {order_id} was not confirmed within {PATIENCE_S:g} s.",
            "It is issued by itself once the provider answers.",
        )


@asynccontextmanager
async def open_window(folder: Path, port: int, window_id: str, channel: str = "window") -> AsyncIterator[Window]:
    """A window that talks to the sales service of this machine with the certificate in `folder`."""
    from parkgate.sales.v1.sales_pb2_grpc import SalesServiceStub

    async with _channel(folder, window_id, port) as connection:
        yield Window(window_id, SalesServiceStub(connection), channel)


def _channel(folder: Path, name: str, port: int) -> grpc.aio.Channel:
    import grpc

    ca, key, certificate = ((folder / file).read_bytes() for file in ("ca.pem", f"{name}.key", f"{name}.pem"))
    return grpc.aio.secure_channel(f"localhost:{port}", grpc.ssl_channel_credentials(ca, key, certificate))


def money(minor: int, digits: int) -> str:
    """An amount as people write it: 1,234.50."""
    whole, part = divmod(abs(minor), 10**digits)
    return f"{'-' if minor < 0 else ''}{whole:,}" + (f".{part:0{digits}d}" if digits else "")


def new_id() -> bytes:
    """A request_id."""
    return secrets.token_bytes(16)


def refused(error: grpc.aio.AioRpcError) -> OpsError:
    """The service's answer as an error of a command."""
    import grpc

    code, text = error.code(), (error.details() or "").strip()
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return SoldOut(f"Sold out: {text}.", "Ask for fewer, or for another date or slot.")
    if code is grpc.StatusCode.UNAVAILABLE:
        return OpsError(
            f"The sales service does not answer: {text or code.name}.", "`parkgate status` shows what runs."
        )
    if code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.FAILED_PRECONDITION):
        return BadInput(_one_line(text).removesuffix(".") + ".")
    return OpsError(f"{code.name}: {text}")


def _one_line(text: str) -> str:
    """The service lists problems line by line, with paths of its message: in words for a person's screen."""
    problems = [line.strip().removeprefix("- ") for line in text.splitlines() if line.strip().startswith("- ")]
    plain = [problem.rpartition("].")[2] if problem.startswith("lines[") else problem for problem in problems]
    for field, option in OPTIONS.items():
        plain = [problem.replace(f"{field}: ", f"{option}: ", 1) for problem in plain]
    return "; ".join(plain) or text
