"""`make fuzz`: a million cases over every boundary that takes bytes, in minutes; prints what became of them.

python -m tests.fuzz [--cases N] [--seed N] [target ...]     two processes; exit 1 if anything was found
python -m tests.fuzz --piece TARGET SEED CASES               the last of so many cases again, after those before it
python -m tests.fuzz --case TARGET HEX                       one case alone
python -m tests.fuzz.guided TARGET [SECONDS]                 guided by coverage, with atheris (an extra)
"""

from __future__ import annotations

import argparse
import os
import sys
import time

from rich.console import Console
from rich.table import Table

from tests.fuzz.run import Piece, Ran, replay, run_all
from tests.fuzz.targets import MAKERS, SHARES

CASES = 1_000_000
SHOWN = 5
"""How a target's cases ended, most frequent first."""


def main() -> int:
    """0 if nothing was found."""
    arguments = _parser().parse_args()
    if arguments.piece:
        name, seed, cases = arguments.piece
        print(replay(Piece(name, int(cases), int(seed))))
        return 0
    if arguments.case:
        name, data = arguments.case
        print(MAKERS[name]().case(bytes.fromhex(data)))
        return 0
    return _random(arguments)


def _random(arguments: argparse.Namespace) -> int:
    console = Console(width=None if sys.stdout.isatty() else 150)
    began = time.monotonic()
    with console.status("fuzzing") as status:
        rows = run_all(
            arguments.cases,
            arguments.seed,
            os.cpu_count() or 1,
            lambda done: status.update(f"{done:,} of {arguments.cases:,} cases"),
            arguments.targets,
        )
    console.print(_table(rows))
    findings = [finding for row in rows for finding in row.findings]
    for finding in findings:
        console.print(finding[:2_000], markup=False, highlight=False)
    total, seconds = sum(row.cases for row in rows), time.monotonic() - began
    console.print(f"{total:,} cases in {seconds:.0f} s, seed {arguments.seed}: {len(findings)} findings")
    return int(bool(findings))


def _table(rows: list[Ran]) -> Table:
    table = Table(title="Fuzzing")
    for name in ("target", "what is tried"):
        table.add_column(name, overflow="fold")
    for name in ("cases", "admitted", "findings"):
        table.add_column(name, justify="right")
    table.add_column("ended most often with", overflow="fold")
    for row in rows:
        often = ", ".join(f"{name} {count:,}" for name, count in row.ended.most_common(SHOWN))
        bad = f"[red]{len(row.findings)}[/red]" if row.findings else "0"
        table.add_row(row.target, row.says, f"{row.cases:,}", f"{row.admitted:,}", bad, often)
    return table


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("targets", nargs="*", choices=[*SHARES, []], help="all, unless named")
    parser.add_argument("--cases", type=int, default=CASES)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--piece", nargs=3, metavar=("TARGET", "SEED", "CASES"))
    parser.add_argument("--case", nargs=2, metavar=("TARGET", "HEX"))
    return parser


if __name__ == "__main__":
    sys.exit(main())
