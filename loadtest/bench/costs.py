"""What a scan and a ticket cost: CPU by size of the park and number of streams, memory, delays at half of saturation.

Scans come at one rate, open-loop, whatever is compared, so that batches are alike and the difference is that of the
size. CPU is that of all processes of the system, less what they use when nobody asks, by the scans that were decided.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from loadtest.bench import meters, steady
from loadtest.bench.client import Plan

FEW_TICKETS, MANY_TICKETS = 10_000, 5_000_000
PER_S = 2_000.0
STREAMS = (1, 100, 1_000)
COMMON_STREAMS = 100
SCANS = 10_000
PASSES = 3
"""With millions of tickets. With few there is one, in which all of them are used."""
IDLE_S = 3.0
HALF_LOAD_S = 8.0
LAST_EVENTS_S = 2.0
TURNSTILES = 400
DELAY = "parkgate_reporting_delay_seconds"


@dataclass(frozen=True, slots=True)
class Steady:
    """Runs of the open-loop client against one system; `next_plan` takes so many fresh tickets for so many streams."""

    stack: meters.Where
    next_plan: Callable[[int, int], Plan]

    async def cpu_per_scan_us(self, streams: Sequence[int], passes: int) -> dict[int, float]:
        """CPU microseconds of the whole system for a scan, by number of streams: of each the median of so many passes,
        in turn."""
        found: dict[int, list[float]] = {number: [] for number in streams}
        for _ in range(passes):
            for number in streams:
                found[number].append(await self._cpu_per_scan_us(number))
        return {number: median(costs) for number, costs in found.items()}

    async def _cpu_per_scan_us(self, streams: int) -> float:
        meters.settle(self.stack)
        idle = self.idle_share()
        began: list[float] = []
        plan = steady.Plan(self.next_plan(streams, SCANS), PER_S)
        result = await steady.measure(plan, lambda: began.append(meters.cpu_seconds(self.stack.data_dir)))
        used = meters.cpu_seconds(self.stack.data_dir) - began[0] - idle * result.seconds
        return used / result.scans * 1e6

    def idle_share(self) -> float:
        """What the system uses when nobody asks, as a share of a core."""
        before, since = meters.cpu_seconds(self.stack.data_dir), time.monotonic()
        time.sleep(IDLE_S)
        return (meters.cpu_seconds(self.stack.data_dir) - before) / (time.monotonic() - since)

    async def half_load(self, saturation_per_s: float) -> tuple[steady.Result, float]:
        """Latencies of turnstiles at half of saturation, and the p99 of how late their reports are (an upper bound,
        seconds): the oldest event of every transaction of reporting."""
        meters.settle(self.stack)
        per_s = saturation_per_s / 2
        before = meters.histogram(self.stack.metrics_ports, DELAY)
        plan = self.next_plan(TURNSTILES, int(per_s * HALF_LOAD_S))
        result = await steady.measure(steady.Plan(plan, per_s))
        await asyncio.sleep(LAST_EVENTS_S)  # and no longer: what an idle system reports later would be counted in
        after = meters.histogram(self.stack.metrics_ports, DELAY)
        return result, meters.percentile_bound(before, after, 0.99)


def spread(values: list[float]) -> float:
    """The largest distance from the mean, as a share of it."""
    mean = sum(values) / len(values)
    return max(abs(value - mean) for value in values) / mean
