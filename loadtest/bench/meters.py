"""What the system under test costs, as the operating system and its own metrics tell."""

from __future__ import annotations

import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import psutil
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

METRICS_TIMEOUT_S = 2.0
QUIET_SHARE = 0.03
"""Of one core and for each actor: what an idle system uses at most."""
SETTLE_S = 120.0
AWAITED = "parkgate_partition_passages_awaited"


def processes_of(data_dir: Path, *roots: int) -> list[psutil.Process]:
    """Every process of the stack that keeps its data there. `roots`, here and below: processes whose descendants belong
    to it as well, as of a Ray cluster that was there before."""
    for process in psutil.process_iter(["cmdline"]):
        if "ops.supervisor" in (process.info["cmdline"] or ()):
            try:
                ours = process.environ().get("PARKGATE_DATA_DIR") == str(data_dir.absolute())
            except psutil.Error:
                continue
            if ours:
                more = [child for root in roots for child in psutil.Process(root).children(recursive=True)]
                return [process, *process.children(recursive=True), *more]
    raise LookupError(f"no supervisor runs on {data_dir}")


def cpu_seconds(data_dir: Path, *roots: int) -> float:
    """CPU that the stack's processes have used so far, user and system."""
    total = 0.0
    for process in processes_of(data_dir, *roots):
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system
    return total


PARTS = {
    "ray::OwnerActor": "owners",
    "ray::GatewayActor": "gateways",
    "ray::ReportingActor": "reporting",
    "ray::QuotaActor": "capacity owner",
    "postgres": "Postgres",
    "valkey-server": "ledger",
}


def cpu_by_part(data_dir: Path, *roots: int) -> dict[str, float]:
    """CPU seconds so far by part of the system."""
    found = dict.fromkeys((*PARTS.values(), "others"), 0.0)
    for process in processes_of(data_dir, *roots):
        try:
            words, times = (process.cmdline() or [""])[0], process.cpu_times()
            name = process.name()
        except psutil.Error:
            continue
        part = next(
            (part for start, part in PARTS.items() if words.startswith(start) or name.startswith(start)), "others"
        )
        found[part] += times.user + times.system
    return found


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def owner_bytes(data_dir: Path, *roots: int) -> int:
    """Private memory of the partition owners (unique set size), in bytes."""
    return sum(process.memory_full_info().uss for process in processes_of(data_dir, *roots) if _is_owner(process))


def _is_owner(process: psutil.Process) -> bool:
    """By the beginning: while it answers a call Ray adds the call's name."""
    return "".join(process.cmdline()[:1]).startswith("ray::OwnerActor")


class Where(Protocol):
    """Where a stack keeps its data and tells its metrics."""

    @property
    def data_dir(self) -> Path: ...

    @property
    def metrics_ports(self) -> Sequence[int]: ...


def settle(where: Where, *roots: int) -> None:
    """Waits until the stack has nothing left to do: snapshots, passages that nobody reports, reports. What was asked
    before is then no part of what is measured next.

    Raises:
        TimeoutError: it works on.
        LookupError: its metrics are not told.
    """
    deadline, quiet = time.monotonic() + SETTLE_S, QUIET_SHARE * len(where.metrics_ports)
    while time.monotonic() < deadline:
        before = cpu_seconds(where.data_dir, *roots)
        time.sleep(1.0)
        if cpu_seconds(where.data_dir, *roots) - before < quiet and not total(where.metrics_ports, AWAITED):
            return
    raise TimeoutError(f"the system still works after {SETTLE_S:.0f} s")


def total(ports: Iterable[int], name: str) -> float:
    """A metric, summed over all labels and all processes that have it.

    Raises:
        LookupError: nobody tells it.
    """
    values = [sample.value for sample in _samples(ports) if sample.name == name]
    if not values:
        raise LookupError(f"no process of the system tells {name}")
    return sum(values)


def _samples(ports: Iterable[int]) -> Iterator[Sample]:
    for port in ports:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=METRICS_TIMEOUT_S) as answer:
                text = answer.read().decode()
        except OSError:
            continue
        for family in text_string_to_metric_families(text):
            yield from family.samples


Histogram = Mapping[float, float]
"""Observations up to each bound."""


def histogram(ports: Iterable[int], name: str) -> Histogram:
    """A histogram summed over all labels and all processes that have it."""
    buckets: dict[float, float] = defaultdict(float)
    for sample in _samples(ports):
        if sample.name == f"{name}_bucket":
            buckets[float(sample.labels["le"])] += sample.value
    return buckets


def percentile_bound(before: Histogram, after: Histogram, share: float) -> float:
    """The least bound under which so many of the observations between two readings lie; NaN if there were none."""
    counts = {bound: after[bound] - before.get(bound, 0.0) for bound in sorted(after)}
    total = counts.get(float("inf"), 0.0)
    return next((bound for bound, count in counts.items() if total and count >= share * total), float("nan"))
