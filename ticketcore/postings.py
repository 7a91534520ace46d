"""Double entry: every event that moves money is a Transaction whose postings sum to zero, or it cannot be made (I9).

Debits are positive and credits negative. What was booked never changes: a mistake is corrected by `correction_of`, a
new transaction with the opposite postings. Each posting carries the three dates that finance asks for.

========== ====================================================== ==========================================
event      debit                                                  credit
========== ====================================================== ==========================================
sale       cash, provider_receivable or agency_receivable: total  deferred_revenue: each line
refund     deferred_revenue: the ticket's price                   where it was paid: refund; refund_fees: fee
reschedule deferred_revenue of the old visit date                 deferred_revenue of the new visit date
           where it was paid: the difference, if dearer           where it was paid: the difference, if cheaper
late money provider_receivable: amount                            unclaimed_payments: amount
========== ====================================================== ==========================================
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, datetime
from enum import Enum

from ticketcore.errors import InvalidInputError


class Account(Enum):
    """Where money or value stands."""

    CASH = "cash"
    PROVIDER_RECEIVABLE = "provider_receivable"
    AGENCY_RECEIVABLE = "agency_receivable"
    DEFERRED_REVENUE = "deferred_revenue"
    REVENUE = "revenue"
    REFUND_FEES = "refund_fees"
    UNCLAIMED_PAYMENTS = "unclaimed_payments"


class Method(Enum):
    """How an order is paid."""

    CASH = "cash"
    PROVIDER = "provider"
    AGENCY = "agency"


PAID_INTO = {
    Method.CASH: Account.CASH,
    Method.PROVIDER: Account.PROVIDER_RECEIVABLE,
    Method.AGENCY: Account.AGENCY_RECEIVABLE,
}
"""The account that a payment goes into, and a refund comes out of."""


class Kind(Enum):
    """What a transaction books."""

    SALE = "sale"
    REFUND = "refund"
    RESCHEDULE = "reschedule"
    LATE_PAYMENT = "late_payment"


@dataclass(frozen=True, slots=True)
class Dates:
    """The three dates of a posting: ordered and paid (UTC instants), first day of validity (civil day)."""

    sold_time: datetime
    paid_time: datetime
    visit_date: date | None = None


@dataclass(frozen=True, slots=True)
class Posting:
    """One line: an amount, never zero, on an account."""

    account: Account
    amount_minor: int
    currency: str
    dates: Dates
    product_number: int | None = None
    ticket_id: int | None = None


@dataclass(frozen=True, slots=True)
class Transaction:
    """Postings that sum to zero in every currency.

    Raises:
        InvalidInputError: they do not, or one of them is zero.
    """

    kind: Kind
    postings: tuple[Posting, ...]

    def __post_init__(self) -> None:
        sums: dict[str, int] = {}
        for posting in self.postings:
            if posting.amount_minor == 0:
                raise InvalidInputError(f"a posting of zero on {posting.account.value} says nothing")
            sums[posting.currency] = sums.get(posting.currency, 0) + posting.amount_minor
        for currency, total in sums.items():
            if total:
                raise InvalidInputError(f"the postings of a {self.kind.value} are off by {total} {currency}")


@dataclass(frozen=True, slots=True)
class SoldLine:
    """What a sale books for one order line."""

    product_number: int
    visit_date: date
    total_minor: int


def sale(method: Method, lines: tuple[SoldLine, ...], currency: str, dates: Dates) -> Transaction:
    """Money in, and the same value owed to the guests until they come."""
    total = Posting(PAID_INTO[method], sum(line.total_minor for line in lines), currency, dates)
    owed = (
        Posting(
            Account.DEFERRED_REVENUE,
            -line.total_minor,
            currency,
            replace(dates, visit_date=line.visit_date),
            line.product_number,
        )
        for line in lines
    )
    return _transaction(Kind.SALE, total, *owed)


@dataclass(frozen=True, slots=True)
class TicketValue:
    """A ticket as the books see it."""

    ticket_id: int
    product_number: int
    price_minor: int
    currency: str
    dates: Dates


def refund(ticket: TicketValue, method: Method, fee_minor: int) -> Transaction:
    """The ticket's price is owed no more: the fee is earned and the rest goes back where it came from."""
    if not 0 <= fee_minor <= ticket.price_minor:
        raise InvalidInputError(f"a fee of {fee_minor} is not within 0 to the price {ticket.price_minor}")
    return _transaction(
        Kind.REFUND,
        _of_ticket(Account.DEFERRED_REVENUE, ticket.price_minor, ticket),
        _of_ticket(PAID_INTO[method], fee_minor - ticket.price_minor, ticket),
        _of_ticket(Account.REFUND_FEES, -fee_minor, ticket),
    )


def reschedule(old: TicketValue, new: TicketValue, method: Method) -> Transaction:
    """Another value is owed for another visit date; the difference is paid, or paid back, as the order was paid."""
    return _transaction(
        Kind.RESCHEDULE,
        _of_ticket(Account.DEFERRED_REVENUE, old.price_minor, old),
        _of_ticket(PAID_INTO[method], new.price_minor - old.price_minor, new),
        _of_ticket(Account.DEFERRED_REVENUE, -new.price_minor, new),
    )


def late_payment(amount_minor: int, currency: str, dates: Dates) -> Transaction:
    """Money that came for an order which had been given up: the guest's, until it is returned."""
    return _transaction(
        Kind.LATE_PAYMENT,
        Posting(Account.PROVIDER_RECEIVABLE, amount_minor, currency, dates),
        Posting(Account.UNCLAIMED_PAYMENTS, -amount_minor, currency, dates),
    )


def correction_of(transaction: Transaction) -> Transaction:
    """The opposite of a transaction: booked beside it, it undoes it."""
    return replace(
        transaction,
        postings=tuple(replace(posting, amount_minor=-posting.amount_minor) for posting in transaction.postings),
    )


def _of_ticket(account: Account, amount_minor: int, ticket: TicketValue) -> Posting:
    return Posting(account, amount_minor, ticket.currency, ticket.dates, ticket.product_number, ticket.ticket_id)


def _transaction(kind: Kind, *postings: Posting) -> Transaction:
    return Transaction(kind, tuple(posting for posting in postings if posting.amount_minor))
