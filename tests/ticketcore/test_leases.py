"""What a partition may tell the capacity owner of a lease: returns that are durable, and no others (I4)."""

from __future__ import annotations

from ticketcore.capacity import ZoneLease


def test_a_return_is_told_when_its_entry_is_durable() -> None:
    lease = ZoneLease(2, received_total=4)
    assert lease.give_back(1, 5) == 1
    assert (lease.returned_by(4), lease.returned_by(5)) == (0, 1)


def test_a_return_that_is_being_appended_is_not_told_because_another_is_being_decided() -> None:
    """Else the units could be spent twice: by others, and by the partition's next owner if the append was lost."""
    lease = ZoneLease(2, received_total=9)
    lease.give_back(1, 5)
    lease.give_back(2, 6)
    lease.give_back(1, 6)
    assert [lease.returned_by(durable) for durable in (4, 5, 6)] == [0, 1, 4]


def test_the_last_two_entries_that_gave_back_are_remembered() -> None:
    lease = ZoneLease(2, received_total=9)
    for sequence in range(1, 6):
        lease.give_back(1, sequence)
    assert [lease.returned_by(durable) for durable in (3, 4, 5, 9)] == [3, 4, 5, 5]
