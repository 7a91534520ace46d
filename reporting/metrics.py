"""What reporting tells Prometheus. Process-wide, as Prometheus wants it."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

LAG_ENTRIES = Gauge("parkgate_reporting_lag_entries", "Ledger entries not yet in Postgres.", ["partition"])
LAG_SECONDS = Gauge("parkgate_reporting_lag_seconds", "Age of the last entry when it was committed.", ["partition"])
EVENTS = Counter("parkgate_reporting_events", "Events written to Postgres.", ["partition"])
ENTRIES = Counter("parkgate_reporting_entries", "Ledger entries written to Postgres.", ["partition"])
HOLES = Counter("parkgate_reporting_holes", "Partitions stopped because the ledger is damaged.", ["partition"])
OUTAGES = Counter("parkgate_reporting_outages", "Times a worker had to wait for a server.", ["partition", "server"])
