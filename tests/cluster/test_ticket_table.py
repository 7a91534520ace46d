"""The ticket table: found by arithmetic, at the borders of its chunks, for several issuers, in little memory."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.ticket_table import CHUNK_ROWS, MAX_PRICE_MINOR, ROW, Origin, TicketTable
from tests.cluster import small_park
from ticketcore import token as tokens
from ticketcore.admission import terms_of
from ticketcore.lifecycle import Lifecycle

PARTITIONS = 4
CLAIMS = small_park.token("day", 1)[: tokens.CLAIMS_LENGTH]
DIGEST = bytes(range(12))


def claims_of(ticket_id: int) -> bytes:
    return CLAIMS[:1] + ticket_id.to_bytes(8, "big") + CLAIMS[9:]


def borders(issuer: int) -> list[int]:
    """Ids of partition 1 around the border of two chunks, and an issuer's first and last."""
    base = tokens.ticket_id_of(issuer, 1) - 1
    near = [base + PARTITIONS * (CHUNK_ROWS * 3 + row) + 1 for row in (-1, 0, 1)]
    return [base + 1, *near, tokens.ticket_id_of(issuer, tokens.MAX_SEQUENCE - 2)]


def test_tickets_of_several_issuers_are_found_at_the_borders_of_chunks_and_nothing_beside_them() -> None:
    table = TicketTable(PARTITIONS)
    ids = [number for issuer in (0, 1, 7, tokens.MAX_ISSUER) for number in borders(issuer)]
    for number, ticket_id in enumerate(ids):
        assert table.find(ticket_id) is None
        table.put(claims_of(ticket_id), DIGEST, Lifecycle.ACTIVE, Origin.REGISTERED, number)
        assert len(table) == number + 1
    for number, ticket_id in enumerate(ids):
        row = table.find(ticket_id)
        assert row is not None
        assert (row.digest, row.price_minor, row.origin) == (DIGEST, number, Origin.REGISTERED)
        assert row.terms is table.find(ids[0]).terms, "tickets that are alike share their terms"  # type: ignore[union-attr]
        beside = ticket_id + 2 * PARTITIONS
        assert (table.find(beside) is None) == (beside not in ids)


def test_a_row_is_32_bytes_and_holds_the_extremes() -> None:
    assert ROW.size == 32
    table = TicketTable(1)
    for price, use in ((0, 2**32 - 1), (MAX_PRICE_MINOR, 0), (2**32 - 1, 1)):
        table.put(claims_of(5), b"\xff" * 12, Lifecycle.RESCHEDULED, Origin.SEEN, price)
        table.set_use(5, use)
        assert table.find(5) == (table.find(5).terms, b"\xff" * 12, 8, 2, price)  # type: ignore[union-attr]
        assert (table.use(5), table.use(4), table.use(6)) == (use, 0, 0)
    assert table.find(5).terms.first_day == terms_of(CLAIMS).first_day  # type: ignore[union-attr]
    assert len(table) == 1


def test_a_use_stays_whatever_else_becomes_of_its_ticket() -> None:
    """I1: a ticket that was used before it was registered would else be fresh again."""
    table = TicketTable(1)
    table.set_use(5, 77)
    assert (table.find(5), len(table)) == (None, 0)
    table.put_unknown(5, Lifecycle.BLOCKED)
    table.put(claims_of(5), DIGEST, Lifecycle.ACTIVE, Origin.REGISTERED, 5_900)
    table.set_lifecycle(5, Lifecycle.BLOCKED)
    assert table.use(5) == 77


def test_a_lifecycle_changes_in_its_own_row_only() -> None:
    table = TicketTable(1)
    for ticket_id in (1, 2, 3):
        table.put(claims_of(ticket_id), DIGEST, Lifecycle.ACTIVE, Origin.REGISTERED, 7)
    table.set_lifecycle(2, Lifecycle.BLOCKED)
    assert [table.find(ticket_id).lifecycle for ticket_id in (1, 2, 3)] == [1, 4, 1]  # type: ignore[union-attr]
    assert table.find(2).price_minor == 7  # type: ignore[union-attr]


def test_a_ticket_known_by_a_change_only_has_no_digest_and_becomes_itself_when_it_is_registered() -> None:
    table = TicketTable(PARTITIONS)
    table.put_unknown(9, Lifecycle.REFUNDED)
    row = table.find(9)
    assert row is not None
    assert (row.origin, row.lifecycle, row.digest, row.terms.product_number) == (Origin.CHANGED, 6, bytes(12), 0)
    table.put(claims_of(9), DIGEST, row.lifecycle, Origin.REGISTERED, 5)
    assert (table.find(9).digest, len(table)) == (DIGEST, 1)  # type: ignore[union-attr]


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(
        st.integers(1, 5_000) | st.integers(2**62, 2**62 + 600),
        st.tuples(st.integers(1, 8), st.integers(0, 10_000)),
        max_size=60,
    )
)
def test_a_table_is_a_dictionary_also_after_a_snapshot(model: dict[int, tuple[int, int]]) -> None:
    table = TicketTable(1)
    for ticket_id, (lifecycle, price) in model.items():
        table.put(claims_of(ticket_id), DIGEST, lifecycle, Origin.REGISTERED, price)
    copy = TicketTable(1)
    for number, rows in table.still():
        copy.load(number, bytes(rows))
    table.release()
    for one in (table, copy):
        assert len(one) == len(model)
        for ticket_id in [*model, *(number + 1 for number in model)]:
            row = one.find(ticket_id)
            assert (row and (row.lifecycle, row.price_minor)) == model.get(ticket_id)


@pytest.mark.timeout(60)
def test_a_million_tickets_take_less_than_120_bytes_each() -> None:
    """One row in sixteen is written, which makes every chunk that a million dense tickets fill."""
    table = TicketTable(1)
    tracemalloc.start()
    for chunk in range(1_000_000 // CHUNK_ROWS):
        for row in range(0, CHUNK_ROWS, 16):
            table.put(claims_of(1 + chunk * CHUNK_ROWS + row), DIGEST, Lifecycle.ACTIVE, Origin.REGISTERED, 5_900)
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used / 1_000_000 < 120
    assert used > 1_000_000 * ROW.size, "the rows themselves are counted"
