"""Series over the rehearsed day, worked out of single scans. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from loadtest.surge.clock import of_day
from loadtest.surge.heard import Heard
from loadtest.surge.plan import Plan, Way
from loadtest.surge.queues import TEN_MINUTES_S, Coming, Stood, lanes_needed, longest_wait_s, play, standing
from loadtest.surge.report.verdict import LaneVerdict
from loadtest.surge.samples import Samples, percentile
from loadtest.surge.scenario import MINUTE_S

INTO = frozenset({Way.ENTRY, Way.BACK})
BINS = (60, 120, 300, 600, 900, 1800)
"""Widths that a reader finds round, in seconds of the day."""
MOST_BINS = 80


@dataclass(frozen=True, slots=True)
class Bins:
    """The day in equal pieces."""

    starts_s: float
    width_s: float
    count: int

    @classmethod
    def of_day(cls, starts_s: float, ends_s: float) -> Bins:
        """As fine as a chart can show."""
        length = ends_s - starts_s
        width = next((width for width in BINS if length / width <= MOST_BINS), BINS[-1])
        return cls(starts_s, float(width), max(int(-(-length // width)), 1))

    @property
    def ends_s(self) -> float:
        """Where the last one ends."""
        return self.starts_s + self.count * self.width_s

    @property
    def ends(self) -> list[float]:
        """Where each ends."""
        return [edge + self.width_s for edge in self.edges]

    @property
    def edges(self) -> list[float]:
        """Where each begins."""
        return [self.starts_s + number * self.width_s for number in range(self.count)]

    def number(self, day_s: float) -> int:
        """In which one a time is; what is outside belongs to the first or last."""
        return min(max(int((day_s - self.starts_s) // self.width_s), 0), self.count - 1)

    def sums(self, pairs: Iterable[tuple[float, float]]) -> list[float]:
        """What falls into each."""
        found = [0.0] * self.count
        for day_s, amount in pairs:
            found[self.number(day_s)] += amount
        return found


def arrivals(plan: Plan, bins: Bins, queues: Sequence[Queue] = ()) -> list[float]:
    """Guests a minute who come to the entrances, those who come back among them, and those who come again. Of a day
    that was interrupted only who came until then: the plan goes on."""
    pairs = [(one.at_s, float(one.persons)) for queue in queues for one in queue.again]
    for guests, turns in zip(plan.guests, plan.turns, strict=True):
        persons = [line.persons for line in guests.kind.tickets for _ in range(line.count)]
        pairs += [
            (turn.came_s, float(persons[turn.ticket]))
            for turn in turns
            if turn.way in INTO and turn.came_s <= bins.ends_s
        ]
    return [amount / (bins.width_s / 60) for amount in bins.sums(pairs)]


def admissions(samples: Samples, bins: Bins) -> tuple[list[float], list[float]]:
    """Guests a minute who were let in, and who left."""
    inward: list[tuple[float, float]] = []
    outward: list[tuple[float, float]] = []
    for row, (way, answer) in enumerate(samples.answered()):
        if answer == "ADMIT" and way is not Way.TURNED_BACK:
            (outward if way is Way.EXIT else inward).append((samples.due_s[row], float(samples.persons[row])))
    minutes = bins.width_s / 60
    return [x / minutes for x in bins.sums(inward)], [x / minutes for x in bins.sums(outward)]


def busiest_minute(plan: Plan) -> int:
    """The most scans that the plan asks for within a minute, whichever way: a storm that sends everybody out asks as
    much of the system as the morning. What came of them, as a scan that is asked anew, is not in it: the same day has
    the same busiest minute, whatever befalls the system."""
    times = sorted(turn.at_s for turns in plan.turns for turn in turns)
    return max((bisect_left(times, start + MINUTE_S) - index for index, start in enumerate(times)), default=0)


def latencies(samples: Samples, bins: Bins) -> dict[str, list[float | None]]:
    """Percentiles of each bin, in ms; None where nobody came."""
    took: list[list[float]] = [[] for _ in range(bins.count)]
    late: list[list[float]] = [[] for _ in range(bins.count)]
    for row, due_s in enumerate(samples.due_s):
        took[bins.number(due_s)].append(samples.took_ms[row])
        late[bins.number(due_s)].append(samples.late_ms[row])
    found: dict[str, list[float | None]] = {
        name: [percentile(sorted(ones), share) if ones else None for ones in took]
        for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("slowest", 1.0))
    }
    found["late"] = [percentile(sorted(ones), 0.99) if ones else None for ones in late]
    return found


def refusals(samples: Samples, bins: Bins) -> dict[str, list[float]]:
    """Scans refused, by reason, the most frequent first."""
    found: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    for row, (_, answer) in enumerate(samples.answered()):
        if answer != "ADMIT":
            found[answer].append((samples.due_s[row], 1.0))
    ordered = sorted(found.items(), key=lambda item: -len(item[1]))
    return {reason: bins.sums(pairs) for reason, pairs in ordered}


def occupancy(samples: Samples, zones: Sequence[int], bins: Bins, speed: float) -> dict[int, list[float]]:
    """Persons inside each zone at the end of each bin.

    Who comes in counts from the verdict, who leaves from the scan: so the count is never above the cluster's own, which
    lies between the two, and a park that kept its capacity is not drawn above it.
    """
    changes: defaultdict[int, list[tuple[float, float]]] = defaultdict(list)
    for row, (way, answer) in enumerate(samples.answered()):
        if answer == "ADMIT" and way is not Way.TURNED_BACK:
            persons = float(samples.persons[row])
            told_s = samples.due_s[row] + samples.took_ms[row] / 1e3 * speed
            change = (samples.due_s[row], -persons) if way is Way.EXIT else (told_s, persons)
            changes[zones[samples.entrance[row]]].append(change)
    return {zone: _running(bins.sums(pairs)) for zone, pairs in changes.items()}


def _running(values: Iterable[float]) -> list[float]:
    total = 0.0
    found = []
    for value in values:
        total += value
        found.append(total)
    return found


@dataclass(frozen=True, slots=True)
class Line:
    """Who stood at an entrance, or at one of its gates. Of each bin the longest queue, in persons, and the longest wait
    of who came then, in minutes; of the day the longest of both, each with its time."""

    name: str
    parties: int
    length: list[int]
    wait_min: list[float]
    longest: int
    longest_at: str
    longest_wait_s: float
    waited_at: str


@dataclass(frozen=True, slots=True)
class Queue:
    """An entrance: its lanes, its queue, and that at each of its gates."""

    verdict: LaneVerdict
    all: Line
    gates: Sequence[Line]
    again: Sequence[Coming]
    """Those among the comings who had heard before that it was full."""


def queue(plan: Plan, entrance: int, heard: Heard, bins: Bins) -> Queue:
    """The queue model again, with the time that the system really took for each guest, and with those who came again
    because it was full; at the gates where they were. Of a day that was interrupted only who came until then."""
    kept = plan.scenario.entrances[entrance]
    comings = [coming for coming in heard.comings(plan.comings[entrance]) if coming.at_s <= bins.ends_s]
    closes_s = float(plan.scenario.closes)  # who stands in the queue then goes away
    last_s = min(closes_s, bins.ends_s)
    played = play(comings, kept.lanes, last_s)
    stood = [_until(one, closes_s) for one in played]
    whole = line(kept.name, stood, bins)
    again = [one.coming for one in stood if one.coming.before]
    enough = longest_wait_s(comings, kept.lanes, last_s) <= TEN_MINUTES_S
    needed = lanes_needed(comings, TEN_MINUTES_S, last_s)
    needed = min(needed, kept.lanes) if enough else needed  # with those who come again one more lane may be worse
    verdict = LaneVerdict(
        kept.name,
        kept.lanes,
        whole.longest_wait_s,
        whole.waited_at,
        needed,
        longest_wait_s(comings, needed, last_s),
        sum(one.served.start_s >= closes_s for one in played) if bins.ends_s >= closes_s else 0,
        len(again),
    )
    gates = [
        line(name, [one for one in stood if plan.coming_gates[entrance][one.first] == number], bins)
        for number, name in enumerate(kept.gates)
    ]
    return Queue(verdict, whole, gates, again)


def _until(stood: Stood, closes_s: float) -> Stood:
    """Their wait ends when the queue is closed."""
    start_s = max(stood.coming.at_s, min(stood.served.start_s, closes_s))
    return replace(stood, served=replace(stood.served, start_s=start_s))


def line(name: str, stood: Sequence[Stood], bins: Bins) -> Line:
    """The queue of those."""
    last = max(stood, key=lambda one: one.wait_s, default=None)
    wait_min = [0.0] * bins.count
    for one in stood:
        number = bins.number(one.coming.at_s)
        wait_min[number] = max(wait_min[number], one.wait_s / 60)
    counts = standing(stood)
    longest_at_s, longest = max(counts, key=lambda one: one[1], default=(0.0, 0))
    return Line(
        name,
        len(stood),
        _most(counts, bins),
        wait_min,
        longest,
        of_day(longest_at_s) if longest else "-",
        last.wait_s if last else 0.0,
        of_day(last.coming.at_s) if last else "-",
    )


def _most(counts: Sequence[tuple[float, int]], bins: Bins) -> list[int]:
    """The most in each bin, of those who stood there from before among them."""
    found = [0] * bins.count
    here, until = 0, 0
    for at_s, count in counts:
        number = bins.number(at_s)
        for between in range(until + 1, number + 1):
            found[between] = here
        found[number] = max(found[number], count)
        here, until = count, number
    return found
