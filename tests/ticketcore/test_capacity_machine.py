"""A zone's book and its leases over a network that loses, doubles and reorders (I4)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ticketcore.capacity import CapacityMove, Grant, ZoneBook, ZoneLease

PARTITIONS = 3
MESSAGES_KEPT = 12


@dataclass(frozen=True)
class Ask:
    """A partition says where it stands and how much it wants; 0: only what it gave back."""

    partition: int
    received_total: int
    returned_total: int
    wanted: int


@dataclass(frozen=True)
class Tell:
    """The owner says what it ever granted."""

    partition: int
    granted_total: int


@dataclass
class Side:
    """One partition: its lease, and who wants to come in."""

    lease: ZoneLease = field(default_factory=lambda: ZoneLease(1))


class Capacity(RuleBasedStateMachine):
    """Messages stay in flight until they are delivered, in any order, once, twice or never."""

    @initialize(capacity=st.integers(1, 12))
    def open(self, capacity: int) -> None:
        self.book = ZoneBook(1, capacity)
        self.sides = [Side() for _ in range(PARTITIONS)]
        self.flying: list[Ask | Tell] = []
        self.sequence = 0

    def send(self, message: Ask | Tell) -> None:
        self.flying.append(message)
        del self.flying[:-MESSAGES_KEPT]  # the rest is lost

    # What happens

    @rule(partition=st.integers(0, PARTITIONS - 1), persons=st.integers(1, 4))
    def come_in(self, partition: int, persons: int) -> None:
        lease = self.sides[partition].lease
        if lease.spare >= persons:
            lease.inside += persons
        else:
            self.send(Ask(partition, lease.received_total, lease.returned_total, persons))

    @rule(partition=st.integers(0, PARTITIONS - 1), persons=st.integers(1, 4))
    def leave(self, partition: int, persons: int) -> None:
        lease = self.sides[partition].lease
        lease.inside -= min(persons, lease.inside)

    @rule(partition=st.integers(0, PARTITIONS - 1), wanted=st.integers(1, 6))
    def recall(self, partition: int, wanted: int) -> None:
        lease = self.sides[partition].lease
        self.sequence += 1
        units = lease.give_back(wanted, self.sequence)
        assert 0 <= units <= wanted
        self.send(Ask(partition, lease.received_total, lease.returned_total, 0))

    @rule(data=st.data(), keep=st.booleans())
    def deliver(self, data: st.DataObject, keep: bool) -> None:
        if not self.flying:
            return
        number = data.draw(st.integers(0, len(self.flying) - 1))
        message = self.flying[number] if keep else self.flying.pop(number)
        self.arrive(message)

    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        if self.flying:
            self.flying.pop(data.draw(st.integers(0, len(self.flying) - 1)))

    @rule()
    def restart(self) -> None:
        """Owner and partitions come back from what they have made durable: their totals."""
        book = ZoneBook(1, self.book.capacity)
        for partition, grant in self.book.grants.items():
            book.apply(CapacityMove(1, partition, grant.granted_total, grant.returned_total))
        self.book = book
        for side in self.sides:
            side.lease = replace(side.lease)

    def arrive(self, message: Ask | Tell) -> None:
        if isinstance(message, Tell):
            self.sides[message.partition].lease.receive(message.granted_total)
            return
        name = f"p{message.partition}"
        returned = self.book.note_return(name, message.returned_total)
        if returned is not None:
            self.book.apply(returned)
        move = self.book.grant(name, message.received_total, message.wanted, PARTITIONS)
        if move is not None:
            self.book.apply(move)
        granted = self.book.grants[name].granted_total if name in self.book.grants else 0
        self.send(Tell(message.partition, granted))

    # What always holds

    @invariant()
    def never_more_inside_than_leased_nor_leased_than_the_capacity(self) -> None:
        inside = sum(side.lease.inside for side in self.sides)
        assert inside <= self.book.capacity
        assert self.book.leased <= self.book.capacity
        for number, side in enumerate(self.sides):
            lease, grant = side.lease, self.book.grants.get(f"p{number}")
            assert lease.spare >= 0
            assert lease.inside <= lease.received_total - lease.returned_total
            granted, returned = (grant.granted_total, grant.returned_total) if grant else (0, 0)
            assert lease.received_total <= granted
            assert returned <= lease.returned_total

    def teardown(self) -> None:
        """Nothing is stranded: once everything is said, all that is free can be had by whoever wants it."""
        if not hasattr(self, "book"):
            return
        self.flying.clear()
        free = self.book.capacity - sum(side.lease.inside for side in self.sides)
        last = self.sides[0].lease
        for number, side in enumerate(self.sides):
            lease = side.lease
            self.arrive(Ask(number, lease.received_total, lease.returned_total, 0))  # learns lost grants
            lease.receive(self.book.grants[f"p{number}"].granted_total if f"p{number}" in self.book.grants else 0)
            lease.give_back(self.book.capacity, self.sequence + 1)
            self.arrive(Ask(number, lease.received_total, lease.returned_total, 0))
        assert self.book.free == free
        if free:
            self.arrive(Ask(0, last.received_total, last.returned_total, free))
            last.receive(self.book.grants["p0"].granted_total)
        assert last.spare == free


TestCapacity = Capacity.TestCase
TestCapacity.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)


@pytest.mark.parametrize(("free", "wanted", "units"), [(100, 1, 16), (100, 40, 40), (10, 1, 1), (3, 5, 3), (1, 1, 1)])
def test_chunks_shrink_as_the_limit_nears_and_whoever_asks_gets_what_there_is(
    free: int, wanted: int, units: int
) -> None:
    move = ZoneBook(1, free).grant("p0", 0, wanted, 3)
    assert move is not None
    assert move.granted_total == units


@pytest.mark.parametrize(("capacity", "wanted"), [(0, 1), (5, 0), (5, -1)])
def test_nothing_is_granted_where_nothing_is_free_or_wanted(capacity: int, wanted: int) -> None:
    assert ZoneBook(1, capacity).grant("p0", 0, wanted, 3) is None


def test_a_lowered_capacity_grants_nothing_until_enough_have_left() -> None:
    book = ZoneBook(1, 10)
    move = book.grant("p0", 0, 10, 1)
    assert move is not None
    book.apply(move)
    book.capacity = 6
    assert (book.free, book.grant("p1", 0, 1, 1)) == (-4, None)
    returned = book.note_return("p0", 5)
    assert returned is not None
    book.apply(returned)
    assert book.free == 1


def test_a_repeated_question_is_not_granted_twice_and_a_repeated_return_is_no_news() -> None:
    book = ZoneBook(1, 100)
    move = book.grant("p0", 0, 5, 10)
    assert move is not None
    book.apply(move)
    assert book.grant("p0", 0, 5, 10) is None, "the first grant is still on its way"
    assert book.grant("p0", move.granted_total, 5, 10) is not None
    for returned_total, news in ((0, False), (2, True), (2, False), (1, False), (3, True)):
        returned = book.note_return("p0", returned_total)
        assert (returned is not None) is news
        if returned is not None:
            book.apply(returned)


def test_a_question_that_overtakes_the_answer_before_it_still_gets_what_is_free() -> None:
    """I4: or its guests would be told that the zone is full while units lie idle."""
    book = ZoneBook(1, 4)
    move = book.grant("p0", 0, 1, 1)
    assert move is not None
    book.apply(move)
    assert move.granted_total == 2
    again = book.grant("p0", 0, 4, 1)
    assert again is not None
    assert again.granted_total == 4


def test_what_was_given_back_is_told_only_once_its_entry_is_durable() -> None:
    """I4: an entry that is fenced was never written, and the next owner spends its units."""
    lease = ZoneLease(1, received_total=5)
    assert lease.give_back(2, 8) == 2
    assert [lease.returned_by(sequence) for sequence in (7, 8, 9)] == [0, 2, 2]
    assert lease.give_back(1, 8) == 1
    assert [lease.returned_by(sequence) for sequence in (7, 8)] == [0, 3]
    assert lease.give_back(1, 9) == 1
    assert [lease.returned_by(sequence) for sequence in (8, 9)] == [3, 4]


def test_more_than_was_granted_cannot_be_returned() -> None:
    """I4: a peer that claims it would have units made out of nothing, for more guests than there is room."""
    book = ZoneBook(1, 10, grants={"p0": Grant(granted_total=3, returned_total=1)})
    assert [book.note_return("p0", total) is not None for total in (1, 2, 3, 4, 2**32 - 1)] == [
        False,
        True,
        True,
        False,
        False,
    ]
    assert book.note_return("p1", 1) is None, "it never had any"
