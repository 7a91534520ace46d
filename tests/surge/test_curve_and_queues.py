"""Arrivals follow the curve, and the queue at an entrance is what a naive model says."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.surge.curve import Curve, arrivals
from loadtest.surge.queues import FULL_AGAIN_S, Coming, Full, Lanes, lanes_needed, longest_wait_s, play, standing
from loadtest.surge.scenario import Point

HOUR = 3600


def curve(*points: tuple[int, float]) -> Curve:
    return Curve([Point.model_construct(at=hour * HOUR, weight=weight) for hour, weight in points])


def test_an_even_curve_spreads_guests_evenly() -> None:
    found = curve((9, 2), (19, 2))
    assert [found.time_at(share) / HOUR for share in (0, 0.25, 0.5, 1)] == pytest.approx([9, 11.5, 14, 19])


def test_a_rising_curve_brings_most_of_them_late() -> None:
    assert curve((0, 0), (10, 1)).time_at(0.25) == pytest.approx(5 * HOUR)
    assert curve((0, 1), (10, 0)).time_at(0.75) == pytest.approx(5 * HOUR)


def test_nobody_comes_while_the_curve_is_at_zero() -> None:
    found = curve((9, 1), (10, 0), (12, 0), (13, 1))
    times = [time / HOUR for time in arrivals(found, 2_000, Random(1))]
    assert not [time for time in times if 10 < time < 12]
    assert sum(time < 10 for time in times) == pytest.approx(1_000, abs=150)


@given(st.floats(0, 0.999), st.lists(st.floats(0.1, 50), min_size=2, max_size=8))
def test_the_area_up_to_the_time_of_a_share_is_that_share(share: float, weights: list[float]) -> None:
    found = curve(*enumerate(weights))
    at_s = found.time_at(share)
    pieces = 2_000
    step = at_s / pieces
    area = sum(found.intensity((n + 0.5) * step) * step for n in range(pieces))
    whole = sum(found.intensity((n + 0.5) * HOUR / 200) * HOUR / 200 for n in range((len(weights) - 1) * 200))
    assert area / whole == pytest.approx(share, abs=0.01)


def test_the_same_seed_brings_the_same_guests() -> None:
    found = curve((9, 1), (10, 3), (19, 1))
    assert arrivals(found, 50, Random("a")) == arrivals(found, 50, Random("a"))
    assert arrivals(found, 50, Random("a")) != arrivals(found, 50, Random("b"))


@pytest.mark.parametrize(("at", "expected"), [(8.9, 0.0), (9, 0.5), (9.5, 0.75), (10, 1.0), (10.1, 0.0)])
def test_the_intensity_is_a_share_of_the_busiest_point(at: float, expected: float) -> None:
    assert curve((9, 2), (10, 4)).intensity(at * HOUR) == pytest.approx(expected)


# The queue.


@st.composite
def crowds(draw: st.DrawFn) -> list[Coming]:
    times = sorted(draw(st.lists(st.floats(0, 500), min_size=1, max_size=40)))
    return [Coming(time, draw(st.floats(0.5, 60))) for time in times]


@given(crowds(), st.integers(1, 5))
def test_the_queue_is_that_of_a_naive_model(crowd: list[Coming], lanes: int) -> None:
    free = [0.0] * lanes
    stood = play(crowd, lanes)
    assert [one.coming for one in stood] == crowd
    for one in stood:
        start = max(one.coming.at_s, min(free))
        assert one.served.start_s == start
        assert free[one.served.lane] == min(free)
        free[one.served.lane] = start + one.coming.service_s


@given(crowds(), st.integers(1, 5))
def test_another_lane_makes_nobody_wait_longer(crowd: list[Coming], lanes: int) -> None:
    assert longest_wait_s(crowd, lanes + 1) <= longest_wait_s(crowd, lanes)


@given(crowds(), st.floats(0, 300))
def test_the_lanes_needed_are_the_fewest_that_keep_the_limit(crowd: list[Coming], limit: float) -> None:
    needed = lanes_needed(crowd, limit)
    assert longest_wait_s(crowd, needed) <= limit
    assert needed == 1 or longest_wait_s(crowd, needed - 1) > limit


@pytest.mark.parametrize(("limit", "needed"), [(19, 3), (20, 2), (21, 2), (49, 2), (50, 1)])
def test_a_wait_of_exactly_the_limit_is_still_good(limit: float, needed: int) -> None:
    six = [Coming(0.0, 10.0)] * 6
    assert lanes_needed(six, limit) == needed


@pytest.mark.parametrize("rounds", range(1, 61))
def test_the_fewest_lanes_are_found_among_many(rounds: int) -> None:
    """Sixty who come at once and take ten seconds each: with n lanes the last waits for all rounds before."""
    at_once = [Coming(0.0, 10.0)] * 60
    assert lanes_needed(at_once, (rounds - 1) * 10) == -(-60 // rounds)


def test_nobody_needs_no_lane_but_one_is_open() -> None:
    assert lanes_needed([]) == 1
    assert longest_wait_s([], 1) == 0


def test_who_comes_when_a_lane_is_free_does_not_wait() -> None:
    entrance = Lanes(1)
    assert entrance.serve(Coming(5, 10)).start_s == 5
    assert entrance.serve(Coming(14, 10)).start_s == 15
    assert entrance.serve(Coming(25, 10)).start_s == 25


def test_the_length_of_a_queue_is_the_persons_who_came_less_whose_turn_has_come() -> None:
    crowd = [Coming(0, 10, 2), Coming(0, 10, 3), Coming(0, 10, 4), Coming(20, 5, 7)]
    assert standing(play(crowd, 1)) == [(0, 7), (10, 4), (20, 7), (30, 0)], "the first is served at once"


@given(crowds(), st.integers(1, 5))
def test_the_length_of_a_queue_is_that_of_a_naive_count(crowd: list[Coming], lanes: int) -> None:
    stood = play(crowd, lanes)
    for at_s, count in standing(stood):
        assert count == sum(one.coming.at_s <= at_s < one.served.start_s for one in stood)


def test_a_lane_counts_whom_it_served() -> None:
    stood = play([Coming(0, 5), Coming(0, 6), Coming(5, 1), Coming(6, 9)], 2)
    assert [(one.served.lane, one.served.turn) for one in stood] == [(0, 0), (1, 0), (0, 1), (0, 2)]


# Who hears that it is full.


@st.composite
def full_crowds(draw: st.DrawFn) -> list[Coming]:
    """Some of each party have no room before a time."""
    tickets = st.lists(st.tuples(st.integers(1, 4), st.floats(0, 4_000)), max_size=3)
    found = []
    for one in draw(crowds()):
        full = tuple(Full(persons, 2.0 * persons, until_s) for persons, until_s in draw(tickets))
        found.append(Coming(one.at_s, one.service_s, 12, full))
    return found


def test_who_hears_that_it_is_full_stands_in_the_queue_again_and_takes_a_lane_s_time() -> None:
    refused = Coming(0, 10, 3, (Full(2, 7, 1_000, (0.5, 0.25)), Full(1, 3, 600)))
    stood = play([refused, Coming(605, 30), Coming(1_250, 5)], 1)
    found = [
        (one.first, one.coming.at_s, one.served.start_s, one.coming.persons, one.coming.service_s) for one in stood
    ]
    assert found == [
        (0, 0, 0, 3, 10),
        (1, 605, 605, 1, 30),
        (0, 610, 635, 3, 10.5),
        (0, 1_245.5, 1_245.5, 2, 7.25),
        (2, 1_250, 1_252.75, 1, 5),
    ]
    assert standing(stood)[:2] == [(610, 3), (635, 0)]
    assert longest_wait_s([refused, Coming(605, 30)], 1) == 25


@pytest.mark.parametrize(("until_s", "times"), [(599, 1), (610, 1), (611, 2)])
def test_who_has_their_turn_when_there_is_room_does_not_come_again(until_s: float, times: int) -> None:
    assert len(play([Coming(0, 10, 1, (Full(1, 10, until_s),))], 1)) == 1 + times


@pytest.mark.parametrize(("closes_s", "times"), [(609, 0), (610, 0), (611, 1)])
def test_nobody_comes_again_once_it_is_closed(closes_s: float, times: int) -> None:
    assert len(play([Coming(0, 10, 1, (Full(1, 10, 700),))], 1, closes_s)) == 1 + times


@given(full_crowds(), st.integers(1, 5))
def test_everybody_comes_again_until_there_was_room_for_all_of_them(crowd: list[Coming], lanes: int) -> None:
    stood = play(crowd, lanes)
    free = [0.0] * lanes
    for one in stood:
        assert one.served.start_s == max(one.coming.at_s, free[one.served.lane])
        assert free[one.served.lane] == min(free)
        free[one.served.lane] = one.served.start_s + one.coming.service_s
    for number, first in enumerate(crowd):
        turns = [one for one in stood if one.first == number]
        until_s = max((full.until_s for full in first.full), default=0.0)
        assert turns[-1].served.start_s >= until_s
        for one, later in pairwise(turns):
            left = [full for full in first.full if full.until_s > one.served.start_s]
            assert later.coming.at_s == one.served.start_s + one.coming.service_s + FULL_AGAIN_S
            assert later.coming.persons == sum(full.persons for full in left) > 0
    assert [one.coming.at_s for one in stood] == sorted(one.coming.at_s for one in stood)


@given(full_crowds(), st.floats(0, 300))
def test_with_one_lane_less_than_is_needed_somebody_waits_too_long(crowd: list[Coming], limit: float) -> None:
    needed = lanes_needed(crowd, limit)
    assert longest_wait_s(crowd, needed) <= limit
    assert needed == 1 or longest_wait_s(crowd, needed - 1) > limit
