"""What order lines cost, and which quotas they need. Arguments in, values out; `today` is the park's civil day.

A group's free tickets: of every n persons of a concession with `free_every` n on one order, one is free, and the free
ones are the cheapest. The line's total is then shared evenly over its tickets, so that each of them carries its part
of the price and refunding nine of ten never leaves the tenth as a gift.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from ticketcore.catalogue import Catalogue, Price, Product
from ticketcore.errors import InvalidInputError, InvalidInputsError
from ticketcore.money import share_evenly

MAX_LINES = 64
"""Lines of an order; a hold takes as many."""
MAX_LINE_COUNT = 1_000
MAX_TICKETS = 10_000
"""Tickets of an order: what one call to the cluster registers."""
MAX_DAYS_AHEAD = 730
"""A visit date further ahead is a typing error; no catalogue has its prices."""


@dataclass(frozen=True, slots=True)
class OrderLine:
    """`count` tickets of a product for a concession, from `visit_date` on, for slot `slot` (0: none)."""

    product_id: str
    concession: str
    count: int
    visit_date: date
    slot: int = 0


@dataclass(frozen=True, slots=True)
class PricedLine:
    """A line and its price. `total_minor` is for `count - free_count` tickets."""

    line: OrderLine
    product_number: int
    unit_price_minor: int
    free_count: int

    @property
    def total_minor(self) -> int:
        """What the line costs."""
        return self.unit_price_minor * (self.line.count - self.free_count)

    def ticket_prices(self) -> tuple[int, ...]:
        """What each ticket of the line carries; sums to the total exactly."""
        return share_evenly(self.total_minor, self.line.count)


@dataclass(frozen=True, slots=True)
class QuotaNeed:
    """Units of a quota that lines need, and the quota's limit."""

    quota_key: str
    units: int
    limit: int


def price_of(product: Product, concession: str, visit_date: date) -> Price | None:
    """The last price that fits the concession and date."""
    for price in reversed(product.prices):
        if price.concession == concession and _fits(price, visit_date):
            return price
    return None


def _fits(price: Price, day: date) -> bool:
    return (
        (price.first_day is None or price.first_day <= day)
        and (price.last_day is None or day <= price.last_day)
        and (not price.weekdays or day.weekday() in price.weekdays)
    )


def price_lines(catalogue: Catalogue, lines: Sequence[OrderLine], channel: str, today: date) -> tuple[PricedLine, ...]:
    """Prices an order.

    Raises:
        InvalidInputsError: with every fault of every line.
    """
    problems = _order_problems(lines, channel, catalogue)
    for index, line in enumerate(lines):
        problems += [f"lines[{index}].{problem}" for problem in line_problems(catalogue, line, channel, today)]
    if problems:
        raise InvalidInputsError("order", problems)
    problems = _group_problems(catalogue, lines)
    if problems:
        raise InvalidInputsError("order", problems)
    units = [unit_price(catalogue.products[line.product_id], line.concession, line.visit_date) for line in lines]
    free = _free_counts(catalogue, lines, units)
    return tuple(
        PricedLine(line, catalogue.products[line.product_id].number, unit, free_count)
        for line, unit, free_count in zip(lines, units, free, strict=True)
    )


def unit_price(product: Product, concession: str, visit_date: date) -> int:
    """Price of one ticket.

    Raises:
        InvalidInputError: it is not sold to that concession on that date.
    """
    price = price_of(product, concession, visit_date)
    if price is None:
        raise InvalidInputError(f"{product.id!r} has no price for {concession!r} on {visit_date}")
    return price.price_minor


def _order_problems(lines: Sequence[OrderLine], channel: str, catalogue: Catalogue) -> list[str]:
    problems = []
    if not 1 <= len(lines) <= MAX_LINES:
        problems.append(f"lines: are {len(lines)}, expected 1 to {MAX_LINES}")
    if sum(line.count for line in lines) > MAX_TICKETS:
        problems.append(
            f"lines: ask for {sum(line.count for line in lines)} tickets, at most {MAX_TICKETS} go together"
        )
    if catalogue.channels and channel not in catalogue.channels:
        problems.append(f"channel: {channel!r} does not exist; known are {', '.join(sorted(catalogue.channels))}")
    return problems


