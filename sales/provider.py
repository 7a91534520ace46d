"""What sales tells the payment provider (intents to take money, refunds) and asks it. All of it may be repeated."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from sales import http, signatures
from sales.config import SalesConfig
from sales.payment_event import PaymentEvent, parse_event
from ticketcore.errors import InvalidInputError, UnavailableError


def intent(payment_id: bytes, order_id: int, amount_minor: int, currency: str) -> bytes:
    """Asks the provider to take a payment."""
    return _body(payment_id=payment_id.hex(), order_id=order_id, amount_minor=amount_minor, currency=currency)


def money_back(refund_id: bytes, payment_id: bytes, amount_minor: int, currency: str) -> bytes:
    """Asks the provider to pay back some or all of a payment."""
    return _body(refund_id=refund_id.hex(), payment_id=payment_id.hex(), amount_minor=amount_minor, currency=currency)


def _body(**values: Any) -> bytes:
    return json.dumps(values, sort_keys=True, separators=(",", ":")).encode()


async def ask(config: SalesConfig, payment_id: bytes, now: datetime) -> PaymentEvent | None:
    """What became of a payment; None while the provider does not know either, or never heard of it.

    Raises:
        UnavailableError: it does not answer.
        NotPermittedError: the answer is not signed by it.
        InvalidInputError: the answer is no event, or of another payment.
    """
    body = _body(payment_id=payment_id.hex())
    headers = {signatures.HEADER: signatures.sign(config.webhook_secret, body, datetime.now(UTC))}
    answer = await http.post(config.provider_url + "/payments/ask", body, headers)
    if answer.status in {202, 404}:
        return None
    if answer.status != 200:
        raise UnavailableError(f"the payment provider answered {answer.status} when it was asked for a payment")
    signatures.check(config.webhook_secret, answer.body, answer.headers.get(signatures.HEADER, ""), now)
    event = parse_event(answer.body)
    if event.payment_id != payment_id:
        raise InvalidInputError(f"the provider was asked for payment {payment_id.hex()} and told of another")
    return event


async def post(config: SalesConfig, path: str, body: bytes) -> None:
    """Sends a signed body.

    Raises:
        UnavailableError: the provider did not accept it; send it again.
    """
    # The clock is read here because nothing is decided by it: a retry hours later is signed anew.
    headers = {signatures.HEADER: signatures.sign(config.webhook_secret, body, datetime.now(UTC))}
    status = (await http.post(config.provider_url + path, body, headers)).status
    if status not in {200, 202}:
        raise UnavailableError(f"the payment provider answered {status} to {path}")
