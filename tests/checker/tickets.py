"""What a ticket has used, by zone: counted from the facts of the log alone."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, tzinfo
from typing import Any

from parkgate.events.v1 import events_pb2 as pb
from parkgate.gate.v1 import gate_pb2 as gate

ENTRY, REENTRY, EXIT = gate.ADMISSION_KIND_ENTRY, gate.ADMISSION_KIND_REENTRY, gate.ADMISSION_KIND_EXIT


@dataclass(slots=True)
class Entitlement:
    """A ticket in one zone. Days are the park's."""

    admitted: int = 0
    inside: int = 0
    by_day: dict[date, int] = field(default_factory=lambda: defaultdict(int))

    def count(self, scan: pb.ScanDecided, day: date, sign: int) -> None:
        """Adds an admission, or takes one away that was given back."""
        persons = sign * scan.persons
        if scan.kind == ENTRY:
            self.admitted += persons
            self.by_day[day] += persons
        if scan.counts_inside:
            self.inside += -persons if scan.kind == EXIT else persons


@dataclass(slots=True)
class Ticket:
    """All that the log says of a ticket so far."""

    zones: dict[int, Entitlement] = field(default_factory=lambda: defaultdict(Entitlement))
    lifecycle: int = pb.LIFECYCLE_ACTIVE
    requests: set[bytes] = field(default_factory=set)
    """Of changes that were done."""
    refused: set[bytes] = field(default_factory=set)
    """Requests of changes that were refused."""
    registered_in: str = ""
    """The partition whose log says so; empty: none has."""
    seen: bool = False
    """It was admitted before, wherever and whatever became of it."""
    first: bool = False

    @property
    def admitted(self) -> int:
        """Person-entries in all zones."""
        return sum(zone.admitted for zone in self.zones.values())


Terms = dict[str, Any]
"""What an `issue` of the history says: entries, party, daily_entries."""


def park_day(time_ms: int, zone: tzinfo) -> date:
    """The civil day of the park at an instant."""
    return datetime.fromtimestamp(time_ms / 1_000, UTC).astimezone(zone).date()
