"""Which price of a product or bundle fits a concession and a date."""

from __future__ import annotations

from datetime import date

from ticketcore.catalogue import Bundle, Price, Product


def price_of(priced: Product | Bundle, concession: str, visit_date: date) -> Price | None:
    """The last price that fits the concession and date."""
    for price in reversed(priced.prices):
        if price.concession == concession and _fits(price, visit_date):
            return price
    return None


def _fits(price: Price, day: date) -> bool:
    return (
        (price.first_day is None or price.first_day <= day)
        and (price.last_day is None or day <= price.last_day)
        and (not price.weekdays or day.weekday() in price.weekdays)
    )
