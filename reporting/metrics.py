"""What reporting tells Prometheus. Process-wide, as Prometheus wants it."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

LAG_ENTRIES = Gauge("parkgate_reporting_lag_entries", "Ledger entries not yet in Postgres.", ["partition"])
LAG_SECONDS = Gauge("parkgate_reporting_lag_seconds", "Age of the last entry when it was committed.", ["partition"])
DELAY_SECONDS = Histogram(
    "parkgate_reporting_delay_seconds",
    "Age of the oldest entry of a transaction when it was committed.",
    ["partition"],
    buckets=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.5, 2, 5, 10, 60, 600, 3_600),
)
EVENTS = Counter("parkgate_reporting_events", "Events written to Postgres.", ["partition"])
ENTRIES = Counter("parkgate_reporting_entries", "Ledger entries written to Postgres.", ["partition"])
HOLES = Counter("parkgate_reporting_holes", "Partitions stopped because the ledger is damaged.", ["partition"])
OUTAGES = Counter("parkgate_reporting_outages", "Times a worker had to wait for a server.", ["partition", "server"])
