"""The hour without Postgres of `make chaos`, with few guests. Proves I6, I10."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.away import Hour, an_hour_without_postgres


@pytest.mark.timeout(90)
async def test_gates_admit_while_postgres_is_away_and_reporting_catches_up_exactly_once(tmp_path: Path) -> None:
    hour = await an_hour_without_postgres(tmp_path, 2_000, faster=0.1)
    assert hour.violations == []
    assert hour.admitted == 2_000
    assert hour.log_bytes > 2_000 * 40


@pytest.mark.parametrize(
    ("spoilt", "words"),
    [({"admitted": 9}, "9 of 10"), ({"longest_wait_s": 2.1}, "waited 2.1 s"), ({"catch_up_s": 5.0}, "4.0 times")],
)
def test_an_hour_that_was_not_well_is_a_violation(spoilt: dict[str, float], words: str) -> None:
    good = {"admitted": 10, "longest_wait_s": 0.1, "arrival_s": 20.0, "catch_up_s": 1.0}
    hour = Hour(10, **(good | spoilt))  # type: ignore[arg-type]
    hour.judge()
    assert [words in broken for broken in hour.violations] == [True]
