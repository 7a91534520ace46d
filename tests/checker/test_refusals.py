"""Refusals that are true are passed, and each that is not is named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from parkgate.events.v1 import events_pb2 as pb
from parkgate.gate.v1 import gate_pb2 as gate
from tests.checker.refusals import LIFECYCLE_OF
from tests.checker.small_story import (
    CAPACITY,
    CONFIRMED,
    EXIT,
    HELD,
    LAPSED,
    NOT_PASSED,
    PINNED,
    QUOTA,
    TICKET,
    Story,
    admitted,
    changed,
    hold,
    lease,
    moved,
    passage,
    refused,
    registered,
    scan_id,
)

FULL = gate.REASON_CAPACITY_FULL
SCAN = 50
DAY_MS = 86_400_000
Tell = Callable[[Story], object]


def told(reason: str, before: Tell = lambda _: None, **asked: object) -> list[str]:
    """What is found if the ticket's code is shown and refused after what has happened before."""
    story = Story()
    before(story)
    story.show(SCAN, **asked)
    story.entry(refused(SCAN, gate.Reason.Value(f"REASON_{reason}")))
    return story.found()


def entered(*scans: int) -> Tell:
    """The guest came in that often, and left each time but the last."""

    def tell(story: Story) -> None:
        for number, scan in enumerate(scans):
            if number:
                story.entry(admitted(scan + 100, kind=EXIT, first_admission=False))
            story.enter(scan, first_admission=not number)

    return tell


def of(entries: int, party: int = 1, daily: int = 0, before: Tell = lambda _: None) -> Tell:
    """The ticket is another than usual."""

    def tell(story: Story) -> None:
        story.history.operations.pop()
        story.issue(TICKET, entries, party, daily_entries=daily)
        before(story)

    return tell


def given_back(story: Story) -> None:
    story.enter(1)
    story.entry(passage(1, NOT_PASSED))


def left(story: Story) -> None:
    story.enter(1)
    story.entry(admitted(2, kind=EXIT, first_admission=False))


def known(story: Story) -> None:
    story.entry(registered())


TRUE: dict[str, tuple[str, Tell, dict[str, object]]] = {
    "used": ("ALREADY_USED", entered(1), {}),
    "all entries are used": ("NO_ENTRIES_LEFT", of(2, before=entered(1, 2)), {}),
    "of one entry fewer are left than come": ("NO_ENTRIES_LEFT", of(1, 4), {"persons": 5}),
    "used today": ("DAILY_LIMIT_REACHED", of(3, daily=1, before=entered(1)), {}),
    "inside": ("ALREADY_INSIDE", of(3, before=entered(1)), {}),
    "not inside": ("NOT_INSIDE", lambda _: None, {}),
    "fewer inside than leave": ("NOT_INSIDE", entered(1), {"persons": 2}),
    "forged": ("BAD_SIGNATURE", known, {"forged": True}),
    "of nobody": ("BAD_SIGNATURE", known, {"ticket": 99}),
    "not registered": ("UNKNOWN_TICKET", lambda _: None, {}),
    "not judged": ("GATE_CLOSED", lambda _: None, {}),
}
UNTRUE: dict[str, tuple[str, Tell, str]] = {
    "never used": (
        "ALREADY_USED",
        known,
        "I7 was told ALREADY_USED, and 0 person-entries, 0 today, 0 inside",
    ),
    "given back": (
        "ALREADY_USED",
        given_back,
        "I7 was told ALREADY_USED, and 0 person-entries, 0 today, 0 inside",
    ),
    "half of the party has come": (
        "ALREADY_USED",
        of(1, 2, before=entered(1)),
        "I7 was told ALREADY_USED, and 1 person-entries, 1 today, 1 inside",
    ),
    "one of two entries is left": (
        "NO_ENTRIES_LEFT",
        of(2, before=entered(1)),
        "I7 was told NO_ENTRIES_LEFT, and 1 person-entries, 1 today, 1 inside",
    ),
    "outside": (
        "ALREADY_INSIDE",
        of(2, before=left),
        "I7 was told ALREADY_INSIDE, and 1 person-entries, 1 today, 0 inside",
    ),
    "inside and wants to leave": (
        "NOT_INSIDE",
        entered(1),
        "I7 was told NOT_INSIDE, and 1 person-entries, 1 today, 1 inside",
    ),
    "genuine": ("BAD_SIGNATURE", lambda _: None, "I7 a genuine code was told BAD_SIGNATURE"),
    "registered": ("UNKNOWN_TICKET", known, "I7 a genuine code was told UNKNOWN_TICKET"),
}


