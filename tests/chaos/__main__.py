"""`make chaos`: every promise under every fault, within a fixed budget; `LONG=1`: a longer one, `SEED=n`: other seeds.

Says each row as it ends, with build/chaos.json written anew, and prints a table in the end. Exits with 1 if any promise
was broken, any planted bug was missed, or anything could not be tried; with 2 if SEED is no number.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from rich.console import Console

from tests.chaos.away import postgres_row
from tests.chaos.fuzzed import CASES, LONG_CASES, fuzz_rows
from tests.chaos.processes.rows import try_processes
from tests.chaos.processes.tools import clean_up_when_told_to_end
from tests.chaos.record import Record
from tests.chaos.seeds import Seeds
from tests.chaos.simulated import planted_bugs, simulated_rows
from tests.chaos.soaked import LONG_VISITS, VISITS, soak_row
from tests.chaos.table import show, teller
from tests.simulation.sweep import cores

BUDGET_S, LONG_BUDGET_S = 120.0, 1_800.0
"""For simulated days; the planted bugs take about a minute more."""
TRIALS, LONG_TRIALS = 1, 6
"""Of each fault of real processes, each with a seed of its own, in some ten seconds."""
LOG_WIDTH = 150
OUT = Path("build") / "chaos.json"


def main() -> int:
    """0 if every promise was kept and every planted bug caught."""
    try:
        seeds = Seeds.read(os.environ.get("SEED", ""))
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    clean_up_when_told_to_end()
    console = Console()
    if not console.is_terminal:
        console = Console(width=LOG_WIDTH)
    say = partial(console.print, markup=False, highlight=False)
    say(f"{seeds}: seeds from {seeds.first} on")
    record = Record(OUT, say, run=str(seeds))
    with console.status("simulated days") as status:
        _all_stages(record, teller(console, status.update, time.monotonic), seeds, long=bool(os.environ.get("LONG")))
    record.finish()
    show(console, record.rows, record.bugs)
    runs = sum(row.runs for row in record.rows)
    say(f"{runs:,} runs in {record.seconds:.0f} s with {seeds}; all of it is in {OUT}")
    return int(record.failed)


def _all_stages(record: Record, tell: Callable[[str], None], seeds: Seeds, *, long: bool) -> None:
    """One after the other; none needs what another has left."""
    with record.stage("simulated days"):
        for row in simulated_rows(LONG_BUDGET_S if long else BUDGET_S, seeds, tell):
            record.put(row)
    tell("an hour without Postgres")
    with record.stage("an hour without Postgres"):
        record.put(postgres_row())
    tell("clients that come and go")
    with record.stage("clients that come and go"):
        record.put(soak_row(LONG_VISITS if long else VISITS))
    with record.stage("fuzz"):
        for row in fuzz_rows(LONG_CASES if long else CASES, cores(), seeds, tell):
            record.put(row)
    with record.stage("planted bugs"):
        for bug in planted_bugs(seeds):
            record.put_bug(bug)
    try_processes(seeds.some(LONG_TRIALS if long else TRIALS), record, tell)


if __name__ == "__main__":
    sys.exit(main())
