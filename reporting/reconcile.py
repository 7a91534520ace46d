"""Compares sets of books, to the unit and the cent (I6). Pure.

A book is a name and its counts. Where several books have a count they must agree; a count that only some books keep
(sales knows nothing of scans) is compared among those. A book that keeps a count but has no such item has zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

SALES_KEEPS = ("registered", "refunded", "rescheduled")
"""What sales counts too; the ledger and Postgres count everything."""


@dataclass(frozen=True, slots=True)
class Count:
    """How many, and what they are worth in minor units."""

    units: int = 0
    amount_minor: int = 0


@dataclass(frozen=True, slots=True)
class CountBook:
    """One set of books. `keeps` names the kinds of count it has (a name's first word); empty: all kinds."""

    name: str
    counts: dict[str, Count] = field(default_factory=dict)
    keeps: tuple[str, ...] = ()

    def has(self, item: str) -> bool:
        """Whether this book would know of an item."""
        return not self.keeps or item.split(" ", maxsplit=1)[0] in self.keeps


@dataclass(frozen=True, slots=True)
class Difference:
    """Books that disagree on an item."""

    item: str
    counts: dict[str, Count]

    def __str__(self) -> str:
        told = ", ".join(f"{name} {count.units} ({count.amount_minor} minor)" for name, count in self.counts.items())
        return f"{self.item}: {told}"


def compare(books: Sequence[CountBook]) -> list[Difference]:
    """Every item on which the books that keep it disagree, by name. Empty: they agree exactly."""
    items = sorted({item for book in books for item in book.counts})
    return [difference for item in items if (difference := _compare_item(item, books)) is not None]


def _compare_item(item: str, books: Sequence[CountBook]) -> Difference | None:
    counts = {book.name: book.counts.get(item, Count()) for book in books if book.has(item)}
    return Difference(item, counts) if len(set(counts.values())) > 1 else None
