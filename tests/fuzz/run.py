"""Runs targets: so many cases each, in processes of their own, and counts how they ended."""

from __future__ import annotations

import multiprocessing
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import structlog

from tests.fuzz.mutate import Mutator
from tests.fuzz.target import ADMITTED, Target
from tests.fuzz.targets import MAKERS, SHARES

SLICE = 10_000
"""Cases of one piece of work: short enough that two processes end at about the same time."""
MAX_FINDINGS = 5
"""Of one piece: a target that is broken is broken in every case."""


@dataclass(frozen=True, slots=True)
class Piece:
    """So many cases of one target, from one seed of chance. A target may remember what it was given, so that a case is
    seen again only after those before it."""

    target: str
    cases: int
    seed: int

    @property
    def again(self) -> str:
        """How to see its last case again."""
        return f"python -m tests.fuzz --piece {self.target} {self.seed} {self.cases}"


@dataclass(slots=True)
class Ran:
    """What became of a piece. `findings` are for people: how to see it again, what broke, and the case that did."""

    target: str
    says: str = ""
    cases: int = 0
    seconds: float = 0.0
    ended: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)

    @property
    def admitted(self) -> int:
        """Cases with an admission: each of a token that was issued, or it would be a finding."""
        return self.ended[ADMITTED]

    def add(self, other: Ran) -> None:
        """Adds another piece of the same target."""
        self.says, self.cases, self.seconds = other.says, self.cases + other.cases, self.seconds + other.seconds
        self.ended += other.ended
        self.findings += other.findings


def pieces(cases: int, seed: int, names: Sequence[str] = ()) -> list[Piece]:
    """Work for so many cases in all, dealt by the targets' shares; the slow ones first."""
    shares = {name: share for name, share in SHARES.items() if not names or name in names}
    total = sum(shares.values())
    work = []
    for name, share in reversed(shares.items()):
        left, number = max(round(cases * share / total), 1), 0
        while left > 0:
            work.append(Piece(name, min(left, SLICE), seed + 1_000 * number))
            left, number = left - SLICE, number + 1
    return work


def run_piece(piece: Piece) -> Ran:
    """Runs one piece in this process."""
    began = time.perf_counter()
    with silence():
        target = MAKERS[piece.target]()
        ran = Ran(piece.target, target.says)
        mutator = _mutator(target, piece)
        try:
            while ran.cases < piece.cases and len(ran.findings) < MAX_FINDINGS:
                _run_case(target, mutator.next(), piece, ran)
        finally:
            _close(target, piece, ran)
    ran.seconds = time.perf_counter() - began
    return ran


def replay(piece: Piece) -> str:
    """How the last case of a piece ends, after all before it. Raises what it raises, or the reading back after it."""
    with silence():
        target = MAKERS[piece.target]()
        mutator = _mutator(target, piece)
        try:
            for _ in range(piece.cases - 1):
                with suppress(Exception):  # as in the run, which goes on after a finding
                    target.case(mutator.next())
            return target.case(mutator.next())
        finally:
            target.close()


def _mutator(target: Target, piece: Piece) -> Mutator:
    return Mutator(target.seeds, random.Random(f"{piece.target}/{piece.seed}"))


@contextmanager
def silence() -> Iterator[None]:
    """What is refused is logged, and a million times over that is no help."""
    before = structlog.get_config()
    structlog.configure(processors=[_drop], cache_logger_on_first_use=False)
    try:
        yield
    finally:
        structlog.configure(**before)


def _drop(*_: Any) -> Any:
    raise structlog.DropEvent


def _run_case(target: Target, data: bytes, piece: Piece, ran: Ran) -> None:
    ran.cases += 1
    try:
        ran.ended[target.case(data)] += 1
    except Exception as error:  # noqa: BLE001 - whatever a boundary raises is what this looks for
        ran.findings.append(f"{replace(piece, cases=ran.cases).again}: {error!r} on {data.hex()}")


def _close(target: Target, piece: Piece, ran: Ran) -> None:
    try:
        target.close()
    except Exception as error:  # noqa: BLE001 - what was taken in cannot be read back: a finding as well
        ran.findings.append(f"{replace(piece, cases=ran.cases).again}: {error!r} when all of it was read back")


def run_all(cases: int, seed: int, jobs: int, tell: Callable[[int], None], names: Sequence[str] = ()) -> list[Ran]:
    """Runs every target; `tell` hears how many cases were run so far."""
    found = {name: Ran(name) for name in SHARES if not names or name in names}
    done = 0
    for ran in _in_processes(pieces(cases, seed, names), jobs):
        found[ran.target].add(ran)
        done += ran.cases
        tell(done)
    return list(found.values())


def _in_processes(work: list[Piece], jobs: int) -> Iterator[Ran]:
    # Spawned: a fork would copy whatever threads and loops the caller has in mid-air.
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(run_piece, work)
