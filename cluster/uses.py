"""First visits that tickets share, by number. A ticket's row holds the number (`cluster.ticket_table`).

Most tickets of a day are used once, at the same gates and instants as others. A dict from ticket to counters took 100
bytes for each, and looking and storing there were two more looks into memory that is in no cache: a tenth of what an
owner takes to decide a scan of a large frame. The row is looked at anyway.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ticketcore.admission import Visit

UNUSED = 0
"""The number of a ticket that has no visits."""
BY_TICKET = 1
"""The number of a ticket whose visits are its own, and stand in `Partition.visits` only."""


class Use(NamedTuple):
    """A visit, and to which zone. Never changed: whoever counts on makes a copy of the visit."""

    zone_number: int
    visit: Visit


class Uses:
    """The shared visits of one partition."""

    def __init__(self) -> None:
        self._uses: list[Use | None] = [None, None]
        self._free: list[int] = []

    def add(self, zone_number: int, visit: Visit) -> int:
        """A number for a visit."""
        use = Use(zone_number, visit)
        if self._free:
            number = self._free.pop()
            self._uses[number] = use
            return number
        self._uses.append(use)
        return len(self._uses) - 1

    def drop(self, number: int) -> None:
        """No row holds this number; it may be another's."""
        self._uses[number] = None
        self._free.append(number)

    def find(self, number: int, zone_number: int) -> Visit | None:
        """The visit to a zone of a ticket with this number; None if it has no shared one there."""
        use = self._uses[number]
        return use.visit if use is not None and use.zone_number == zone_number else None

    def still(self) -> list[Use | None]:
        """All of them as they are now, by number; None where there is none."""
        return self._uses.copy()

    def load(self, uses: Iterable[Use | None]) -> None:
        """Takes what `still` has returned over."""
        self._uses = list(uses)
        self._free = [number for number, use in enumerate(self._uses) if use is None and number > BY_TICKET]

    def __contains__(self, number: int) -> bool:
        """Whether a row may have this number."""
        return number <= BY_TICKET or (number < len(self._uses) and self._uses[number] is not None)
