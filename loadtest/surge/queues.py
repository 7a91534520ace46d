"""The queue at an entrance: guests take the lane that is free first, and a lane serves one after the other. Pure.

This is a model of bodies in lanes on the clock of the rehearsed day. The system's own part in it, the time from the
scan to the verdict, is given for each guest: as it was measured, or none when the day is planned.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

TEN_MINUTES_S = 600.0


@dataclass(frozen=True, slots=True)
class Coming:
    """A guest or party at an entrance: when they come, and how long they keep a lane busy once it is their turn."""

    at_s: float
    service_s: float


@dataclass(frozen=True, slots=True)
class Served:
    """Which lane it was, and when their turn came."""

    lane: int
    start_s: float


class Lanes:
    """Lanes of one entrance, all free at first. Arrivals must come in the order of their times."""

    def __init__(self, count: int) -> None:
        self._free = [(0.0, lane) for lane in range(count)]

    def serve(self, coming: Coming) -> Served:
        """Takes the lane that is free first."""
        free_s, lane = self._free[0]
        start_s = max(coming.at_s, free_s)
        heapq.heapreplace(self._free, (start_s + coming.service_s, lane))
        return Served(lane, start_s)


def serve_all(comings: Sequence[Coming], lanes: int) -> list[Served]:
    """When everybody's turn comes. `comings` in the order of their times."""
    entrance = Lanes(lanes)
    return [entrance.serve(coming) for coming in comings]


def longest_wait_s(comings: Sequence[Coming], lanes: int) -> float:
    """The longest that anybody waits."""
    served = serve_all(comings, lanes)
    return max((one.start_s - coming.at_s for coming, one in zip(comings, served, strict=True)), default=0.0)


def lanes_needed(comings: Sequence[Coming], limit_s: float = TEN_MINUTES_S) -> int:
    """The fewest lanes with which nobody waits longer than the limit. More lanes never make anybody wait longer."""
    enough = 1
    while longest_wait_s(comings, enough) > limit_s:
        enough *= 2
    low, high = enough // 2 + 1 if enough > 1 else 1, enough
    while low < high:
        middle = (low + high) // 2
        if longest_wait_s(comings, middle) > limit_s:
            low = middle + 1
        else:
            high = middle
    return high


def lengths(comings: Sequence[Coming], served: Sequence[Served], times_s: Sequence[float]) -> list[int]:
    """How many stand in the queue at each of the times."""
    arrived = sorted(coming.at_s for coming in comings)
    begun = sorted(one.start_s for one in served)
    counts: list[int] = []
    come = gone = 0
    for time_s in times_s:
        while come < len(arrived) and arrived[come] <= time_s:
            come += 1
        while gone < len(begun) and begun[gone] <= time_s:
            gone += 1
        counts.append(come - gone)
    return counts
