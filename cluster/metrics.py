"""Prometheus metrics of the cluster's processes, read off the plain classes when scraped: free on the path
of a scan."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from cluster.gateway import Gateway
from cluster.owner import Owner
from cluster.quota_owner import QuotaOwner


class _OwnerCollector(Collector):
    def __init__(self, owner: Owner) -> None:
        self._owner = owner

    def collect(self) -> Iterator[Metric]:
        """Counters of the owner, gauges of its partitions."""
        counters = self._owner.counters
        yield CounterMetricFamily("parkgate_owner_scans", "Scans and passages decided.", value=counters.scans)
        yield CounterMetricFamily("parkgate_owner_turns", "Turns, one append each.", value=counters.turns)
        yield CounterMetricFamily("parkgate_owner_shed", "Scans answered RETRY for want of room.", value=counters.shed)
        yield CounterMetricFamily(
            "parkgate_owner_append_retries", "Appends repeated for an unknown outcome.", value=counters.append_retries
        )
        yield CounterMetricFamily(
            "parkgate_owner_fenced", "Partitions lost to a later owner.", value=len(counters.fenced)
        )
        yield GaugeMetricFamily(
            "parkgate_owner_damaged", "Partitions not served: their log is damaged.", value=len(counters.damaged)
        )
        tickets = GaugeMetricFamily("parkgate_partition_tickets", "Registered tickets.", labels=["partition"])
        awaited = GaugeMetricFamily(
            "parkgate_partition_passages_awaited", "Admissions whose passage is not settled.", labels=["partition"]
        )
        far_off = CounterMetricFamily(
            "parkgate_partition_far_off", "Scans refused for their time and not logged.", labels=["partition"]
        )
        inside = GaugeMetricFamily("parkgate_partition_inside", "Persons inside.", labels=["partition", "zone"])
        for partition in list(self._owner.owned.values()):
            tickets.add_metric([partition.name], len(partition.table))
            awaited.add_metric([partition.name], partition.awaited)
            far_off.add_metric([partition.name], partition.far_off)
            for zone_number, lease in list(partition.leases.items()):
                inside.add_metric([partition.name, str(zone_number)], lease.inside)
        yield tickets
        yield far_off
        yield awaited
        yield inside


class _QuotaCollector(Collector):
    def __init__(self, owner: QuotaOwner) -> None:
        self._owner = owner

    def collect(self) -> Iterator[Metric]:
        """Gauges of quotas and zones."""
        yield GaugeMetricFamily(
            "parkgate_owner_damaged",
            "Partitions not served: their log is damaged.",
            value=int(bool(self._owner.damage)),
        )
        units = GaugeMetricFamily("parkgate_quota_units", "Units of a quota by state.", labels=["quota", "state"])
        for key, counter in list(self._owner.state.book.counters.items()):
            for state in ("limit", "held", "pinned", "sold"):
                units.add_metric([key, state], getattr(counter, state))
        yield units
        leased = GaugeMetricFamily("parkgate_zone_leased", "Units of capacity leased to partitions.", labels=["zone"])
        for zone in list(self._owner.state.zones.values()):
            leased.add_metric([str(zone.zone_number)], zone.leased)
        yield leased


class _GatewayCollector(Collector):
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def collect(self) -> Iterator[Metric]:
        """Streams and frames of the gateway."""
        gates, backlog = self._gateway.gates, self._gateway.backlog
        yield GaugeMetricFamily(
            "parkgate_ledger_unreported_entries",
            "Entries of the log that reporting has not committed.",
            value=backlog.now.entries,
        )
        yield GaugeMetricFamily(
            "parkgate_ledger_unreported_bytes", "About how many bytes they take.", value=backlog.now.log_bytes
        )
        yield GaugeMetricFamily(
            "parkgate_ledger_unreported_percent", "Of the limit; alarm at 50, 80 and 100.", value=backlog.percent
        )
        yield GaugeMetricFamily("parkgate_gateway_streams", "Open gate streams.", value=gates.streams)
        yield CounterMetricFamily("parkgate_gateway_frames", "Frames with scans or passages.", value=gates.frames)
        yield CounterMetricFamily("parkgate_gateway_timeouts", "Frames answered RETRY for time.", value=gates.timeouts)


def serve_metrics(port: int, source: Owner | QuotaOwner | Gateway) -> None:
    """Serves the metrics of a process on loopback; port 0 serves none."""
    if not port:
        return
    registry = CollectorRegistry()
    registry.register(_collector(source))
    start_http_server(port, addr="127.0.0.1", registry=registry)


def _collector(source: Owner | QuotaOwner | Gateway) -> Collector:
    match source:
        case Owner():
            return _OwnerCollector(source)
        case QuotaOwner():
            return _QuotaCollector(source)
        case Gateway():
            return _GatewayCollector(source)
