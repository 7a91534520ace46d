"""The verdict: measured, not guessed, and honest about who was the limit."""

from __future__ import annotations

from typing import Any

import pytest

from loadtest.surge.ramp import Step
from loadtest.surge.report.verdict import (
    Cost,
    LaneVerdict,
    Limit,
    RampCost,
    capacity_sentence,
    held,
    minutes,
    two_digits,
)
from loadtest.surge.samples import percentile
from tests.surge.small_day import step


def test_what_is_held_is_the_highest_step_within_the_limit() -> None:
    found = held([step(1000, 20), step(2000, 99), step(4000, 250)])
    assert (found.guests_a_minute, found.p99_ms, found.at_least) == (120_000, 99, False)
    assert found.limit is Limit.SYSTEM


@pytest.mark.parametrize(("p99_ms", "guests"), [(99.9, 60_000), (100.0, 60_000), (100.1, 0)])
def test_a_step_of_exactly_the_limit_is_held(p99_ms: float, guests: int) -> None:
    assert held([step(1000, p99_ms)]).guests_a_minute == guests


def test_a_step_in_which_not_everybody_was_admitted_is_not_held() -> None:
    assert held([step(1000, 20, admitted=999)]).guests_a_minute == 0


def test_a_step_that_was_held_at_its_second_try_counts() -> None:
    assert held([step(1000, 20), step(2000, 300), step(2000, 80)]).guests_a_minute == 120_000


def test_a_ramp_that_nobody_ended_says_at_least() -> None:
    found = held([step(1000, 20), step(2000, 30)])
    assert (found.at_least, found.limit) == (True, Limit.NONE)
    assert "at least 120,000 guests a minute" in capacity_sentence(found, 60)
    assert "2,000 times what" in capacity_sentence(found, 60)


@pytest.mark.parametrize(
    ("changes", "limit"),
    [
        ({"late_p99_ms": 10.0, "busy": 0.7}, Limit.SYSTEM),
        ({"late_p99_ms": 10.0, "busy": 0.96}, Limit.MACHINE),
        ({"late_p99_ms": 200.0, "cpu": 0.95}, Limit.GENERATOR),
        ({"late_p99_ms": 200.0, "cpu": 0.5, "busy": 0.7}, Limit.GENERATOR),
        ({"late_p99_ms": 200.0, "cpu": 0.5, "busy": 0.99}, Limit.MACHINE),
    ],
)
def test_who_was_the_limit_follows_from_lateness_and_cpu(changes: dict[str, float], limit: Limit) -> None:
    assert held([step(1000, 20), step(2000, 300, **changes)]).limit is limit


@pytest.mark.parametrize(
    ("number", "said"),
    [(0, 0), (7, 7), (99, 99), (104, 100), (105.1, 110), (994, 990), (996, 1_000), (109_620, 110_000)],
)
def test_what_a_ramp_finds_has_two_digits(number: float, said: int) -> None:
    assert two_digits(number) == said


def test_how_much_is_held_is_said_to_two_digits_and_at_least_so_much_never_rounded_up() -> None:
    ended = held([step(1827, 20), step(5094, 300)])
    assert ended.guests_a_minute == 109_620
    assert capacity_sentence(ended, 135).startswith(
        "110,000 guests a minute, 99 of 100 answered within 100 ms: 810 times"
    )
    assert "at 310,000 guests a minute, which were not held" in RampCost(ended, 0.0).says
    assert capacity_sentence(held([step(5095, 20)]), 135).startswith("at least 300,000 guests a minute")


def test_a_limit_that_was_the_generator_says_at_least() -> None:
    found = held([step(1000, 20), step(2000, 300, late_p99_ms=290.0, cpu=0.99)])
    assert found.at_least


def test_without_a_ramp_nothing_is_claimed() -> None:
    assert held([]).limit is Limit.UNKNOWN
    assert "not measured" in capacity_sentence(held([]), 60)
    none = capacity_sentence(held([step(1000, 500), step(500, 120)]), 60)
    assert none == (
        "no step of the ramp was held: the slowest had 99 of 100 within 120 ms, not 100. The limit was the system"
    )


def cost(**changes: float) -> Cost:
    values: dict[str, Any] = {
        "processes": 1,
        "gates_cpu": 0.3,
        "gates_cpu_most": 0.5,
        "shop_cpu": 0.1,
        "share": 0.2,
        "late_p99_ms": 2.0,
        "others": 0.0,
    }
    return Cost(**(values | changes))


