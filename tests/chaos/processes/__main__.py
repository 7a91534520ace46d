"""Tries faults by hand: `python -m tests.chaos.processes --fault kill-owner --seed 3`. Exits with 1 on a violation; all
violations are in build/chaos-processes.json.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.chaos.processes import tools
from tests.chaos.processes.plants import PLANTS
from tests.chaos.processes.rows import as_row, rehearse, said
from tests.chaos.processes.settings import Setting, setting
from tests.chaos.processes.takeover import TAKEOVERS, takeover_row
from tests.chaos.processes.tools import clean_up_when_told_to_end
from tests.chaos.processes.trial import Trial
from tests.chaos.record import Record
from tests.checker import report

OUT = Path("build") / "chaos-processes.json"


def main() -> int:
    """0 if every promise was kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fault", nargs="*", default=[], help="names in the table of `make chaos`; without any, all")
    parser.add_argument("--seed", type=int, nargs="*", default=[1])
    parser.add_argument("--hosts", type=int, choices=(1, 2), default=1)
    parser.add_argument("--plant", choices=PLANTS, help="a mistake that the faults must show")
    asked = parser.parse_args()
    clean_up_when_told_to_end()
    lacking = tools.lacking()
    if lacking and asked.hosts == 2:
        parser.error(f"two hosts cannot be tried here, for this machine lacks {lacking}")
    with setting(asked.hosts) as here:
        known = [*(fault.name for fault in here.faults), TAKEOVERS[asked.hosts]]
        if unknown := sorted(set(asked.fault) - set(known)):
            there_are = f"there are {', '.join(sorted(known))}" + (f"; this machine lacks {lacking}" if lacking else "")
            parser.error(f"no fault {', '.join(unknown)} with {asked.hosts} host(s); {there_are}")
        if asked.plant:
            PLANTS[asked.plant](here.park)
        chosen = asked.fault or known
        return int(asyncio.run(_broken(here, chosen, asked.seed)))


async def _broken(here: Setting, names: Sequence[str], seeds: Sequence[int]) -> bool:
    """Tries all of these; whether any promise was broken. One event loop for all: gRPC takes no second in a process."""
    record, trials = Record(OUT, _say), list[Trial]()

    def ended(trial: Trial) -> None:
        trials.append(trial)
        _say(said(trial))
        record.put(as_row([one for one in trials if one.fault is trial.fault]))

    await rehearse(here.park, [fault for fault in here.faults if fault.name in names], seeds, _say, ended)
    for trial in trials:
        if trial.violations:
            _say(f"{said(trial)}\n{report(trial.violations)}\n{trial.traceback}".strip())
    if not set(TAKEOVERS.values()).isdisjoint(names):
        _say("a million tickets are registered")
        row = await takeover_row(here.park, here.loss())
        record.put(row)
        _say("\n".join(row.violations))
    record.finish()
    _say(f"all of it is in {OUT}")
    return record.failed


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
