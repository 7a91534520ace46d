"""What is sold before the doors open: in which blocks, and what the ramp leaves of a quota. Decides; a desk does it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from loadtest.surge.plan import Plan
from parkgate.sales.v1 import sales_pb2 as pb
from ticketcore.catalogue import Catalogue

BLOCK = 200
"""Tickets of an order: agencies buy in blocks, and so many are answered with the order."""
HELD_BLOCK = 1_000
"""Tickets of an order that is only held: as many as a line of it may have."""
Kind = tuple[str, str, int]
"""Product, concession, slot."""


class SoldOut(Exception):
    """Too few places are left."""


class Desk(Protocol):
    """Where agencies buy."""

    def sell(self, kind: Kind, count: int) -> list[pb.Ticket]:
        """So many tickets of a kind, or none. Raises: SoldOut."""

    def hold(self, kind: Kind, count: int) -> int:
        """Keeps them for an order; answers its id. Raises: SoldOut."""

    def cancel(self, order_id: int) -> None:
        """Gives up what was held."""


class Presale:
    """Buys until a kind is sold out. How much of a quota is left nobody tells a window: it finds out by asking for half
    as much as was refused, and stops asking once not even the smallest order is granted."""

    def __init__(self, desk: Desk, catalogue: Catalogue) -> None:
        self.sold_out: set[Kind] = set()
        self._desk = desk
        self._catalogue = catalogue

    def buy(self, kind: Kind, count: int) -> list[pb.Ticket]:
        """So many tickets, or as many as are left."""
        if kind in self.sold_out:
            return []
        try:
            return self._desk.sell(kind, count)
        except SoldOut:
            half = count // 2
            if half < self._catalogue.concessions[kind[1]].min_persons:
                self.sold_out.add(kind)
                return []
            return self.buy(kind, count - half) + self.buy(kind, half)

    @contextmanager
    def held(self, wanted: Mapping[Kind, int]) -> Iterator[bool]:
        """Keeps tickets meanwhile, so that somebody else's purchase leaves them; False where they are too few."""
        orders: list[int] = []
        try:
            yield self._hold(wanted, orders)
        finally:
            for order_id in orders:
                self._desk.cancel(order_id)

    def _hold(self, wanted: Mapping[Kind, int], orders: list[int]) -> bool:
        try:
            for kind, count in wanted.items():
                for size in blocks_of(count, HELD_BLOCK):
                    orders.append(self._desk.hold(kind, size))
        except SoldOut:
            return False
        return True


def blocks_of(count: int, most: int = BLOCK) -> Iterator[int]:
    """Orders of about the same size: what is left over may be fewer than a group's price asks for."""
    orders = -(-count // most)
    for number in range(orders):
        yield count // orders + (number < count % orders)


def wanted_on_the_day(plan: Plan, catalogue: Catalogue) -> Counter[Kind]:
    """Tickets that guests of the day will buy from the ramp's quota; none where its product has no quota."""
    ramp, wanted = plan.scenario.ramp, Counter[Kind]()
    if ramp is None or not catalogue.products[ramp.product].daily_quota:
        return wanted
    for guests in plan.guests:
        if guests.buys_s is not None:
            for line in guests.kind.tickets:
                if line.product == ramp.product:
                    wanted[line.product, line.concession, line.slot] += line.count
    return wanted
