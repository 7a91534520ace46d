"""Capacity: who may be inside a zone, counted in units of one person and spent from leases.

The capacity owner grants units of a zone to ticket partitions; a partition admits only from what it has. Both sides
keep totals that only rise, so a lost or doubled message changes nothing:

    at the capacity owner, for each zone and partition    granted_total, returned_total
    at the partition, for each zone                       received_total, returned_total, inside

    leased  = granted_total - returned_total     spare = received_total - returned_total - inside

Invariants (I4): the sum of `leased` over partitions never grows beyond the capacity; `inside` <= what was received and
not returned. A return is durable at the partition before the owner hears of it, a grant is durable at the owner before
the partition hears of it; whatever is lost in between is found again by the next message. Nothing expires by the clock.
Memory runs ahead of the log while an entry is being appended, so a lease knows since which entry it returned what.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ticketcore.quota import highest_level

CHUNK_DIVISOR = 2
"""A partition that asks gets at least its even share of half of what is free: chunks shrink as the limit nears."""
LEVELS_PERCENT = (80, 90, 100)
"""Of a zone's capacity: reached by its leases, each is told."""
ALERT_FALL_PERCENT = 10
"""So much of the capacity below a level it is over: leases rise and fall with every party, alerts should not."""


@dataclass(slots=True)
class Grant:
    """Totals of one partition in one zone, as the capacity owner knows them."""

    granted_total: int = 0
    returned_total: int = 0

    @property
    def leased(self) -> int:
        """Units out at the partition."""
        return self.granted_total - self.returned_total


@dataclass(frozen=True, slots=True)
class CapacityMove:
    """New totals of a partition in a zone."""

    zone_number: int
    partition: str
    granted_total: int
    returned_total: int


@dataclass(slots=True)
class ZoneBook:
    """One zone at the capacity owner. `capacity` 0 means unlimited."""

    zone_number: int
    capacity: int = 0
    alerted_percent: int = 0
    """The highest level that was told and is not over yet, of `alerted_limit` units."""
    alerted_limit: int = 0
    grants: dict[str, Grant] = field(default_factory=dict)

    @property
    def leased(self) -> int:
        """Units out at all partitions."""
        return sum(grant.leased for grant in self.grants.values())

    @property
    def free(self) -> int:
        """Units that may be granted; negative if the capacity was lowered."""
        return self.capacity - self.leased

    def note_return(self, partition: str, returned_total: int) -> CapacityMove | None:
        """The move for units that a partition has given back, if that is news. More than it was granted cannot come
        back: to believe it would make units out of nothing."""
        grant = self.grants.get(partition, Grant())
        if not grant.returned_total < returned_total <= grant.granted_total:
            return None
        return CapacityMove(self.zone_number, partition, grant.granted_total, returned_total)

    def grant(self, partition: str, received_total: int, wanted: int, partitions: int) -> CapacityMove | None:
        """The move that grants units, or None: nothing is free, or what was granted before and is not received yet is
        enough. So a question may be repeated, and one that overtakes the last answer still gets what is free."""
        known = self.grants.get(partition, Grant())
        missing = received_total + wanted - known.granted_total
        if wanted <= 0 or missing <= 0 or self.free <= 0:
            return None
        share = self.free // (CHUNK_DIVISOR * max(partitions, 1))
        units = min(max(missing, share), self.free)
        return CapacityMove(self.zone_number, partition, known.granted_total + units, known.returned_total)

    def apply(self, move: CapacityMove) -> None:
        """Takes new totals over; older ones change nothing."""
        grant = self.grants.setdefault(move.partition, Grant())
        grant.granted_total = max(grant.granted_total, move.granted_total)
        grant.returned_total = max(grant.returned_total, move.returned_total)
        self._end_alert()

    def _end_alert(self) -> None:
        """A level is over, and told again when it is reached again, once leases are ALERT_FALL_PERCENT below it."""
        if self.alerted_percent:
            fallen = self.leased + self.alerted_limit * ALERT_FALL_PERCENT // 100
            self.alerted_percent = min(self.alerted_percent, highest_level(fallen, self.alerted_limit, LEVELS_PERCENT))


@dataclass(slots=True)
class ZoneLease:
    """One zone at one partition."""

    zone_number: int
    received_total: int = 0
    returned_total: int = 0
    inside: int = 0
    _returns: tuple[tuple[int, int], ...] = field(default=(), compare=False, repr=False)
    """The last two log entries that gave something back, each with the total before it: of the entry that is being
    appended and of the one that is being decided neither may be durable."""

    @property
    def spare(self) -> int:
        """Units that can be spent now."""
        return self.received_total - self.returned_total - self.inside

    def receive(self, granted_total: int) -> bool:
        """Takes a grant over; false if it is no news."""
        if granted_total <= self.received_total:
            return False
        self.received_total = granted_total
        return True

    def give_back(self, wanted: int, sequence: int) -> int:
        """Gives up to `wanted` spare units back, in the log entry of that sequence, and says how many."""
        units = max(min(self.spare, wanted), 0)
        if units and all(sequence > before for before, _ in self._returns):
            self._returns = (*self._returns[-1:], (sequence, self.returned_total))
        self.returned_total += units
        return units

    def returned_by(self, sequence: int) -> int:
        """Units that were ever given back by the entries up to `sequence`, the last that is durable. More than these
        the capacity owner must not hear of: if the entry is fenced, the next owner of the partition spends them."""
        return next((total for later, total in self._returns if later > sequence), self.returned_total)
