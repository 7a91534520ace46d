"""What refunds would pay: ticket by ticket, or a bundle as a whole.

The rules are the core's; whether a ticket was used, its owner is asked.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from parkgate.sales.v1 import sales_pb2 as pb
from sales.context import Sales, park_date
from sales.identity import Caller
from sales.usecases.voids import check_ids, load_tickets
from ticketcore.bundles import share_fee
from ticketcore.errors import InvalidInputError, TransientError
from ticketcore.refunds import RefundQuote, RefundReason, quote_refund

REASONS: dict[int, RefundReason] = {
    pb.REFUND_REASON_UNSPECIFIED: RefundReason.GUEST_WISH,
    pb.REFUND_REASON_GUEST_WISH: RefundReason.GUEST_WISH,
    pb.REFUND_REASON_WAIVED: RefundReason.WAIVED,
}
log = logging.getLogger(__name__)


async def quote_refunds(sales: Sales, caller: Caller, request: pb.QuoteRefundRequest) -> pb.QuoteRefundResponse:
    """What a refund would pay now. Asks the owners whether the tickets were used; only the refund itself settles it,
    since a ticket may be used a moment later. Writes nothing."""
    check_ids(request.ticket_ids)
    async with sales.database.reading() as connection:
        found = await load_tickets(connection, request.ticket_ids, lock=False)
    quotes = await quotes_of(sales, found, reason_of(caller, request.reason))
    used = await used_by_ticket(sales, [ticket_id for ticket_id in request.ticket_ids if not quotes[ticket_id].refusal])
    after = _after_use(found, quotes, used or {})
    messages = [quote_message(ticket_id, after[ticket_id]) for ticket_id in request.ticket_ids]
    for message in messages:
        message.use_unknown = used is None and not message.refusal
    return pb.QuoteRefundResponse(quotes=messages, total_refund_minor=sum(q.refund_minor for q in messages))


def reason_of(caller: Caller, number: int) -> RefundReason:
    """The reason asked for. A window refunds what any window sold, from its own till; only a service waives fees."""
    caller.check_sells_at(caller.own_window)
    reason = REASONS.get(number)
    if reason is None:
        raise InvalidInputError(f"reason: {number} is none of RefundReason")
    if reason is RefundReason.WAIVED:
        caller.check_is_service("waive the fees of a refund")
    return reason


def bundle_of(ticket: Any) -> str:
    """The bundle that a ticket is part of: order and number; empty for one that was sold on its own."""
    return f"{ticket.order_id}/{ticket.bundle_number}" if ticket.bundle_id else ""


async def quotes_of(sales: Sales, found: Mapping[int, Any], reason: RefundReason) -> dict[int, RefundQuote]:
    """What refunding these tickets pays, should they be unused."""
    quotes: dict[int, RefundQuote] = {}
    for together in _together(found):
        quotes.update(zip((ticket.id for ticket in together), await _quote(sales, together, reason), strict=True))
    return quotes


def _together(found: Mapping[int, Any]) -> list[list[Any]]:
    """Tickets that are refunded as a whole: those of each bundle, and each of the others alone."""
    groups: dict[str, list[Any]] = {}
    for ticket in found.values():
        groups.setdefault(bundle_of(ticket) or str(ticket.id), []).append(ticket)
    return list(groups.values())


async def _quote(sales: Sales, tickets: Sequence[Any], reason: RefundReason) -> list[RefundQuote]:
    first = tickets[0]
    catalogue = (await sales.catalogues.version(first.catalogue_version)).catalogue
    bundle = catalogue.bundles[first.bundle_id] if first.bundle_id else None
    inactive = [ticket for ticket in tickets if ticket.lifecycle != "active"]
    if inactive:
        return _refused(tickets, f"the ticket is {inactive[0].lifecycle}")
    if bundle is not None and len(tickets) != (whole := sum(part.count for part in bundle.parts)):
        return _refused(tickets, f"it is one of the {whole} tickets of {bundle.id!r}: refund all of them together")
    price, today = sum(ticket.price_minor for ticket in tickets), park_date(catalogue.venue, sales.clock())
    sold = bundle or catalogue.products[first.product_id]
    quote = quote_refund(sold, price, first.visit_date, today, reason)
    if quote.refusal:
        return _refused(tickets, quote.refusal)
    fees = share_fee(quote.fee_minor, [ticket.price_minor for ticket in tickets])
    return [RefundQuote(ticket.price_minor, fee) for ticket, fee in zip(tickets, fees, strict=True)]


def _refused(tickets: Sequence[Any], refusal: str) -> list[RefundQuote]:
    return [RefundQuote(ticket.price_minor, ticket.price_minor, refusal) for ticket in tickets]


def _after_use(
    found: Mapping[int, Any], quotes: Mapping[int, RefundQuote], used: Mapping[int, int]
) -> dict[int, RefundQuote]:
    """A used ticket is not refunded, and no other of its bundle."""
    after = dict(quotes)
    for together in _together(found):
        times = max(used.get(ticket.id, 0) for ticket in together)
        if times and not after[together[0].id].refusal:
            words = words_of_use(times) if len(together) == 1 else "a ticket of its bundle was used"
            after.update(zip((ticket.id for ticket in together), _refused(together, words), strict=True))
    return after


async def used_by_ticket(sales: Sales, ticket_ids: Sequence[int]) -> dict[int, int] | None:
    """How many person-entries the owners have counted, by ticket; None if they do not answer."""
    if not ticket_ids:
        return {}
    try:
        states = await sales.cluster.inspect_tickets(ticket_ids)
    except TransientError as error:
        log.info("quoted without the owners: %s", error)
        return None
    return {state.ticket_id: state.persons_admitted for state in states}


def words_of_use(persons_admitted: int) -> str:
    """Why a used ticket is neither refunded nor moved."""
    return "it was used once" if persons_admitted == 1 else f"it was used {persons_admitted} times"


def quote_message(ticket_id: int, quote: RefundQuote) -> pb.RefundQuote:
    """A quote for the wire."""
    return pb.RefundQuote(
        ticket_id=ticket_id,
        price_minor=quote.price_minor,
        fee_minor=quote.fee_minor,
        refund_minor=quote.refund_minor,
        refusal=quote.refusal,
    )
