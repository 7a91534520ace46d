"""Who comes on the day, with which tickets and habits, and when they mean to come, go out and leave. Pure and seeded.

What the lanes make of it is the plan's; nothing here knows of queues.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random

from loadtest.surge.curve import Curve, arrivals
from loadtest.surge.scenario import MINUTE_S, Party, Scenario, Storm

HOUR_S = 3600
NOON_S = 12 * HOUR_S
LATE_SHARE = 0.1
LAST_OUT = (-0.1, 0.05)
"""Who stays to the end goes around closing time; shares of the length of the day."""
SHORTEST_STAY_S = 20 * MINUTE_S
AFTER_COMING_BACK_S = 60 * MINUTE_S


class Habit(StrEnum):
    """What a party does besides coming and going; at most one each, so that every answer can be foretold."""

    NONE = "none"
    DOUBLE_USE = "double_use"
    FORGED = "forged"
    REFUND_IN_QUEUE = "refund_in_queue"
    TURN_BACK = "turn_back"


@dataclass(frozen=True, slots=True)
class Trip:
    """Out of the park at `out_s`, and back at the entrance at `back_s`; None: they left for good."""

    out_s: float
    back_s: float | None = None


@dataclass(frozen=True, slots=True)
class Guests:
    """One party on the day. Times are seconds of the rehearsed day. `buys_s` None: they came with tickets."""

    number: int
    kind: Party
    entrance: int
    arrives_s: float
    buys_s: float | None
    habit: Habit
    trips: tuple[Trip, ...]


def invite(scenario: Scenario) -> list[Guests]:
    """Everybody of the day, in the order of their coming. The same scenario gives the same day."""
    kinds = _kinds(scenario)
    when = Random(f"{scenario.seed} arrivals")
    what = Random(f"{scenario.seed} habits")
    times = arrivals(Curve(scenario.curve), len(kinds), when)
    coming = [_arrival(scenario, time, when, what.random()) for time in times]
    pairs = sorted(zip(coming, kinds, strict=True), key=lambda pair: pair[0])
    return [_guests(scenario, number, pair, what) for number, pair in enumerate(pairs)]


def _arrival(scenario: Scenario, by_curve_s: float, random: Random, drawn: float) -> float:
    """When a party comes: some stand there when the doors open, some come at the very end, most by the curve."""
    if drawn < scenario.habits.early:
        return float(scenario.opens)
    if drawn < scenario.habits.early + scenario.habits.late:
        late_from = scenario.closes - (scenario.closes - scenario.opens) * LATE_SHARE
        return random.uniform(late_from, scenario.closes)
    return by_curve_s


def _kinds(scenario: Scenario) -> list[Party]:
    """Parties by their weights, until all visitors are there."""
    random = Random(f"{scenario.seed} parties")
    weights = [party.weight for party in scenario.parties]
    chosen: list[Party] = []
    persons = 0
    while persons < scenario.visitors:
        chosen.append(random.choices(scenario.parties, weights)[0])
        persons += chosen[-1].persons
    return chosen


def _guests(scenario: Scenario, number: int, pair: tuple[float, Party], random: Random) -> Guests:
    arrives_s, kind = pair
    shares = [entrance.share for entrance in scenario.entrances]
    entrance = random.choices(range(len(shares)), shares)[0]
    on_site = random.random() < scenario.habits.on_site
    buys_s = arrives_s - random.uniform(8, 20) * MINUTE_S if on_site else None
    return Guests(
        number, kind, entrance, arrives_s, buys_s, _habit(scenario, random), trips(scenario, arrives_s, kind, random)
    )


def _habit(scenario: Scenario, random: Random) -> Habit:
    habits = scenario.habits
    shares = {
        Habit.DOUBLE_USE: habits.double_use,
        Habit.FORGED: habits.forged,
        Habit.REFUND_IN_QUEUE: habits.refund_in_queue,
        Habit.TURN_BACK: habits.turn_back,
    }
    drawn = random.random()
    for habit, share in shares.items():
        drawn -= share
        if drawn < 0:
            return habit
    return Habit.NONE


def trips(scenario: Scenario, arrives_s: float, kind: Party, random: Random) -> tuple[Trip, ...]:
    """Their ways out: for lunch, from the storm, and at last."""
    stay_s = max(random.gauss(scenario.stay_minutes, scenario.stay_minutes / 4) * MINUTE_S, SHORTEST_STAY_S)
    last_s = scenario.closes + (scenario.closes - scenario.opens) * random.uniform(*LAST_OUT)
    leaves_s = min(arrives_s + stay_s, last_s)
    planned: list[Trip] = []
    lunch = _lunch(random)
    if kind.returns and random.random() < scenario.habits.lunch and arrives_s < lunch.out_s - SHORTEST_STAY_S:
        assert lunch.back_s is not None
        planned.append(lunch)
        leaves_s = max(leaves_s, lunch.back_s + AFTER_COMING_BACK_S)
    storm = scenario.storm
    if storm and arrives_s < storm.at < leaves_s and not _is_out(planned, storm):
        wet = _from_storm(scenario, storm, kind, random)
        planned.append(wet)
        if wet.back_s is None:
            return tuple(planned)
        leaves_s = max(leaves_s, wet.back_s + AFTER_COMING_BACK_S)
    return (*planned, Trip(leaves_s))


def _lunch(random: Random) -> Trip:
    out_s = NOON_S + random.uniform(0, 75) * MINUTE_S
    return Trip(out_s, out_s + random.uniform(40, 80) * MINUTE_S)


def _is_out(planned: Sequence[Trip], storm: Storm) -> bool:
    """Whether they are out, or out again, when it begins to rain: then they see it from outside."""
    last_out_s = storm.at + storm.minutes * MINUTE_S
    return any(trip.back_s is not None and trip.back_s > storm.at and trip.out_s < last_out_s for trip in planned)


def _from_storm(scenario: Scenario, storm: Storm, kind: Party, random: Random) -> Trip:
    out_s = storm.at + random.uniform(0, storm.minutes) * MINUTE_S
    back_s = storm.at + (storm.dry_after_minutes + random.uniform(0, storm.back_within_minutes)) * MINUTE_S
    comes_back = kind.returns and random.random() < storm.back_share and out_s < back_s < scenario.closes
    return Trip(out_s, back_s if comes_back else None)
