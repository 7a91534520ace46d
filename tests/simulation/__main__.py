"""Simulated park days from the command line.

python -m tests.simulation --seed 17 --profile zombies             # one day again, exactly; its violations
python -m tests.simulation --seed 17 --profile zombies --trace     # and every message of it
python -m tests.simulation --seed 104 --bug "return told too soon" # with a bug planted
python -m tests.simulation --days 100                              # so many days of each kind, on all cores
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict

from tests.checker import report
from tests.simulation.bugs import BUGS
from tests.simulation.day import run_day
from tests.simulation.profiles import PROFILES
from tests.simulation.sweep import Outcome, cores, sweep

LONGEST_S = 86_400.0


def main() -> int:
    """0 if nothing was violated."""
    arguments = _arguments()
    if arguments.seed is not None:
        return _one(arguments)
    return _many(arguments)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description="Simulates park days.")
    parser.add_argument("--seed", type=int, help="run this one day")
    parser.add_argument("--profile", choices=PROFILES, help="the kind of day (default: everything, or the bug's)")
    parser.add_argument("--bug", choices=BUGS, default="", help="plant this bug")
    parser.add_argument("--trace", action="store_true", help="print every message and append")
    parser.add_argument("--days", type=int, default=20, help="days of each kind, without --seed")
    parser.add_argument("--from-seed", type=int, default=1, help="the first seed of these")
    return parser.parse_args()


def _one(arguments: argparse.Namespace) -> int:
    profile = arguments.profile or (BUGS[arguments.bug].profile if arguments.bug else "everything")
    day = run_day(arguments.seed, profile, arguments.bug, print if arguments.trace else None)
    print(
        f"seed {day.seed}, {profile}: {day.operations} operations, {day.unknown} unknown, {day.admitted} admitted,"
        f" {len(day.entries)} entries in {day.virtual_s:.1f} s of virtual time; trace {day.digest}"
    )
    print(report(day.violations))
    return int(bool(day.violations))


def _many(arguments: argparse.Namespace) -> int:
    profiles = [arguments.profile] if arguments.profile else list(PROFILES)
    began, count = time.monotonic(), 0
    failed: dict[str, list[Outcome]] = defaultdict(list)
    for day in sweep(profiles, range(arguments.from_seed, arguments.from_seed + arguments.days), LONGEST_S, cores()):
        count += 1
        if day.violations:
            failed[day.profile].append(day)
            print(f"seed {day.seed}, {day.profile}: {len(day.violations)} violations\n{report(day.violations, 3)}")
    seconds = time.monotonic() - began
    print(f"{count} days in {seconds:.1f} s, {count / seconds:.1f} a second on {cores()} cores")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
