"""`make chaos`: every promise under every fault, within a fixed budget; `LONG=1` for a longer one.

Prints a table, writes build/chaos.json, and exits with 1 if any promise was broken or any planted bug was missed.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from rich.console import Console

from tests.chaos.away import postgres_row
from tests.chaos.fuzzed import CASES, LONG_CASES, fuzz_rows
from tests.chaos.processes.rows import process_rows
from tests.chaos.processes.tools import clean_up_when_told_to_end
from tests.chaos.rows import Row, as_json
from tests.chaos.simulated import planted_bugs, simulated_rows
from tests.chaos.soaked import LONG_VISITS, VISITS, soak_row
from tests.chaos.table import show, teller
from tests.simulation.sweep import cores

BUDGET_S, LONG_BUDGET_S = 120.0, 1_800.0
"""For simulated days; the planted bugs take about a minute more."""
SEEDS, LONG_SEEDS = range(1, 2), range(1, 7)
"""Of real processes: each fault is tried with each seed, in some ten seconds."""
LOG_WIDTH = 150
OUT = Path("build") / "chaos.json"


def main() -> int:
    """0 if every promise was kept and every planted bug caught."""
    clean_up_when_told_to_end()
    console = Console()
    if not console.is_terminal:
        console = Console(width=LOG_WIDTH)
    began = time.monotonic()
    long = bool(os.environ.get("LONG"))
    budget_s, seeds = (LONG_BUDGET_S, LONG_SEEDS) if long else (BUDGET_S, SEEDS)
    with console.status("simulated days") as status:
        tell = teller(console, status.update, time.monotonic)
        rows: list[Row] = simulated_rows(budget_s, tell)
        tell("an hour without Postgres")
        rows.append(postgres_row())
        tell("clients that come and go")
        rows.append(soak_row(LONG_VISITS if long else VISITS))
        rows += fuzz_rows(LONG_CASES if long else CASES, cores(), tell)
        bugs = planted_bugs(tell)
        rows += process_rows(seeds, tell)
    seconds = time.monotonic() - began
    show(console, rows, bugs)
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(as_json(rows, bugs, seconds), indent=2) + "\n")
    console.print(f"{sum(row.runs for row in rows):,} runs in {seconds:.0f} s; all of it is in {OUT}")
    return int(any(item.failed for item in (*rows, *bugs)))


if __name__ == "__main__":
    sys.exit(main())
