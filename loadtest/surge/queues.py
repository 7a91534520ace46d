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
    """A guest or party at an entrance: when they come, how long they keep a lane busy once it is their turn, and how
    many they are."""

    at_s: float
    service_s: float
    persons: int = 1


@dataclass(frozen=True, slots=True)
class Served:
    """Which lane it was, when their turn came, and how many parties the lane had served before."""

    lane: int
    start_s: float
    turn: int = 0


class Lanes:
    """Lanes of one entrance, all free at first. Arrivals must come in the order of their times."""

    def __init__(self, count: int) -> None:
        self._free = [(0.0, lane) for lane in range(count)]
        self._served = [0] * count

    def serve(self, coming: Coming) -> Served:
        """Takes the lane that is free first."""
        free_s, lane = self._free[0]
        start_s = max(coming.at_s, free_s)
        heapq.heapreplace(self._free, (start_s + coming.service_s, lane))
        self._served[lane] += 1
        return Served(lane, start_s, self._served[lane] - 1)


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


def standing(comings: Sequence[Coming], served: Sequence[Served]) -> list[tuple[float, int]]:
    """How many persons stand in the queue from a time on, at each time at which that changes. Who is served at once
    never stood in it; who goes makes room before the next one comes."""
    changes: list[tuple[float, int]] = []
    for coming, one in zip(comings, served, strict=True):
        if one.start_s > coming.at_s:
            changes += [(coming.at_s, coming.persons), (one.start_s, -coming.persons)]
    found: list[tuple[float, int]] = []
    count = 0
    for at_s, change in sorted(changes):
        count += change
        if found and found[-1][0] == at_s:
            found.pop()
        found.append((at_s, count))
    return found
