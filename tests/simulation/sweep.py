"""Many simulated days on all cores, and the planted bugs that must be caught by some of them."""

from __future__ import annotations

import gc
import multiprocessing
import os
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import count

from tests.checker import Violation
from tests.simulation.bugs import BREAKS, BUGS
from tests.simulation.day import run_day

AHEAD = 4
"""Days a process that are begun before they are needed."""
DAYS_A_COLLECTION = 10
"""A day leaves some megabyte behind."""
_days = count(1)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is kept of a day."""

    seed: int
    profile: str
    digest: str
    operations: int
    unknown: int
    admitted: int
    recovery_ms: int
    violations: tuple[Violation, ...]


@dataclass(frozen=True, slots=True)
class Hunt:
    """How a planted bug fared: the first day that caught it, and how many it took."""

    bug: str
    says: str
    profile: str
    tried: int
    seed: int | None
    violation: Violation | None
    """The first that was found, of a promise that the bug must break."""


def one_day(asked: tuple[str, int]) -> Outcome:
    """Simulates a day of a profile and a seed."""
    profile, seed = asked
    day = run_day(seed, profile)
    _tidy_up()
    return Outcome(
        seed, profile, day.digest, day.operations, day.unknown, day.admitted, day.recovery_ms, tuple(day.violations)
    )


def hunt(name: str, seeds: int | None = None, first: int = 1) -> Hunt:
    """Plants a bug on one day after the other until the checker catches it, or its seeds are used up. Caught: a promise
    of which the bug must break one is broken, and the same day without the bug breaks none."""
    bug = BUGS[name]
    limit = seeds if seeds is not None else bug.seeds
    for tried, seed in enumerate(range(first, first + limit), 1):
        violations = run_day(seed, bug.profile, name).violations
        _tidy_up()
        caught = next((one for one in violations if one.promise in BREAKS[name]), None)
        if caught is not None and not run_day(seed, bug.profile).violations:
            return Hunt(name, bug.says, bug.profile, tried, seed, caught)
    return Hunt(name, bug.says, bug.profile, limit, None, None)


def cores() -> int:
    """How many days may be simulated at once."""
    return os.cpu_count() or 1


def sweep(profiles: Sequence[str], seeds: range, budget_s: float, jobs: int) -> Iterator[Outcome]:
    """Days of all profiles, seed after seed, until the seeds or the time are used up."""
    end = time.monotonic() + budget_s
    begun: deque[Future[Outcome]] = deque()
    with _pool(jobs) as pool:
        for few in _chunks(seeds, 4):
            if time.monotonic() >= end:
                break
            for profile in profiles:
                begun.extend(pool.submit(one_day, (profile, seed)) for seed in few)
            # No core waits for the last day of some: the next are begun before these are done.
            while len(begun) > AHEAD * jobs:
                yield begun.popleft().result()
        yield from (day.result() for day in begun)


def hunts(names: Iterable[str], jobs: int, first: int = 1) -> Iterator[Hunt]:
    """All hunts, each until its bug is caught, from the first seed on."""
    with _pool(jobs) as pool:
        yield from pool.map(partial(hunt, first=first), list(names))


def _pool(jobs: int) -> ProcessPoolExecutor:
    # Spawned: a fork would copy whatever threads and loops the caller has in mid-air.
    return ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _settle_down)


def _settle_down() -> None:
    """A process that does nothing but days. What it has imported is never garbage, and days leave theirs in heaps, at
    their end: looking for it every thousand objects was a tenth of the work."""
    gc.collect()
    gc.freeze()
    gc.disable()


def _tidy_up() -> None:
    if not gc.isenabled() and next(_days) % DAYS_A_COLLECTION == 0:
        gc.collect()


def _chunks(seeds: range, size: int) -> Iterator[range]:
    for start in range(0, len(seeds), size):
        yield seeds[start : start + size]
