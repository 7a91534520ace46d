"""Whether two rehearsals differ in a figure, or are about the same. Pure.

Two runs of the same system are never equal. A difference counts only where it is larger than

    chance      the ranges of both, in which another such day would lie, do not meet (`chance`)
    the machine what two runs of the same differ by on one machine: a share and a least amount for each kind of figure;
                where it was faster in one of the two, by so much more; where other programs were busy, twice as much

The shares are chosen, not worked out. They lie above what three whole runs of the benchmark differed by for one version
on a shared machine (docs/bench.md, What it showed): scans one by one, against the echo beside them, by a seventh, the
median of a lone turnstile by a twelfth. What 99 of 100 wait differs most, so that its share is the largest. A single
slowest scan says nothing and is not judged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from math import sqrt
from typing import Any

from loadtest.surge.ramp import LIMIT_MS
from loadtest.surge.report.chance import Range
from loadtest.surge.report.verdict import MUCH_ELSE

HELD = "guests_a_minute"
WAIT = "wait_min "
BUSY = 2.0
"""So many times as large a difference is needed where other programs used much of the machine in one of the two."""
RATE = 1.05
"""How far a step of the ramp can be from the rate that was meant: its guests come by chance."""


class Verdict(StrEnum):
    """Of the second against the first."""

    BETTER = "better"
    WORSE = "worse"
    SAME = "about the same"
    UNKNOWN = "cannot tell"
    """It may be chance, for too few scans or seconds; or what was measured is known to be at least so much."""
    NONE = ""
    """Not to be judged."""


@dataclass(frozen=True, slots=True)
class Measure:
    """A figure: how it is called, and from which difference on it counts. `share` None: it is not judged; `share` and
    `least` 0: any difference counts."""

    name: str
    unit: str = ""
    share: float | None = None
    least: float = 0.0
    more_is_better: bool = False
    timed: bool = False
    """Whether it hangs on how fast the machine is."""
    same_plan: bool = False
    """Whether it means anything only of two days with the same guests."""


MEASURES = {
    HELD: Measure("guests a minute held", share=0.25, more_is_better=True, timed=True),
    "p50_ms": Measure("half of the scans within", "ms", 0.25, 1.0, timed=True),
    "p99_ms": Measure("99 of 100 scans within", "ms", 0.5, 5.0, timed=True),
    "slowest_ms": Measure("the slowest scan", "ms"),
    "within_limit": Measure(f"scans within {LIMIT_MS:.0f} ms", "%", 0.0, 0.5, more_is_better=True),
    "scans": Measure("scans"),
    "wrong": Measure("wrong answers", share=0.0),
    "sale_p99_ms": Measure("99 of 100 sales within", "ms", 0.5, 20.0, timed=True),
    "system_cpu_ms": Measure("CPU of the system for a scan, on the day", "ms", 0.15, timed=True),
    "generator_share": Measure("the generator's share of all CPU", "%"),
    "differences": Measure("counts that do not agree", share=0.0),
}
LONGEST_WAIT = Measure("longest wait", "min", 0.1, 1.0, same_plan=True)


def measure_of(key: str) -> Measure:
    """Of a number in a summary."""
    return MEASURES.get(key, LONGEST_WAIT)


def name_of(key: str) -> str:
    """What people call it."""
    return f"{LONGEST_WAIT.name}, {key.removeprefix(WAIT)}" if key.startswith(WAIT) else MEASURES[key].name


@dataclass(frozen=True, slots=True)
class Figure:
    """A number of one of the two. `range`: where another such day would lie; None: it is not known."""

    value: float | None
    range: Range | None = None
    by_chance: bool = False
    """Whether it is one of those that chance has a part in."""
    at_least: bool = False


@dataclass(frozen=True, slots=True)
class Pair:
    """What the two have in common, or not."""

    slower: float
    """How much longer a fixed piece of work took in the second; 1: as long, or it is not known."""
    busy: bool
    """Whether other programs used much of the machine in one of them."""
    same_plan: bool
    ramp_factor: float
    """From one step of the ramp to the next, in the coarser of the two."""

    def share(self, measure: Measure) -> float:
        """From which share of a difference on a figure counts."""
        share = (measure.share or 0.0) * (BUSY if self.busy and measure.timed else 1.0)
        return max(share, sqrt(self.ramp_factor) * RATE - 1) if measure is MEASURES[HELD] else share

    def counts_from(self, measure: Measure) -> str:
        """The same in words."""
        if measure.share is None or (measure.same_plan and not self.same_plan):
            return ""
        share = self.share(measure)
        said = [f"{share * 100:.0f} %"] if share else []
        said += [f"{measure.least:g} {'points' if measure.unit == '%' else measure.unit}"] if measure.least else []
        return " and ".join(said) or "any"


def pair_of(one: Mapping[str, Any], two: Mapping[str, Any]) -> Pair:
    """Of two summaries. How fast the machine was is known where the system ran on it."""
    known = one["here"] and two["here"] and one["pace_ms"] and two["pace_ms"]
    return Pair(
        slower=two["pace_ms"] / one["pace_ms"] if known else 1.0,
        busy=any(others > MUCH_ELSE for summary in (one, two) for others in summary["others"].values()),
        same_plan=all(one[key] == two[key] for key in ("name", "visitors", "seed")),
        ramp_factor=max(one["ramp_factor"], two["ramp_factor"]),
    )


def figure_of(key: str, summary: Mapping[str, Any]) -> Figure:
    """A number of a summary."""
    found = summary["ranges"].get(key)
    return Figure(
        summary["numbers"].get(key),
        (found[0], found[1]) if found else None,
        key in summary["ranges"],
        key == HELD and summary["at_least"],
    )


def judge(measure: Measure, first: Figure, second: Figure, pair: Pair) -> Verdict:
    """Whether the second is better, worse or about the same."""
    if measure.share is None or first.value is None or second.value is None:
        return Verdict.NONE
    if measure.same_plan and not pair.same_plan:
        return Verdict.NONE
    noise = _is_noise(measure, first.value, second.value, pair)
    smaller = min(first, second, key=lambda one: one.value or 0.0)
    if smaller.at_least or (noise and (first.at_least or second.at_least)):
        return Verdict.UNKNOWN
    if noise:
        return Verdict.SAME
    if first.by_chance and (chance := _chance(first.range, second.range)) is not None:
        return chance
    return Verdict.BETTER if (second.value > first.value) == measure.more_is_better else Verdict.WORSE


def _chance(first: Range | None, second: Range | None) -> Verdict | None:
    """What is said where ranges meet; None: they do not, it is no chance."""
    if first is None or second is None:
        return Verdict.UNKNOWN
    lower, upper = sorted((first, second), key=lambda one: one[0])
    if lower[1] is None:
        return Verdict.UNKNOWN
    return Verdict.SAME if upper[0] <= lower[1] else None


def _is_noise(measure: Measure, first: float, second: float, pair: Pair) -> bool:
    """Whether runs of the same on such machines differ by as much. Against a machine of another speed, everything
    between what was and what would have been there is the same."""
    if measure.least and abs(second - first) <= measure.least:
        return True
    slower = pair.slower if measure.timed else 1.0
    expected = first / slower if measure.more_is_better else first * slower
    share = 1 + pair.share(measure)
    return min(first, expected) / share <= second <= max(first, expected) * share
