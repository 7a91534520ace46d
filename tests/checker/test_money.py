"""The checker's rules of money: postings against what was sold, refunded and moved (I9)."""

from __future__ import annotations

from typing import Any

import pytest

from parkgate.events.v1 import events_pb2 as pb
from tests.checker import Sold
from tests.checker.small_story import (
    ORDER,
    PRODUCT,
    TICKET,
    Story,
    booking,
    changed,
    registered,
)


def sale(owed: int, name: str = "sold") -> list[tuple[Any, ...]]:
    """The order's sale, which names no ticket."""
    return booking(name, "sale", -owed, owed, None)


def money(story: Story, sold: dict[int, int], postings: list[tuple[Any, ...]], **replaces: int) -> list[str]:
    """What is said of an order's tickets with these prices, and of these postings."""
    books = story.books()
    books.sold = {
        ticket: Sold(ORDER, PRODUCT, price, "EUR", replaces.get(f"of_{ticket}")) for ticket, price in sold.items()
    }
    books.postings = postings
    return story.found(books)


@pytest.mark.parametrize(
    ("postings", "said"),
    [
        (sale(1_900), []),
        ([], ["I9 0 EUR are booked as its sale, and its tickets cost 1900"]),
        (sale(1_800), ["I9 1800 EUR are booked as its sale, and its tickets cost 1900"]),
        (sale(1_900) + sale(1_900, "again"), ["I9 3800 EUR are booked as its sale, and its tickets cost 1900"]),
        (
            [line if line[5] == "cash" else (*line[:4], 9, *line[5:]) for line in sale(1_900)],
            [
                "I9 0 EUR are booked as its sale, and its tickets cost 1900",
                "I9 1900 EUR are booked as its sale, and its tickets cost 0",
            ],
        ),
    ],
    ids=["as it should be", "left out", "less", "twice", "another product's"],
)
def test_a_sale_is_booked_once_at_what_its_tickets_cost(postings: list[tuple[Any, ...]], said: list[str]) -> None:
    """I9: by order and product, to the cent; all of these sum to zero."""
    story = Story()
    story.entry(registered())
    assert money(story, {TICKET: 1_000, 8: 900}, postings) == said


def test_a_refund_is_booked_once_at_the_tickets_price() -> None:
    """I9: of each ticket that the ledger refunded."""
    story = Story()
    story.entry(registered(), changed(pb.LIFECYCLE_REFUNDED, price_minor=1_000))
    sold, back = sale(1_000), booking("back", "refund", 1_000, -1_000)
    assert money(story, {TICKET: 1_000}, sold) == ["I9 [] were booked as its refund, and [1000] were due"]
    assert money(story, {TICKET: 1_000}, sold + back) == []
    again = booking("again", "refund", 1_000, -1_000)
    said = ["I9 [1000, 1000] were booked as its refund, and [1000] were due"]
    assert money(story, {TICKET: 1_000}, sold + back + again) == said
    less = booking("less", "refund", 900, -900)
    assert money(story, {TICKET: 1_000}, sold + less) == ["I9 [900] were booked as its refund, and [1000] were due"]


def test_a_refund_that_the_ledger_did_not_do_is_named() -> None:
    """I9"""
    story = Story()
    story.entry(registered())
    postings = sale(1_000) + booking("back", "refund", 1_000, -1_000)
    assert money(story, {TICKET: 1_000}, postings) == ["I9 [1000] were booked as its refund, and [] were due"]


def test_a_refund_before_the_registration_is_booked_at_what_sales_say() -> None:
    """I9: the ledger has no price of such a ticket."""
    story = Story()
    story.entry(changed(pb.LIFECYCLE_REFUNDED), registered())
    assert money(story, {TICKET: 1_000}, sale(1_000)) == ["I9 [] were booked as its refund, and [1000] were due"]
    assert money(story, {TICKET: 1_000}, sale(1_000) + booking("back", "refund", 1_000, -1_000)) == []


def test_a_move_to_another_date_is_booked_of_both_tickets() -> None:
    """I9: the first has cost 1000, the one that replaces it costs 1200; its own refund comes after."""
    story = Story()
    story.entry(registered(), changed(pb.LIFECYCLE_RESCHEDULED), changed(pb.LIFECYCLE_REFUNDED, 2, 8))
    prices, back = {TICKET: 1_000, 8: 1_200}, booking("back", "refund", 1_200, -1_200, 8)
    old = booking("moved", "reschedule", 1_000, 200)
    new = booking("moved", "reschedule", -1_200, 0, 8)[:1]
    assert money(story, prices, sale(1_000) + old + new + back, of_8=TICKET) == []
    assert money(story, prices, sale(1_000) + back, of_8=TICKET) == [
        "I9 [] were booked as its reschedule, and [1000] were due",
        "I9 [] were booked as its reschedule, and [-1200] were due",
    ]
    cheaper = booking("moved", "reschedule", -1_000, 0, 8)[:1]
    assert money(
        story, prices, sale(1_000) + booking("moved", "reschedule", 1_000, 0) + cheaper + back, of_8=TICKET
    ) == ["I9 [-1000] were booked as its reschedule, and [-1200] were due"]


def test_window_ledger_and_books_name_the_same_price() -> None:
    """I9"""
    story = Story()
    story.issue(8, price_minor=900)
    story.entry(registered())
    assert money(story, {TICKET: 1_000, 8: 900}, sale(1_900)) == []
    assert money(story, {TICKET: 1_100, 8: 800}, sale(1_900)) == [
        "I9 the window has sold it for 900, and sales' books for 800",
        "I9 the ledger has it for 1000, and sales' books for 1100",
    ]
