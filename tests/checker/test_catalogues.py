"""What the checker says of a catalogue that is published while gates are open: by which one each answer must be right.

The park begins with a zone for three in which the product is, and is published anew from 2000 to 3000 ms.
"""

from __future__ import annotations

from typing import Any

import pytest

from parkgate.gate.v1 import gate_pb2 as gate
from tests.checker import OK
from tests.checker.small_story import (
    EXIT,
    HELD,
    TICKET,
    ZONE,
    Story,
    admitted,
    hold,
    lease,
    moved,
    refused,
)

PRODUCT, ASKED, ANSWERED = 4, 2_000, 3_000
HERE, AWAY = {str(PRODUCT): [ZONE]}, {str(PRODUCT): [9]}
CAPACITY_FULL = gate.REASON_CAPACITY_FULL


def park(before: dict[str, Any], capacity: int, after: dict[str, Any]) -> Story:
    """A park whose product was in a place and is in another, with a new capacity."""
    story = Story()
    story.history.operations[0].request["places"] = before
    asked = {"capacities": {str(ZONE): capacity}, "places": after}
    story.history.invoke("publish", "sales", ASKED, **asked).complete(ANSWERED, OK)
    return story


def enter(story: Story, asked: int, durable: int) -> None:
    """A guest shows the code and is admitted."""
    story.show(1, asked)
    story.entry(moved(1), partition="q0", durable_ms=asked)
    story.entry(lease(1), admitted(1), durable_ms=durable)


TIMES = [
    (ASKED - 2, ASKED - 1, True, False),
    (ASKED - 1, ASKED, True, True),
    (ASKED, ANSWERED, True, True),
    (ANSWERED, ANSWERED + 1, True, True),
    (ANSWERED + 1, ANSWERED + 2, False, True),
]
"""When it was asked and durable, and whether the first catalogue, and the second, may have decided it."""


@pytest.mark.parametrize(("asked", "durable", "first", "second"), TIMES)
def test_an_admission_must_be_right_by_a_catalogue_in_force(
    asked: int, durable: int, first: bool, second: bool
) -> None:
    """I1"""
    said = ["I1 was admitted, and no catalogue in force has its product there"]
    taken_out, brought_in = park(HERE, 3, AWAY), park(AWAY, 3, HERE)
    for story in (taken_out, brought_in):
        enter(story, asked, durable)
    assert taken_out.found() == ([] if first else said)
    assert brought_in.found() == ([] if second else said)


@pytest.mark.parametrize(("asked", "durable", "first", "second"), TIMES)
@pytest.mark.parametrize("reason", ["WRONG_GATE", "WRONG_PRODUCT"])
def test_a_refusal_for_the_place_must_be_right_by_a_catalogue_in_force(
    asked: int, durable: int, first: bool, second: bool, reason: str
) -> None:
    """I7"""
    said = [f"I7 was told {reason}, and its product is there"]
    taken_out, brought_in = park(HERE, 3, AWAY), park(AWAY, 3, HERE)
    for story in (taken_out, brought_in):
        story.show(1, asked)
        story.entry(refused(1, gate.Reason.Value(f"REASON_{reason}")), durable_ms=durable)
    assert taken_out.found() == ([] if second else said)
    assert brought_in.found() == ([] if first else said)


def test_who_is_inside_may_leave_a_place_where_the_product_is_no_more() -> None:
    story = park(HERE, 3, AWAY)
    enter(story, 1_000, 1_001)
    story.show(2, ANSWERED + 10)
    story.entry(admitted(2, kind=EXIT, first_admission=False), durable_ms=ANSWERED + 11)
    assert story.found() == []


def test_where_the_history_says_no_places_none_is_judged() -> None:
    story = Story()
    enter(story, 1_000, 1_001)
    story.entry(refused(2, gate.REASON_WRONG_GATE))
    assert story.found() == []


