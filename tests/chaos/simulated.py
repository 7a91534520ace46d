"""Rows from simulated days: one a profile. And the planted bugs, which are the checker's own test."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator

from tests.chaos.rows import PlantedBug, Row
from tests.chaos.seeds import STRETCH, Seeds
from tests.simulation.bugs import BUGS
from tests.simulation.profiles import PROFILES
from tests.simulation.sweep import Outcome, cores, hunts, sweep

Progress = Callable[[str], None]


def simulated_rows(budget_s: float, seeds: Seeds, tell: Progress) -> list[Row]:
    """Days of every profile, seed after seed, for as long as the budget lasts."""
    days: dict[str, list[Outcome]] = defaultdict(list)
    for number, day in enumerate(sweep(list(PROFILES), seeds.some(STRETCH), budget_s, cores()), 1):
        days[day.profile].append(day)
        if number % 50 == 0:
            tell(f"{number} simulated days")
    return [_row(name, days[name]) for name in PROFILES]


def _row(name: str, days: list[Outcome]) -> Row:
    return Row(
        "simulation",
        name,
        PROFILES[name].says,
        len(days),
        sum(day.operations for day in days),
        sum(day.unknown for day in days),
        sum(day.admitted for day in days),
        tuple(f"--seed {day.seed} --profile {name}: {item}" for day in days for item in day.violations),
        max((day.recovery_ms for day in days), default=0) or None,
    )


def planted_bugs(seeds: Seeds) -> Iterator[PlantedBug]:
    """Every planted bug, hunted until it is caught or its days are used up."""
    for item in hunts(BUGS, cores(), seeds.first):
        caught = f"{item.violation.promise}, seed {item.seed} of {item.profile}" if item.violation else ""
        yield PlantedBug(item.bug, item.says, item.tried, caught)
