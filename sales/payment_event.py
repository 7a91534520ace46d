"""What the payment provider tells of a payment, by webhook or when it is asked: one format, one reader."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime

from ticketcore.errors import InvalidInputError

KINDS = frozenset({"captured", "failed"})


@dataclass(frozen=True, slots=True)
class PaymentEvent:
    """What the provider told. `kind` is "captured" or "failed"."""

    event_id: str
    kind: str
    payment_id: bytes
    amount_minor: int
    currency: str
    event_time: datetime


def parse_event(body: bytes) -> PaymentEvent:
    """The event in a body.

    Raises:
        InvalidInputError: it is none.
    """
    try:
        values = json.loads(body)
        event = PaymentEvent(
            event_id=values["event_id"],
            kind=values["kind"],
            payment_id=bytes.fromhex(values["payment_id"]),
            amount_minor=values["amount_minor"],
            currency=values["currency"],
            event_time=datetime.fromtimestamp(values["time_ms"] / 1000, UTC),
        )
    except (ValueError, KeyError, TypeError, OverflowError, OSError, RecursionError) as error:
        raise InvalidInputError(f"the body is no payment event: {error!r}") from error
    well_typed = isinstance(event.event_id, str) and type(event.amount_minor) is int and isinstance(event.currency, str)
    if not well_typed or event.kind not in KINDS or not _can_be_kept(event.event_id):
        raise InvalidInputError("the body is no payment event")
    return event


def _can_be_kept(event_id: str) -> bool:
    """Postgres keeps neither zero bytes nor halves of characters, and JSON can hold both."""
    return (
        1 <= len(event_id) <= 200 and "\0" not in event_id and not any("\ud800" <= one <= "\udfff" for one in event_id)
    )
