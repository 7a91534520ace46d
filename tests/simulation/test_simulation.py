"""Simulated days in the ordinary suite: fixed seeds within a short budget. `make chaos` has thousands more."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.owner import Owner
from tests.checker import report
from tests.simulation.bugs import BREAKS, BUGS
from tests.simulation.day import OPEN_S, run_day
from tests.simulation.profiles import PROFILES
from tests.simulation.sweep import hunt
from tests.simulation.world import replaced

ROOT = Path(__file__).parents[2]
QUICK = [name for name, bug in BUGS.items() if bug.seeds <= 100]
"""Bugs that show within some days; the rarer ones are hunted by `make chaos`."""
ONCE_FAILED = [
    ("zombies", 50), ("ledger", 439), ("network", 42), ("quota", 62), ("hung", 3), ("hung", 295), ("ledger", 29),
    ("ledger", 36), ("reporting", 14), ("calm", 4),
]  # fmt: skip
"""Days that found a mistake in the product: the bugs that `tests.simulation.bugs` names as mended."""


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_promise_is_kept_on_a_simulated_day(profile: str, seed: int) -> None:
    """I1 to I10: replay with `python -m tests.simulation --seed N --profile P`."""
    day = run_day(seed, profile)
    assert not day.violations, f"--seed {seed} --profile {profile}\n{report(day.violations)}"
    assert day.admitted > 0


def test_on_a_simulated_day_logs_are_trimmed() -> None:
    """I2, I6: of tickets and of quotas, or nothing would be asked of it; and too much of it is named as that."""
    assert {trim.partition for trim in run_day(4, "calm").trims} == {"p0", "p1", "p2", "p3", "q0"}
    said = [item.what for item in run_day(4, "calm", "trimmed unread").violations]
    assert any("is trimmed up to entry" in what for what in said)


def test_on_some_days_catalogues_come_while_gates_are_open() -> None:
    """I1, I4, I7: else nothing is asked of them. Products are refused where they are not, and let in where they are."""
    days = [run_day(seed, "catalogue") for seed in range(1, 9)]
    ended = [item.completed for day in days for item in day.history.of("publish") if item.completed is not None]
    assert sum(completed < OPEN_S * 1_000 for completed in ended) >= 4
    told = {(scan.process, scan.answer.get("reason")) for day in days for scan in day.history.of("scan")}
    assert {("ride", "WRONG_PRODUCT"), ("ride", "UNSPECIFIED")} <= told


@pytest.mark.parametrize(("profile", "seed"), ONCE_FAILED)
def test_a_day_that_once_failed_is_kept(profile: str, seed: int) -> None:
    """I1 to I10"""
    day = run_day(seed, profile)
    assert not day.violations, f"--seed {seed} --profile {profile}\n{report(day.violations)}"


@pytest.mark.parametrize("bug", QUICK)
def test_a_planted_bug_is_caught(bug: str) -> None:
    """A checker that never finds anything proves nothing."""
    assert hunt(bug).violation is not None


def test_a_hunt_may_begin_with_any_seed() -> None:
    found = hunt("append before check", first=2_000_001)
    assert found.violation is not None
    assert found.seed == 2_000_000 + found.tried


def test_every_planted_bug_has_the_promises_that_it_must_break() -> None:
    assert BREAKS.keys() == BUGS.keys()


def test_a_program_that_merely_falls_over_is_not_caught_for_its_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    silent = replace(BUGS["scan forgotten"], plant=lambda _: replaced((Owner, "_commit", _nothing)))
    monkeypatch.setitem(BUGS, "scan forgotten", silent)
    assert hunt("scan forgotten", seeds=2).violation is None
    assert run_day(1, silent.profile, "scan forgotten").violations


async def _nothing(*_: object) -> None:
    """Never answers."""


def test_a_seed_is_the_same_day_in_every_process() -> None:
    """Also with other hashes of strings, which order sets."""
    here = run_day(5, "everything").digest
    assert run_day(5, "everything").digest == here
    assert run_day(6, "everything").digest != here
    told = {_elsewhere(hash_seed) for hash_seed in ("1", "2")}
    assert told == {here}


def _elsewhere(hash_seed: str) -> str:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    command = [sys.executable, "-m", "tests.simulation", "--seed", "5", "--profile", "everything"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[0].rpartition("trace ")[2]
