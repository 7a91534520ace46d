"""Tries faults by hand: `python -m tests.chaos.processes --fault kill-owner --seed 3`. Exits with 1 on a violation."""

from __future__ import annotations

import argparse
import sys

from tests.chaos.processes.faults import ONE_NODE
from tests.chaos.processes.rows import one_node, rehearse, said
from tests.checker import report


def main() -> int:
    """0 if every promise was kept."""
    known = {fault.name: fault for fault in ONE_NODE}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fault", nargs="*", choices=known, default=list(known))
    parser.add_argument("--seed", type=int, nargs="*", default=[1])
    asked = parser.parse_args()
    with one_node() as park:
        trials = rehearse(park, [known[name] for name in asked.fault], asked.seed, _say)
    for trial in trials:
        if trial.violations:
            _say(f"{said(trial)}\n{report(trial.violations)}")
    return int(any(trial.violations for trial in trials))


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
