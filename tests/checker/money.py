"""I9: sales' postings against the tickets that were sold and the changes that the ledger made of them, to the cent.

A sale books an order's tickets together, by product. A refund and a reschedule name their tickets: the price of one
that is given back is owed no more, and the price of one that replaces another is owed again. What is owed for tickets
stands on one account; that all postings of a transaction sum to zero says the rest.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from parkgate.events.v1 import events_pb2 as pb
from tests.checker.books import Books, Key, Sold
from tests.checker.history import History
from tests.checker.ledger import Ledger
from tests.checker.violation import Violation

OWED = "deferred_revenue"
SALE = "sale"
KIND_OF = {pb.LIFECYCLE_REFUNDED: "refund", pb.LIFECYCLE_RESCHEDULED: "reschedule"}
"""Changes that move money, and the kind of transaction that books each."""


def check_postings(books: Books) -> Iterator[Violation]:
    """The postings of each transaction sum to zero in each currency."""
    sums: dict[Key, int] = defaultdict(int)
    for transaction, *_, currency, amount in books.postings:
        sums[transaction, currency] += amount
    for (transaction, currency), amount in sums.items():
        if amount:
            yield Violation("I9", f"transaction {transaction}", f"its postings sum to {amount} {currency}")


def check_money(history: History, books: Books, ledger: Ledger) -> Iterator[Violation]:
    """What sales have booked is what they have sold and what the ledger took back, no more and no less."""
    if books.sold is None:
        return
    yield from _prices(history, books.sold, ledger)
    yield from _sales(books, books.sold)
    yield from _changes(books, books.sold, ledger)


def _prices(history: History, sold: dict[int, Sold], ledger: Ledger) -> Iterator[Violation]:
    """The window, sales' books and the ledger name the same price of a ticket."""
    told = {item.request["ticket"]: item.request.get("price_minor") for item in history.of("issue")}
    registered = {
        int.from_bytes(fact.body.claims[1:9], "big"): fact.body.price_minor for fact in ledger.of("ticket_registered")
    }
    for where, prices in (("the window has sold it", told), ("the ledger has it", registered)):
        for ticket, price in prices.items():
            if price is not None and ticket in sold and sold[ticket].price_minor != price:
                what = f"{where} for {price}, and sales' books for {sold[ticket].price_minor}"
                yield Violation("I9", f"ticket {ticket}", what)


def _sales(books: Books, sold: dict[int, Sold]) -> Iterator[Violation]:
    """Of each order what its sale owes for a product is what the tickets of that product cost, once."""
    booked: dict[Key, int] = defaultdict(int)
    cost: dict[Key, int] = defaultdict(int)
    for _, kind, order, _, product, account, currency, amount in books.postings:
        if (kind, account) == (SALE, OWED):
            booked[order, product, currency] -= amount
    for ticket in sold.values():
        if ticket.replaces is None:
            cost[ticket.order, ticket.product, ticket.currency] += ticket.price_minor
    for key in sorted(booked.keys() | cost.keys(), key=str):
        if booked[key] != cost[key]:
            order, product, currency = key
            what = f"{booked[key]} {currency} are booked as its sale, and its tickets cost {cost[key]}"
            yield Violation("I9", f"product {product} of order {order}", what)


def _changes(books: Books, sold: dict[int, Sold], ledger: Ledger) -> Iterator[Violation]:
    """A refund is booked of each ticket that the ledger refunded and of no other, once, at the ticket's price; so is a
    reschedule, of the ticket and of the one that replaces it."""
    booked: dict[Key, list[int]] = defaultdict(list)
    due: dict[Key, list[int]] = defaultdict(list)
    for _, kind, _, ticket, _, account, _, amount in books.postings:
        if kind != SALE and account == OWED:
            booked[kind, ticket].append(amount)
    for change in (fact.body for fact in ledger.of("ticket_changed") if fact.body.to in KIND_OF):
        # The ledger has no price of a ticket that was refunded before it was registered.
        known = sold.get(change.ticket_id, change)
        due[KIND_OF[change.to], change.ticket_id].append(known.price_minor)
    for number, item in sold.items():
        if item.replaces is not None:
            due["reschedule", number].append(-item.price_minor)
    for kind, ticket in sorted(booked.keys() | due.keys(), key=str):
        found, expected = sorted(booked[kind, ticket]), sorted(amount for amount in due[kind, ticket] if amount)
        if found != expected:
            what = f"{found} were booked as its {kind}, and {expected} were due"
            yield Violation("I9", f"ticket {ticket}", what)
