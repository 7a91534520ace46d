"""The endpoint where the payment provider tells what became of a payment. The order decides."""

from __future__ import annotations

import logging

from sales import http, metrics, signatures
from sales.context import Sales
from sales.payment_event import parse_event
from sales.usecases.settle_payment import settle_payment
from ticketcore.errors import CallerError, NotPermittedError, TransientError

PATH = "/webhooks/payments"
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
