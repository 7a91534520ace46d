"""I9: money is double entry; what does not sum to zero cannot be made."""

from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ticketcore import postings
from ticketcore.errors import InvalidInputError
from ticketcore.postings import Account, Dates, Kind, Method, Posting, SoldLine, TicketValue, Transaction

NOW = datetime(2026, 12, 1, tzinfo=UTC)
DATES = Dates(NOW, NOW, date(2026, 12, 24))
AMOUNTS = st.integers(0, 10**9)


def value(ticket_id: int, price: int) -> TicketValue:
    return TicketValue(ticket_id, 1, price, "CHF", DATES)


@given(st.lists(AMOUNTS, min_size=1, max_size=8), st.sampled_from(Method), st.data())
def test_postings_of_every_transaction_sum_to_zero_i9(totals: list[int], method: Method, data: st.DataObject) -> None:
    lines = tuple(SoldLine(number, date(2026, 12, 24), total) for number, total in enumerate(totals, 1))
    fee = data.draw(st.integers(0, totals[0]))
    for transaction in (
        postings.sale(method, lines, "CHF", DATES),
        postings.refund(value(1, totals[0]), method, fee),
        postings.reschedule(value(1, totals[0]), value(2, totals[-1]), method),
        postings.late_payment(totals[0] + 1, "CHF", DATES),
    ):
        assert sum(posting.amount_minor for posting in transaction.postings) == 0
        undone = postings.correction_of(transaction)
        assert [p.amount_minor for p in undone.postings] == [-p.amount_minor for p in transaction.postings]


def test_a_refund_ends_what_is_owed_and_keeps_the_fee() -> None:
    booked = {p.account: p.amount_minor for p in postings.refund(value(1, 7900), Method.PROVIDER, 790).postings}
    assert booked == {
        Account.DEFERRED_REVENUE: 7900,
        Account.PROVIDER_RECEIVABLE: -7110,
        Account.REFUND_FEES: -790,
    }


@pytest.mark.parametrize(("new", "cash"), [(8500, 600), (7900, None), (5000, -2900)])
def test_a_move_to_another_price_takes_or_gives_the_difference_where_it_was_paid(new: int, cash: int | None) -> None:
    booked = postings.reschedule(value(1, 7900), value(2, new), Method.CASH).postings
    assert [p.amount_minor for p in booked if p.account is Account.CASH] == ([] if cash is None else [cash])
    owed = {p.ticket_id: p.amount_minor for p in booked if p.account is Account.DEFERRED_REVENUE}
    assert owed == {1: 7900, 2: -new}


@pytest.mark.parametrize("fee", [-1, 7901])
def test_a_fee_outside_the_price_cannot_be_booked(fee: int) -> None:
    with pytest.raises(InvalidInputError, match="not within 0 to the price"):
        postings.refund(value(1, 7900), Method.CASH, fee)


def test_unbalanced_empty_or_mixed_postings_cannot_be_made() -> None:
    one = Posting(Account.CASH, 1, "CHF", DATES)
    other = Posting(Account.DEFERRED_REVENUE, -1, "EUR", DATES)
    for lines in ((one,), (one, other), (Posting(Account.CASH, 0, "CHF", DATES),)):
        with pytest.raises(InvalidInputError):
            Transaction(Kind.SALE, lines)
