"""What was measured of each scan, in columns, so that a report can look at any of it again. Values only."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from loadtest.surge.plan import Way

WAYS = tuple(Way)


@dataclass(slots=True)
class Samples:
    """One row a scan that was answered.

    `due_s`: time of the rehearsed day when it should have been served. `late_ms`: how much later the generator sent it.
    `took_ms`: from due to the verdict, the generator's own lateness in it. `persons`: whom it let in or out.
    """

    answers: list[str] = field(default_factory=list)
    """Names, to which `answer` points."""
    due_s: array[float] = field(default_factory=lambda: array("d"))
    late_ms: array[float] = field(default_factory=lambda: array("f"))
    took_ms: array[float] = field(default_factory=lambda: array("f"))
    way: array[int] = field(default_factory=lambda: array("b"))
    answer: array[int] = field(default_factory=lambda: array("h"))
    entrance: array[int] = field(default_factory=lambda: array("h"))
    persons: array[int] = field(default_factory=lambda: array("h"))

    def __len__(self) -> int:
        return len(self.due_s)

    def add(self, due_s: float, times_ms: tuple[float, float], what: tuple[Way, str], where: tuple[int, int]) -> None:
        """`times_ms`: late and took; `what`: way and answer; `where`: entrance and persons."""
        self.due_s.append(due_s)
        self.late_ms.append(times_ms[0])
        self.took_ms.append(times_ms[1])
        self.way.append(WAYS.index(what[0]))
        self.answer.append(self._number(what[1]))
        self.entrance.append(where[0])
        self.persons.append(where[1])

    def _number(self, answer: str) -> int:
        if answer not in self.answers:
            self.answers.append(answer)
        return self.answers.index(answer)

    def answered(self) -> Iterator[tuple[Way, str]]:
        """Way and answer of every row."""
        for way, answer in zip(self.way, self.answer, strict=True):
            yield WAYS[way], self.answers[answer]

    def columns(self) -> dict[str, Any]:
        """For JSON."""
        rounded = {name: [round(value, 2) for value in getattr(self, name)] for name in ("due_s", "late_ms", "took_ms")}
        whole = {name: getattr(self, name).tolist() for name in ("way", "answer", "entrance", "persons")}
        return {"answers": self.answers, **rounded, **whole}

    @classmethod
    def of(cls, columns: dict[str, Any]) -> Samples:
        """From JSON."""
        return cls(
            columns["answers"],
            *(array("d" if name == "due_s" else "f", columns[name]) for name in ("due_s", "late_ms", "took_ms")),
            *(array("b" if name == "way" else "h", columns[name]) for name in ("way", "answer", "entrance", "persons")),
        )


def percentile(ordered: Sequence[float], share: float) -> float:
    """Of values in rising order; 0 of none. The smallest value that so large a share does not exceed."""
    if not ordered:
        return 0.0
    return ordered[max(min(-int(-len(ordered) * share // 1) - 1, len(ordered) - 1), 0)]
