"""Tickets are refunded: the rules say what is paid back, the owner says whether it may be, then the money is booked."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from parkgate.sales.v1 import sales_pb2 as pb
from sales.context import Sales
from sales.database import Database
from sales.errors import DuplicateRequestError
from sales.identity import Caller
from sales.requests import RequestKey, complete, find, key_of, remember
from sales.rows import insert_rows
from sales.tables import tickets, voids
from sales.usecases.issue import derive
from sales.usecases.quote_refunds import bundle_of, quote_message, quotes_of, reason_of
from sales.usecases.settle_voids import settle
from sales.usecases.voids import check_ids, load_tickets, rows_of_request
from ticketcore.errors import TransientError
from ticketcore.refunds import RefundQuote

FIRST_RETRY = timedelta(seconds=2)
"""The caller's own try comes first; the sweep takes over after this."""
OUTCOMES = {
    "requested": pb.REFUND_OUTCOME_PENDING,
    "done": pb.REFUND_OUTCOME_REFUNDED,
    "already_used": pb.REFUND_OUTCOME_ALREADY_USED,
    "not_allowed": pb.REFUND_OUTCOME_NOT_ALLOWED,
}


async def refund_tickets(sales: Sales, caller: Caller, request: pb.RefundTicketsRequest) -> pb.RefundTicketsResponse:
    """Refunds tickets, each on its own, and bundles as a whole.

    What the cluster does not answer now is PENDING, and settled later by itself.

    The answer is final, and stored, when nothing is PENDING; until then the same request looks again.
    """
    check_ids(request.ticket_ids)
    key = key_of(caller, request)
    response = pb.RefundTicketsResponse()
    if await find(sales.books, key, response):
        return response
    rows = await rows_of_request(sales, key.request_id)
    if not rows:
        rows = await _request(sales, caller, key, request)
        sales.seam("refund.requested")
    with suppress(TransientError):  # PENDING: the rows are kept, and the sweep asks until it is answered
        await settle(sales, [row for row in rows if row.state == "requested"])
    rows = await rows_of_request(sales, key.request_id)
    response = _answer(rows)
    if all(row.state != "requested" for row in rows):
        await _finish(sales.database, key, response)
    return response


async def _request(sales: Sales, caller: Caller, key: RequestKey, request: pb.RefundTicketsRequest) -> Sequence[Any]:
    now = sales.clock()
    reason = reason_of(caller, request.reason)
    try:
        async with sales.database.transaction() as connection:
            await remember(connection, key, None, now)
            found = await load_tickets(connection, request.ticket_ids, lock=True)
            quotes = await quotes_of(sales, found, reason)
            rows = [
                void_row(key, position, found[ticket_id], quotes[ticket_id])
                | {
                    "kind": "refund",
                    "reason": reason.value,
                    "window_id": caller.own_window or found[ticket_id].window_id,
                    "request_time": now,
                    "next_attempt_time": now + FIRST_RETRY,
                    "settle_time": None if not quotes[ticket_id].refusal else now,
                }
                for position, ticket_id in enumerate(request.ticket_ids)
            ]
            await insert_rows(connection, voids, rows)
            voiding = [row["ticket_id"] for row in rows if row["state"] == "requested"]
            await connection.execute(sa.update(tickets).where(tickets.c.id.in_(voiding)).values(lifecycle="voiding"))
    except DuplicateRequestError:
        pass  # the same call, at the same time, elsewhere: its rows are ours
    return await rows_of_request(sales, key.request_id)


def void_row(key: RequestKey, position: int, ticket: Any, quote: RefundQuote) -> dict[str, Any]:
    """What the rows of refunds and reschedules have in common."""
    return {
        "id": derive(b"void", key.request_id + key.body_hash + position.to_bytes(4, "big")),
        "request_id": key.request_id,
        "position": position,
        "ticket_id": ticket.id,
        "bundle": bundle_of(ticket),
        "decision": "",
        "state": "not_allowed" if quote.refusal else "requested",
        "refusal": quote.refusal,
        "price_minor": ticket.price_minor,
        "fee_minor": quote.fee_minor,
        "refund_minor": quote.refund_minor,
        "catalogue_version": ticket.catalogue_version,
        "cash_minor": 0,
        "difference_minor": 0,
        "attempts": 0,
    }


def _answer(rows: Sequence[Any]) -> pb.RefundTicketsResponse:
    return pb.RefundTicketsResponse(
        results=[
            pb.RefundResult(
                ticket_id=row.ticket_id,
                outcome=OUTCOMES[row.state],
                quote=quote_message(row.ticket_id, RefundQuote(row.price_minor, row.fee_minor, row.refusal)),
            )
            for row in rows
        ],
        total_refund_minor=sum(row.refund_minor for row in rows if row.state == "done"),
    )


async def _finish(database: Database, key: RequestKey, response: pb.RefundTicketsResponse) -> None:
    async with database.transaction() as connection:
        await complete(connection, key, response)
