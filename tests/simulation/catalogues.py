"""What is published on a simulated day: the catalogue that it begins with; on some, others while gates are open."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from tests.cluster import small_park
from tests.simulation.guests import ARENA_CAPACITY
from tests.simulation.remembered import read_catalogue
from ticketcore.catalogue_document import canonical_json

LATER = 5
"""Catalogues after the first: publishing takes some seconds while owners are killed."""
CAPACITIES = tuple(range(ARENA_CAPACITY - 1, ARENA_CAPACITY + 2))
NEW, MOVED = "rides", "two-day"
"""Products: one that every second catalogue has not, and one that every second takes out of the arena."""


@dataclass(frozen=True, slots=True)
class Published:
    """A catalogue as it is published."""

    version: int
    document: bytes

    def said(self) -> dict[str, Any]:
        """As histories have it: its capacities and places, by number."""
        catalogue = read_catalogue(self.document)
        zones = catalogue.zones
        return {
            "capacities": {str(zone.number): zone.capacity for zone in zones.values()},
            "places": {
                str(product.number): [zones[zone].number for zone in product.zones]
                for product in catalogue.products.values()
            },
        }


def catalogues(chance: random.Random, *, change: bool) -> list[Published]:
    """Those of a day, in their order: one, or several with changes."""
    if not change:
        return [Published(1, canonical_json(_document(ARENA_CAPACITY)))]
    first = canonical_json(_without_the_new(_document(ARENA_CAPACITY)))
    later = (_changed(_document(chance.choice(CAPACITIES)), number) for number in range(LATER))
    return [Published(1, first), *(Published(number, canonical_json(park)) for number, park in enumerate(later, 2))]


def _changed(park: dict[str, Any], number: int) -> dict[str, Any]:
    """By turns: the new product is there and the moved one has gone; and the other way round."""
    if number % 2:
        return _without_the_new(park)
    for product in park["products"]:
        if product["id"] == MOVED:
            product["zones"] = ["park"]
    return park


def _without_the_new(park: dict[str, Any]) -> dict[str, Any]:
    return park | {"products": [product for product in park["products"] if product["id"] != NEW]}


def _document(arena_capacity: int) -> dict[str, Any]:
    """The small park with a second main gate and a second gate to the arena."""
    park = small_park.document(arena_capacity)
    park["gates"] += [
        {"id": "main-2", "number": 13, "name": "Main 2", "zone": "park", "passage_timeout_seconds": 2},
        {"id": "arena-2", "number": 22, "name": "Arena 2", "zone": "arena", "passage_timeout_seconds": 2},
    ]
    return park
