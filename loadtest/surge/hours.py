"""Whether a park lets the guests of a rehearsal in at this hour: it is taken as it is, with its clock. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from loadtest.surge.scenario import Scenario
from ops.errors import BadInput
from ticketcore.admission import Terms, standing
from ticketcore.catalogue import DAY_MINUTES, Catalogue, Product
from ticketcore.reasons import Reason
from ticketcore.rules import Rules, compile_rules, moment_at

SELLING = timedelta(seconds=30)
"""Until the first guest comes: the tickets that were bought ahead are sold."""


def check_hours(scenario: Scenario, catalogue: Catalogue, now: datetime) -> None:
    """Whether tickets of today are let in from `now` (aware) until the rehearsal's day is over.

    Raises: BadInput that names every ticket that no gate of the scenario lets in by then, why, and when they would.
    """
    end = now + SELLING + timedelta(seconds=scenario.seconds)
    rules = compile_rules(catalogue, 1)
    faults = list(_faults(scenario, catalogue, rules, now, end))
    if faults:
        local = now.astimezone(catalogue.venue.time_zone)
        listed = "\n".join(f"  - {fault}" for fault in faults)
        raise BadInput(
            f"It is {local:%H:%M} on {local:%Y-%m-%d} at the park, and it would refuse guests of {scenario.name!r}:\n"
            f"{listed}",
            "Rehearse at such an hour, publish a catalogue with other hours there, or leave --address away: a system "
            "of its own has the hours that it needs.",
        )


def _faults(scenario: Scenario, catalogue: Catalogue, rules: Rules, now: datetime, end: datetime) -> Iterator[str]:
    kinds = dict.fromkeys((line.product, line.slot) for party in scenario.parties for line in party.tickets)
    numbers = [catalogue.gates[gate].number for gate in scenario.gates]
    for product_id, slot in kinds:
        product = catalogue.products[product_id]
        first, last = (_reason(product, slot, rules, numbers, at, now) for at in (now, end))
        if first is not Reason.NONE or last is not Reason.NONE:
            named = f"{product.name}, slot {slot}" if slot else product.name
            met = first if first is not Reason.NONE else last
            yield f"{named}: {_words(product, slot, rules, met)}"


def _reason(product: Product, slot: int, rules: Rules, gates: list[int], at: datetime, bought: datetime) -> Reason:
    """What a ticket for the day on which it was bought is told at the gate that is best for it."""
    first_day = moment_at(round(bought.timestamp() * 1000), rules.time_zone).day
    terms = Terms(product.number, first_day, product.valid_days, slot, product.persons, product.entries, 0)
    moment = moment_at(round(at.timestamp() * 1000), rules.time_zone)
    reasons = [standing(terms, rules, gate, moment).reason for gate in gates]
    elsewhere = (Reason.WRONG_GATE, Reason.WRONG_PRODUCT)
    return min(reasons, key=lambda reason: (reason is not Reason.NONE, reason in elsewhere))


def _words(product: Product, slot: int, rules: Rules, met: Reason) -> str:
    if met is Reason.BLACKOUT_DATE:
        return "is not valid today, a blackout date"
    if met is Reason.WRONG_GATE:
        return "is for none of the gates of the scenario"
    if met is Reason.WRONG_PRODUCT:
        return f"has no slot {slot}" if product.slot_schedule else "is for none of the gates of the scenario"
    if product.slot_schedule:
        window = next(rule.slots[slot] for rule in rules.pairs.values() if rule.product_number == product.number)
    else:
        window = (product.opens_minute, product.closes_minute)
        if window == (0, DAY_MINUTES):
            return "is for one day, and that ends before the rehearsal does"
    return f"is let in from {_clock(window[0])} to {_clock(window[1])}"


def _clock(minute: int) -> str:
    """A minute of the park's day as on a clock; 24:00 is its end."""
    if not 0 <= minute <= DAY_MINUTES:
        minute %= DAY_MINUTES
    return f"{minute // 60:02d}:{minute % 60:02d}"
