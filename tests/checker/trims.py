"""I2 and I6 of what a log has no more: a snapshot holds all of it, and reporting has committed all of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from tests.checker.violation import Violation


@dataclass(frozen=True, slots=True)
class Trimmed:
    """A partition's log was trimmed: what is gone, and how far snapshot and Postgres were at that instant.

    `last` is the last entry that is gone. `snapshot` is the entry up to which the snapshot holds everything; 0 without
    one. `read` is the offset that was committed; None where only the books' own is known, which is not before it.
    """

    partition: str
    last: int
    snapshot: int
    read: int | None = None


def check_trims(trims: Iterable[Trimmed], offsets: Mapping[str, int]) -> Iterator[Violation]:
    """All that was trimmed too soon."""
    for trim in trims:
        subject, gone = f"partition {trim.partition}", f"its log is trimmed up to entry {trim.last}"
        if trim.last > trim.snapshot:
            yield Violation("I2", subject, f"{gone}, and its snapshot holds up to entry {trim.snapshot}")
        read = trim.read if trim.read is not None else offsets.get(trim.partition, 0)
        if trim.last > read:
            yield Violation("I6", subject, f"{gone}, and was read up to entry {read}")