@pytest.mark.parametrize("name", TRUE)
def test_a_refusal_that_is_true_is_passed(name: str) -> None:
    reason, before, asked = TRUE[name]
    assert told(reason, before, **asked) == []


@pytest.mark.parametrize("name", UNTRUE)
def test_a_refusal_that_is_not_true_is_named(name: str) -> None:
    """I7"""
    reason, before, expected = UNTRUE[name]
    assert told(reason, before) == [expected]


def test_a_daily_limit_is_reached_by_entries_of_that_day_only() -> None:
    """I7"""
    story = Story()
    of(2, daily=1, before=left)(story)
    story.entry(refused(SCAN, gate.REASON_DAILY_LIMIT_REACHED), time_ms=DAY_MS - 1)
    assert story.found() == []
    story.entry(refused(SCAN + 1, gate.REASON_DAILY_LIMIT_REACHED), time_ms=DAY_MS)
    assert story.found() == ["I7 was told DAILY_LIMIT_REACHED, and 1 person-entries, 0 today, 0 inside"]


@pytest.mark.parametrize("reason", LIFECYCLE_OF)
def test_a_lifecycle_is_told_of_a_ticket_that_is_in_it_only(reason: int) -> None:
    """I7"""
    said, state = gate.Reason.Name(reason).removeprefix("REASON_"), LIFECYCLE_OF[reason]
    assert told(said, lambda story: story.entry(changed(state))) == []
    assert told(said, known) == [f"I7 was told {said}, and it is LIFECYCLE_ACTIVE"]


def test_a_ticket_begins_in_the_lifecycle_that_it_is_registered_in_unless_it_was_seen_or_changed_before() -> None:
    """I7"""
    unpaid = registered()
    unpaid.ticket_registered.lifecycle = pb.LIFECYCLE_UNPAID
    assert told("UNPAID", lambda story: story.entry(unpaid)) == []
    assert told("BLOCKED", lambda story: story.entry(changed(pb.LIFECYCLE_BLOCKED), unpaid)) == []
    seen = told("UNPAID", lambda story: (story.enter(1), story.entry(unpaid)))
    assert seen == ["I7 was told UNPAID, and it is LIFECYCLE_ACTIVE"]


# Full


def others(count: int, partition: str = "p0") -> Tell:
    """Guests are inside on other tickets."""

    def tell(story: Story) -> None:
        story.entry(moved(count, partition=partition), partition="q0")
        for ticket in range(20, 20 + count):
            story.issue(ticket)
        inside = [admitted(ticket, ticket) for ticket in range(20, 20 + count)]
        story.entry(lease(count), *inside, partition=partition)

    return tell


def test_full_is_true_if_nobody_more_can_be_inside() -> None:
    """I4"""
    assert told("CAPACITY_FULL", others(CAPACITY)) == []
    assert told("CAPACITY_FULL", of(1, 2, before=others(CAPACITY - 1))) == [], "two do not fit where one does"
    assert told("CAPACITY_FULL", others(CAPACITY - 1)) == [
        "I4 1 persons were told that it is full, with at most 2 inside all the while, of 3"
    ]


@pytest.mark.parametrize(("left_s", "found"), [(1, 0), (2, 0), (4, 1)])
def test_full_is_true_if_it_was_so_since_it_was_asked(left_s: int, found: int) -> None:
    """I4: somebody left that long before the refusal, and the code was shown two seconds before it."""
    story = Story()
    others(CAPACITY)(story)
    story.entry(admitted(40, 20, kind=EXIT, first_admission=False), durable_ms=20_000 - left_s * 1_000)
    story.show(SCAN, at=18_000)
    story.entry(refused(SCAN, FULL), durable_ms=20_000)
    assert len(story.found()) == found


def test_full_is_not_told_with_the_answer_to_another_guests_earlier_question() -> None:
    """I4: of two in one entry the first was right."""
    story = Story()
    others(CAPACITY)(story)
    story.entry(admitted(40, 20, kind=EXIT, first_admission=False), durable_ms=15_000)
    story.show(SCAN, at=18_000)
    story.show(SCAN + 1, at=14_000)
    story.entry(refused(SCAN, FULL), refused(SCAN + 1, FULL), durable_ms=20_000)
    assert story.found() == ["I4 1 persons were told that it is full, with at most 2 inside all the while, of 3"]


