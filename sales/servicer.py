"""SalesService: who calls, which use case, which status. No rule lives here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import grpc.aio
from google.protobuf.message import Message

from parkgate.sales.v1 import sales_pb2 as pb
from parkgate.sales.v1.sales_pb2_grpc import SalesServiceServicer
from sales import metrics
from sales.context import Sales
from sales.identity import LOCAL, Caller, caller_of, check_not_revoked
from sales.status import status_of
from sales.usecases.cancel_order import cancel_order
from sales.usecases.create_order import create_order, quote_order
from sales.usecases.pay_order import pay_order
from sales.usecases.publish_catalogue import publish_catalogue
from sales.usecases.quote_refunds import quote_refunds
from sales.usecases.read_catalogue import get_catalogue
from sales.usecases.read_orders import get_order, list_orders
from sales.usecases.read_tickets import get_ticket, list_tickets
from sales.usecases.reconcile import reconcile
from sales.usecases.refund_tickets import refund_tickets
from sales.usecases.reschedule_ticket import quote_reschedule, reschedule_ticket
from sales.usecases.sell_tickets import sell_tickets
from sales.usecases.shifts import close_shift, open_shift
from sales.wire import check_texts
from ticketcore.errors import UnavailableError, UnknownOutcomeError

Q = TypeVar("Q", bound=Message)
A = TypeVar("A")
Context = grpc.aio.ServicerContext[Any, Any]
CALL_LIMIT_S = 8.0
"""Longer than a connection to a Postgres that is away, and than the largest group; windows wait some ten seconds."""
MAX_CALLS_UNDER_WAY = 1_000
"""Some seconds of selling on a small machine; and a bound on what waits in the batches behind it, and on memory."""
UseCase = Callable[[Sales, Caller, Q], Coroutine[Any, Any, A]]


class SalesServicer(SalesServiceServicer):
    """The service over the parts in `sales`."""

    def __init__(self, sales: Sales) -> None:
        self._sales = sales
        self._under_way: set[asyncio.Task[Any]] = set()

    async def _run(self, use_case: UseCase[Q, A], request: Q, context: Context) -> A:
        started = time.perf_counter()
        method = use_case.__name__
        status = "OK"
        try:
            caller = self._caller(context)
            check_texts(request)
            self._check_room()
            return await self._within_limit(use_case(self._sales, caller, request))
        except Exception as error:  # noqa: BLE001 - the boundary: whatever it is, the caller gets a status and no trace
            code, message, metadata = status_of(error)
            status = code.name
            await context.abort(code, message, metadata)
        finally:
            metrics.CALLS.labels(method, status).inc()
            metrics.SECONDS.labels(method).observe(time.perf_counter() - started)

    def _check_room(self) -> None:
        """Sheds at once what would only wait: nothing is done, and the window asks again with the same request_id.

        Raises:
            UnavailableError: as many calls are under way as may be.
        """
        if len(self._under_way) >= MAX_CALLS_UNDER_WAY:
            raise UnavailableError(
                f"{MAX_CALLS_UNDER_WAY} calls are under way: nothing was done, ask again shortly", 500
            )

    async def _within_limit(self, work: Coroutine[Any, Any, A]) -> A:
        """The answer, or an error once it takes too long: a Postgres that hangs answers nothing, not even a refusal.

        The work goes on: to cancel it, psycopg would wait for the same Postgres. Its outcome is found by asking again.
        """
        task = asyncio.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._forget)
        try:
            done, _ = await asyncio.wait({task}, timeout=CALL_LIMIT_S)
        except asyncio.CancelledError:
            task.cancel()
            raise
        if not done:
            raise UnknownOutcomeError(
                f"the database is away or slow: no answer within {CALL_LIMIT_S:.0f} s. Nothing is lost; ask again with "
                "the same request_id",
                2000,
            )
        return task.result()

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            task.exception()  # told to the caller, unless that one was told that its time was over

    def _caller(self, context: Context) -> Caller:
        if self._sales.config.tls is None:
            return LOCAL
        identity = context.auth_context()
        check_not_revoked(identity, self._sales.config.is_revoked)
        return caller_of(identity)

    async def PublishCatalogue(
        self, request: pb.PublishCatalogueRequest, context: Context
    ) -> pb.PublishCatalogueResponse:
        """See sales.proto, here and below."""
        return await self._run(publish_catalogue, request, context)

    async def GetCatalogue(self, request: pb.GetCatalogueRequest, context: Context) -> pb.GetCatalogueResponse:
        return await self._run(get_catalogue, request, context)

    async def QuoteOrder(self, request: pb.QuoteOrderRequest, context: Context) -> pb.QuoteOrderResponse:
        return await self._run(quote_order, request, context)

    async def CreateOrder(self, request: pb.CreateOrderRequest, context: Context) -> pb.CreateOrderResponse:
        return await self._run(create_order, request, context)

    async def PayOrder(self, request: pb.PayOrderRequest, context: Context) -> pb.PayOrderResponse:
        return await self._run(pay_order, request, context)

    async def SellTickets(self, request: pb.SellTicketsRequest, context: Context) -> pb.SellTicketsResponse:
        return await self._run(sell_tickets, request, context)

    async def GetOrder(self, request: pb.GetOrderRequest, context: Context) -> pb.GetOrderResponse:
        return await self._run(get_order, request, context)

    async def ListOrders(self, request: pb.ListOrdersRequest, context: Context) -> pb.ListOrdersResponse:
        return await self._run(list_orders, request, context)

    async def CancelOrder(self, request: pb.CancelOrderRequest, context: Context) -> pb.CancelOrderResponse:
        return await self._run(cancel_order, request, context)

    async def QuoteRefund(self, request: pb.QuoteRefundRequest, context: Context) -> pb.QuoteRefundResponse:
        return await self._run(quote_refunds, request, context)

    async def RefundTickets(self, request: pb.RefundTicketsRequest, context: Context) -> pb.RefundTicketsResponse:
        return await self._run(refund_tickets, request, context)

    async def QuoteReschedule(self, request: pb.QuoteRescheduleRequest, context: Context) -> pb.QuoteRescheduleResponse:
        return await self._run(quote_reschedule, request, context)

    async def RescheduleTicket(
        self, request: pb.RescheduleTicketRequest, context: Context
    ) -> pb.RescheduleTicketResponse:
        return await self._run(reschedule_ticket, request, context)

    async def GetTicket(self, request: pb.GetTicketRequest, context: Context) -> pb.GetTicketResponse:
        return await self._run(get_ticket, request, context)

    async def ListTickets(self, request: pb.ListTicketsRequest, context: Context) -> pb.ListTicketsResponse:
        return await self._run(list_tickets, request, context)

    async def OpenShift(self, request: pb.OpenShiftRequest, context: Context) -> pb.OpenShiftResponse:
        return await self._run(open_shift, request, context)

    async def CloseShift(self, request: pb.CloseShiftRequest, context: Context) -> pb.CloseShiftResponse:
        return await self._run(close_shift, request, context)

    async def Reconcile(self, request: pb.ReconcileRequest, context: Context) -> pb.ReconcileResponse:
        return await self._run(reconcile, request, context)
