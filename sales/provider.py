"""What sales tells the payment provider: intents to take money, and refunds. Both may be repeated: they carry ids."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from sales import http, signatures
from sales.config import SalesConfig
from ticketcore.errors import UnavailableError


def intent(payment_id: bytes, order_id: int, amount_minor: int, currency: str) -> bytes:
    """Asks the provider to take a payment."""
    return _body(payment_id=payment_id.hex(), order_id=order_id, amount_minor=amount_minor, currency=currency)


def money_back(refund_id: bytes, payment_id: bytes, amount_minor: int, currency: str) -> bytes:
    """Asks the provider to pay back some or all of a payment."""
    return _body(refund_id=refund_id.hex(), payment_id=payment_id.hex(), amount_minor=amount_minor, currency=currency)


def _body(**values: Any) -> bytes:
    return json.dumps(values, sort_keys=True, separators=(",", ":")).encode()


async def post(config: SalesConfig, path: str, body: bytes) -> None:
    """Sends a signed body.

    Raises:
        UnavailableError: the provider did not accept it; send it again.
    """
    # The clock is read here because nothing is decided by it: a retry hours later is signed anew.
    headers = {signatures.HEADER: signatures.sign(config.webhook_secret, body, datetime.now(UTC))}
    status = await http.post(config.provider_url + path, body, headers)
    if status not in {200, 202}:
        raise UnavailableError(f"the payment provider answered {status} to {path}")
