"""Which catalogues may be in force when: capacities of zones, and in which zones a product is.

The park is set up with one; a `publish` of the history puts another in force. From the moment it is asked for any owner
may have read it; once it is answered, all have, and what is asked after that is decided by it and by no earlier one.
In between each owner has its own. So an answer is judged by all that may have been in force from its question to the
moment it was durable: it must be right by one of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tests.checker.history import OK, History, Operation

ALWAYS, NEVER = -(2**62), 2**62
"""Since ever, where nobody knows since when; and what never comes."""
Zones = frozenset[int]


@dataclass(frozen=True, slots=True)
class Catalogue:
    """What was published, and from when to when it may be in force. `places`: zones by product; empty: not said."""

    since_ms: int
    until_ms: int
    capacities: Mapping[int, int]
    places: Mapping[int, Zones]


class Catalogues:
    """All of a history, in their order."""

    def __init__(self, history: History) -> None:
        self._all = list(_read(history))

    @property
    def said(self) -> bool:
        """Whether anything is said of the park."""
        return bool(self._all)

    @property
    def limited(self) -> Zones:
        """Zones with a capacity. No catalogue gives one to a zone that had none, or takes it away."""
        return (
            frozenset(zone for zone, limit in self._all[-1].capacities.items() if limit) if self._all else frozenset()
        )

    def last(self, zone: int) -> int:
        """The capacity of a zone in the end."""
        return self._all[-1].capacities[zone]

    def capacities(self, zone: int, since_ms: int | None, until_ms: int | None) -> list[int]:
        """Each that a zone may have had between two instants; None: nobody knows when."""
        return [item.capacities[zone] for item in self._between(since_ms, until_ms) if zone in item.capacities]

    def may_be_in(self, product: int, zone: int, since_ms: int | None, until_ms: int | None) -> set[bool]:
        """Whether a product was in a zone between two instants, by each catalogue that may have been in force; empty if
        none says."""
        return {zone in item.places.get(product, ()) for item in self._between(since_ms, until_ms) if item.places}

    def _between(self, since_ms: int | None, until_ms: int | None) -> Iterator[Catalogue]:
        since = since_ms if since_ms is not None and until_ms is not None else ALWAYS
        until = until_ms if until_ms is not None else NEVER
        return (item for item in self._all if item.since_ms <= until and since <= item.until_ms)


def _read(history: History) -> Iterator[Catalogue]:
    published = list(history.of("park", "publish"))
    for number, item in enumerate(published):
        # One that was never answered may be in force, and so may those before it: until a later one was answered.
        ended = [
            later.completed for later in published[number + 1 :] if later.completed is not None and _is_done(later)
        ]
        yield Catalogue(
            item.invoked if item.kind == "publish" else ALWAYS,
            min(ended, default=NEVER),
            {int(zone): limit for zone, limit in item.request["capacities"].items()},
            {int(product): frozenset(zones) for product, zones in item.request.get("places", {}).items()},
        )


def _is_done(item: Operation) -> bool:
    return item.completed is not None and item.outcome == OK
