"""Between the wire's messages and the core's values and rows. Checks form only; rules are the core's."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from parkgate.sales.v1 import sales_pb2 as pb
from ticketcore.document_node import to_date
from ticketcore.errors import InvalidInputError, InvalidInputsError
from ticketcore.lines import OrderLine, PricedLine

ORDER_STATES = {
    "held": pb.ORDER_STATE_HELD,
    "paying": pb.ORDER_STATE_PAYING,
    "paid": pb.ORDER_STATE_PAID,
    "issued": pb.ORDER_STATE_ISSUED,
    "canceled": pb.ORDER_STATE_CANCELED,
    "lapsed": pb.ORDER_STATE_LAPSED,
    "partly_refunded": pb.ORDER_STATE_PARTLY_REFUNDED,
    "refunded": pb.ORDER_STATE_REFUNDED,
}
STATE_NAMES = {number: name for name, number in ORDER_STATES.items()}
LIFECYCLES = {
    "active": pb.TICKET_LIFECYCLE_ACTIVE,
    "voiding": pb.TICKET_LIFECYCLE_VOIDING,
    "refunded": pb.TICKET_LIFECYCLE_REFUNDED,
    "rescheduled": pb.TICKET_LIFECYCLE_RESCHEDULED,
}
METHODS = {
    "cash": pb.PAYMENT_METHOD_CASH,
    "provider": pb.PAYMENT_METHOD_PROVIDER,
    "agency": pb.PAYMENT_METHOD_AGENCY,
}


def check_texts(request: Message) -> None:
    """Refuses a request with the character NUL in a text. Postgres keeps no such text, and many calls share one
    transaction: it would be everybody's error.

    Raises:
        InvalidInputError: names the field.
    """
    if b"\0" in request.SerializeToString():  # else there is nothing to look for; most requests are let go here
        _check_texts(request, "")


def _check_texts(message: Message, path: str) -> None:
    for field, value in message.ListFields():
        values = value if field.is_repeated else [value]
        if field.type == FieldDescriptor.TYPE_STRING and any("\0" in text for text in values):
            raise InvalidInputError(f"{path}{field.name}: holds the character NUL")
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            for inner in values:
                _check_texts(inner, f"{path}{field.name}.")


def milliseconds(instant: datetime | None) -> int:
    """An instant as the wire has it; 0 for none."""
    return 0 if instant is None else round(instant.timestamp() * 1000)


def parse_date(text: str, where: str) -> date:
    """A civil day.

    Raises:
        InvalidInputError: names the field.
    """
    try:
        return to_date(text)
    except InvalidInputError as error:
        raise InvalidInputError(f"{where}: {error}") from error


def order_lines(lines: Iterable[pb.OrderLine]) -> tuple[OrderLine, ...]:
    """The lines of a request.

    Raises:
        InvalidInputsError: with every date that is none.
    """
    problems: list[str] = []
    result = []
    for index, line in enumerate(lines):
        try:
            day = parse_date(line.visit_date, f"lines[{index}].visit_date")
        except InvalidInputError as error:
            problems.append(str(error))
        else:
            result.append(OrderLine(line.product_id, line.concession, line.count, day, line.slot))
    if problems:
        raise InvalidInputsError("order", problems)
    return tuple(result)


def priced_line(priced: PricedLine) -> pb.PricedLine:
    """A priced line for the wire."""
    line = priced.line
    return pb.PricedLine(
        line=pb.OrderLine(
            product_id=line.product_id,
            concession=line.concession,
            count=line.count,
            visit_date=line.visit_date.isoformat(),
            slot=line.slot,
        ),
        unit_price_minor=priced.unit_price_minor,
        free_count=priced.free_count,
        total_minor=priced.total_minor,
        bundle_id=priced.bundle_id,
    )


def line_record(priced: PricedLine) -> list[Any]:
    """A priced line as the books keep it."""
    line = priced.line
    return [
        line.product_id,
        line.concession,
        line.count,
        line.visit_date.isoformat(),
        line.slot,
        priced.product_number,
        priced.unit_price_minor,
        priced.free_count,
        priced.bundle_id,
        priced.first_bundle,
    ]


def line_of_record(record: list[Any]) -> PricedLine:
    """The priced line in the books; before there were bundles it ended with the free count."""
    product_id, concession, count, day, slot, *priced = record
    return PricedLine(OrderLine(product_id, concession, count, date.fromisoformat(day), slot), *priced)


def order_message(row: Any, provider_url: str = "") -> pb.Order:
    """An order's row for the wire."""
    message = pb.Order(
        order_id=row.id,
        state=ORDER_STATES[row.state],
        lines=[priced_line(line_of_record(record)) for record in row.lines],
        total_minor=row.total_minor,
        currency=row.currency,
        channel=row.channel,
        window_id=row.window_id,
        catalogue_version=row.catalogue_version,
        create_time_ms=milliseconds(row.create_time),
        hold_lapse_time_ms=milliseconds(row.hold_lapse_time),
        pay_time_ms=milliseconds(row.pay_time),
        refunded_minor=row.refunded_minor,
    )
    if row.payment_method is not None:
        message.payment_method = METHODS[row.payment_method]
    if row.state == "paying" and provider_url:
        message.payment_url = payment_url(provider_url, row.payment_id)
    return message


def payment_url(provider_url: str, payment_id: bytes) -> str:
    """Where the guest pays."""
    return f"{provider_url}/pay/{payment_id.hex()}"


def ticket_message(row: Any) -> pb.Ticket:
    """A ticket's row for the wire."""
    return pb.Ticket(
        ticket_id=row.id,
        order_id=row.order_id,
        product_number=row.product_number,
        product_id=row.product_id,
        concession=row.concession,
        visit_date=row.visit_date.isoformat(),
        slot=row.slot,
        persons=row.persons,
        price_minor=row.price_minor,
        lifecycle=LIFECYCLES[row.lifecycle],
        token=row.token,
        replaced_by_ticket_id=row.replaced_by_ticket_id or 0,
        replaces_ticket_id=row.replaces_ticket_id or 0,
        bundle_id=row.bundle_id,
        bundle_number=row.bundle_number,
    )
