"""Keys of visits: every ticket of every zone has its own, and dicts find them quickly."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cluster.visit_keys import ticket_of, visit_key, zone_of
from ticketcore.token import ticket_id_of

PARTITIONS = 8


@given(st.integers(0, (1 << 64) - 1), st.integers(1, (1 << 16) - 1))
def test_a_key_is_of_one_ticket_in_one_zone(ticket_id: int, zone_number: int) -> None:
    key = visit_key(ticket_id, zone_number)
    assert (ticket_of(key), zone_of(key)) == (ticket_id, zone_number)


def test_tickets_of_a_partition_do_not_share_the_low_bits_of_their_hashes() -> None:
    """Else a dict looks at many others before it finds one: a sixth of an owner's time, in a park of millions."""
    keys = [visit_key(ticket_id_of(7, sequence), 3) for sequence in range(PARTITIONS, PARTITIONS * 4_096, PARTITIONS)]
    assert len({hash(key) & 0xFFFF for key in keys}) == len(keys)


def test_zones_of_a_ticket_do_not_share_their_hashes() -> None:
    keys = [visit_key(ticket_id_of(7, sequence), zone) for sequence in range(8, 8_000, 8) for zone in (1, 2, 3)]
    assert len({hash(key) for key in keys}) == len(keys)
