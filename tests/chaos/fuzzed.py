"""Rows from fuzzing: one a boundary that takes bytes."""

from __future__ import annotations

from collections.abc import Callable

from tests.chaos.rows import Row
from tests.chaos.seeds import Seeds
from tests.fuzz.run import Ran, run_all

CASES, LONG_CASES = 60_000, 2_000_000


def fuzz_rows(cases: int, jobs: int, seeds: Seeds, tell: Callable[[str], None]) -> list[Row]:
    """So many cases over all targets."""
    rows = run_all(cases, seeds.first, jobs, lambda done: tell(f"{done:,} of {cases:,} fuzz cases"))
    return [_row(ran) for ran in rows]


def _row(ran: Ran) -> Row:
    findings = tuple(f"I8: {finding[:500]}" for finding in ran.findings)
    return Row("fuzz", ran.target, ran.says, ran.cases, ran.cases, 0, ran.admitted, findings)
