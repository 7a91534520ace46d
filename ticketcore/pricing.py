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

from ticketcore.bundles import parts_of, price_bundle, unsellable_part
from ticketcore.catalogue import Bundle, Catalogue, Product
from ticketcore.errors import InvalidInputError, InvalidInputsError
from ticketcore.lines import OrderLine, PricedLine
from ticketcore.prices import price_of

__all__ = ["OrderLine", "PricedLine", "QuotaNeed", "line_problems", "price_lines", "quota_limits", "quota_needs"]

MAX_LINES = 64
"""Lines of an order; a hold takes as many."""
MAX_LINE_COUNT = 1_000
MAX_TICKETS = 10_000
"""Tickets of an order: what one call to the cluster registers."""
MAX_DAYS_AHEAD = 730
"""A visit date further ahead is a typing error; no catalogue has its prices."""


@dataclass(frozen=True, slots=True)
class QuotaNeed:
    """Units of a quota that lines need, and the quota's limit."""

    quota_key: str
    units: int
    limit: int


def price_lines(catalogue: Catalogue, lines: Sequence[OrderLine], channel: str, today: date) -> tuple[PricedLine, ...]:
    """Prices an order. A bundle's line becomes several: see `ticketcore.bundles`.

    Raises:
        InvalidInputsError: with every fault of every line.
    """
    problems = _order_problems(lines, channel, catalogue)
    for index, line in enumerate(lines):
        problems += [f"lines[{index}].{problem}" for problem in line_problems(catalogue, line, channel, today)]
    _raise_any(problems)
    single = [line for line in lines if line.product_id not in catalogue.bundles]
    _raise_any(_group_problems(catalogue, single))
    units = [unit_price(catalogue.products[line.product_id], line.concession, line.visit_date) for line in single]
    prices = iter(zip(units, _free_counts(catalogue, single, units), strict=True))
    result: list[PricedLine] = []
    bundles = 0
    for line in lines:
        if line.product_id in catalogue.bundles:
            result += price_bundle(catalogue, line, bundles + 1)
            bundles += line.count
        else:
            result.append(PricedLine(line, catalogue.products[line.product_id].number, *next(prices)))
    _raise_any(_size_problems([item.line for item in result]))
    return tuple(result)


def _raise_any(problems: list[str]) -> None:
    if problems:
        raise InvalidInputsError("order", problems)


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
    problems = _size_problems(lines)
    if catalogue.channels and channel not in catalogue.channels:
        problems.append(f"channel: {channel!r} does not exist; known are {', '.join(sorted(catalogue.channels))}")
    return problems


def _size_problems(lines: Sequence[OrderLine]) -> list[str]:
    """Of lines as they are asked for, and, with bundles opened, as they are sold."""
    problems = []
    if not 1 <= len(lines) <= MAX_LINES:
        problems.append(f"lines: are {len(lines)}, expected 1 to {MAX_LINES} (a bundle counts once for each ticket)")
    if sum(line.count for line in lines) > MAX_TICKETS:
        problems.append(
            f"lines: ask for {sum(line.count for line in lines)} tickets, at most {MAX_TICKETS} go together"
        )
    return problems


def line_problems(catalogue: Catalogue, line: OrderLine, channel: str, today: date) -> list[str]:
    """What forbids to sell a line, each as `field: what, and what to do`."""
    sold: Product | Bundle | None = catalogue.products.get(line.product_id) or catalogue.bundles.get(line.product_id)
    if sold is None:
        known = ", ".join(sorted({*catalogue.products, *catalogue.bundles}))
        return [f"product_id: {line.product_id!r} does not exist; known are {known}"]
    problems = []
    if not 1 <= line.count <= MAX_LINE_COUNT:
        problems.append(f"count: is {line.count}, expected 1 to {MAX_LINE_COUNT}")
    if sold.channels and channel not in sold.channels:
        problems.append(f"product_id: {sold.id!r} is not sold in channel {channel!r}")
    problems += _concession_problems(catalogue, sold, line)
    if isinstance(sold, Product):
        return problems + _date_problems(sold, line, today) + _slot_problems(catalogue, sold, line)
    return problems + _part_problems(catalogue, sold, line, today)


def _concession_problems(catalogue: Catalogue, sold: Product | Bundle, line: OrderLine) -> list[str]:
    if line.concession not in catalogue.concessions:
        known = ", ".join(sorted(catalogue.concessions))
        return [f"concession: {line.concession!r} does not exist; known are {known}"]
    if price_of(sold, line.concession, line.visit_date) is None:
        return [f"concession: {sold.id!r} has no price for {line.concession!r} on {line.visit_date}"]
    return []


def _part_problems(catalogue: Catalogue, bundle: Bundle, line: OrderLine, today: date) -> list[str]:
    """What forbids to sell a part of a bundle, each said once."""
    missing = unsellable_part(catalogue, bundle, line.concession, line.visit_date)
    problems = [f"concession: {missing!r}, a part, has no price for it on {line.visit_date}"] if missing else []
    parts = parts_of(catalogue, line)
    for part in parts:
        product = catalogue.products[part.product_id]
        problems += _date_problems(product, part, today) + _slot_problems(catalogue, product, part)
    if line.slot and not any(part.slot for part in parts):
        problems.append(f"slot: {bundle.id!r} has no part with slots, expected 0")
    return list(dict.fromkeys(problems))


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
