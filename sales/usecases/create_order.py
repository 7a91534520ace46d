"""Lines are priced, and an order is made that holds their quota for a while."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from parkgate.cluster.v1 import control_pb2 as control
from parkgate.events.v1 import events_pb2 as events
from parkgate.sales.v1 import sales_pb2 as pb
from sales.books import Change
from sales.catalogues import Published
from sales.context import Sales, park_date
from sales.identity import Caller
from sales.requests import RequestKey, key_of, once
from sales.tables import orders
from sales.wire import line_record, milliseconds, order_lines, priced_line
from ticketcore.catalogue import Catalogue
from ticketcore.errors import ConflictError, InvalidInputError, SoldOutError
from ticketcore.orders import OrderState
from ticketcore.pricing import PricedLine, QuotaNeed, price_lines, quota_needs

MAX_WINDOW_ID = 64


async def quote_order(sales: Sales, caller: Caller, request: pb.QuoteOrderRequest) -> pb.QuoteOrderResponse:
    """What lines would cost now. Holds and writes nothing."""
    del caller
    published = await sales.catalogues.current()
    priced = _price(sales, published, request.lines, request.channel)
    return pb.QuoteOrderResponse(
        lines=[priced_line(line) for line in priced],
        total_minor=sum(line.total_minor for line in priced),
        currency=published.catalogue.venue.currency,
        catalogue_version=published.version,
    )


async def create_order(sales: Sales, caller: Caller, request: pb.CreateOrderRequest) -> pb.CreateOrderResponse:
    """Makes a HELD order.

    The hold is placed first, under an id that follows from the request: a retry after a crash finds the same hold, and
    one that nobody retries lapses.

    Raises:
        SoldOutError: a quota has too few units left (I4).
    """
    caller.check_sells_at(request.window_id)
    if len(request.window_id) > MAX_WINDOW_ID:
        raise InvalidInputError(f"window_id: has {len(request.window_id)} characters, at most {MAX_WINDOW_ID}")
    key = key_of(caller, request)
    return await once(sales.books, key, pb.CreateOrderResponse(), lambda: _create(sales, key, request))


def _price(sales: Sales, published: Published, lines: Sequence[pb.OrderLine], channel: str) -> tuple[PricedLine, ...]:
    today = park_date(published.catalogue.venue, sales.clock())
    return price_lines(published.catalogue, order_lines(lines), channel, today)


async def _create(sales: Sales, key: RequestKey, request: pb.CreateOrderRequest) -> pb.CreateOrderResponse:
    now = sales.clock()
    published = await sales.catalogues.current()
    priced = _price(sales, published, request.lines, request.channel)
    needs = quota_needs(published.catalogue, [line.line for line in priced])
    hold_id = key.derive("hold") if needs else None
    lapse_time = now + timedelta(milliseconds=sales.config.hold_time_to_live_ms)
    if hold_id is not None:
        lapse_time = await hold_units(sales, hold_id, needs, published)
        sales.seam("create.held")
    row: dict[str, Any] = {
        "id": (await sales.order_ids.take(1))[0],
        "state": OrderState.HELD.value,
        "channel": request.channel,
        "window_id": request.window_id,
        "catalogue_version": published.version,
        "currency": published.catalogue.venue.currency,
        "total_minor": sum(line.total_minor for line in priced),
        "ticket_count": sum(line.line.count for line in priced),
        "lines": json.dumps([line_record(line) for line in priced]),
        "hold_id": hold_id,
        "hold_lapse_time": lapse_time,
        "create_time": now,
    }
    response = pb.CreateOrderResponse(
        order=pb.Order(
            order_id=row["id"],
            state=pb.ORDER_STATE_HELD,
            lines=[priced_line(line) for line in priced],
            total_minor=row["total_minor"],
            currency=row["currency"],
            channel=request.channel,
            window_id=request.window_id,
            catalogue_version=published.version,
            create_time_ms=milliseconds(now),
            hold_lapse_time_ms=milliseconds(lapse_time),
        )
    )
    await sales.books.commit(Change(key, response, now, {orders: [row]}))
    return response


async def hold_units(sales: Sales, hold_id: bytes, needs: Sequence[QuotaNeed], published: Published) -> datetime:
    """Holds units, all or none; returns when the hold lapses. Repeating it is harmless.

    Raises:
        SoldOutError: not enough units are left; says of what.
        ConflictError: the hold of an earlier try has lapsed since.
    """
    answer = await sales.cluster.place_hold(
        control.PlaceHoldRequest(
            hold_id=hold_id,
            lines=[control.LimitedLine(quota_key=n.quota_key, units=n.units, limit=n.limit) for n in needs],
            time_to_live_ms=sales.config.hold_time_to_live_ms,
            catalogue_version=published.version,
        )
    )
    if answer.outcome == control.HOLD_OUTCOME_SOLD_OUT:
        what = describe_quota(published.catalogue, answer.short_quota_key)
        raise SoldOutError(f"{what} has {answer.units_left} places left")
    live = {events.HOLD_STATE_HELD, events.HOLD_STATE_PINNED}
    if answer.outcome != control.HOLD_OUTCOME_DONE or answer.state not in live:
        raise ConflictError("this request came back after its hold had lapsed; make a new request")
    return datetime.fromtimestamp(answer.lapse_time_ms / 1000, tz=sales.clock().tzinfo)


def describe_quota(catalogue: Catalogue, quota_key: str) -> str:
    """A quota in words."""
    parts = dict(part.split("=", 1) for part in quota_key.split(";") if "=" in part)
    product = catalogue.product_by_number.get(int(parts.get("product", "0")))
    slot = f", slot {parts['slot']}" if "slot" in parts else ""
    return f"{product.name if product else quota_key} on {parts.get('date', '?')}{slot}"
