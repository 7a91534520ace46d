"""Tries faults by hand: `python -m tests.chaos.processes --fault kill-owner --seed 3`. Exits with 1 on a violation."""

from __future__ import annotations

import argparse
import asyncio
import sys

from tests.chaos.processes.rows import rehearse, said, setting
from tests.chaos.processes.tools import clean_up_when_told_to_end
from tests.checker import report


def main() -> int:
    """0 if every promise was kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fault", nargs="*", default=[], help="names in the table of `make chaos`; without any, all")
    parser.add_argument("--seed", type=int, nargs="*", default=[1])
    parser.add_argument("--hosts", type=int, choices=(1, 2), default=1)
    asked = parser.parse_args()
    clean_up_when_told_to_end()
    with setting(asked.hosts) as (park, faults):
        known = sorted(fault.name for fault in faults)
        if unknown := sorted(set(asked.fault) - set(known)):
            parser.error(f"no fault {', '.join(unknown)} with {asked.hosts} host(s); there are {', '.join(known)}")
        chosen = [fault for fault in faults if not asked.fault or fault.name in asked.fault]
        trials = asyncio.run(rehearse(park, chosen, asked.seed, _say))
    for trial in trials:
        if trial.violations:
            _say(f"{said(trial)}\n{report(trial.violations)}")
    return int(any(trial.violations for trial in trials))


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
