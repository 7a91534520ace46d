"""What a code must hear at the gates, by what it heard before, and the gates' own count."""

from __future__ import annotations

from dataclasses import replace

import pytest

from loadtest.surge.crowd import Code, Counted, Next, forged
from loadtest.surge.guests import Guests, Habit
from loadtest.surge.plan import Way
from parkgate.gate.v1 import gate_pb2 as pb
from tests.surge.small_day import scenario

PARK = 1


def code(habit: Habit = Habit.NONE, *, kind: int = 0, number: int = 0) -> Code:
    guests = Guests(0, scenario().parties[kind], 0, 0.0, None, habit, ())
    return Code(guests, number, token=bytes(81))


def verdict(decision: str, reason: str = "", persons: int = 0) -> pb.Verdict:
    return pb.Verdict(
        decision=pb.Decision.Value(f"DECISION_{decision}"),
        reason=pb.Reason.Value(f"REASON_{reason}") if reason else pb.REASON_UNSPECIFIED,
        persons_admitted=persons,
        ticket_id=77,
    )


def test_a_code_waits_for_its_sale_and_for_its_last_turn() -> None:
    one = code()
    assert one.next_of(Way.ENTRY) is Next.SHOW
    one.busy = True
    assert one.next_of(Way.ENTRY) is Next.WAIT
    assert Code(one.guests, 0).next_of(Way.ENTRY) is Next.WAIT


@pytest.mark.parametrize("way", [Way.EXIT, Way.COPY])
def test_nobody_leaves_or_copies_what_is_not_inside(way: Way) -> None:
    one = code()
    assert one.next_of(way) is Next.SKIP
    one.inside = True
    assert one.next_of(way) is Next.SHOW


def test_a_code_that_was_refused_for_good_is_not_shown_again() -> None:
    one = code()
    one.refused_for_good = True
    assert one.next_of(Way.ENTRY) is Next.SKIP
    assert one.next_of(Way.FORGED) is Next.SHOW


@pytest.mark.parametrize("way", [Way.BACK, Way.EXIT, Way.COPY])
def test_who_comes_again_makes_no_other_way_until_then(way: Way) -> None:
    one = code()
    one.away = True
    assert one.next_of(way) is Next.SKIP
    assert one.next_of(Way.ENTRY) is Next.WAIT, "who turned back, and heard that it is full, goes in after that"


def test_a_code_lets_in_as_many_as_its_own_ticket_says() -> None:
    assert [code(number=number).persons for number in (0, 1)] == [1, 1]
    assert code(kind=1).persons == 4


@pytest.mark.parametrize(
    ("habit", "kind", "way", "inside", "right"),
    [
        (Habit.NONE, 0, Way.ENTRY, False, {"ADMIT", "CAPACITY_FULL"}),
        (Habit.NONE, 0, Way.COPY, True, {"ALREADY_USED", "ALREADY_INSIDE"}),
        (Habit.NONE, 0, Way.BACK, True, {"ALREADY_USED", "ALREADY_INSIDE"}),
        (Habit.NONE, 0, Way.EXIT, True, {"ADMIT"}),
        (Habit.NONE, 0, Way.FORGED, False, {"BAD_SIGNATURE"}),
        (Habit.NONE, 2, Way.ENTRY, False, {"ADMIT", "CAPACITY_FULL", "ID_REQUIRED", "CONCESSION_PROOF_REQUIRED"}),
        (Habit.REFUND_IN_QUEUE, 0, Way.ENTRY, False, {"ADMIT", "CAPACITY_FULL", "REFUNDED"}),
    ],
)
def test_what_a_code_may_hear_follows_from_what_it_did(
    habit: Habit, kind: int, way: Way, inside: bool, right: set[str]
) -> None:
    one = code(habit, kind=kind)
    one.inside = inside
    assert one.may_hear(way, proof_seen=False) == right


def test_only_a_ticket_bought_on_the_day_may_be_unknown_for_a_while() -> None:
    one = code()
    bought = Code(replace(one.guests, buys_s=9.0), 0, token=bytes(81))
    assert "UNKNOWN_TICKET" in bought.may_hear(Way.ENTRY, proof_seen=False)
    assert "UNKNOWN_TICKET" not in one.may_hear(Way.ENTRY, proof_seen=False)


def test_a_proof_that_was_seen_is_not_asked_for_again() -> None:
    assert code(kind=2).may_hear(Way.ENTRY, proof_seen=True) == {"ADMIT", "CAPACITY_FULL"}


def test_only_the_refunded_ticket_of_a_party_may_hear_that_it_is() -> None:
    assert "REFUNDED" not in code(Habit.REFUND_IN_QUEUE, number=1).may_hear(Way.ENTRY, proof_seen=False)


def test_an_answer_that_is_not_right_is_counted_as_wrong_with_an_example() -> None:
    counted, one = Counted(), code()
    counted.hear(one, Way.COPY, verdict("ADMIT", persons=1), right=frozenset({"ALREADY_USED"}))
    counted.hear(one, Way.ENTRY, verdict("ADMIT", persons=1), right=frozenset({"ADMIT"}))
    assert counted.wrong == {("copy", "ADMIT"): 1}
    assert counted.examples == {("copy", "ADMIT"): 77}
    assert counted.verdicts == {("ADMIT", ""): 2}


def test_the_count_of_who_is_inside_follows_admissions_and_exits() -> None:
    counted, one = Counted(), code(kind=1)
    for way, persons, inside, admitted in (
        (Way.TURNED_BACK, 4, 0, 1),
        (Way.ENTRY, 4, 4, 1),
        (Way.EXIT, 4, 0, 1),
        (Way.BACK, 4, 4, 1),
    ):
        counted.admit(one, way, verdict("ADMIT", persons=persons), PARK)
        assert counted.inside[PARK] == inside, way
        assert counted.tickets_admitted == admitted
    assert counted.persons_in == 8


def test_what_gates_told_guests_who_asked_their_money_back_is_kept() -> None:
    counted, one = Counted(), code(Habit.REFUND_IN_QUEUE)
    right = one.may_hear(Way.ENTRY, proof_seen=False)
    for found in (verdict("ADMIT"), verdict("REJECT", "REFUNDED"), verdict("REJECT", "CAPACITY_FULL")):
        counted.hear(one, Way.ENTRY, found, right=right)
    assert (counted.admitted_refunders, counted.refunded_heard) == ([77], [77])


def test_a_forged_code_has_the_claims_of_a_ticket_and_another_signature() -> None:
    token = bytes(range(81))
    assert forged(token)[:17] == token[:17]
    assert forged(token)[17:] != token[17:]
    assert len(forged(token)) == 81
