"""What is sold before the doors open: in which blocks, and how much of a quota the ramp may take. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from loadtest.surge.plan import Plan
from ticketcore.catalogue import Catalogue

BLOCK = 200
"""Tickets of an order: agencies buy in blocks, and so many are answered with the order."""


def blocks_of(count: int) -> Iterator[int]:
    """Orders of about the same size: what is left over may be fewer than a group's price asks for."""
    orders = -(-count // BLOCK)
    for number in range(orders):
        yield count // orders + (number < count % orders)


def ramp_room(plan: Plan, catalogue: Catalogue) -> int:
    """How many tickets the ramp may take: where its product has a quota, not those that guests of the day want."""
    ramp = plan.scenario.ramp
    if ramp is None:
        return 0
    quota = catalogue.products[ramp.product].daily_quota
    lines = [line for guests in plan.guests for line in guests.kind.tickets if line.product == ramp.product]
    wanted = sum(line.count * line.persons for line in lines)
    return min(ramp.tickets, max(quota - wanted, 0)) if quota else ramp.tickets
