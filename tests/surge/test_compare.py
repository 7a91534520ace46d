"""Two rehearsals side by side: what differs, and what is chance or the machine."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest

from loadtest.surge.ramp import Step
from loadtest.surge.record import Happened, Record
from loadtest.surge.report import chance, compare, page
from loadtest.surge.report.chance import Range
from loadtest.surge.report.compare import Row
from loadtest.surge.report.figures import figures_of
from loadtest.surge.report.judge import HELD, MEASURES, Figure, Pair, Verdict, _chance, judge, measure_of, pair_of
from ops.errors import BadInput
from tests.surge.small_day import as_dict, record, step

ALIKE = Pair(slower=1.0, busy=False, same_plan=True, ramp_factor=1.5)
SECONDS = 45


@pytest.fixture(scope="module")
def summary() -> dict[str, Any]:
    return figures_of(record()).summary()


def written(folder: Path, one: Record) -> Path:
    folder.mkdir()
    page.write(one, folder / "report.html")
    return folder


# Chance.


def day(random: Random, stalls: int, count: int = 3_000) -> tuple[list[float], list[int]]:
    """Latencies of a day, with so many stalls that all who come in a fifth of a second meet; and in which second each
    was."""
    stalled = {random.uniform(0, SECONDS) for _ in range(stalls)}
    took_ms, seconds = [], []
    for _ in range(count):
        at = random.uniform(0, SECONDS)
        late = next((200 * (1 - (at - begun) / 0.2) for begun in stalled if 0 <= at - begun < 0.2), 0.0)
        took_ms.append(random.lognormvariate(1.6, 0.5) + late)
        seconds.append(int(at))
    return took_ms, seconds


@pytest.mark.parametrize("share", [0.5, 0.99])
def test_days_of_one_system_lie_in_the_range_of_each_other(share: float) -> None:
    """Of sixty pairs, with some stalls in each day; a range that takes scans for independent misses a quarter."""
    told = []
    for seed in range(60):
        random = Random(f"day {seed}")
        ranges = [chance.of_percentile(*day(random, random.randint(3, 9)), share) for _ in range(2)]
        told.append(_chance(ranges[0], ranges[1]))
    assert told.count(None) <= 3
    assert told.count(Verdict.SAME) >= 30


def test_a_system_that_is_slower_lies_outside_of_the_range() -> None:
    took_ms, seconds = day(Random(1), 10)
    slow = [2 * took for took in took_ms]
    for share in (0.5, 0.99):
        one, two = chance.of_percentile(took_ms, seconds, share), chance.of_percentile(slow, seconds, share)
        assert _chance(one, two) is None, (one, two)


@pytest.mark.parametrize(("seconds", "known"), [(9, False), (10, True)])
def test_nothing_is_said_of_too_few_seconds(seconds: int, known: bool) -> None:
    values = [float(n) for n in range(1_000)]
    when = [n % seconds for n in range(1_000)]
    assert (chance.of_percentile(values, when, 0.5) is not None) is known
    assert (chance.of_share(values, when, 500) is not None) is known


@pytest.mark.parametrize(("scans", "known"), [(300, False), (1_000, True)])
def test_nothing_is_said_of_the_last_hundredth_of_a_few_scans(scans: int, known: bool) -> None:
    random = Random(3)
    values = [random.random() for _ in range(scans)]
    found = chance.of_percentile(values, [n % 20 for n in range(scans)], 0.99)
    assert found is not None
    assert (found[1] is not None) is known


def test_a_share_has_the_range_of_its_seconds() -> None:
    """Half of ten seconds all slow, half all quick: as uncertain as five throws of a coin in ten."""
    values = [1.0 if n % 10 < 5 else 200.0 for n in range(1_000)]
    found = chance.of_share(values, [n % 10 for n in range(1_000)], 100)
    assert found == pytest.approx((0.5 - 2 / 6, 0.5 + 2 / 6))
    assert chance.of_share([1.0] * 100, [n % 10 for n in range(100)], 100) == (1, 1)


# What counts.


@pytest.mark.parametrize(
    ("key", "first", "second", "verdict"),
    [
        ("p50_ms", 10, 12.5, Verdict.SAME),
        ("p50_ms", 10, 12.6, Verdict.WORSE),
        ("p50_ms", 10, 8.1, Verdict.SAME),
        ("p50_ms", 10, 7.9, Verdict.BETTER),
        ("p50_ms", 1, 2, Verdict.SAME),
        ("p99_ms", 100, 150, Verdict.SAME),
        ("p99_ms", 100, 151, Verdict.WORSE),
        ("p99_ms", 5, 10, Verdict.SAME),
        ("p99_ms", 4, 9.1, Verdict.WORSE),
        ("slowest_ms", 100, 900, Verdict.NONE),
        ("within_limit", 99.9, 99.4, Verdict.SAME),
        ("within_limit", 99.9, 99.3, Verdict.WORSE),
        ("wrong", 0, 1, Verdict.WORSE),
        ("wrong", 0, 0, Verdict.SAME),
        ("differences", 1, 0, Verdict.BETTER),
        ("system_cpu_ms", 1.0, 1.14, Verdict.SAME),
        ("system_cpu_ms", 1.0, 1.16, Verdict.WORSE),
        ("scans", 1, 100, Verdict.NONE),
        ("wait_min Main", 20, 21, Verdict.SAME),
        ("wait_min Main", 20, 22.1, Verdict.WORSE),
        ("wait_min Main", 4, 4.9, Verdict.SAME),
    ],
)
def test_a_difference_counts_from_where_its_kind_says(key: str, first: float, second: float, verdict: Verdict) -> None:
    assert judge(measure_of(key), Figure(first), Figure(second), ALIKE) == verdict


@pytest.mark.parametrize(
    ("factor", "first", "second", "verdict"),
    [
        (1.5, 90_000, 90_000 * 1.5**0.5, Verdict.SAME),
        (1.5, 90_000, 90_000 * 1.5, Verdict.BETTER),
        (1.5, 90_000, 90_000 / 1.5, Verdict.WORSE),
        (2.0, 90_000, 90_000 * 2.0**0.5, Verdict.SAME),
        (1.1, 90_000, 90_000 * 1.21, Verdict.SAME),
        (1.1, 90_000, 90_000 * 1.331, Verdict.BETTER),
        (1.5, 0, 60_000, Verdict.BETTER),
        (1.5, 60_000, 0, Verdict.WORSE),
        (1.5, None, 60_000, Verdict.NONE),
    ],
)
def test_what_is_held_differs_by_more_than_half_a_step_of_the_ramp(
    factor: float, first: float | None, second: float | None, verdict: Verdict
) -> None:
    pair = Pair(1.0, busy=False, same_plan=True, ramp_factor=factor)
    assert judge(MEASURES[HELD], Figure(first), Figure(second), pair) == verdict


@pytest.mark.parametrize(
    ("first", "second", "verdict"),
    [
        (Figure(60_000, at_least=True), Figure(120_000), Verdict.UNKNOWN),
        (Figure(60_000), Figure(120_000, at_least=True), Verdict.BETTER),
        (Figure(120_000), Figure(60_000, at_least=True), Verdict.UNKNOWN),
        (Figure(120_000, at_least=True), Figure(60_000), Verdict.WORSE),
        (Figure(60_000, at_least=True), Figure(60_000, at_least=True), Verdict.UNKNOWN),
        (Figure(60_000), Figure(62_000, at_least=True), Verdict.UNKNOWN),
    ],
)
def test_at_least_so_much_may_be_as_much_as_the_other(first: Figure, second: Figure, verdict: Verdict) -> None:
    assert judge(MEASURES[HELD], first, second, ALIKE) == verdict


@pytest.mark.parametrize(
    ("first", "second", "verdict"),
    [
        ((80, 160), (150, 400), Verdict.SAME),
        ((80, 140), (150, 400), Verdict.WORSE),
        (None, (150, 400), Verdict.UNKNOWN),
        ((80, 140), None, Verdict.UNKNOWN),
        ((80, None), (150, 400), Verdict.UNKNOWN),
        ((80, 140), (150, None), Verdict.WORSE),
        ((120, None), (150, 400), Verdict.UNKNOWN),
    ],
)
def test_ranges_that_meet_are_chance(first: Range | None, second: Range | None, verdict: Verdict) -> None:
    sides = Figure(100, first, by_chance=True), Figure(200, second, by_chance=True)
    assert judge(MEASURES["p99_ms"], *sides, ALIKE) == verdict


@pytest.mark.parametrize(
    ("slower", "second", "verdict"),
    [(1.5, 36, Verdict.SAME), (1.5, 38, Verdict.WORSE), (1.5, 17, Verdict.SAME), (1.5, 15, Verdict.BETTER)],
)
def test_a_slower_machine_is_allowed_what_it_is_slower(slower: float, second: float, verdict: Verdict) -> None:
    pair = Pair(slower, busy=False, same_plan=True, ramp_factor=1.5)
    assert judge(MEASURES["p50_ms"], Figure(20), Figure(second), pair) == verdict
    rate = judge(MEASURES[HELD], Figure(60_000), Figure(60_000 / slower), pair)
    assert rate == Verdict.SAME


def test_on_a_busy_machine_twice_as_much_is_needed() -> None:
    busy = Pair(1.0, busy=True, same_plan=True, ramp_factor=1.5)
    assert judge(MEASURES["p99_ms"], Figure(100), Figure(199), busy) == Verdict.SAME
    assert judge(MEASURES["p99_ms"], Figure(100), Figure(201), busy) == Verdict.WORSE
    assert judge(MEASURES["wrong"], Figure(0), Figure(1), busy) == Verdict.WORSE
    assert busy.counts_from(MEASURES["p99_ms"]) == "100 % and 5 ms"


def test_waits_of_other_guests_are_not_judged() -> None:
    others = Pair(1.0, busy=False, same_plan=False, ramp_factor=1.5)
    assert judge(measure_of("wait_min Main"), Figure(2), Figure(20), others) == Verdict.NONE
    assert others.counts_from(measure_of("wait_min Main")) == ""


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("p50_ms", "25 % and 1 ms"),
        ("within_limit", "0.5 points"),
        ("wrong", "any"),
        ("slowest_ms", ""),
        (HELD, "29 %"),
        ("wait_min Main", "10 % and 1 min"),
    ],
)
def test_from_what_on_a_difference_counts_is_said(key: str, said: str) -> None:
    assert ALIKE.counts_from(measure_of(key)) == said


def test_two_summaries_say_what_their_machines_had_in_common(summary: dict[str, Any]) -> None:
    quiet = summary | {"others": {"on the day": 0.1, "in the ramp": 0.0}}
    assert pair_of(quiet, quiet) == Pair(1.0, busy=False, same_plan=True, ramp_factor=2.0)
    loud = quiet | {"others": {"on the day": 0.0, "in the ramp": 0.11}, "pace_ms": 3.0, "seed": 8}
    assert pair_of(quiet, loud) == Pair(2.0, busy=True, same_plan=False, ramp_factor=2.0)
    assert pair_of(quiet, loud | {"here": False}).slower == 1.0, "what runs elsewhere has a machine of its own"


# The page.


def test_two_reports_are_compared_by_their_pages(tmp_path: Path) -> None:
    worse = record()
    worse.gates["ramp"] = [as_dict(step(500, 20)), as_dict(step(1000, 240))]
    first, second = record(), worse
    for one in (first, second):
        one.usage["machine"] = [0.25] * 50
    lines = compare.write(written(tmp_path / "a", first), written(tmp_path / "b", second), tmp_path / "c.html")
    assert "worse: guests a minute held 60,000 → 30,000 -50 %" in lines
    shown = (tmp_path / "c.html").read_text()
    assert "Two rehearsals compared" in shown
    assert ">worse<" in shown
    assert "<b>A difference counts</b> when it is larger than what chance makes of so many scans" in shown


@pytest.mark.parametrize(
    ("first", "second", "texts", "verdict"),
    [
        ([step(1000, 20)], [step(1000, 300)], ["≥ 60,000", "held no step"], Verdict.WORSE),
        ([step(1000, 300)], [step(1000, 20)], ["held no step", "≥ 60,000"], Verdict.BETTER),
        ([step(1000, 300)], [step(1000, 300)], ["held no step", "held no step"], Verdict.SAME),
        ([step(1000, 20)], [], ["≥ 60,000", "no ramp"], Verdict.NONE),
        ([], [step(1000, 20)], ["no ramp", "≥ 60,000"], Verdict.NONE),
        ([], [], None, None),
    ],
)
def test_a_ramp_that_held_no_step_is_no_number(
    first: list[Step], second: list[Step], texts: list[str] | None, verdict: Verdict | None, tmp_path: Path
) -> None:
    found = []
    for name, steps in (("a", first), ("b", second)):
        one = record()
        one.gates["ramp"] = [as_dict(step) for step in steps]
        found.append(compare.summary_of(written(tmp_path / name, one)))
    rows = [row for row in compare.rows(found[0], found[1]) if row.name == "guests a minute held"]
    assert [([row.first, row.second], row.change, row.verdict) for row in rows] == (
        [(texts, "", verdict)] if texts else []
    )
    compare.write(tmp_path / "a", tmp_path / "b", tmp_path / "c.html")
    assert "-100 %" not in (tmp_path / "c.html").read_text()


def test_the_same_report_has_nothing_better_or_worse(tmp_path: Path) -> None:
    quiet = record()
    quiet.usage["machine"] = [0.25] * 50
    one = written(tmp_path / "a", quiet)
    assert compare.write(one, one / "report.html", tmp_path / "c.html") == [
        "about the same: nothing differs by more than chance and the machine do",
        f"written to {tmp_path / 'c.html'}",
    ]


def test_a_page_that_cannot_be_written_is_told_with_its_reason(tmp_path: Path) -> None:
    one = written(tmp_path / "a", record())
    with pytest.raises(BadInput, match=r"Cannot write .*No such file"):
        compare.write(one, one, tmp_path / "nowhere" / "x.html")


def test_what_may_not_be_compared_is_said(summary: dict[str, Any]) -> None:
    one = summary | {"others": {"on the day": 0.0, "in the ramp": 0.1}}
    assert compare.warnings(one, one) == []
    assert compare.warnings(one, one | {"seed": 2, "machine": {"cores": 64}}) == [
        "They are different days of the same kind: 7 and 2.",
        "They ran on different machines or versions.",
    ]
    other = one | {
        "pace_ms": one["pace_ms"] * 1.2,
        "others": {"on the day": 0.3, "in the ramp": 0.0},
        "generator_was_limit": {"on the day": True, "in the ramp": True},
    }
    assert compare.warnings(one, other) == [
        "The machine was slower in the second: a fixed piece of work took 1.50 and 1.80 ms. What hangs on its speed "
        "counts only beyond that.",
        "Other programs used much of the machine: 30 % on the day of the second. What hangs on its speed counts only "
        "from twice as large a difference.",
        "On the day of the second the generator was the limit: its latencies are partly its own.",
    ]


def test_a_day_that_was_interrupted_or_had_other_faults_is_not_compared_without_a_warning(tmp_path: Path) -> None:
    faults = [Happened(11.5 * 3600, "the gateway is killed"), Happened(15 * 3600.0, "Postgres is killed")]
    part, faulty = record(interrupted=True), record(faults=faults)
    part.gates["stopped_at_s"] = 12 * 3600.0
    for one in (whole := record(), part, faulty):
        one.usage["machine"] = [0.25] * 50
    folders = [written(tmp_path / name, one) for name, one in (("whole", whole), ("part", part), ("faulty", faulty))]
    interrupted = "was interrupted: its numbers are those of a part of the day."
    ordered = "11:30 the gateway is killed; 15:00 Postgres is killed"
    for first, second, said in (
        (0, 1, [f"The second {interrupted}"]),
        (1, 0, [f"The first {interrupted}"]),
        (0, 2, [f"Not the same faults were ordered: none in the first, {ordered} in the second."]),
        (2, 2, []),
    ):
        lines = compare.write(folders[first], folders[second], tmp_path / "c.html")
        assert [line for line in lines if "interrupted" in line or "faults" in line] == said
        assert all(text in (tmp_path / "c.html").read_text() for text in said)


@pytest.mark.parametrize(
    ("at_s", "says", "same"),
    [
        (36_000.0, "Postgres is killed", True),
        (36_600.0, "Postgres is killed", True),
        (36_601.0, "Postgres is killed", False),
        (36_000.0, "the gateway is killed", False),
    ],
)
def test_faults_are_the_same_when_they_struck_at_about_the_same_time(
    at_s: float, says: str, same: bool, summary: dict[str, Any]
) -> None:
    one = summary | {"others": {}, "faults": [[36_000.0, "Postgres is killed"]]}
    assert (compare.warnings(one, one | {"faults": [[at_s, says]]}) == []) is same
    both = [[36_000.0, "Postgres is killed"], [36_000.0, "the gateway is killed"]]
    assert compare.warnings(one | {"faults": both}, one | {"faults": both[::-1]}) == []


def test_a_report_of_before_faults_were_kept_is_compared_as_ever(summary: dict[str, Any]) -> None:
    one = summary | {"others": {}}
    old = {key: value for key, value in one.items() if key not in {"interrupted", "faults"}}
    assert compare.warnings(old, one) == []


def test_how_fast_the_machine_was_is_not_told_of_a_system_elsewhere(summary: dict[str, Any]) -> None:
    one = summary | {"others": {}, "here": False}
    assert compare.warnings(one, one | {"pace_ms": one["pace_ms"] * 2}) == []


def test_the_pace_of_the_machine_is_that_of_its_quicker_quarter() -> None:
    one = record()
    one.usage["pace_ms"] = [1.0] * 20 + [5.0] * 30
    assert figures_of(one).summary()["pace_ms"] == 1.0


def test_the_second_day_is_drawn_on_the_clock_of_the_first() -> None:
    two = {"at_s": [600.0, 1200.0, 1800.0], "p99_ms": [5.0, None, 7.0]}
    assert [compare._at(two, at_s) for at_s in (599, 600, 1100, 1200, 1800, 2400, 2401)] == [
        None, 5.0, 5.0, None, 7.0, 7.0, None,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("key", "values", "texts", "change"),
    [
        ("within_limit", (99.996, 99.5), ["99.99 %", "99.50 %"], "-0.5 points"),
        ("within_limit", (98.96, 75.61), ["98.96 %", "75.61 %"], "-23 points"),
        ("within_limit", (99.99, 99.96), ["99.99 %", "99.96 %"], "0 points"),
        ("within_limit", (0.0, 50.0), ["0.00 %", "50.00 %"], "+50 points"),
        (HELD, (109_620.0, 45_060.0), ["110,000", "45,000"], "-59 %"),
        ("p99_ms", (1234.5, 12.34), ["1,234 ms", "12.3 ms"], "-99 %"),
        ("scans", (5106.0, 9081.0), ["5,106", "9,081"], "+78 %"),
        ("system_cpu_ms", (0.456, 0.5), ["0.46 ms", "0.50 ms"], "+10 %"),
    ],
)
def test_numbers_are_said_as_people_say_them(
    key: str, values: tuple[float, float], texts: list[str], change: str, summary: dict[str, Any]
) -> None:
    sides = [summary | {"numbers": {key: value}, "ranges": {}} for value in values]
    (row,) = compare.rows(sides[0], sides[1])
    assert isinstance(row, Row)
    assert [row.first, row.second] == texts
    assert row.change == change


def test_at_least_so_much_is_never_rounded_up() -> None:
    assert compare.said(HELD, Figure(305_670, at_least=True), "") == "≥ 300,000"
    assert compare.said(HELD, Figure(305_670), "") == "310,000"


def test_what_is_no_report_is_not_compared(tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("<html></html>")
    with pytest.raises(BadInput, match="is no report of a rehearsal"):
        compare.summary_of(tmp_path)
    with pytest.raises(BadInput, match="Cannot read"):
        compare.summary_of(tmp_path / "nowhere.html")
