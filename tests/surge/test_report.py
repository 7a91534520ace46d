"""The record of a small day, and the verdict on it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from loadtest.surge import plan as planning
from loadtest.surge.conduct import quotas
from loadtest.surge.ramp import LIMIT_MS, Step
from loadtest.surge.record import Count, Happened, Record
from loadtest.surge.report import page
from loadtest.surge.report.figures import Figures, figures_of
from loadtest.surge.report.played import Played, beyond_quota
from loadtest.surge.report.verdict import Held
from loadtest.surge.report.verdict import Limit as Cause
from loadtest.surge.samples import Samples
from loadtest.surge.scenario import load
from ops.errors import BadInput
from ops.services.catalogue import EXAMPLE, read_catalogue
from tests.surge.small_day import FAULT, TOOK_MS, as_dict, record, samples_of, scenario, step
from ticketcore.catalogue import Catalogue


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