@pytest.mark.parametrize(("durable", "said"), [(ASKED - 1, ["I4 4 units are leased, 3 there are"]), (ASKED, [])])
def test_a_raised_capacity_holds_from_when_it_was_asked_for(durable: int, said: list[str]) -> None:
    """I4"""
    story = park(HERE, 4, HERE)
    story.entry(moved(3), partition="q0", durable_ms=1_000)
    story.entry(moved(4), partition="q0", durable_ms=durable)
    assert story.found() == said


def test_a_lowered_capacity_takes_no_unit_back_and_none_is_granted_beyond_it() -> None:
    """I4: of three that are leased one is given back, and two are left."""
    story = park(HERE, 2, HERE)
    story.entry(moved(3), partition="q0", durable_ms=1_000)
    story.entry(lease(3), durable_ms=1_001)
    story.entry(moved(3), partition="q0", durable_ms=ANSWERED + 1)
    story.entry(lease(3, 1), durable_ms=ANSWERED + 2)
    story.entry(moved(3, 1), partition="q0", durable_ms=ANSWERED + 3)
    assert story.found() == []
    story.entry(moved(4, 1), partition="q0", durable_ms=ANSWERED + 4)
    assert story.found() == ["I4 3 units are leased, 2 there are"]


@pytest.mark.parametrize(("inside", "said"), [(1, ["I4 ended with 1 persons inside, 2 may be"]), (2, []), (3, [])])
def test_a_zone_whose_capacity_was_lowered_ends_full_with_who_was_in_before(inside: int, said: list[str]) -> None:
    """I4"""
    story = park(HERE, 2, HERE)
    story.entry(moved(3), partition="q0", durable_ms=1_000)
    story.entry(lease(3), durable_ms=1_001)
    for scan in range(1, inside + 1):
        story.issue(TICKET + scan)
        story.show(scan, 1_000, TICKET + scan)
        story.entry(admitted(scan, TICKET + scan), durable_ms=1_001 + scan)
    story.history.note("full", "nobody", 9_000, {"zone": ZONE})
    assert story.found() == said


@pytest.mark.parametrize(("asked", "said"), [(ANSWERED, False), (ANSWERED + 1, True)])
def test_full_is_judged_by_the_least_capacity_in_force(asked: int, said: bool) -> None:
    """I4: three are inside; with room for four somebody was told that it is full."""
    story = park(HERE, 4, HERE)
    story.entry(moved(3), partition="q0", durable_ms=1_000)
    story.entry(lease(3), durable_ms=1_001)
    for scan in range(1, 4):
        story.issue(TICKET + scan)
        story.show(scan, 1_000, TICKET + scan)
        story.entry(admitted(scan, TICKET + scan), durable_ms=1_001 + scan)
    story.show(9, asked)
    story.entry(refused(9, CAPACITY_FULL), durable_ms=asked + 5)
    what = "I4 1 persons were told that it is full, with at most 3 inside all the while, of 4"
    assert (what in story.found()) is said


def test_a_grant_beyond_a_lowered_capacity_makes_no_room_for_itself() -> None:
    """I4: also not the first entry after the publication."""
    story = park(HERE, 1, HERE)
    story.entry(moved(1), partition="q0", durable_ms=1_000)
    story.entry(lease(1), durable_ms=1_001)
    story.entry(hold(1, HELD), partition="q0", durable_ms=ANSWERED + 10)
    story.entry(moved(3), partition="q0", durable_ms=ANSWERED + 100_000)
    assert "I4 3 units are leased, 1 there are" in story.found()


def test_a_publication_that_was_never_answered_keeps_no_earlier_catalogue_in_force() -> None:
    """I1, I4: the next one that was answered ends it as well."""
    story = Story()
    story.history.operations[0].request["places"] = HERE
    asked = {"capacities": {str(ZONE): 1}, "places": AWAY}
    story.history.invoke("publish", "sales", ASKED, **asked)
    story.history.invoke("publish", "sales", ANSWERED, **asked).complete(ANSWERED + 1, OK)
    story.show(1, ANSWERED + 100)
    story.entry(moved(3), partition="q0", durable_ms=ANSWERED + 100)
    story.entry(lease(3), admitted(1), durable_ms=ANSWERED + 101)
    assert "I1 was admitted, and no catalogue in force has its product there" in story.found()
