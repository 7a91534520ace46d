"""The plan of the day: every scan that will be made, at which lane, and when its turn comes. Pure and seeded.

The lanes' queues are played through beforehand, without the system: when a guest's turn comes follows from the bodies
in front of them. That instant is when the guest should be served, and latency counts from it. Nobody hears here that
the park is full: who does, and comes again, hangs on the system, and is worked out of the record (`report.series`).
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import count

from loadtest.surge.guests import Guests, Habit, invite
from loadtest.surge.queues import Coming, Lanes
from loadtest.surge.scenario import MINUTE_S, Scenario

PROOF_S = 8.0
"""The attendant looks at a card."""
REFUSED_S = 15.0
"""The attendant explains why not."""
LEAD_S = 30 * MINUTE_S
"""Windows open before the doors."""
AGAIN_S = 60.0
COPY_AFTER_S = 10 * MINUTE_S


class Way(StrEnum):
    """What a scan is."""

    ENTRY = "entry"
    BACK = "back"
    EXIT = "exit"
    COPY = "copy"
    FORGED = "forged"
    TURNED_BACK = "turned back"
    """An entry after which nobody goes through."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A ticket's turn at a lane of a gate. `ticket` counts within the party; `came_s` is when they joined the queue;
    `gate` is an index into those of the entrance."""

    at_s: float
    came_s: float
    ticket: int
    entrance: int
    lane: int
    gate: int
    way: Way
    queue: int = -1
    """Which coming to the entrance it belongs to; -1: no queue, as on the way out."""


@dataclass(slots=True)
class Plan:
    """The day. `turns` by party, each in the order of time; `comings` by entrance, in the order of time, also of those
    who had no turn before closing time."""

    scenario: Scenario
    guests: list[Guests]
    turns: list[list[Turn]]
    comings: list[list[Coming]] = field(default_factory=list)
    turned_away: list[int] = field(default_factory=list)
    """By entrance: parties whose turn would have come after closing time."""
    coming_gates: list[list[int]] = field(default_factory=list)
    """By entrance, of each of its comings: at which gate they stood, as an index into those of the entrance."""

    @property
    def starts_s(self) -> float:
        """When the windows open."""
        return self.scenario.opens - LEAD_S

    @property
    def ends_s(self) -> float:
        """When the last guest is out."""
        last = max((turns[-1].at_s for turns in self.turns if turns), default=float(self.scenario.closes))
        return max(last, float(self.scenario.closes))

    @property
    def scans(self) -> int:
        """How many turns there are."""
        return sum(len(turns) for turns in self.turns)

    def presale(self) -> Counter[tuple[str, str, int]]:
        """Tickets that guests bring along: product, concession, slot."""
        wanted: Counter[tuple[str, str, int]] = Counter()
        for guests in self.guests:
            if guests.buys_s is None:
                for line in guests.kind.tickets:
                    wanted[line.product, line.concession, line.slot] += line.count
        return wanted


@dataclass(frozen=True, slots=True, order=True)
class _Step:
    """A party on its way to an entrance, or out of it. Ordered by time, then by number."""

    at_s: float
    number: int
    guests: Guests = field(compare=False)
    way: Way = field(compare=False)


def make(scenario: Scenario) -> Plan:
    """Plays the day through the lanes. The same scenario gives the same plan."""
    guests = invite(scenario)
    entrances = scenario.entrances
    plan = Plan(
        scenario, guests, [[] for _ in guests], [[] for _ in entrances], [0 for _ in entrances], [[] for _ in entrances]
    )
    lanes = [Lanes(entrance.lanes) for entrance in entrances]
    numbers = count()
    steps = [
        _Step(at_s, next(numbers), party, way) for party in guests for at_s, way in _steps(party) if at_s is not None
    ]
    heapq.heapify(steps)
    while steps:
        step = heapq.heappop(steps)
        for later in _walk(plan, lanes, step):
            heapq.heappush(steps, _Step(later[0], next(numbers), step.guests, later[1]))
    for turns in plan.turns:
        turns.sort(key=lambda turn: turn.at_s)
    return plan


def _steps(party: Guests) -> Iterator[tuple[float | None, Way]]:
    """The first way of each kind of walk: what follows from the turn in the queue is added when that is known."""
    if party.habit is Habit.FORGED:
        yield party.arrives_s - AGAIN_S, Way.FORGED
    yield party.arrives_s, Way.TURNED_BACK if party.habit is Habit.TURN_BACK else Way.ENTRY


def _walk(plan: Plan, lanes: list[Lanes], step: _Step) -> list[tuple[float, Way]]:
    """One walk through the entrance; answers what the party does next."""
    if step.way is Way.EXIT:
        return _go_out(plan, step)
    entrance = plan.scenario.entrances[step.guests.entrance]
    persons = 1 if step.way in {Way.COPY, Way.FORGED} else step.guests.kind.persons
    coming = Coming(step.at_s, service_s(step.guests, step.way, entrance.pace_seconds), persons)
    served = lanes[step.guests.entrance].serve(coming)
    comings = plan.comings[step.guests.entrance]
    comings.append(coming)
    gate = entrance.gate_of(served.lane, served.turn)
    plan.coming_gates[step.guests.entrance].append(gate)
    if served.start_s >= plan.scenario.closes:
        plan.turned_away[step.guests.entrance] += 1
        return []
    _note(plan, step, (served.start_s, served.lane, gate, len(comings) - 1), coming.service_s)
    return _after(step, served.start_s + coming.service_s)


def _note(plan: Plan, step: _Step, place: tuple[float, int, int, int], service_s: float) -> None:
    """One turn for each ticket that is shown, one after the other."""
    (start_s, lane, gate, queue), party = place, step.guests
    shown = 1 if step.way in {Way.COPY, Way.FORGED} else sum(line.count for line in party.kind.tickets)
    apart_s = 0.0 if party.kind.together else service_s / shown
    plan.turns[party.number] += [
        Turn(start_s + ticket * apart_s, step.at_s, ticket, party.entrance, lane, gate, step.way, queue)
        for ticket in range(shown)
    ]


def _after(step: _Step, through_s: float) -> list[tuple[float, Way]]:
    """What the party does once it is through."""
    match step.way:
        case Way.TURNED_BACK:
            return [(through_s + AGAIN_S, Way.ENTRY)]
        case Way.ENTRY:
            copy = [(through_s + COPY_AFTER_S, Way.COPY)] if step.guests.habit is Habit.DOUBLE_USE else []
            return [*copy, (max(step.guests.trips[0].out_s, through_s + AGAIN_S), Way.EXIT)]
        case Way.BACK:
            later = [trip.out_s for trip in step.guests.trips if trip.out_s > step.at_s]
            return [(max(later[0], through_s + AGAIN_S), Way.EXIT)] if later else []
        case _:
            return []


def _go_out(plan: Plan, step: _Step) -> list[tuple[float, Way]]:
    """Exits have room: nobody queues to leave. They come back as the trip says."""
    party = step.guests
    entrance = plan.scenario.entrances[party.entrance]
    lane = party.number % entrance.lanes
    gate = entrance.gate_of(lane, party.number // entrance.lanes)
    tickets = sum(line.count for line in party.kind.tickets)
    apart_s = 0.0 if party.kind.together else 1.0
    plan.turns[party.number] += [
        Turn(step.at_s + ticket * apart_s, step.at_s, ticket, party.entrance, lane, gate, Way.EXIT)
        for ticket in range(tickets)
    ]
    out = [trip for trip in party.trips if trip.out_s <= step.at_s]
    back_s = out[-1].back_s if out else None
    return [(max(back_s, step.at_s + AGAIN_S), Way.BACK)] if back_s is not None else []


def service_s(guests: Guests, way: Way, pace_s: float) -> float:
    """How long a party keeps its lane busy, without the system's part."""
    if way in {Way.COPY, Way.FORGED}:
        return pace_s + REFUSED_S
    proofs = sum(line.count for line in guests.kind.tickets) * PROOF_S if guests.kind.proof and way is Way.ENTRY else 0
    return guests.kind.persons * pace_s + proofs
