"""Sales' postings of a simulated day, made by the real pure code for what the day sells and refunds.

Sales themselves need Postgres and are not simulated: that an order or a refund survives a crash half-way is tried on
real processes. What stands here in the place of their tables keeps one rule of these, the one that exactly-once rests
on: a transaction's id follows from what it is for, and is there once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sales.tables import postings as postings_table
from sales.tables import transactions as transactions_table
from sales.usecases import issue
from tests.checker.books import Key, Sold
from tests.cluster import small_park
from ticketcore import postings
from ticketcore.postings import Dates, Method, SoldLine, TicketValue, Transaction
from ticketcore.refunds import quote_refund

PRICE_MINOR = 1_050
"""With cents, so that they can be lost."""
NOON = datetime.fromtimestamp(small_park.NOON_MS / 1000, UTC)
DATES = Dates(NOON, NOON, small_park.TODAY)


@dataclass(slots=True)
class Till:
    """All tickets and postings of the day, and the transactions that these belong to."""

    postings: list[Key] = field(default_factory=list)
    sold: dict[int, Sold] = field(default_factory=dict)
    _booked: dict[bytes, Transaction] = field(default_factory=dict)

    def sell(self, ticket: int, product: str) -> None:
        """A ticket is paid, in an order of its own."""
        line = SoldLine(_product(product).number, small_park.TODAY, PRICE_MINOR)
        self.sold[ticket] = Sold(ticket, line.product_number, PRICE_MINOR, small_park.CATALOGUE.venue.currency)
        self._book(issue.derive(b"sale", ticket.to_bytes(8, "big")), ticket, _sale(line))

    def refund(self, ticket: int, product: str, void_id: bytes) -> None:
        """The owner has voided a ticket, as whoever settles that refund hears: the caller, the sweep, or both."""
        item = _product(product)
        quote = quote_refund(item, PRICE_MINOR, small_park.TODAY, small_park.TODAY)
        value = TicketValue(ticket, item.number, quote.price_minor, small_park.CATALOGUE.venue.currency, DATES)
        booking = postings.refund(value, Method.CASH, quote.fee_minor)
        self._book(issue.derive(b"refund", void_id), ticket, booking)

    def _book(self, transaction_id: bytes, order_id: int, booking: Transaction) -> None:
        """As the database: a second transaction of an id is refused, with all of its postings.

        Raises:
            AssertionError: it would have booked something else, which the database would refuse unseen.
        """
        first = self._booked.setdefault(transaction_id, booking)
        if first is not booking:
            if first != booking:
                raise AssertionError(f"{transaction_id.hex()} was booked as {first}, and now as {booking}")
            return
        rows = issue.booking_rows([(transaction_id, order_id, booking)], NOON, small_park.TODAY)
        heads = {head["id"]: head for head in rows[transactions_table]}
        self.postings += [_key(heads[line["transaction_id"]], line) for line in rows[postings_table]]


def _product(product: str) -> Any:
    return small_park.CATALOGUE.products[product]


def _sale(line: SoldLine) -> Transaction:
    return postings.sale(Method.CASH, (line,), small_park.CATALOGUE.venue.currency, DATES)


def _key(head: dict[str, Any], line: dict[str, Any]) -> Key:
    """Columns as `tests.checker.books.Books` has them."""
    columns = ("ticket_id", "product_number", "account", "currency", "amount_minor")
    return (head["id"].hex(), head["kind"], head["order_id"], *(line[column] for column in columns))
