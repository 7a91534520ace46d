"""What the table of `make chaos` is made of. A new kind of fault is a new source of rows in `tests.chaos.__main__`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Row:
    """One fault and what became of the promises under it. `layer` says what was faulted: "simulation", "processes".

    `recovery_ms` is what a fault cost, at its longest. In the simulation: from the fault to the first durable entry of
    whoever took over, in virtual time; None where nothing had to be taken over. Of processes: how long, from the fault
    on, a partition or a gate let nobody in, as the guests saw it. `violations` are for people, each with how to see it
    again; `traceback` is of what broke the runner, not the park.
    """

    layer: str
    fault: str
    says: str
    runs: int
    operations: int
    unknown: int
    admitted: int
    violations: tuple[str, ...]
    recovery_ms: int | None = None
    traceback: str = ""

    @property
    def failed(self) -> bool:
        """Whether any promise was broken."""
        return bool(self.violations)


@dataclass(frozen=True, slots=True)
class PlantedBug:
    """A bug that was planted, and whether the checker found it."""

    bug: str
    says: str
    tried: int
    caught_by: str
    """Promise and day; empty if it was not caught."""

    @property
    def failed(self) -> bool:
        """Whether the checker missed it."""
        return not self.caught_by


def as_json(rows: list[Row], bugs: list[PlantedBug], seconds: float, *, complete: bool) -> dict[str, Any]:
    """The contents of build/chaos.json. Not complete: the run goes on, or was ended."""
    return {
        "complete": complete,
        "seconds": round(seconds, 1),
        "violations": sum(len(row.violations) for row in rows),
        "missed_bugs": [bug.bug for bug in bugs if bug.failed],
        "faults": [asdict(row) for row in rows],
        "planted_bugs": [asdict(bug) for bug in bugs],
    }
