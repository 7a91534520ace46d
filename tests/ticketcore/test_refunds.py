"""Refund tiers and moves, before, at and after each boundary."""

from dataclasses import replace
from datetime import date, timedelta

import pytest

from tests.ticketcore.park import park
from ticketcore.catalogue import PriceDifference
from ticketcore.refunds import Move, MoveQuote, RefundReason, quote_move, quote_refund

VISIT = date(2026, 12, 10)


@pytest.mark.parametrize(
    ("days_before", "fee"), [(8, 0), (7, 0), (6, 1000), (2, 1000), (1, 1000), (0, 5000), (-1, None), (-2, None)]
)
def test_the_fee_follows_the_days_before_the_visit(days_before: int, fee: int | None) -> None:
    quote = quote_refund(park().products["day"], 10_000, VISIT, VISIT - timedelta(days=days_before))
    assert bool(quote.refusal) is (fee is None)
    assert (quote.fee_minor, quote.refund_minor) == ((10_000, 0) if fee is None else (fee, 10_000 - fee))


def test_a_waiver_pays_all_and_also_what_tiers_refuse() -> None:
    for product in ("day", "fixed"):
        quote = quote_refund(park().products[product], 777, VISIT, VISIT + timedelta(days=9), RefundReason.WAIVED)
        assert (quote.refund_minor, quote.refusal) == (777, "")


def test_what_is_not_refundable_says_so() -> None:
    assert quote_refund(park().products["fixed"], 777, VISIT, VISIT).refusal == "'fixed' is not refundable"


@pytest.mark.parametrize(
    ("product", "to", "today", "words"),
    [
        ("day", date(2026, 12, 11), date(2026, 12, 9), ""),
        ("day", date(2026, 12, 11), date(2026, 12, 10), ""),
        ("day", date(2026, 12, 12), date(2026, 12, 11), "its last day was 2026-12-10"),
        ("day", date(2026, 12, 10), date(2026, 12, 9), "it is for that date and slot already"),
        ("day", date(2026, 12, 12), date(2026, 12, 9), "costs more"),
        ("day", date(2026, 12, 8), date(2026, 12, 9), "is not within"),
        ("fixed", date(2026, 12, 11), date(2026, 12, 9), "cannot be moved"),
    ],
)
def test_a_move_is_allowed_or_says_why_not(product: str, to: date, today: date, words: str) -> None:
    catalogue = park()
    move = Move("adult", "window", VISIT, 0, to, 0)
    refusal = quote_move(catalogue, catalogue.products[product], move, 10_000, today).refusal
    assert words in refusal
    assert bool(words) is bool(refusal)


SATURDAY, THURSDAY = date(2026, 12, 12), VISIT


@pytest.mark.parametrize(
    ("rule", "start", "to", "paid", "quote"),
    [
        (
            "keep",
            THURSDAY,
            SATURDAY,
            7_900,
            MoveQuote(7_900, 0, "2026-12-12 costs more; refund the ticket and buy another"),
        ),
        ("keep", SATURDAY, THURSDAY + timedelta(days=1), 8_500, MoveQuote(8_500)),
        ("pay_up", THURSDAY, SATURDAY, 7_900, MoveQuote(8_500, 600)),
        ("pay_up", SATURDAY, THURSDAY + timedelta(days=1), 8_500, MoveQuote(8_500)),
        ("settle", THURSDAY, SATURDAY, 7_900, MoveQuote(8_500, 600)),
        ("settle", SATURDAY, THURSDAY + timedelta(days=1), 8_500, MoveQuote(7_900, -600)),
        ("settle", SATURDAY, THURSDAY + timedelta(days=1), 7_000, MoveQuote(6_400, -600)),
        ("settle", SATURDAY, THURSDAY + timedelta(days=1), 599, MoveQuote(0, -599)),
        ("settle", SATURDAY, THURSDAY + timedelta(days=1), 600, MoveQuote(0, -600)),
        ("settle", SATURDAY, THURSDAY + timedelta(days=1), 601, MoveQuote(1, -600)),
        ("settle", SATURDAY, SATURDAY + timedelta(days=1), 8_500, MoveQuote(8_500)),
    ],
)
def test_the_products_rule_says_what_becomes_of_a_difference(
    rule: str, start: date, to: date, paid: int, quote: MoveQuote
) -> None:
    catalogue = park()
    product = replace(catalogue.products["day"], price_difference=PriceDifference(rule))
    assert quote_move(catalogue, product, Move("adult", "window", start, 0, to, 0), paid, date(2026, 12, 9)) == quote