@pytest.mark.parametrize(
    ("changes", "was_limit"),
    [
        ({}, False),
        ({"late_p99_ms": 20.0}, False),
        ({"late_p99_ms": 20.1}, True),
        ({"gates_cpu_most": 0.89}, False),
        ({"gates_cpu_most": 0.9}, True),
    ],
)
def test_the_generator_says_when_it_was_the_limit(changes: dict[str, float], was_limit: bool) -> None:
    assert cost(**changes).was_limit is was_limit
    assert ("WARNING" in cost(**changes).says) is was_limit


def test_other_programs_on_the_machine_are_named() -> None:
    assert "Other programs" not in cost(others=0.1).says
    assert "Other programs used 11 % of this machine" in cost(others=0.11).says


def test_who_was_late_is_told_what_helps() -> None:
    assert "--gate-processes" in cost(late_p99_ms=30.0).warning
    disturbed = cost(late_p99_ms=30.0, others=0.5).warning
    assert "--gate-processes" not in disturbed, "more processes do not help where others take the machine"
    assert "measure again when it is quiet" in disturbed


def test_a_generator_that_was_on_time_is_not_said_to_have_been_late() -> None:
    found = cost(gates_cpu_most=0.93).warning
    assert "a process of it used 93 % of a core at the busiest times" in found
    assert "late itself" not in found
    assert "99 of 100 scans were sent up to 31 ms late" in cost(late_p99_ms=31.0, gates_cpu_most=0.93).warning


@pytest.mark.parametrize(
    ("last", "was_limit", "said"),
    [
        (
            step(2000, 300, late_p99_ms=12, cpu=0.7),
            False,
            "at 120,000 guests a minute, which were not held, it was late by 12 of 300 ms for 99 of 100 scans, "
            "with 70 % of a core; it was not the limit",
        ),
        (step(2000, 300, late_p99_ms=12, busy=0.99), False, "the machine, which both share, was full"),
        (step(2000, 300, late_p99_ms=290, cpu=0.99), True, "WARNING: it ended the ramp: at 120,000 guests a minute"),
        (step(2000, 30), False, "every step was held, so it was not the limit"),
    ],
)
def test_the_generator_says_of_the_ramp_alone_whether_it_ended_it(last: Step, was_limit: bool, said: str) -> None:
    found = RampCost(held([step(1000, 20), last]), 0.0)
    assert found.was_limit is was_limit
    assert said in found.says
    assert ("WARNING" in found.says) is was_limit
    assert "Other programs used 40 %" in RampCost(found.held, 0.4).says


def lanes(needed: int, kept: int, wait_s: float = 400) -> LaneVerdict:
    return LaneVerdict("Main", kept, wait_s, "10:20", needed, 90.0)


@pytest.mark.parametrize(
    ("verdict", "enough", "said"),
    [
        (lanes(4, 3, 720), False, "needs 4 lanes instead of 3: longest wait 12 min at 10:20, with 4 lanes 2 min"),
        (lanes(3, 3), True, "3 lanes are enough: longest wait 7 min at 10:20"),
        (lanes(2, 3), True, "3 lanes are enough (2 would do): longest wait 7 min at 10:20"),
        (lanes(1, 1, 30), True, "1 lane is enough: longest wait 30 s at 10:20"),
    ],
)
def test_lanes_are_enough_when_no_more_are_needed(verdict: LaneVerdict, enough: bool, said: str) -> None:
    assert (verdict.enough, verdict.says) == (enough, said)


@pytest.mark.parametrize(("seconds", "said"), [(0, "0 s"), (89, "89 s"), (90, "2 min"), (600, "10 min")])
def test_times_are_said_as_people_say_them(seconds: float, said: str) -> None:
    assert minutes(seconds) == said


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ([], 0.99, 0),
        ([5], 0.5, 5),
        ([1, 2], 0.5, 1),
        ([1, 2, 3], 0.5, 2),
        (list(range(1, 101)), 0.99, 99),
        ([1, 2], 1, 2),
    ],
)
def test_a_percentile_is_the_smallest_value_that_the_share_does_not_exceed(
    values: list[float], share: float, expected: float
) -> None:
    assert percentile(values, share) == expected
