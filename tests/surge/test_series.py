"""What is drawn over the day, from the record of a small one."""

from __future__ import annotations

from loadtest.surge import plan as planning
from loadtest.surge.heard import Heard
from loadtest.surge.plan import Turn, Way
from loadtest.surge.queues import Coming, Served, Stood
from loadtest.surge.report import series
from loadtest.surge.report.figures import Figures, figures_of
from loadtest.surge.report.series import Bins
from loadtest.surge.samples import Samples
from tests.surge.small_day import record, scenario


def test_a_day_has_bins_of_a_round_width_and_at_most_eighty() -> None:
    day = Bins.of_day(0, 10 * 3600)
    assert (day.width_s, day.count) == (600, 60)
    assert Bins.of_day(0, 24 * 3600).width_s == 1800
    assert [day.number(at_s) for at_s in (-1, 0, 599, 600, 35_999, 36_000)] == [0, 0, 0, 1, 59, 59]


def test_who_is_inside_is_who_came_in_less_who_left_or_turned_back() -> None:
    samples = Samples()
    for at_s, way, answer, persons in (
        (10, Way.ENTRY, "ADMIT", 4),
        (11, Way.TURNED_BACK, "ADMIT", 1),
        (12, Way.ENTRY, "CAPACITY_FULL", 0),
        (25, Way.EXIT, "ADMIT", 3),
    ):
        samples.add(at_s, (0, 1), (way, answer), (0, persons))
    assert series.occupancy(samples, [7], Bins(0, 10, 4), 1.0) == {7: [0, 4, 1, 1]}


def test_a_slow_verdict_counts_from_when_it_was_told_and_an_exit_from_its_scan() -> None:
    samples = Samples()
    samples.add(8, (0, 5_000), (Way.ENTRY, "ADMIT"), (0, 1))
    samples.add(25, (0, 5_000), (Way.EXIT, "ADMIT"), (0, 1))
    assert series.occupancy(samples, [7], Bins(0, 10, 4), 1.0) == {7: [0, 1, 0, 0]}
    assert series.occupancy(samples, [7], Bins(0, 10, 4), 3.0) == {7: [0, 0, 0, 0]}


def test_everybody_who_came_is_gone_in_the_evening(figures: Figures) -> None:
    inside = figures.day["occupancy"]["Park"]
    assert max(inside) > 50
    assert inside[-1] == 0


def test_the_busiest_minute_is_the_most_scans_of_the_plan_in_sixty_seconds() -> None:
    plan = planning.make(scenario())
    times = (0.0, 10.0, 59.9, 60.0, 61.0, 300.0)
    plan.turns = [[Turn(at_s, at_s, 0, 0, 0, 0, way) for at_s in times] for way in (Way.ENTRY, Way.EXIT)]
    assert series.busiest_minute(plan) == 2 * 4, "from the tenth second on, in and out"
    plan.turns = []
    assert series.busiest_minute(plan) == 0


def test_the_busiest_minute_of_a_day_is_the_same_whatever_befell_it(figures: Figures) -> None:
    stalled = record()
    due_s = stalled.gates["samples"]["due_s"]
    stalled.gates["samples"]["due_s"] = [max(at_s, 12 * 3600.0) for at_s in due_s]
    assert figures_of(stalled).busiest == figures.busiest > 0


def test_the_answers_own_time_is_added_to_the_queue() -> None:
    plan = planning.make(scenario())
    bins = Bins.of_day(plan.starts_s, plan.ends_s)
    quick = series.queue(plan, 0, Heard(), bins)
    slow = series.queue(plan, 0, Heard(dict.fromkeys(range(len(plan.comings[0])), 90.0)), bins)
    assert slow.verdict.longest_wait_s > quick.verdict.longest_wait_s + 60
    assert slow.verdict.needed > quick.verdict.needed