def test_full_may_be_told_where_each_partition_had_its_most_at_another_time() -> None:
    """I4: one is asked before its guest leaves, the other after its guest has come."""
    story = Story()
    others(CAPACITY - 1)(story)
    story.show(SCAN, at=1_000)
    story.entry(admitted(40, 20, kind=EXIT, first_admission=False), durable_ms=2_000)
    story.entry(moved(1, partition="p1"), partition="q0", durable_ms=2_100)
    story.issue(30)
    story.entry(lease(1), admitted(30, 30), partition="p1", durable_ms=2_200)
    story.entry(refused(SCAN, FULL), durable_ms=3_000)
    assert story.found() == []


def test_without_an_order_of_partitions_full_is_judged_by_the_most_that_were_ever_inside() -> None:
    """I4"""
    for inside, found in ((CAPACITY, 0), (CAPACITY - 1, 1)):
        story = Story()
        story.show(SCAN)
        story.entry(refused(SCAN, FULL))
        others(inside, "p1")(story)
        story.entries = [replace(item, order=None, durable_ms=None) for item in story.entries]
        assert len(story.found()) == found


# Sold out


def sold_out(story: Story, asked_ms: int, told_ms: int, units: int = 1) -> list[str]:
    """Units of the quota were asked for, and there were none."""
    asked = {"hold_id": scan_id(9).hex(), "quota": QUOTA, "units": units, "step": "place"}
    story.history.invoke("hold", "window", asked_ms, **asked).complete(told_ms, "fail", state="SOLD_OUT")
    return story.found()


def taken_for_a_while() -> Story:
    """Both units are taken from 2,000 ms on, and one of them until 3,000 ms."""
    story = Story()
    story.entry(hold(1, HELD), partition="q0", durable_ms=1_500)
    story.entry(hold(2, HELD), partition="q0", durable_ms=2_000)
    story.entry(hold(2, LAPSED), partition="q0", durable_ms=3_000)
    return story


NAMED = ["I4 1 units were said to be sold out, and there were as many all the while"]


@pytest.mark.parametrize(
    ("asked_ms", "told_ms", "found"),
    [
        (1_600, 1_999, NAMED),
        (1_600, 2_000, []),
        (2_400, 2_500, []),
        (2_999, 9_000, []),
        (3_000, 9_000, []),
        (3_001, 9_000, NAMED),
    ],
)
def test_sold_out_is_true_if_too_few_were_left_at_some_instant_since_it_was_asked(
    asked_ms: int, told_ms: int, found: list[str]
) -> None:
    """I4"""
    assert sold_out(taken_for_a_while(), asked_ms, told_ms) == found


def test_sold_out_is_judged_by_the_units_that_were_asked_for() -> None:
    """I4"""
    assert sold_out(taken_for_a_while(), 1_600, 1_700, units=2) == []
    assert sold_out(Story(), 0, 9_000, units=3) == []
    assert len(sold_out(Story(), 0, 9_000, units=2)) == 1


def test_units_returned_before_their_sale_is_confirmed_are_taken_until_then() -> None:
    """I4: nobody too many may get them meanwhile."""
    story = Story()
    story.entry(hold(1, HELD, 2), hold(1, PINNED), partition="q0", durable_ms=1_000)
    returned = pb.UnitsReturned(request_id=scan_id(3), lines=[pb.QuotaLine(quota_key=QUOTA, units=2)])
    story.entry(pb.Event(units_returned=returned), partition="q0", durable_ms=2_000)
    assert sold_out(story, 3_000, 3_500) == []
    story.entry(hold(1, CONFIRMED), partition="q0", durable_ms=4_000)
    assert sold_out(story, 5_000, 6_000) == NAMED


def test_a_sold_out_without_times_is_judged_by_the_most_that_were_ever_taken() -> None:
    """I4"""
    story = taken_for_a_while()
    story.entries = [replace(item, order=None, durable_ms=None) for item in story.entries]
    assert sold_out(story, 3_001, 9_000) == []
    empty = Story()
    empty.entry(hold(1, HELD), partition="q0")
    empty.entries = [replace(item, order=None, durable_ms=None) for item in empty.entries]
    assert sold_out(empty, 0, 9_000) == NAMED


def test_a_refund_is_refused_as_used_only_if_somebody_was_admitted() -> None:
    """I5, I7"""
    story = Story()
    story.refund(state="ALREADY_USED")
    assert story.found() == ["I7 its refund was refused as used, and nobody was ever admitted on it"]
    story.enter(1)
    assert story.found() == []
