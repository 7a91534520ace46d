"""What a rehearsal shows while it runs, as lines."""

from __future__ import annotations

import pytest

from loadtest.surge import plan as planning
from loadtest.surge.parts import Phase
from loadtest.surge.screen import Screen, devices
from tests.surge.small_day import scenario

GATES = {"day_s": 9.5 * 3600, "per_s": 240.0, "p99_ms": 12.3, "admitted": 90.0, "refused": 3.0, "inside": 80.0}


@pytest.mark.parametrize(
    ("phase", "begins"), [(Phase.DAY, "09:30  "), (Phase.EVENING, "close  "), (Phase.RAMP, "ramp   ")]
)
def test_a_line_says_where_in_the_day_it_is(phase: Phase, begins: str, capsys: pytest.CaptureFixture[str]) -> None:
    with Screen().day(planning.make(scenario())) as shown:
        shown.update(GATES, {}, phase)
    assert capsys.readouterr().out.startswith(f"  {begins}  240 scans/s  p99   12.3 ms")


def test_a_long_line_goes_on_below_its_beginning(capsys: pytest.CaptureFixture[str]) -> None:
    Screen().line("The books", " ".join(["word"] * 40), good=False)
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert first.startswith("  ✗ The books")
    assert second.index("word") == first.index("word")
    assert max(len(first), len(second)) <= 100


@pytest.mark.parametrize(("good", "mark"), [(True, "✓"), (False, "✗"), (None, "–")])
def test_what_was_not_measured_is_neither_good_nor_bad(
    good: bool | None, mark: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Screen().line("This installation holds", "not measured", good=good)
    assert capsys.readouterr().out.startswith(f"  {mark} This installation holds")


@pytest.mark.parametrize(
    ("count", "said"), [(0, "0 devices"), (1, "1 device"), (2.0, "2 devices"), (1e3, "1,000 devices")]
)
def test_devices_are_counted_as_people_do(count: float, said: str) -> None:
    assert devices(count) == said


def test_a_line_of_the_day_separates_thousands(capsys: pytest.CaptureFixture[str]) -> None:
    many = dict.fromkeys(GATES, 47_505.0)
    with Screen().day(planning.make(scenario())) as shown:
        shown.update(many, {"sold": 47_505.0}, Phase.RAMP)
    assert capsys.readouterr().out.count("47,505") == 6


def test_a_line_claims_no_latency_when_nothing_was_answered(capsys: pytest.CaptureFixture[str]) -> None:
    quiet = {name: value for name, value in GATES.items() if name != "p99_ms"} | {"per_s": 0.0}
    with Screen().day(planning.make(scenario())) as shown:
        shown.update(quiet, {}, Phase.DAY)
    assert "0 scans/s  p99      - ms" in capsys.readouterr().out
