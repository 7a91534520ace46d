"""The queue at an entrance: guests take the lane that is free first, and a lane serves one after the other. Pure.

This is a model of bodies in lanes on the clock of the rehearsed day. The system's own part in it is given for each
guest, as it was measured, or none when the day is planned: the time from the scan to the verdict, and until when there
was no room for them. Who hears that it is full goes away, comes again, and stands at the end of the queue like all.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from math import inf

TEN_MINUTES_S = 600.0
FULL_AGAIN_S = 600.0
"""Who hears that it is full comes again after this."""


@dataclass(frozen=True, slots=True)
class Full:
    """Guests on one ticket for whom there was no room before `until_s`. Each time they come again they keep a lane busy
    for `service_s`, and for what the system's answers took then, `took_s` by the number of the time."""

    persons: int
    service_s: float
    until_s: float
    took_s: Sequence[float] = ()

    def busy_s(self, time: int) -> float:
        """How long they keep a lane busy, for the `time`-th time that they come again, from 0."""
        return self.service_s + (self.took_s[time] if time < len(self.took_s) else 0.0)


@dataclass(frozen=True, slots=True)
class Coming:
    """A guest or party at an entrance: when they come, how long they keep a lane busy once it is their turn, and how
    many they are; those among them who hear that it is full; and how many times they have come with that before."""

    at_s: float
    service_s: float
    persons: int = 1
    full: tuple[Full, ...] = ()
    before: int = 0

    def again(self, start_s: float) -> Coming | None:
        """Their next coming, if there is no room for all of them when their turn comes, at `start_s`."""
        left = tuple(one for one in self.full if start_s < one.until_s)
        if not left:
            return None
        busy_s = sum(one.busy_s(self.before) for one in left)
        back_s = start_s + self.service_s + FULL_AGAIN_S
        return Coming(back_s, busy_s, sum(one.persons for one in left), left, self.before + 1)


@dataclass(frozen=True, slots=True)
class Served:
    """Which lane it was, when their turn came, and how many parties the lane had served before."""

    lane: int
    start_s: float
    turn: int = 0


@dataclass(frozen=True, slots=True)
class Stood:
    """Somebody who came, and when their turn was. `first`: which of the day's comings it is, or is again."""

    coming: Coming
    served: Served
    first: int = 0

    @property
    def wait_s(self) -> float:
        """From when they came to their turn."""
        return self.served.start_s - self.coming.at_s


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


def play(comings: Sequence[Coming], lanes: int, closes_s: float = inf) -> list[Stood]:
    """Everybody's turn, in the order in which they come. `comings` in the order of time; from `closes_s` on nobody
    comes again."""
    entrance, numbers = Lanes(lanes), count(len(comings))
    due = [(coming.at_s, number, number, coming) for number, coming in enumerate(comings)]
    found: list[Stood] = []
    while due:
        _, _, first, coming = heapq.heappop(due)
        served = entrance.serve(coming)
        found.append(Stood(coming, served, first))
        later = coming.again(served.start_s)
        if later is not None and later.at_s < closes_s:
            heapq.heappush(due, (later.at_s, next(numbers), first, later))
    return found


def longest_wait_s(comings: Sequence[Coming], lanes: int, closes_s: float = inf) -> float:
    """The longest that anybody waits."""
    return max((one.wait_s for one in play(comings, lanes, closes_s)), default=0.0)


def lanes_needed(comings: Sequence[Coming], limit_s: float = TEN_MINUTES_S, closes_s: float = inf) -> int:
    """So many lanes with which nobody waits longer than the limit that with one less somebody does."""
    enough = 1
    while longest_wait_s(comings, enough, closes_s) > limit_s:
        enough *= 2
    low, high = enough // 2 + 1 if enough > 1 else 1, enough
    while low < high:
        middle = (low + high) // 2
        if longest_wait_s(comings, middle, closes_s) > limit_s:
            low = middle + 1
        else:
            high = middle
    return high


def standing(stood: Sequence[Stood]) -> list[tuple[float, int]]:
    """How many persons stand in the queue from a time on, at each time at which that changes. Who is served at once
    never stood in it; who goes makes room before the next one comes."""
    changes: list[tuple[float, int]] = []
    for one in stood:
        if one.wait_s > 0:
            changes += [(one.coming.at_s, one.coming.persons), (one.served.start_s, -one.coming.persons)]
    found: list[tuple[float, int]] = []
    count = 0
    for at_s, change in sorted(changes):
        count += change
        if found and found[-1][0] == at_s:
            found.pop()
        found.append((at_s, count))
    return found
