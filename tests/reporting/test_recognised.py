"""Tickets and the bits that say that they are recognised."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from reporting.recognised import BLOCK, blocks_of, tickets_of

tickets = st.integers(0, (1 << 63) - 1) | st.integers(0, 5_000)


@given(st.sets(tickets))
def test_bits_say_which_tickets_they_were_made_of(ticket_ids: set[int]) -> None:
    assert tickets_of(blocks_of(ticket_ids)) == sorted(ticket_ids)


def test_the_first_ticket_of_a_block_is_its_highest_bit() -> None:
    """As Postgres counts the bits of a bit string."""
    assert blocks_of([BLOCK, 3 * BLOCK - 1]) == {1: b"\x80" + bytes(255), 2: bytes(255) + b"\x01"}


def test_a_ticket_that_is_kept_by_its_bits_is_in_the_block_that_postgres_finds() -> None:
    """bigint 2**64 - 1 is -1, and -1 >> 11 is -1."""
    assert blocks_of([(1 << 64) - 1]) == {-1: bytes(255) + b"\x01"}
