"""What a run of `make chaos` has found so far: said as it comes, and on disk whole after every row.

A stage that ends with an exception is a violation that names it, and the other stages go on: a run that was ended, or
that broke late, leaves all that it had found before.
"""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.chaos.rows import PlantedBug, Row, as_json

STAGE = "stage"
"""The layer of a row that tells of a stage that did not come to its end."""


class Record:
    """Rows and planted bugs, and the file that they are in. `say` prints a line; `run` names the run where one of its
    lines says that something failed."""

    def __init__(
        self, path: Path, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic, run: str = ""
    ) -> None:
        self.path, self._say, self._clock, self._run = path, say, clock, run
        self._rows: dict[tuple[str, str], Row] = {}
        self.bugs: list[PlantedBug] = []
        self._began = clock()
        self._write(complete=False)

    @property
    def rows(self) -> list[Row]:
        """In the order in which they came first."""
        return list(self._rows.values())

    @property
    def seconds(self) -> float:
        """Since the run began."""
        return self._clock() - self._began

    @property
    def failed(self) -> bool:
        """Whether a promise was broken, a planted bug missed, or a stage not finished."""
        return any(item.failed for item in (*self.rows, *self.bugs))

    def put(self, row: Row) -> None:
        """A row, or what it has become: one of the same layer and fault is replaced."""
        self._rows[row.layer, row.fault] = row
        self._tell(f"{summary(row)}{self._which(row)}")

    def put_bug(self, bug: PlantedBug) -> None:
        """A planted bug that was hunted."""
        self.bugs.append(bug)
        self._tell(f"planted bug {bug.bug}: {bug.caught_by or 'MISSED'}{self._which(bug)}")

    def _which(self, item: Row | PlantedBug) -> str:
        return f", with {self._run}" if item.failed and self._run else ""

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """A part of the run. Its exception becomes a violation; being told to end does not."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever it is, the other stages go on, and the run fails
            where = f"the traceback is in {self.path}"
            broken = f"{name}: did not come to its end: {type(error).__name__}: {str(error)[:500]} ({where})"
            text = "".join(traceback.format_exception(error))
            self.put(Row(STAGE, name, "ended with an exception", 1, 0, 0, 0, (broken,), traceback=text))

    def finish(self) -> None:
        """Every stage had its turn."""
        self._write(complete=True)

    def _tell(self, text: str) -> None:
        self._write(complete=False)
        self._say(f"{self.seconds:.0f} s: {text}")

    def _write(self, *, complete: bool) -> None:
        """Aside and renamed: whoever reads it, or ends the run, never finds half of it."""
        self.path.parent.mkdir(exist_ok=True)
        aside = self.path.with_suffix(".new")
        found = as_json(self.rows, self.bugs, self.seconds, complete=complete)
        aside.write_text(json.dumps({"run": self._run} | found, indent=2) + "\n")
        aside.replace(self.path)


def summary(row: Row) -> str:
    """A row in one line."""
    recovery = f", recovery {row.recovery_ms / 1_000:.1f} s" if row.recovery_ms is not None else ""
    runs = f"{row.runs:,} run{'s' if row.runs != 1 else ''}"
    return (
        f"{row.layer}: {row.fault}: {runs}, {row.operations:,} operations, {row.unknown:,} unknown, "
        f"{row.admitted:,} admitted{recovery}, {len(row.violations)} violations"
    )