def test_who_did_not_get_in_counts_for_the_lanes_that_are_needed() -> None:
    """Lanes for those who did get in are fewer, and the next day is as bad."""
    plan = planning.make(scenario(visitors=20_000))
    crowded = max(range(len(plan.comings)), key=plan.turned_away.__getitem__)
    verdict = series.queue(plan, crowded, Heard(), Bins.of_day(plan.starts_s, plan.ends_s)).verdict
    assert verdict.turned_away == plan.turned_away[crowded]
    assert "parties still in the queue at closing time" in verdict.says
    enough = scenario(visitors=20_000)
    entrances = [one.model_copy(update={"lanes": verdict.needed}) for one in enough.entrances]
    again = planning.make(enough.model_copy(update={"entrances": tuple(entrances)}))
    assert again.turned_away[crowded] == 0


def test_the_queue_at_each_gate_is_a_part_of_its_entrance_s() -> None:
    crowded = planning.make(scenario(visitors=3_000))
    bins = Bins.of_day(crowded.starts_s, crowded.ends_s)
    for entrance, one in enumerate(series.queue(crowded, n, Heard(), bins) for n in range(2)):
        assert [gate.name for gate in one.gates] == list(crowded.scenario.entrances[entrance].gates)
        assert sum(gate.parties for gate in one.gates) == one.all.parties == len(crowded.comings[entrance])
        assert (
            max(gate.longest_wait_s for gate in one.gates) == one.all.longest_wait_s == one.verdict.longest_wait_s > 60
        )
        assert one.all.wait_min == [max(both) for both in zip(*(gate.wait_min for gate in one.gates), strict=True)]
        assert max(gate.longest for gate in one.gates) < one.all.longest <= sum(gate.longest for gate in one.gates)


def test_a_gate_s_queue_is_of_those_whose_codes_are_shown_there() -> None:
    plan = planning.make(scenario())
    bins = Bins.of_day(plan.starts_s, plan.ends_s)
    shown = {
        (turn.queue, turn.gate) for turns in plan.turns for turn in turns if turn.entrance == 1 and turn.queue >= 0
    }
    one = series.queue(plan, 1, Heard(), bins)
    assert [gate.parties for gate in one.gates] == [sum(gate == number for _, gate in shown) for number in (0, 1)]


def test_the_longest_queue_and_wait_are_told_with_their_times() -> None:
    stood = [
        Stood(Coming(0, 900, 2), Served(0, 0)),
        Stood(Coming(100, 10, 3), Served(0, 900)),
        Stood(Coming(700, 10, 4), Served(0, 1_900)),
    ]
    found = series.line("main-1", stood, Bins(0, 600, 4))
    assert found == series.Line("main-1", 3, [3, 7, 4, 4], [800 / 60, 20, 0, 0], 7, "00:11", 1_200, "00:11")
    assert series.line("main-2", [], Bins(0, 600, 2)) == series.Line("main-2", 0, [0, 0], [0, 0], 0, "-", 0, "-")


def test_an_interrupted_day_shows_nobody_who_would_have_come_later() -> None:
    one = record(interrupted=True)
    one.gates["stopped_at_s"] = 12 * 3600.0
    figures = figures_of(one)
    plan = planning.make(scenario())
    for entrance, found in enumerate(figures.queues):
        came = sum(coming.at_s <= figures.bins.ends_s for coming in plan.comings[entrance])
        assert 0 < found.all.parties == came < len(plan.comings[entrance])
    whole = series.arrivals(plan, Bins.of_day(plan.starts_s, plan.ends_s))
    width = Bins.of_day(plan.starts_s, plan.ends_s).width_s
    assert sum(figures.day["flow"]["arrivals"]) * figures.bins.width_s < 0.9 * sum(whole) * width


def test_percentiles_have_gaps_where_nobody_came() -> None:
    samples = Samples()
    samples.add(5, (1, 7), (Way.ENTRY, "ADMIT"), (0, 1))
    found = series.latencies(samples, Bins(0, 10, 2))
    assert found["p99"] == [7, None]
    assert found["late"] == [1, None]
