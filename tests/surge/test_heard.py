"""Who hears that it is full comes again, and stands in the queue like all: from the gates' answers to the report."""

from __future__ import annotations

import json

import pytest

from loadtest.surge import plan as planning
from loadtest.surge.heard import Heard, NoRoom
from loadtest.surge.plan import Plan, Turn, Way
from loadtest.surge.queues import FULL_AGAIN_S, Coming, Full
from loadtest.surge.report import page, series
from loadtest.surge.report.figures import figures_of
from loadtest.surge.report.series import Bins
from tests.surge.small_day import record, scenario

NOON_S = 12 * 3600.0


def turn(coming: int, ticket: int = 0, at_s: float = 100.0) -> Turn:
    return Turn(at_s, at_s, ticket, 0, 0, 0, Way.ENTRY, coming)


def test_an_answer_keeps_the_lane_waiting_at_the_coming_in_which_it_was_heard() -> None:
    heard = Heard()
    heard.took(turn(3), 0.5)
    heard.took(turn(3, ticket=1), 0.25)
    heard.come_again(turn(3), persons=2)
    heard.took(turn(3, ticket=1), 0.25)
    heard.took(turn(3), 4.0)
    heard.come_again(turn(3), persons=2)
    heard.took(turn(3), 0.125)
    heard.took(turn(3), 0.125)
    assert heard.delays_s == {3: 1.0}
    assert heard.full == {(3, 0): NoRoom(2, 100.0 + 2 * FULL_AGAIN_S, [4.0, 0.25])}


def test_nobody_waits_in_a_queue_on_the_way_out() -> None:
    heard = Heard()
    heard.took(turn(-1), 0.5)
    assert heard == Heard()


def test_what_was_heard_is_the_same_after_it_was_written_and_read_again() -> None:
    heard = Heard({4: 0.5, 2: 0.25}, {(4, 1): NoRoom(3, 700.0, [0.1, 0.2]), (2, 0): NoRoom(1, 800.0, [0.3])})
    rows = json.loads(json.dumps(heard.rows()))
    assert Heard.of(rows["delays_s"], rows["full"]) == heard


def test_a_ticket_that_comes_again_takes_its_share_of_the_party_s_time() -> None:
    planned = [Coming(0.0, 20.0, 4), Coming(5.0, 8.0, 2)]
    heard = Heard({0: 0.5}, {(0, 2): NoRoom(1, 650.0, [0.1]), (0, 1): NoRoom(1, 600.0, [0.2])})
    assert heard.comings(planned) == [
        Coming(0.0, 20.5, 4, (Full(1, 5.0, 600.0, [0.2]), Full(1, 5.0, 650.0, [0.1]))),
        Coming(5.0, 8.0, 2),
    ]


# The report.


@pytest.fixture(scope="module")
def plan() -> Plan:
    return planning.make(scenario())


def full_until(plan: Plan, entrance: int, until_s: float) -> Heard:
    """There is no room for whoever comes in the first hour and a half, before a time."""
    comings = enumerate(plan.comings[entrance])
    early = [(number, coming) for number, coming in comings if coming.at_s < plan.scenario.opens + 5400]
    return Heard({}, {(number, 0): NoRoom(coming.persons, until_s, [0.0] * 50) for number, coming in early})


def test_who_comes_again_stands_in_the_queue_and_takes_a_lane_s_time(plan: Plan) -> None:
    bins = Bins.of_day(plan.starts_s, plan.ends_s)
    before, after = (series.queue(plan, 0, heard, bins) for heard in (Heard(), full_until(plan, 0, NOON_S)))
    assert after.all.parties == before.all.parties + len(after.again) > before.all.parties + 100
    assert after.verdict.again == len(after.again)
    assert after.verdict.longest_wait_s > before.verdict.longest_wait_s
    assert after.all.longest > before.all.longest
    assert sum(after.all.wait_min) > sum(before.all.wait_min)
    assert sum(gate.parties for gate in after.gates) == after.all.parties
    assert max(one.at_s for one in after.again) < NOON_S + FULL_AGAIN_S + after.verdict.longest_wait_s + 60


def test_who_comes_again_counts_for_the_lanes_that_are_needed() -> None:
    crowded = planning.make(scenario(visitors=5_000))
    bins = Bins.of_day(crowded.starts_s, crowded.ends_s)
    before, after = (
        series.queue(crowded, 1, heard, bins).verdict for heard in (Heard(), full_until(crowded, 1, NOON_S))
    )
    assert after.needed > before.needed
    assert after.wait_with_needed_s <= 600
    assert f"came again, {after.again:,} times, because the park was full" in after.says
    assert "because the park was full" not in before.says


def test_nobody_comes_again_after_closing_time_or_after_a_day_was_interrupted(plan: Plan) -> None:
    heard = full_until(plan, 0, plan.scenario.closes + 3600.0)
    whole = series.queue(plan, 0, heard, Bins.of_day(plan.starts_s, plan.ends_s))
    part = series.queue(plan, 0, heard, Bins.of_day(plan.starts_s, NOON_S))
    assert NOON_S < max(one.at_s for one in whole.again) < plan.scenario.closes
    assert max(one.at_s for one in part.again) < Bins.of_day(plan.starts_s, NOON_S).ends_s


def test_the_report_says_who_came_again_and_draws_them(plan: Plan) -> None:
    quiet, one = record(), record()
    one.gates["full"] = [full_until(plan, entrance, NOON_S).rows()["full"] for entrance in range(2)]
    before, after = figures_of(quiet), figures_of(one)
    again = sum(coming.persons for queue in after.queues for coming in queue.again)
    per_bin = sum(after.day["flow"]["arrivals"]) - sum(before.day["flow"]["arrivals"])
    assert per_bin * after.bins.width_s / 60 == pytest.approx(again)
    assert "a queue grows, or the park is full and they come again." in page.html(after)
    assert "a queue grows." in page.html(before)
    assert after.numbers()["wait_min Main entrance"] > before.numbers()["wait_min Main entrance"]
