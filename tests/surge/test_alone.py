"""What one process of the generator sends by itself: measured over real TLS, and told of whom the limit was."""

from __future__ import annotations

import pytest

from loadtest.surge.alone import Sent, Wanted, measure, verdict
from loadtest.surge.screen import Screen
from tests.surge.small_day import step


def test_a_few_turnstiles_are_measured_over_tls(capsys: pytest.CaptureFixture[str]) -> None:
    sent = measure(Wanted(turnstiles=8, seconds=0.3, echoes=2, first_per_s=100, steps=1), Screen())
    assert sent[0].step.admitted == sent[0].step.sent > 10
    assert sent[0].echo_cpu > 0
    assert "8 turnstiles" in capsys.readouterr().out
    assert "scans a second" in verdict(sent) or "No step was kept" in verdict(sent), "the machine may be busy"


@pytest.mark.parametrize(
    ("changes", "echo_cpu", "limit"),
    [
        ({"cpu": 0.95, "busy": 0.99}, 0.95, "the generator"),
        ({"cpu": 0.8, "busy": 0.99}, 0.95, "the echo"),
        ({"cpu": 0.8, "busy": 0.99}, 0.7, "the machine, which all share"),
        ({"cpu": 0.8, "busy": 0.9}, 0.7, "the generator"),
    ],
)
def test_who_was_the_limit_follows_from_cpu(changes: dict[str, float], echo_cpu: float, limit: str) -> None:
    kept = Sent(step(4_000, 9, late_p99_ms=3, cpu=0.62), 0.5)
    late = Sent(step(5_000, 80, late_p99_ms=20.1, **changes), echo_cpu)
    assert (kept.kept, late.kept) == (True, False)
    assert verdict([kept, late]) == (
        "One process sent 4,000 scans a second over TLS, one a frame, with 62 % of a core, 99 of 100 at most 3.0 ms "
        f"late. Then {limit} was the limit."
    )


def test_nothing_is_claimed_of_steps_that_were_not_tried_or_not_kept() -> None:
    assert verdict([Sent(step(4_000, 9), 0.5)]).endswith("More was not tried.")
    assert verdict([Sent(step(4_000, 300, late_p99_ms=90, cpu=1.0), 0.5)]) == (
        "No step was kept. Then the generator was the limit."
    )
    assert not Sent(step(4_000, 9, admitted=3_999), 0.5).kept
