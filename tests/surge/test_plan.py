"""The plan of a day: who shows what, where and when."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

from loadtest.surge import plan as planning
from loadtest.surge.guests import Habit, invite
from loadtest.surge.plan import AGAIN_S, Plan, Turn, Way
from tests.surge.small_day import scenario


@pytest.fixture(scope="module")
def plan() -> Plan:
    return planning.make(scenario(visitors=2_000))


def first_ticket(turns: list[Turn]) -> list[Way]:
    return [turn.way for turn in turns if turn.ticket == 0]


def test_the_same_scenario_gives_the_same_plan_and_another_seed_another(plan: Plan) -> None:
    assert planning.make(scenario(visitors=2_000)).turns == plan.turns
    assert planning.make(scenario(visitors=2_000, seed=8)).turns != plan.turns


def test_all_visitors_come_and_not_a_party_more_than_needed(plan: Plan) -> None:
    persons = [guests.kind.persons for guests in plan.guests]
    assert sum(persons) >= 2_000 > sum(persons) - max(persons)


def test_every_ticket_goes_in_and_out_in_turn(plan: Plan) -> None:
    for guests, turns in zip(plan.guests, plan.turns, strict=True):
        inside = False
        for way in first_ticket(turns):
            if way in {Way.ENTRY, Way.BACK}:
                assert not inside, guests
                inside = True
            elif way is Way.EXIT:
                assert inside, guests
                inside = False
        assert not inside, guests


def test_all_tickets_of_a_party_make_the_same_ways(plan: Plan) -> None:
    for turns in plan.turns:
        ways = Counter((turn.ticket, turn.way) for turn in turns if turn.way in {Way.ENTRY, Way.EXIT, Way.BACK})
        assert len({count for (_, way), count in ways.items() if way is Way.ENTRY}) <= 1
        assert len({count for (_, way), count in ways.items() if way is Way.EXIT}) <= 1


def test_nobody_s_turn_comes_before_they_came_or_before_the_doors_open(plan: Plan) -> None:
    for turn in (turn for turns in plan.turns for turn in turns):
        assert turn.at_s >= turn.came_s
        if turn.way is Way.ENTRY:
            assert turn.at_s >= plan.scenario.opens


def test_one_lane_serves_one_party_after_the_other(plan: Plan) -> None:
    served: dict[tuple[int, int], list[tuple[float, int]]] = {}
    for turn in (turn for turns in plan.turns for turn in turns):
        if turn.queue >= 0 and turn.ticket == 0:
            served.setdefault((turn.entrance, turn.lane), []).append((turn.at_s, turn.queue))
    for (entrance, _), ones in served.items():
        ordered = sorted(ones)
        for (at_s, queue), (later_s, _) in pairwise(ordered):
            assert later_s >= at_s + plan.comings[entrance][queue].service_s - 1e-6


def is_inside(turns: list[Turn], at_s: float) -> bool:
    ways = [turn.way for turn in turns if turn.ticket == 0 and turn.at_s < at_s]
    return [way for way in ways if way in {Way.ENTRY, Way.BACK, Way.EXIT}][-1:] not in ([], [Way.EXIT])


def test_the_storm_sends_out_everybody_who_is_inside_and_some_come_back(plan: Plan) -> None:
    storm = plan.scenario.storm
    assert storm is not None
    last_out_s = storm.at + storm.minutes * 60 + AGAIN_S
    inside = [turns for turns in plan.turns if is_inside(turns, storm.at)]
    assert len(inside) > 100
    assert all(any(turn.way is Way.EXIT and storm.at <= turn.at_s <= last_out_s for turn in turns) for turns in inside)
    back = sum(any(turn.way is Way.BACK and turn.at_s > last_out_s for turn in turns) for turns in inside)
    assert back == pytest.approx(len(inside) * storm.back_share, rel=0.2)


@pytest.mark.parametrize(
    ("lanes", "shown", "lanes_at"),
    [
        (1, [[0, 1, 0, 1]], [0, 0]),
        (2, [[0, 2, 0, 2], [1, 3, 1, 3]], [0, 0, 0, 0]),
        (2, [[0, 2, 1, 0], [1, 0, 2, 1]], [0, 0, 0]),
        (3, [[0, 0], [1, 1], [2, 2]], [1, 1, 1]),
        (5, [[0, 0], [1, 1], [2, 2], [3, 3], [0, 0]], [2, 1, 1, 1]),
    ],
)
def test_a_lane_is_one_gate_s_or_takes_its_gates_in_turn(
    lanes: int, shown: list[list[int]], lanes_at: list[int]
) -> None:
    gates = len(lanes_at)
    (entrance, _) = scenario().entrances
    one = entrance.model_copy(update={"lanes": lanes, "gates": tuple(f"main-{n}" for n in range(gates))})
    assert [[one.gate_of(lane, turn) for turn in range(len(row))] for lane, row in enumerate(shown)] == shown
    assert [one.lanes_at(gate) for gate in range(gates)] == lanes_at


def test_every_coming_has_the_gate_of_its_turns(plan: Plan) -> None:
    for entrance, comings in enumerate(plan.comings):
        assert len(plan.coming_gates[entrance]) == len(comings)
        assert set(plan.coming_gates[entrance]) == {0, 1}
    for turn in (turn for turns in plan.turns for turn in turns if turn.queue >= 0):
        assert plan.coming_gates[turn.entrance][turn.queue] == turn.gate


def test_some_stand_there_when_the_doors_open() -> None:
    found = planning.make(scenario(visitors=2_000)).guests
    early = sum(guests.arrives_s == scenario().opens for guests in found)
    assert early == pytest.approx(0.1 * len(found), rel=0.35)


@pytest.mark.parametrize(
    ("habit", "ways"),
    [
        (Habit.NONE, [Way.ENTRY]),
        (Habit.FORGED, [Way.FORGED, Way.ENTRY]),
        (Habit.TURN_BACK, [Way.TURNED_BACK, Way.ENTRY]),
        (Habit.REFUND_IN_QUEUE, [Way.ENTRY]),
    ],
)
def test_a_party_begins_its_day_by_its_habit(plan: Plan, habit: Habit, ways: list[Way]) -> None:
    begun = [
        first_ticket(turns) for guests, turns in zip(plan.guests, plan.turns, strict=True) if guests.habit is habit
    ]
    assert begun
    assert all(found[: len(ways)] == ways for found in begun if found)


def test_a_copy_is_shown_after_the_ticket_itself(plan: Plan) -> None:
    copied = [turns for turns in plan.turns if any(turn.way is Way.COPY for turn in turns)]
    assert copied
    assert all(
        min(turn.at_s for turn in turns if turn.way is Way.COPY)
        > min(turn.at_s for turn in turns if turn.way is Way.ENTRY)
        for turns in copied
    )


def test_who_buys_on_the_day_buys_before_coming(plan: Plan) -> None:
    bought = [guests for guests in plan.guests if guests.buys_s is not None]
    assert len(bought) == pytest.approx(0.3 * len(plan.guests), rel=0.2)
    assert all(8 * 60 <= guests.arrives_s - (guests.buys_s or 0) <= 20 * 60 for guests in bought)
    tickets = sum(line.count for guests in plan.guests if guests.buys_s is None for line in guests.kind.tickets)
    assert sum(plan.presale().values()) == tickets


def test_who_may_not_come_back_leaves_for_good() -> None:
    parties = [party.model_copy(update={"returns": False}) for party in scenario().parties]
    found = invite(scenario(visitors=2_000).model_copy(update={"parties": tuple(parties)}))
    assert all(trip.back_s is None for guests in found for trip in guests.trips)
    assert all(len(guests.trips) == 1 for guests in found)


def test_who_would_have_their_turn_after_closing_time_is_turned_away() -> None:
    crowded = planning.make(scenario(visitors=20_000))
    assert sum(crowded.turned_away)
    entered = [turn for turns in crowded.turns for turn in turns if turn.queue >= 0 and turn.ticket == 0]
    assert all(turn.at_s < crowded.scenario.closes for turn in entered)
