"""Whether a scenario fits a park: its gates, products, concessions and slots are there, and can be bought. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from difflib import get_close_matches

from loadtest.surge.scenario import Fault, Place, Scenario, Source, Tickets
from ops.errors import BadInput
from ticketcore.catalogue import Catalogue
from ticketcore.lines import OrderLine
from ticketcore.pricing import line_problems

NIGHT_SHOW = "night-show"
"""Product of the example park whose slots the table [park] can change."""


def check(scenario: Scenario, source: Source, catalogue: Catalogue, today: date) -> None:
    """Whether it fits a park as it is. Raises: BadInput with everything that does not, each with its line."""
    _refuse(scenario, source, _faults(scenario, catalogue, today))


def check_own(scenario: Scenario, source: Source, example: Catalogue, today: date) -> None:
    """Whether it fits the rehearsal's own park, with what it changes there. Raises: BadInput, as `check`."""
    _refuse(scenario, source, [*_faults(scenario, example, today), *_park_faults(scenario, example)])


def _refuse(scenario: Scenario, source: Source, faults: Iterable[Fault]) -> None:
    told = "".join(f"\n  - {one}" for one in source.told(faults))
    if told:
        raise BadInput(f"The scenario {scenario.name!r} does not fit the park:{told}")


def _faults(scenario: Scenario, catalogue: Catalogue, today: date) -> Iterator[Fault]:
    for number, party in enumerate(scenario.parties):
        for item, line in enumerate(party.tickets):
            yield from _ticket_faults(line, ("parties", number, "tickets", item), catalogue, today)
    for number, entrance in enumerate(scenario.entrances):
        yield from _gate_faults(entrance.gates, ("entrances", number, "gates"), catalogue)
    if scenario.ramp is not None:
        line = Tickets(product=scenario.ramp.product, concession=scenario.ramp.concession, count=1, persons=1, slot=0)
        yield from _ticket_faults(line, ("ramp",), catalogue, today)
        yield from _gate_faults(scenario.ramp.gates, ("ramp", "gates"), catalogue)


def _ticket_faults(line: Tickets, place: Place, catalogue: Catalogue, today: date) -> Iterator[Fault]:
    unknown = [
        *_unknown("product", {(*place, "product"): line.product}, catalogue.products),
        *_unknown("concession", {(*place, "concession"): line.concession}, catalogue.concessions),
    ]
    yield from unknown or _unsellable(line, place, catalogue, today)


def _unsellable(line: Tickets, place: Place, catalogue: Catalogue, today: date) -> Iterator[Fault]:
    """What sales would refuse, whatever the day and the channel."""
    channel = next(iter(catalogue.products[line.product].channels), "")
    order = OrderLine(line.product, line.concession, line.count, today, line.slot)
    for problem in line_problems(catalogue, order, channel, today):
        name, _, said = problem.partition(": ")
        if name in {"slot", "concession"}:
            yield (*place, name), said


def _gate_faults(gates: Sequence[str], place: Place, catalogue: Catalogue) -> Iterator[Fault]:
    yield from _unknown("gate", {(*place, number): gate for number, gate in enumerate(gates)}, catalogue.gates)
    if len({catalogue.gates[gate].zone for gate in gates if gate in catalogue.gates}) > 1:
        yield place, "they lead into several zones"


def _park_faults(scenario: Scenario, catalogue: Catalogue) -> Iterator[Fault]:
    schedule = catalogue.schedules[catalogue.products[NIGHT_SHOW].slot_schedule]
    park, slots = scenario.park, [str(slot.number) for slot in schedule.slots]
    for what, table, wanted, known in (
        ("zone", "capacity", park.capacity, catalogue.zones),
        ("product", "daily_quota", park.daily_quota, catalogue.products),
        ("slot", "slot_quota", park.slot_quota, slots),
    ):
        yield from _unknown(what, {("park", table, name): name for name in wanted}, known)


def _unknown(what: str, wanted: dict[Place, str], known: Iterable[str]) -> Iterator[Fault]:
    names = list(known)
    for place, one in wanted.items():
        if one not in names:
            near = get_close_matches(one, names, n=1)
            meant = f"did you mean {near[0]}?" if near else f"known are {', '.join(names)}"
            yield place, f"there is no {what} {one}; {meant}"
