"""The arithmetic between results and bars: a slip here would be believed."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from loadtest.bench import figures
from loadtest.bench.client import Result
from loadtest.bench.figures import BARS, Bar


def result(per_s: float, p50_ms: float = 0.0, retried: int = 0) -> Result:
    return Result(
        per_s=per_s,
        p50_ms=p50_ms,
        p99_ms=2 * p50_ms,
        admitted=1,
        not_admitted=0,
        ran_out=False,
        retried=retried,
        reasons={},
        client_cpu_share=0.0,
    )


def test_each_figure_is_the_median_of_its_rounds_and_retries_are_all_counted() -> None:
    rounds = [result(10.0, 5.0, 1), result(60.0, 1.0, 2), result(20.0, 4.0, 4)]
    (summed,) = figures.summary({"lone": rounds}).values()
    assert (summed.per_s, summed.p50_ms, summed.p99_ms, summed.retried) == (20.0, 4.0, 8.0, 7)


FIGURES = {
    "system_single_400": result(600.0),
    "echo_400": result(1_000.0),
    "echo_400_polling": result(1_200.0),
    "postgres_400": result(200.0),
    "orders_sell": result(450.0),
    "orders_steps": result(300.0),
    "reporting_catch_up": result(70_000.0),
    "redis_lua_100": result(40_000.0),
    "redis_lua_200": result(50_000.0),
    "system_frames_200": result(120_000.0),
    "echo_lone": result(1.0, 0.4),
    "redis_lone": result(1.0, 0.1),
    "system_lone": result(1.0, 0.9),
}


def test_ratios_are_of_one_round_and_against_the_better_peer() -> None:
    assert figures.of_rounds({name: [figure] for name, figure in FIGURES.items()}) == {
        "single_vs_echo": [pytest.approx(0.6)],
        "single_vs_echo_polling": [pytest.approx(0.5)],
        "single_vs_postgres": [pytest.approx(3.0)],
        "orders_per_s": [pytest.approx(450.0)],
        "reporting_per_s": [pytest.approx(70_000.0)],
        "frames_vs_redis_lua": [pytest.approx(2.4)],
        "lone_vs_floor": [pytest.approx(1.8)],
    }


def test_orders_are_those_of_one_form_the_better_by_its_median() -> None:
    """The better of each round would be more than either form has sold."""
    results = {name: [figure] * 3 for name, figure in FIGURES.items()}
    results |= {
        "orders_sell": [result(400.0), result(410.0), result(500.0)],
        "orders_steps": [result(450.0), result(390.0), result(380.0)],
    }
    assert figures.of_rounds(results)["orders_per_s"] == [400.0, 410.0, 500.0]


def test_a_round_in_which_the_machine_was_slow_is_no_part_of_the_median() -> None:
    """Ratios of medians would have been 700 / 800."""
    single, echo = [600.0, 700.0, 900.0], [800.0, 1_000.0, 500.0]
    results = {name: [figure] * 3 for name, figure in FIGURES.items()}
    results |= {"system_single_400": list(map(result, single)), "echo_400": list(map(result, echo))}
    rounds = figures.of_rounds(results)
    assert rounds["single_vs_echo"] == [pytest.approx(0.75), pytest.approx(0.7), pytest.approx(1.8)]
    assert figures.medians_of(rounds)["single_vs_echo"] == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("bar", "reached", "missed"),
    [(Bar(2.5), 2.5, 2.49), (Bar(25.0, at_most=True), 25.0, 25.1), (Bar(1.0), 2.0, math.nan)],
)
def test_a_bar_is_reached_at_its_limit_and_never_by_what_was_not_measured(
    bar: Bar, reached: float, missed: float
) -> None:
    assert bar.met(reached)
    assert not bar.met(missed)


def test_all_are_met_only_if_all_were_measured() -> None:
    found = {name: bar.limit for name, bar in BARS.items()}
    assert figures.all_met(found)
    for name in BARS:
        assert not figures.all_met({key: value for key, value in found.items() if key != name}), name


def test_what_was_not_measured_is_not_in_the_file(tmp_path: Path) -> None:
    found = {"single_vs_echo": 0.6, "lone_vs_floor": math.nan}
    figures.write(tmp_path / "bench.json", {"lone": result(1.0)}, found, {"single_vs_echo": [0.5, 0.7]})
    written = json.loads((tmp_path / "bench.json").read_text())
    assert written["ratios"] == {"single_vs_echo": 0.6}
    assert written["rounds"] == {"single_vs_echo": [0.5, 0.7]}
    assert written["scenarios"] == [{"name": "lone", "per_s": 1.0, "p50_ms": None, "p99_ms": None}]


def test_the_file_says_which_figures_another_client_than_saturation_s_drives(tmp_path: Path) -> None:
    found = {"half_load_p99_ms": 19.0, "half_load_p99_vs_p50": math.nan, "single_vs_echo": 0.6}
    figures.write(tmp_path / "bench.json", {"lone": result(1.0)}, found, {"single_vs_echo": [0.5, 0.7]})
    notes = json.loads((tmp_path / "bench.json").read_text())["notes"]
    assert list(notes) == ["half_load_p99_ms"]
    assert "wire.py" in notes["half_load_p99_ms"]
    assert set(figures.NOTES) <= set(BARS)
