"""What a refund pays, and what a ticket may be moved to. Whether it was used, its owner says."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from enum import Enum

from ticketcore.catalogue import Bundle, Catalogue, PriceDifference, Product
from ticketcore.lines import OrderLine
from ticketcore.money import Rounding, percent_of
from ticketcore.prices import price_of
from ticketcore.pricing import line_problems


class RefundReason(Enum):
    """Why: a guest's wish pays the product's fees; the park's own fault waives them, and the tiers' deadline."""

    GUEST_WISH = "guest_wish"
    WAIVED = "waived"


@dataclass(frozen=True, slots=True)
class RefundQuote:
    """What refunding a ticket pays. With a `refusal` nothing is paid; price = fee + refund in any case."""

    price_minor: int
    fee_minor: int
    refusal: str = ""

    @property
    def refund_minor(self) -> int:
        """What is paid back."""
        return self.price_minor - self.fee_minor


def quote_refund(
    product: Product | Bundle,
    price_minor: int,
    visit_date: date,
    today: date,
    reason: RefundReason = RefundReason.GUEST_WISH,
) -> RefundQuote:
    """The refund of an unused ticket asked on the park's day `today`."""
    if reason is RefundReason.WAIVED:
        return RefundQuote(price_minor, 0)
    if not product.refundable:
        return RefundQuote(price_minor, price_minor, f"{product.id!r} is not refundable")
    days_before = (visit_date - today).days
    for tier in product.refund_tiers:
        if days_before >= tier.days_before:
            return RefundQuote(price_minor, percent_of(price_minor, tier.fee_percent, Rounding.HALF_UP))
    if not product.refund_tiers and days_before >= 0:
        return RefundQuote(price_minor, 0)
    last = product.refund_tiers[-1].days_before if product.refund_tiers else 0
    return RefundQuote(price_minor, price_minor, f"the last day to refund it was {visit_date - timedelta(days=last)}")


@dataclass(frozen=True, slots=True)
class Move:
    """A ticket's wish for another date or slot."""

    concession: str
    channel: str
    visit_date: date
    slot: int
    to_date: date
    to_slot: int


@dataclass(frozen=True, slots=True)
class MoveQuote:
    """What a move does to a ticket's price: the guest pays `difference_minor`, or is paid it back where it is negative.

    With a `refusal` nothing is moved.
    """

    price_minor: int
    difference_minor: int = 0
    refusal: str = ""


def quote_move(catalogue: Catalogue, product: Product, move: Move, paid_minor: int, today: date) -> MoveQuote:
    """Whether a ticket may be moved, should it be unused, and at which price.

    The difference is that of the two dates' prices in the catalogue in force, so that what was taken off the price paid
    (a group's free ticket) stays taken off; a ticket never costs less than nothing.
    """
    refusal = _move_refusal(catalogue, product, move, today)
    if refusal:
        return MoveQuote(paid_minor, refusal=refusal)
    now, then = price_of(product, move.concession, move.visit_date), price_of(product, move.concession, move.to_date)
    difference = then.price_minor - now.price_minor if now is not None and then is not None else 0
    rule = product.price_difference
    if difference > 0 and rule is PriceDifference.KEEP:
        return MoveQuote(paid_minor, refusal=f"{move.to_date} costs more; refund the ticket and buy another")
    if difference < 0 and rule is not PriceDifference.SETTLE:
        difference = 0
    difference = max(difference, -paid_minor)
    return MoveQuote(paid_minor + difference, difference)


def _move_refusal(catalogue: Catalogue, product: Product, move: Move, today: date) -> str:
    if not product.reschedulable:
        return f"{product.id!r} cannot be moved to another date"
    if today > move.visit_date + timedelta(days=product.valid_days - 1):
        return f"its last day was {move.visit_date + timedelta(days=product.valid_days - 1)}"
    if (move.to_date, move.to_slot) == (move.visit_date, move.slot):
        return "it is for that date and slot already"
    line = OrderLine(product.id, move.concession, 1, move.to_date, move.to_slot)
    problems = line_problems(catalogue, line, move.channel, today)
    return problems[0] if problems else ""
