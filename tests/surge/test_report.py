"""Figures, charts, page and comparison, from the record of a small day."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from loadtest.surge import plan as planning
from loadtest.surge.conduct import quotas
from loadtest.surge.plan import Turn, Way
from loadtest.surge.queues import Coming, Served
from loadtest.surge.ramp import LIMIT_MS, Step
from loadtest.surge.record import Count, Happened, Record
from loadtest.surge.report import page, series
from loadtest.surge.report.figures import Figures, figures_of
from loadtest.surge.report.played import Played, beyond_quota
from loadtest.surge.report.series import Bins
from loadtest.surge.report.verdict import Held
from loadtest.surge.report.verdict import Limit as Cause
from loadtest.surge.samples import Samples
from loadtest.surge.scenario import load
from ops.errors import BadInput
from ops.services.catalogue import EXAMPLE, read_catalogue
from tests.surge.small_day import TOOK_MS, as_dict, record, samples_of, scenario, step
from ticketcore.catalogue import Catalogue


@pytest.fixture(scope="module")
def figures() -> Figures:
    return figures_of(record())


def test_a_record_is_the_same_after_it_was_written_and_read_again(tmp_path: Path) -> None:
    (tmp_path / "record.json").write_text(record().json())
    assert page.read(tmp_path).json() == record().json()


@pytest.mark.parametrize("text", ['{"format": 0}', "no json", "[]"])
def test_what_is_no_record_is_refused_with_its_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "record.json").write_text(text)
    with pytest.raises(BadInput, match="is no record of a rehearsal"):
        page.read(tmp_path)


def test_samples_are_the_same_after_they_were_written_and_read_again() -> None:
    samples = samples_of(planning.make(scenario()))
    again = Samples.of(json.loads(json.dumps(samples.columns())))
    assert list(again.answered()) == list(samples.answered())
    assert again.took_ms == samples.took_ms
    assert again.persons == samples.persons


# Series.


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
    quick = series.queue(plan, 0, {}, bins)
    slow = series.queue(plan, 0, dict.fromkeys(range(len(plan.comings[0])), 90.0), bins)
    assert slow.verdict.longest_wait_s > quick.verdict.longest_wait_s + 60
    assert slow.verdict.needed > quick.verdict.needed


def test_who_did_not_get_in_counts_for_the_lanes_that_are_needed() -> None:
    """Lanes for those who did get in are fewer, and the next day is as bad."""
    plan = planning.make(scenario(visitors=20_000))
    crowded = max(range(len(plan.comings)), key=plan.turned_away.__getitem__)
    verdict = series.queue(plan, crowded, {}, Bins.of_day(plan.starts_s, plan.ends_s)).verdict
    assert verdict.turned_away == plan.turned_away[crowded]
    assert "parties still in the queue at closing time" in verdict.says
    enough = scenario(visitors=20_000)
    entrances = [one.model_copy(update={"lanes": verdict.needed}) for one in enough.entrances]
    again = planning.make(enough.model_copy(update={"entrances": tuple(entrances)}))
    assert again.turned_away[crowded] == 0


def test_the_queue_at_each_gate_is_a_part_of_its_entrance_s() -> None:
    crowded = planning.make(scenario(visitors=3_000))
    bins = Bins.of_day(crowded.starts_s, crowded.ends_s)
    for entrance, one in enumerate(series.queue(crowded, n, {}, bins) for n in range(2)):
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
    one = series.queue(plan, 1, {}, bins)
    assert [gate.parties for gate in one.gates] == [sum(gate == number for _, gate in shown) for number in (0, 1)]


def test_the_longest_queue_and_wait_are_told_with_their_times() -> None:
    stood = [
        (Coming(0, 900, 2), Served(0, 0)),
        (Coming(100, 10, 3), Served(0, 900)),
        (Coming(700, 10, 4), Served(0, 1_900)),
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


# The verdict as a whole.


def test_a_good_day_passed_and_says_so(figures: Figures) -> None:
    assert figures.passed
    assert figures.headline == "Ready for this day"
    assert figures.p99_ms == pytest.approx(TOOK_MS)
    assert figures.held.guests_a_minute == 60_000
    assert all(good for _, _, good in figures.sentences)


@pytest.mark.parametrize(
    ("change", "headline"),
    [
        ({"counts": [Count("money sold", "1", "2")]}, "One count does not agree"),
        ({"counts": [Count("a", "1", "2"), Count("b", "1", "2")]}, "2 counts do not agree"),
        ({"interrupted": True}, "Interrupted: this report is of a part of the day"),
    ],
)
def test_a_day_that_is_not_whole_did_not_pass(change: dict[str, object], headline: str) -> None:
    found = figures_of(record(**change))
    assert not found.passed
    assert found.headline == headline


def test_wrong_answers_and_failed_sales_did_not_pass() -> None:
    wrong = record()
    wrong.gates["wrong"] = [["copy", "ADMIT", 2, 77]]
    assert figures_of(wrong).headline == "2 answers were wrong"
    failed = record()
    failed.shop["outcomes"]["FAILED"] = 1
    assert figures_of(failed).headline == "1 sales failed"
    assert not figures_of(failed).passed


@pytest.mark.parametrize(
    ("change", "slow", "headline"),
    [
        ({"p99_ms": LIMIT_MS}, False, "Ready for this day"),
        ({"p99_ms": LIMIT_MS + 1}, True, "All right, but too late: 99 of 100 answers within 101 ms, not 100"),
        (
            {"held": Held(0, 0.0, False, Cause.SYSTEM)},
            True,
            "The day was all right, but no step of the ramp was held",
        ),
    ],
)
def test_a_day_whose_answers_came_too_late_is_right_and_not_ready(
    figures: Figures, change: dict[str, object], slow: bool, headline: str
) -> None:
    found = replace(figures, **change)
    assert (found.passed, found.slow, found.ready) == (True, slow, not slow)
    assert found.headline.startswith(headline)


@pytest.mark.parametrize(("faults", "said"), [(1, "1 fault"), (4, "4 faults")])
def test_faults_that_were_ordered_are_named_and_nobody_else_is_blamed(figures: Figures, faults: int, said: str) -> None:
    busy = replace(figures.cost, others=0.5)
    late = Played(1_000, 30, 60, 0, faults=faults)
    happened = [Happened(12 * 3600.0, "Postgres is killed")] * faults
    found = replace(figures, record=record(faults=happened), p99_ms=3_080.0, cost=busy, played=None)
    assert replace(found, record=record()).headline.endswith("measure again when it is quiet")
    assert found.headline == f"All right, but too late: 99 of 100 answers within 3,080 ms, not 100, with {said} ordered"
    assert replace(found, p99_ms=3.0).headline == f"Ready for this day, with {said} ordered"
    told = page.html(replace(found, played=late))
    assert f"{said} {'was' if faults == 1 else 'were'} ordered on this day." in told
    for blame in ("More windows", "more windows", "the shop was behind", "The shop was behind", "a park that is full"):
        assert blame not in told


def test_a_record_with_faults_tells_how_many() -> None:
    one = record(faults=[FAULT, FAULT])
    one.gates["late_tickets"] = 300
    found = figures_of(one)
    assert found.headline == "All right, but 76 % of the scans waited for their ticket, with 2 faults ordered"
    assert "2 faults were ordered on this day" in page.html(found)


@pytest.mark.parametrize(("p99_ms", "good"), [(LIMIT_MS, True), (LIMIT_MS + 1, False)])
def test_answers_that_came_too_late_are_not_good(figures: Figures, p99_ms: float, good: bool) -> None:
    assert marks(replace(figures, p99_ms=p99_ms))["Answers on the day"] is good


def test_what_was_not_measured_is_neither_good_nor_bad() -> None:
    one = record()
    one.gates["ramp"] = []
    assert marks(figures_of(one))["This installation holds"] is None
    one.gates["ramp"] = [as_dict(step(1000, 300))]
    assert marks(figures_of(one))["This installation holds"] is False


@pytest.mark.parametrize(("delay_s", "whole", "part"), [(0.0, True, None), (90.0, False, False)])
def test_lanes_that_were_enough_until_a_day_was_interrupted_are_not_said_to_be_enough(
    delay_s: float, whole: bool, part: bool | None
) -> None:
    one = record()
    one.gates["delays_s"][0] = [[number, delay_s] for number, _ in one.gates["delays_s"][0]]
    assert marks(figures_of(one))["Main entrance"] is whole
    one.gates["stopped_at_s"] = 16 * 3600.0
    found = figures_of(replace(one, interrupted=True))
    assert marks(found)["Main entrance"] is part
    assert found.sentences[1][1].startswith("until the day was interrupted: ")
    assert ('class="ok"><b>Main' in page.html(found)) is False
    assert ('class="nok"><b>Main' in page.html(found)) is (part is False)


def test_numbers_of_the_verdict_have_their_thousands_separated(figures: Figures) -> None:
    told = {about: says for about, says, _ in replace(figures, p50_ms=1_234.5, p99_ms=3_080.0).sentences}
    assert "median 1,234.5 ms, 99 of 100 within 3,080 ms, 7,200 times" in told["Answers on the day"]


def test_tickets_that_were_sold_late_are_not_spoken_of_where_there_were_none(figures: Figures) -> None:
    assert "sold only when the guest stood" not in page.html(figures)


def marks(figures: Figures) -> dict[str, bool | None]:
    return {about: good for about, _, good in figures.sentences}


def test_a_day_on_which_nobody_had_a_ticket_is_no_rehearsal() -> None:
    one = record(shop=record().shop | {"outcomes": {"SOLD_OUT": 97}})
    one.gates["samples"] = Samples().columns()
    found = figures_of(one)
    assert not found.passed
    assert found.headline == "Nothing was rehearsed: no guest had a ticket to show"
    assert ("97 parties found it sold out" in found.sentences[3][1], found.sentences[3][2]) == (True, False)
    assert "Nothing was rehearsed" in page.html(found)


def test_a_day_with_too_few_lanes_passed_and_says_what_is_missing() -> None:
    slow = record()
    slow.gates["delays_s"][0] = [[number, 90.0] for number, _ in slow.gates["delays_s"][0]]
    found = figures_of(slow)
    assert found.passed
    assert "entrances need more lanes" in found.headline


def test_other_programs_are_what_neither_system_nor_generator_used() -> None:
    assert figures_of(record()).cost.others == pytest.approx(0.4 - (0.3 + 0.2) / 2)
    assert figures_of(record(here=False)).cost.others == 0


def with_a_ramp_of(steps: list[Step], gates_cpu: float, others: float) -> Record:
    """The small day, and after it a ramp in which the generator and other programs used so much."""
    one = record()
    one.gates["ramp"] = [as_dict(each) for each in steps]
    ends_s = max(one.gates["samples"]["due_s"])
    rows = [3600.0 * (n + 1) + ends_s for n in range(10)]
    one.usage["day_s"] = [at_s for at_s in one.usage["day_s"] if at_s < ends_s] + rows
    day = len(one.usage["day_s"]) - len(rows)
    one.usage["pace_ms"] = [1.5] * (day + len(rows))
    one.usage["machine"] = [0.25] * day + [gates_cpu / 2 + others] * len(rows)
    processes = one.usage["processes"]
    processes["gateway"] = {"cpu": [0.3] * day + [0.0] * len(rows), "memory_mb": [80.0] * (day + len(rows))}
    processes["generator: gates"] = {
        "cpu": [0.2] * day + [gates_cpu] * len(rows),
        "memory_mb": [50.0] * (day + len(rows)),
    }
    return one


OVERLOADED = [step(1000, 20), step(2000, 300, late_p99_ms=290.0, cpu=0.99)]


def test_an_overloaded_ramp_says_nothing_of_the_day() -> None:
    figures = figures_of(with_a_ramp_of(OVERLOADED, gates_cpu=1.0, others=0.3))
    assert not figures.cost.was_limit
    assert figures.cost.others == pytest.approx(0)
    assert figures.cost.share == pytest.approx(0.4)
    assert figures.ramp_cost.was_limit
    assert figures.ramp_cost.others == pytest.approx(0.3)
    told = {title: good for title, _, good in figures.sentences if title.startswith("The generator")}
    assert told == {"The generator on the day": True, "The generator in the ramp": False}
    found = page.html(figures)
    assert "In the ramp the generator was the limit" in found
    assert "On the day the generator was the limit" not in found
    assert figures.numbers() == figures_of(with_a_ramp_of(OVERLOADED, gates_cpu=0.2, others=0.0)).numbers()


def test_a_day_on_which_the_generator_was_late_says_nothing_of_the_ramp() -> None:
    late = with_a_ramp_of([step(1000, 20), step(2000, 300)], gates_cpu=0.3, others=0.0)
    late.gates["samples"]["late_ms"] = [25.0] * len(late.gates["samples"]["late_ms"])
    figures = figures_of(late)
    assert (figures.cost.was_limit, figures.ramp_cost.was_limit) == (True, False)
    found = page.html(figures)
    assert "On the day the generator was the limit" in found
    assert "In the ramp the generator was the limit" not in found


def test_who_is_told_of_other_programs_is_told_when() -> None:
    quiet_day = page.html(figures_of(with_a_ramp_of([step(1000, 20)], gates_cpu=0.3, others=0.3)))
    assert "Other programs used 30 % of this machine in the ramp.</b> How much it holds is better" in quiet_day
    assert "of this machine on the day" not in quiet_day


@pytest.mark.parametrize(
    ("late", "skipped", "without", "as_planned", "said"),
    [
        (0, 0, 0, True, ["all 1,000 scans of the plan were made"]),
        (1, 0, 0, True, ["1 ticket was sold only when its guest stood at the gate already"]),
        (10, 0, 0, True, ["10 tickets were sold only when their guest stood at the gate already"]),
        (
            11,
            0,
            0,
            False,
            ["1 % of the scans waited for their ticket", "The shop was behind: more windows"],
        ),
        (0, 30, 20, True, ["950 of the plan's 1,000 scans were made: 30 not, because their ticket had been refused"]),
        (0, 0, 20, True, ["980 of the plan's 1,000 scans were made: 20 not, because their guest never got a ticket"]),
        (0, 31, 20, False, ["5 % of the plan's scans were not made: the gates had less to do than planned"]),
    ],
)
def test_what_was_not_played_of_the_plan_is_said_and_warned_of_when_it_is_not_small(
    late: int, skipped: int, without: int, as_planned: bool, said: list[str]
) -> None:
    found = Played(1_000, late, skipped, without)
    assert (found.as_planned, bool(found.warnings)) == (as_planned, not as_planned)
    assert [text in found.says for text in said] == [True] * len(said), found.says


@pytest.mark.parametrize(
    ("skipped", "without", "sold_out", "beyond", "as_planned", "was_sold_out"),
    [
        (0, 900, True, 0, False, True),
        (0, 900, True, 850, True, False),
        (0, 900, True, 849, False, True),
        (50, 900, True, 900, True, False),
        (51, 900, True, 900, False, False),
        (0, 900, False, 900, False, False),
    ],
)
def test_that_it_is_sold_out_excuses_only_what_the_plan_asks_for_beyond_the_quotas(
    skipped: int, without: int, sold_out: bool, beyond: int, as_planned: bool, was_sold_out: bool
) -> None:
    found = Played(1_000, 0, skipped, without, sold_out, beyond)
    assert (found.as_planned, found.was_sold_out) == (as_planned, was_sold_out)
    assert any("others had bought them before" in text for text in found.warnings) is was_sold_out


@pytest.mark.parametrize(
    ("slot", "places", "lacking"), [(1, 2_400, 0.08), (0, 1_300, 0.5), (1, 2_700, 0.0), (2, 10, 0.0)]
)
def test_what_the_plan_asks_for_beyond_the_quotas_is_told_from_its_guests(
    slot: int, places: int, lacking: float
) -> None:
    """Of the night show as it is shipped: 2,600 guests, and 404 of its 5,243 scans were not made when it was run."""
    plan = planning.make(load("night-show"))
    found = beyond_quota(plan, [("night-show", slot, places), ("day", 0, 1)])
    assert found == pytest.approx(plan.scans * lacking, rel=0.05)


def test_the_record_has_the_quotas_of_what_guests_hold() -> None:
    example: Catalogue = read_catalogue(EXAMPLE)[1]
    show = example.products["night-show"]
    places = example.slot(show, 1)
    assert places is not None
    assert quotas(example, load("night-show")) == [("night-show", 1, places.quota)]
    assert quotas(example, scenario()) == [("day", 0, example.products["day"].daily_quota)], "families have none"


def test_a_day_that_was_hardly_played_is_not_ready() -> None:
    one = record(shop=record().shop | {"outcomes": {"SOLD": 3, "SOLD_OUT": 97}, "ramp_tickets": 0})
    planned = planning.make(scenario()).scans
    one.gates.update(without_ticket=round(planned * 0.91), ramp=[])
    found = figures_of(one)
    assert (found.passed, found.ready) == (True, False)
    assert found.headline == "Only 9 % of the day was played: sold out"
    assert "not measured: no tickets were left for a ramp" in found.sentences[0][1]
    assert "No tickets were left for a ramp." in page.html(found)
    unsold = replace(found, played=Played(1_000, 0, 0, 200))
    assert (unsold.ready, unsold.headline) == (False, "Only 80 % of the day was played")


def test_a_day_that_asks_for_more_than_there_is_is_ready_when_it_is_sold_out() -> None:
    day = scenario()
    plan = planning.make(day)
    wanted = sum(
        line.count * line.persons for party in plan.guests for line in party.kind.tickets if line.product == "day"
    )
    one = record(shop=record().shop | {"outcomes": {"SOLD": 30, "SOLD_OUT": 7}}, quotas=[("day", 0, wanted // 2)])
    one.gates["without_ticket"] = beyond_quota(plan, one.quotas)
    assert one.gates["without_ticket"] > 0.2 * plan.scans
    assert figures_of(one).headline == "Ready for this day"
    assert figures_of(Record.read(one.json())).ready


@pytest.mark.parametrize(
    ("change", "tickets", "interrupted", "why"),
    [
        ({"ramp": None}, 0, False, "there was no ramp"),
        ({}, 0, False, "no tickets were left for a ramp"),
        ({}, 86, True, "the day was interrupted before the ramp"),
        ({}, 1, False, "there were too few tickets, or too little room, for a step of the ramp"),
    ],
)
def test_a_ramp_that_was_not_made_is_told_with_its_reason(
    change: dict[str, object], tickets: int, interrupted: bool, why: str
) -> None:
    one = record(
        scenario=scenario(**change).model_dump(mode="json"),
        shop=record().shop | {"ramp_tickets": tickets},
        interrupted=interrupted,
    )
    one.gates.update(ramp=[], stopped_at_s=12 * 3600.0 if interrupted else None)
    assert figures_of(one).sentences[0][1] == f"not measured: {why}"


def test_the_page_says_what_was_not_played_of_the_plan() -> None:
    one = record()
    one.gates.update(late_tickets=12, skipped=3, without_ticket=40)
    figures = figures_of(one)
    assert ("The plan of the day", False) in [(title, good) for title, _, good in figures.sentences]
    assert not figures.ready, "the system was not asked what was planned"
    assert figures.headline == "Only 89 % of the day was played"
    late = replace(figures, played=Played(1_000, 11, 0, 0))
    assert (late.ready, late.headline) == (
        False,
        "All right, but 1 % of the scans waited for their ticket",
    )
    found = page.html(figures)
    assert "12 tickets were sold only when the guest stood at the gate already" in found
    assert "3 % of the scans waited for their ticket" in found
    assert "of the plan&#39;s scans were not made" in found
    broken = record(interrupted=True)
    broken.gates["stopped_at_s"] = 12 * 3600.0
    assert "what was played of it" not in page.html(figures_of(broken))


# The page.


def test_the_page_shows_the_queue_and_the_wait_at_each_gate(figures: Figures) -> None:
    found = page.html(figures)
    assert found.count('<figure class="gate">') == 4
    assert found.count('class="mini"') == 8
    for one in figures.queues:
        for gate in one.gates:
            assert f"<h4>{gate.name}</h4>" in found
            assert f'aria-label="Queue at {gate.name}"' in found
    assert "1 lane for 2 gates: each stands between several, and its guests take them in turn." in found
    assert "2 lanes for 2 gates: guests take the lane that is free first." in found


def test_an_entrance_with_one_gate_is_drawn_once() -> None:
    day = scenario()
    entrances = tuple(one.model_copy(update={"gates": one.gates[:1]}) for one in day.entrances)
    alone = day.model_copy(update={"entrances": entrances})
    found = page.html(figures_of(record(scenario=alone.model_dump(mode="json"))))
    assert "At each gate" not in found
    assert "Main entrance (main-1)" in found


def test_the_page_needs_nothing_from_elsewhere_and_escapes_what_it_is_told(figures: Figures) -> None:
    found = page.html(figures)
    assert "A few guests &amp; &lt;friends&gt;." in found
    assert not re.findall(r'(?:src|href)="(?!data:)', found)
    assert "http://" not in found.replace("http://www.w3.org", "")
    assert found.count("<figure>") == 10


def test_the_page_shows_what_is_wrong() -> None:
    broken = record(counts=[Count("money sold", "1.00 CHF", "2.00 CHF")], interrupted=True)
    broken.gates["wrong"] = [["copy", "ADMIT", 2, 77]]
    broken.gates["stopped_at_s"] = 12 * 3600.0
    found = page.html(figures_of(broken))
    for said in ("money sold: expected 1.00 CHF, got 2.00 CHF", "interrupted at 12:00", "Wrong answers", ">77<"):
        assert said in found


def test_the_page_says_in_words_which_tickets_were_not_the_day_s_and_what_came_of_orders() -> None:
    shop = record().shop | {"outcomes": {"SOLD": 30, "ALREADY_USED": 2}}
    found = page.html(figures_of(record(shop=shop)))
    assert " 86 of them are not the day's" in found
    assert "found it sold out" not in found
    assert "The park sold" not in found
    assert "sold 30" in found
    assert "already used 2" in found
    assert "ALREADY_USED" not in found


FAULT = Happened(12 * 3600.0, "the gateway is killed")


@pytest.mark.parametrize(
    ("gates", "counts", "said"),
    [
        ({}, [], "None was lost: every scan was answered, every passage booked, and the books agree."),
        ({"unanswered": 1}, [], "Something was lost: 1 scan was never answered."),
        (
            {"unanswered": 2, "unbooked": 3},
            [Count("admitted", "5", "4")],
            "Something was lost: 2 scans were never answered, 3 passages were never booked, 1 count does not agree.",
        ),
    ],
)
def test_the_page_says_that_nothing_was_lost_only_where_nothing_was(
    gates: dict[str, int], counts: list[Count], said: str
) -> None:
    one = record(faults=[FAULT], counts=counts)
    one.gates.update(gates)
    found = page.html(figures_of(one))
    assert said in found
    assert ("None was lost" in found) is said.startswith("None")


def test_a_page_without_a_ramp_claims_nothing_of_one() -> None:
    one = record(scenario=scenario(ramp=None).model_dump(mode="json"))
    one.gates["ramp"] = []
    found = page.html(figures_of(one))
    assert ">not measured<" in found
    assert "There was no ramp." in found
    assert "answered within 100 ms<" not in found
    assert "How much it holds." not in found


@pytest.mark.parametrize(
    ("share", "said"),
    [(1.0, "100.00"), (0.99999, "99.99"), (0.9999, "99.99"), (0.4686, "46.86"), (0.29, "29.00"), (0.0, "0.00")],
)
def test_all_is_said_only_of_all(share: float, said: str) -> None:
    assert page.hundredths(share) == said


def test_a_page_whose_ramp_held_no_step_says_so_instead_of_a_number() -> None:
    one = record()
    one.gates["ramp"] = [as_dict(step(1000, 300))]
    found = page.html(figures_of(one))
    assert "no step of the ramp was held" in found
    assert "guests a minute, 99 of 100 answered" not in found


@pytest.mark.parametrize(("seconds", "harder"), [(4, True), (8 * 3600, False)])
def test_a_day_at_its_own_pace_is_not_said_to_be_harder(seconds: int, harder: bool) -> None:
    found = page.html(figures_of(record(scenario=scenario(seconds=seconds).model_dump(mode="json"))))
    assert ("far harder" in found) is harder


def test_what_a_system_elsewhere_used_is_not_claimed_to_be_known() -> None:
    usage = record().usage
    usage["processes"] = {"generator: gates": usage["processes"]["generator: gates"]}
    figures = figures_of(record(here=False, usage=usage))
    assert "all CPU time" not in figures.cost.says
    assert "generator_share" not in figures.numbers()
    found = page.html(figures)
    assert "the generator on 2 cores" in found
    assert "Everything that took part" not in found


def test_the_page_says_what_a_park_s_quota_kept_from_the_rehearsal() -> None:
    shop = record().shop | {"outcomes": {"SOLD": 30, "SOLD_OUT": 4}, "ramp_tickets": 50}
    found = page.html(figures_of(record(shop=shop)))
    assert "4 parties found it sold out." in found
    assert "The park sold 50 of the 86 tickets that the ramp asked for." in found


def test_the_page_says_when_several_processes_shared_the_gates() -> None:
    one = record()
    assert "processes shared the gates" not in page.html(figures_of(one))
    one.gates["pulses"] = [
        {"times": [1.0], "cpu": [0.5], "lag_ms": [1.0]},
        {"times": [1.0], "cpu": [0.95], "lag_ms": [9.0]},
    ]
    figures = figures_of(one)
    assert "2 of its processes shared the gates" in page.html(figures)
    assert figures.cost.gates_cpu == pytest.approx(1.45), "of all together"
    assert figures.cost.gates_cpu_most == 0.95
    assert figures.cost.was_limit, "one of them has nothing left"


def test_json_in_the_page_cannot_end_its_script() -> None:
    assert "</script>" not in page.embedded({"name": "</script><script>alert(1)</script>"})


def test_a_page_that_cannot_be_written_is_told_with_its_reason(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"Cannot write .*No such file"):
        page.write(record(), tmp_path / "nowhere" / "x.html")
