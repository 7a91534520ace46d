"""Bundles: tickets of several products at one price. The price is shared over the tickets to the cent, by rule.

A bundle becomes, line by line, what its parts are: one priced line for each ticket of one bundle, `count` times. So the
tickets, their quotas and their revenue are those of their own products; after pricing, only a refund asks for bundles.

The rule: each ticket's share is proportional to its part's `weight`, or without weights to the product's own price for
that concession and date; whole cents by the largest remainder, the first of equal ones first. A fee on the whole is
shared by the tickets' prices in the same way. Shares always sum to the whole exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date

from ticketcore.catalogue import Bundle, Catalogue
from ticketcore.lines import OrderLine, PricedLine
from ticketcore.money import share_by_weight
from ticketcore.prices import price_of


def parts_of(catalogue: Catalogue, line: OrderLine) -> tuple[OrderLine, ...]:
    """The lines of a bundle's line: one for each ticket that one bundle holds."""
    bundle = catalogue.bundles[line.product_id]
    return tuple(
        replace(line, product_id=part.product, slot=line.slot if catalogue.products[part.product].slot_schedule else 0)
        for part in bundle.parts
        for _ in range(part.count)
    )


def price_bundle(catalogue: Catalogue, line: OrderLine, first_number: int) -> tuple[PricedLine, ...]:
    """A bundle's line, priced: `line.count` bundles, numbered within their order from `first_number` on."""
    bundle = catalogue.bundles[line.product_id]
    price = price_of(bundle, line.concession, line.visit_date)
    parts = parts_of(catalogue, line)
    shares = share_by_weight(price.price_minor if price else 0, _weights(catalogue, bundle, parts))
    return tuple(
        PricedLine(part, catalogue.products[part.product_id].number, share, 0, bundle.id, first_number)
        for part, share in zip(parts, shares, strict=True)
    )


def _weights(catalogue: Catalogue, bundle: Bundle, parts: Sequence[OrderLine]) -> list[int]:
    given = [part.weight for part in bundle.parts for _ in range(part.count)]
    if any(given):
        return given
    prices = [price_of(catalogue.products[part.product_id], part.concession, part.visit_date) for part in parts]
    return [price.price_minor if price else 0 for price in prices]


def share_fee(fee_minor: int, prices_minor: Sequence[int]) -> tuple[int, ...]:
    """A fee on the whole, as it falls on each ticket; never more than the ticket's price."""
    return share_by_weight(fee_minor, prices_minor)


def unsellable_part(catalogue: Catalogue, bundle: Bundle, concession: str, day: date) -> str:
    """The product of the bundle that is not sold to that concession on that day; empty if all are."""
    missing = (p.product for p in bundle.parts if price_of(catalogue.products[p.product], concession, day) is None)
    return next(missing, "")
