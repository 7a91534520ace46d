"""Counters for Prometheus. They are this process's; the books are in Postgres."""

from prometheus_client import Counter, Histogram

CALLS = Counter("parkgate_sales_calls_total", "Calls answered, by method and status.", ["method", "status"])
SECONDS = Histogram("parkgate_sales_call_seconds", "How long calls took.", ["method"])
TICKETS_ISSUED = Counter("parkgate_sales_tickets_issued_total", "Tickets issued.")
VOIDS_SETTLED = Counter("parkgate_sales_voids_settled_total", "Refunds and reschedules settled.", ["kind", "state"])
OUTBOX_SENT = Counter("parkgate_sales_outbox_sent_total", "Outbox rows acknowledged.")
OUTBOX_REFUSED = Counter("parkgate_sales_outbox_refused_total", "Outbox rows refused: operations must look.")
PAYMENTS_ASKED = Counter("parkgate_sales_payments_asked_total", "Payments asked for, by what came of it.", ["effect"])
WEBHOOKS = Counter("parkgate_sales_webhooks_total", "Webhooks received, by effect.", ["effect"])
