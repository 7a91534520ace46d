"""Order lines, as they are asked for and as they are priced. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from ticketcore.money import share_evenly


@dataclass(frozen=True, slots=True)
class OrderLine:
    """`count` tickets of a product (or bundles) for a concession, from `visit_date` on, for slot `slot` (0: none)."""

    product_id: str
    concession: str
    count: int
    visit_date: date
    slot: int = 0


@dataclass(frozen=True, slots=True)
class PricedLine:
    """A line and its price. `total_minor` is for `count - free_count` tickets.

    Of a bundle, it is one ticket of each of `count` bundles, which are numbered from `first_bundle` on.
    """

    line: OrderLine
    product_number: int
    unit_price_minor: int
    free_count: int
    bundle_id: str = ""
    first_bundle: int = 0

    @property
    def total_minor(self) -> int:
        """What the line costs."""
        return self.unit_price_minor * (self.line.count - self.free_count)

    def ticket_prices(self) -> tuple[int, ...]:
        """What each ticket of the line carries; sums to the total exactly."""
        return share_evenly(self.total_minor, self.line.count)
