"""Quotas and holds against a naive model (I4): never more than the limit, and exactly full when over-asked."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ticketcore.quota import (
    Alert,
    HoldAnswer,
    HoldChange,
    HoldOutcome,
    HoldState,
    LimitChange,
    LimitedLine,
    Line,
    QuotaBook,
    UnitsReturn,
    highest_level,
)

KEYS = ("a", "b", "c")
LIMITS = {"a": 5, "b": 9, "c": 2}
DONE, SOLD_OUT, GONE, UNKNOWN, CONFLICT = HoldOutcome
HELD, PINNED, CONFIRMED, RELEASED, LAPSED = HoldState
lines_of = st.dictionaries(st.sampled_from(KEYS), st.integers(1, 4), min_size=1).map(lambda made: tuple(made.items()))
ids = st.integers(0, 3).map(lambda number: bytes([number]) * 16)


@dataclass
class Held:
    """A hold in the model."""

    lines: tuple[tuple[str, int], ...]
    state: HoldState
    lapse_ms: int


class Quotas(RuleBasedStateMachine):
    """Every command, in any order, also repeated; the clock turns in between."""

    def __init__(self) -> None:
        super().__init__()
        self.book, self.replica = QuotaBook(), QuotaBook()
        self.now_ms = 0
        self.holds: dict[bytes, Held] = {}
        self.requests: set[bytes] = set()
        self.returned: dict[tuple[bytes, str], int] = {}
        self.sold: dict[str, int] = dict.fromkeys(KEYS, 0)

    # The model

    def taken(self, key: str) -> int:
        held = sum(
            units
            for hold in self.holds.values()
            if hold.state in {HELD, PINNED}
            for name, units in hold.lines
            if name == key
        )
        return held + max(self.sold[key], 0)

    def issued(self, hold_id: bytes) -> bool:
        """Tickets of it were issued, for one has been refunded: sales confirm it, sooner or later."""
        return any(key[0] == hold_id for key in self.returned)

    def returnable(self) -> list[tuple[bytes, str, int]]:
        """Units of tickets that may have been issued, whether or not the confirmation has been told."""
        left = [
            (hold_id, key, units - self.returned.get((hold_id, key), 0))
            for hold_id, hold in self.holds.items()
            if hold.state in {PINNED, CONFIRMED}
            for key, units in hold.lines
        ]
        return [item for item in left if item[2]]

    def command(self, answer: HoldAnswer) -> HoldAnswer:
        for change in answer.changes:
            self.book.apply(change)
            self.replica.apply(change)
        return answer

    # What happens

    @rule(hold_id=ids, lines=lines_of, live_ms=st.integers(0, 30))
    def place(self, hold_id: bytes, lines: tuple[tuple[str, int], ...], live_ms: int) -> None:
        limited = tuple(LimitedLine(key, units, LIMITS[key]) for key, units in lines)
        answer = self.command(self.book.place(hold_id, limited, self.now_ms + live_ms, 1))
        known = self.holds.get(hold_id)
        if known is not None:
            assert answer.outcome is (DONE if known.lines == lines else CONFLICT)
            assert answer.state is known.state
        elif all(self.taken(key) + units <= LIMITS[key] for key, units in lines):
            assert answer.outcome is DONE, "units that are free are not refused"
            self.holds[hold_id] = Held(lines, HELD, self.now_ms + live_ms)
        else:
            assert answer.outcome is SOLD_OUT
            assert answer.units_left == LIMITS[answer.short_key] - self.taken(answer.short_key)

    @rule(hold_id=ids)
    def pin(self, hold_id: bytes) -> None:
        expected = {HELD: DONE, PINNED: DONE, CONFIRMED: DONE, RELEASED: GONE, LAPSED: GONE}
        self.move(hold_id, PINNED, expected, leaves={HELD})

    @rule(hold_id=ids, lines=lines_of)
    def place_and_pin(self, hold_id: bytes, lines: tuple[tuple[str, int], ...]) -> None:
        """As sales do within a moment; by itself a pin often meets a hold that has lapsed."""
        self.place(hold_id, lines, 1)
        self.pin(hold_id)

    @rule(hold_id=ids)
    def confirm(self, hold_id: bytes) -> None:
        expected = {HELD: CONFLICT, PINNED: DONE, CONFIRMED: DONE, RELEASED: GONE, LAPSED: GONE}
        self.move(hold_id, CONFIRMED, expected, leaves={PINNED})

    @rule(hold_id=ids)
    def release(self, hold_id: bytes) -> None:
        if self.issued(hold_id):
            return
        expected = {HELD: DONE, PINNED: DONE, CONFIRMED: CONFLICT, RELEASED: DONE, LAPSED: DONE}
        self.move(hold_id, RELEASED, expected, leaves={HELD, PINNED})

    def move(
        self, hold_id: bytes, to: HoldState, expected: dict[HoldState, HoldOutcome], leaves: set[HoldState]
    ) -> None:
        answer = self.command(self.book.move(hold_id, to))
        hold = self.holds.get(hold_id)
        if hold is None:
            assert answer.outcome is UNKNOWN
            return
        assert answer.outcome is expected[hold.state]
        if hold.state in leaves:
            hold.state = to
            if to is CONFIRMED:
                for key, units in hold.lines:
                    self.sold[key] += units
        again = self.command(self.book.move(hold_id, to))
        assert (again.outcome, again.changes) == (answer.outcome, ()), (
            "the same again is answered alike, and does nothing"
        )

    @rule(ms=st.integers(0, 25))
    def wait(self, ms: int) -> None:
        self.now_ms += ms
        changes = self.book.lapse_due(self.now_ms)
        due = {hold_id for hold_id, hold in self.holds.items() if hold.state is HELD and hold.lapse_ms <= self.now_ms}
        assert {change.hold_id for change in changes if isinstance(change, HoldChange)} == due
        self.command(HoldAnswer(DONE, changes=changes))
        assert self.book.lapse_due(self.now_ms) == ()
        for hold_id in due:
            self.holds[hold_id].state = LAPSED

    @rule(request_id=ids, data=st.data())
    def return_units(self, request_id: bytes, data: st.DataObject) -> None:
        hold_id, key, left = data.draw(st.sampled_from(self.returnable() or [(b"", "a", 0)]))
        units = data.draw(st.integers(min(left, 1), left))
        changes = self.book.return_units(request_id, (Line(key, units),))
        assert bool(changes) == (request_id not in self.requests)
        self.command(HoldAnswer(DONE, changes=changes))
        self.requests.add(request_id)
        if changes and units:
            self.returned[hold_id, key] = self.returned.get((hold_id, key), 0) + units
            self.sold[key] -= units

    # What always holds

    @invariant()
    def never_more_than_the_limit(self) -> None:
        for key, counter in self.book.counters.items():
            assert min(counter.held, counter.pinned, counter.pinned + counter.sold) >= 0
            assert (counter.taken, counter.sold) == (self.taken(key), self.sold[key])
            assert counter.taken <= counter.limit

    @invariant()
    def once_all_is_told_only_what_is_not_refunded_is_sold(self) -> None:
        if not any(hold.state in {HELD, PINNED} for hold in self.holds.values()):
            for key, counter in self.book.counters.items():
                assert counter.taken == self.sold[key] >= 0

    @invariant()
    def the_changes_alone_make_the_same_book(self) -> None:
        assert self.replica.counters == self.book.counters
        assert self.replica.holds == self.book.holds
        assert self.replica.returned == self.book.returned


TestQuotas = Quotas.TestCase
TestQuotas.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


def apply(book: QuotaBook, answer: HoldAnswer) -> HoldAnswer:
    for change in answer.changes:
        book.apply(change)
    return answer


@given(st.lists(st.integers(1, 4), min_size=30, max_size=60))
def test_a_run_that_asks_for_more_than_there_is_ends_exactly_full(wanted: list[int]) -> None:
    """I4: whoever wants one can still have it until none is left."""
    book = QuotaBook()
    for number, units in enumerate([*wanted, *[1] * 4]):
        hold_id = number.to_bytes(16, "big")
        if apply(book, book.place(hold_id, (LimitedLine("a", units, 30),), 10, 1)).outcome is DONE:
            apply(book, book.move(hold_id, PINNED))
            apply(book, book.move(hold_id, CONFIRMED))
    assert book.counters["a"].sold == 30


@pytest.mark.parametrize(("after_ms", "lapsed"), [(-1, False), (0, True), (1, True)])
def test_a_hold_lapses_at_its_instant_unless_it_is_pinned(after_ms: int, lapsed: bool) -> None:
    book = QuotaBook()
    for hold_id in (b"held", b"pinned"):
        apply(book, book.place(hold_id, (LimitedLine("a", 1, 5),), 1_000, 1))
    apply(book, book.move(b"pinned", PINNED))
    changes = book.lapse_due(1_000 + after_ms)
    assert changes == ((HoldChange(b"held", LAPSED),) if lapsed else ())


def sell(book: QuotaBook, hold_id: bytes, units: int, limit: int) -> HoldOutcome:
    placed = apply(book, book.place(hold_id, (LimitedLine("a", units, limit),), 10, 1)).outcome
    apply(book, book.move(hold_id, PINNED))
    return placed


def give_back(book: QuotaBook, request_id: bytes, units: int) -> None:
    for change in book.return_units(request_id, (Line("a", units),)):
        book.apply(change)


def test_units_returned_before_their_hold_is_confirmed_are_free_once_it_is() -> None:
    """I4: the refund was told first, and its unit was lost for good."""
    book = QuotaBook()
    sell(book, b"1", 1, 1)
    give_back(book, b"r", 1)
    assert sell(book, b"2", 1, 1) is SOLD_OUT, "while it is pinned nobody else gets it"
    apply(book, book.move(b"1", CONFIRMED))
    give_back(book, b"r", 1)
    assert (book.counters["a"].sold, book.counters["a"].taken) == (0, 0)
    assert sell(book, b"3", 1, 1) is DONE


def test_units_returned_early_are_never_more_than_what_is_pinned() -> None:
    """I4: a credit that nothing uses up would be spent on what others buy."""
    book = QuotaBook()
    sell(book, b"1", 2, 9)
    give_back(book, b"r", 5)
    assert book.counters["a"].sold == -2
    apply(book, book.move(b"1", RELEASED))
    assert book.counters["a"].sold == 0
    give_back(book, b"s", 5)
    sell(book, b"2", 3, 9)
    apply(book, book.move(b"2", CONFIRMED))
    assert book.counters["a"].sold == 3


def test_a_hold_takes_all_its_lines_or_none() -> None:
    book = QuotaBook()
    answer = apply(book, book.place(b"1", (LimitedLine("a", 5, 5), LimitedLine("b", 3, 2)), 10, 1))
    assert (answer.outcome, answer.short_key, answer.units_left) == (SOLD_OUT, "b", 2)
    assert book.counters["a"].taken == 0


def test_a_limit_follows_the_newest_catalogue_only() -> None:
    book = QuotaBook()
    for hold_id, limit, version, expected in (
        (b"1", 5, 3, 5),
        (b"2", 9, 2, 5),
        (b"3", 7, 3, 5),
        (b"4", 8, 4, 8),
        (b"5", 1, 5, 1),
    ):
        apply(book, book.place(hold_id, (LimitedLine("a", 1, limit),), 10, version))
        assert book.counters["a"].limit == expected
    assert book.counters["a"].taken == 4, "a lowered limit takes nothing back, and sells nothing more"


def test_a_catalogue_that_leaves_a_limit_as_it_was_outdates_the_ones_before_it() -> None:
    """A call that was on its way for two catalogues came and set a limit that had been taken back."""
    book = QuotaBook()
    for hold_id, limit, version in ((b"1", 100, 1), (b"2", 100, 3), (b"3", 500, 2)):
        apply(book, book.place(hold_id, (LimitedLine("a", 1, limit),), 10, version))
        assert book.counters["a"].limit == 100
    assert book.counters["a"].catalogue_version == 3
    again = book.place(b"4", (LimitedLine("a", 1, 100),), 10, 3)
    assert not any(isinstance(change, LimitChange) for change in again.changes), "once a catalogue"


def test_a_level_is_not_told_again_by_a_catalogue_that_leaves_its_limit_as_it_was() -> None:
    book = QuotaBook(alert_levels_percent=(80,))
    raised = []
    for number, (limit, version) in enumerate([(10, 1)] * 8 + [(10, 2), (11, 3)]):
        answer = apply(book, book.place(bytes([number]), (LimitedLine("a", 1, limit),), 10, version))
        raised += [change.taken for change in answer.changes if isinstance(change, Alert)]
    assert raised == [8, 10], "with another limit, it is"


def test_levels_are_told_once_each_as_they_are_reached() -> None:
    book = QuotaBook(alert_levels_percent=(80, 100))
    raised = []
    for number in range(10):
        answer = apply(book, book.place(bytes([number]), (LimitedLine("a", 1, 10),), 10, 1))
        raised += [(change.level_percent, change.taken) for change in answer.changes if isinstance(change, Alert)]
    assert raised == [(80, 8), (100, 10)]


@pytest.mark.parametrize(
    ("taken", "level"), [(0, 0), (79, 0), (80, 80), (89, 80), (90, 90), (99, 90), (100, 100), (101, 100)]
)
def test_a_level_is_reached_at_its_percentage(taken: int, level: int) -> None:
    assert highest_level(taken, 100, (80, 90, 100)) == level


def test_ids_of_finished_holds_are_forgotten_oldest_first_and_never_those_that_still_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ticketcore.quota.FINISHED_HOLDS_KEPT", 2)
    book = QuotaBook()
    for number in range(5):
        apply(book, book.place(bytes([number]), (LimitedLine("a", 1, 9),), 10, 1))
    for number in range(1, 5):
        apply(book, book.move(bytes([number]), RELEASED))
    assert list(book.holds) == [bytes([0]), bytes([3]), bytes([4])]
    for number in range(4):
        book.apply(UnitsReturn(bytes([number]), ()))
    assert list(book.returned) == [bytes([2]), bytes([3])]


def test_units_of_a_quota_that_was_never_held_return_to_nothing() -> None:
    book = QuotaBook()
    book.apply(UnitsReturn(b"1", (Line("never", 3),)))
    assert "never" not in book.counters
    book.apply(LimitChange("never", 1, 1))
    assert book.counters["never"].sold == 0
