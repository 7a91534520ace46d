"""CPU and memory of a record, the day apart from what came before and after it. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Usage:
    """Samples, one a second. `day_s`: their times on the park's clock; `machine`: the share of all cores that was busy;
    `pace_ms`: what a fixed piece of work took; `processes`: of each name `cpu`, shares of a core, and `memory_mb`."""

    day_s: Sequence[float]
    machine: Sequence[float]
    pace_ms: Sequence[float]
    processes: Mapping[str, Mapping[str, Sequence[float]]]

    @classmethod
    def of(cls, usage: Mapping[str, Any]) -> Usage:
        """All that was sampled."""
        return cls(usage["day_s"], usage["machine"], usage["pace_ms"], usage["processes"])

    def parted(self, starts_s: float, ends_s: float) -> tuple[Usage, Usage]:
        """Of the day between two of its times, and of what came after it. A sample is of the second before it."""
        first, last = bisect_right(self.day_s, starts_s), bisect_right(self.day_s, ends_s)
        return self._cut(slice(first, last)), self._cut(slice(last, None))

    def _cut(self, rows: slice) -> Usage:
        processes = {name: {kind: values[rows] for kind, values in one.items()} for name, one in self.processes.items()}
        return Usage(self.day_s[rows], self.machine[rows], self.pace_ms[rows], processes)
