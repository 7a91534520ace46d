"""The endpoint where the payment provider tells what became of a payment. The order decides."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

from sales import http, metrics, signatures
from sales.context import Sales
from sales.usecases.settle_payment import PaymentEvent, settle_payment
from ticketcore.errors import CallerError, InvalidInputError, NotPermittedError, TransientError

PATH = "/webhooks/payments"
KINDS = frozenset({"captured", "failed"})
log = logging.getLogger(__name__)


def handler(sales: Sales) -> http.Handler:
    """Serves the endpoint. 200: recorded, do not send again; 503: send again."""

    async def handle(request: http.Request) -> http.Response:
        if (request.method, request.path) != ("POST", PATH):
            return http.Response(404)
        header = request.headers.get(signatures.HEADER, "")
        try:
            signatures.check(sales.config.webhook_secret, request.body, header, sales.clock())
            effect = await settle_payment(sales, parse_event(request.body))
        except NotPermittedError as error:
            metrics.WEBHOOKS.labels("refused").inc()
            log.warning("webhook refused: %s", error)
            return http.Response(401, str(error).encode())
        except TransientError as error:
            return http.Response(503, str(error).encode())
        except CallerError as error:
            metrics.WEBHOOKS.labels("invalid").inc()
            log.warning("webhook cannot be used: %s", error)
            return http.Response(400, str(error).encode())
        metrics.WEBHOOKS.labels(effect).inc()
        return http.Response(200, effect.encode())

    return handle


def parse_event(body: bytes) -> PaymentEvent:
    """The event in a webhook's body.

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
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise InvalidInputError(f"the webhook's body is no payment event: {error!r}") from error
    well_typed = isinstance(event.event_id, str) and type(event.amount_minor) is int and isinstance(event.currency, str)
    if not well_typed or event.kind not in KINDS or not 1 <= len(event.event_id) <= 200:
        raise InvalidInputError("the webhook's body is no payment event")
    return event