def line_problems(catalogue: Catalogue, line: OrderLine, channel: str, today: date) -> list[str]:
    """What forbids to sell a line, each as `field: what, and what to do`."""
    product = catalogue.products.get(line.product_id)
    if product is None:
        known = ", ".join(sorted(catalogue.products))
        return [f"product_id: {line.product_id!r} does not exist; known are {known}"]
    problems = []
    if not 1 <= line.count <= MAX_LINE_COUNT:
        problems.append(f"count: is {line.count}, expected 1 to {MAX_LINE_COUNT}")
    if product.channels and channel not in product.channels:
        problems.append(f"product_id: {product.id!r} is not sold in channel {channel!r}")
    if line.concession not in catalogue.concessions:
        known = ", ".join(sorted(catalogue.concessions))
        problems.append(f"concession: {line.concession!r} does not exist; known are {known}")
    elif price_of(product, line.concession, line.visit_date) is None:
        problems.append(f"concession: {product.id!r} has no price for {line.concession!r} on {line.visit_date}")
    return problems + _date_problems(product, line, today) + _slot_problems(catalogue, product, line)


def _date_problems(product: Product, line: OrderLine, today: date) -> list[str]:
    last = today + timedelta(days=MAX_DAYS_AHEAD)
    if not today <= line.visit_date <= last:
        return [f"visit_date: {line.visit_date} is not within {today} to {last}"]
    if product.valid_days == 1 and line.visit_date in product.blackout_dates:
        return [f"visit_date: {product.id!r} is not valid on {line.visit_date}"]
    return []


def _slot_problems(catalogue: Catalogue, product: Product, line: OrderLine) -> list[str]:
    if not product.slot_schedule:
        return [f"slot: {product.id!r} has no slots, expected 0"] if line.slot else []
    if catalogue.slot(product, line.slot) is None:
        known = ", ".join(str(slot.number) for slot in catalogue.schedules[product.slot_schedule].slots)
        return [f"slot: {line.slot} does not exist for {product.id!r}; known are {known}"]
    return []


def _group_problems(catalogue: Catalogue, lines: Sequence[OrderLine]) -> list[str]:
    persons: dict[str, int] = defaultdict(int)
    for line in lines:
        persons[line.concession] += line.count * catalogue.products[line.product_id].persons
    return [
        f"lines: {name!r} is sold to {catalogue.concessions[name].min_persons} persons or more, and these are {count}"
        for name, count in persons.items()
        if count < catalogue.concessions[name].min_persons
    ]


def _free_counts(catalogue: Catalogue, lines: Sequence[OrderLine], units: Sequence[int]) -> list[int]:
    free = [0] * len(lines)
    for name in sorted({line.concession for line in lines}):
        every = catalogue.concessions[name].free_every
        mine = sorted(
            (unit, i) for i, (line, unit) in enumerate(zip(lines, units, strict=True)) if line.concession == name
        )
        left = sum(lines[i].count for _, i in mine) // every if every else 0
        for _, index in mine:
            free[index] = min(left, lines[index].count)
            left -= free[index]
    return free


def quota_limits(catalogue: Catalogue, product: Product, visit_date: date, slot: int) -> dict[str, int]:
    """The quotas that one ticket takes `product.persons` units of, with their limits; {} if it is not limited."""
    limits: dict[str, int] = {}
    if product.daily_quota:
        limits[f"product={product.number};date={visit_date}"] = product.daily_quota
    found = catalogue.slot(product, slot)
    if found is not None:
        limits[f"product={product.number};date={visit_date};slot={slot}"] = found.quota
    return limits


def quota_needs(catalogue: Catalogue, lines: Sequence[OrderLine]) -> tuple[QuotaNeed, ...]:
    """What an order takes from quotas, by key; units are persons."""
    units: dict[str, int] = defaultdict(int)
    limits: dict[str, int] = {}
    for line in lines:
        product = catalogue.products[line.product_id]
        for key, limit in quota_limits(catalogue, product, line.visit_date, line.slot).items():
            units[key] += line.count * product.persons
            limits[key] = limit
    return tuple(QuotaNeed(key, units[key], limits[key]) for key in sorted(units))
