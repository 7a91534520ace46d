"""The short way of the commonest scan: the first entry of a registered ticket by its whole party.

It asks what can be asked in a few look-ups, from the scan's head (`cluster.heads`), and leaves the scan to
`Decider.decide` wherever an answer is not the usual one. Both decide alike, which a test holds them to. Written out in
one loop, with all it needs at hand, because here a call costs as much as what it does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from cluster.heads import GATE_LENGTH, Head
from cluster.partition import Partition
from cluster.runs import AdmissionRun
from cluster.scan_memory import SCAN_MAX_AGE_MS, SCAN_MAX_AHEAD_MS, Kept
from cluster.ticket_table import CHUNK_ROWS_BITS, FRESH, ROW_MASK, ROW_SIZE, USE, USE_END, USE_OFFSET
from ticketcore.capacity import ZoneLease

if TYPE_CHECKING:
    from cluster.batch import Group
    from cluster.deciding import Decider


Piece = tuple["Group", int, Iterable[Head]]
"""Scans of a frame that follow each other: where the first of them stands, and their heads."""
DeciderOf = Callable[[int], "Decider | None"]
"""The decider of a partition by index; None where nothing may be decided on it here, or not by this batch."""


class Entrance(NamedTuple):
    """First entries at one gate and on the same terms, while their run is open: what each is asked, and leaves."""

    run: AdmissionRun
    persons: int
    lease: ZoneLease | None
    """Of a zone with a capacity."""
    counted: int | None
    """The number of the zone, if it is counted who is inside."""
    gate: int
    use: bytes
    """The number of the visit that an admission leaves, for all to share, as a row holds it."""
    members: tuple[
        list[bytes],
        Callable[[bytes], None],
        Callable[[int], None],
        Callable[[int], None],
        Callable[[int], None],
    ]
    """The run's scan ids, and how scan, ticket, gate and time are added to its columns."""
    stencil: tuple[bytes, bytes, bytes]
    """The verdict, but for scan and ticket."""

    @classmethod
    def to(cls, run: AdmissionRun, gate_number: int, use: int, lease: ZoneLease | None) -> Entrance:
        """An entrance to a run that is open."""
        alike, scan_ids = run.alike, run.scan_ids
        members = (
            scan_ids,
            scan_ids.append,
            run.ticket_ids.append,
            run.gate_numbers.append,
            run.scan_times_ms.append,
        )
        return cls(
            run,
            alike.persons,
            lease,
            alike.zone_number if alike.counts_inside else None,
            gate_number,
            USE.pack(use),
            members,
            alike.stencil,
        )


class _Place(NamedTuple):
    """A partition's look-ups, as they are for one batch."""

    partition: Partition
    decider: Decider
    chunk_of: Callable[[int], bytearray | None]
    entrance_of: Callable[[bytes], Entrance | None]
    shared: set[int]
    young: dict[bytes, Kept]
    old: dict[bytes, Kept]
    leases: dict[int, ZoneLease]


class ShortWay:
    """Admits first entries of one batch, on all of its partitions."""

    __slots__ = ("_newest_ms", "_oldest_ms", "_partitions", "_places")

    def __init__(self, partitions: int, now_ms: int) -> None:
        self._partitions = partitions
        self._places: dict[int, _Place] = {}
        self._oldest_ms, self._newest_ms = now_ms - SCAN_MAX_AGE_MS, now_ms + SCAN_MAX_AHEAD_MS

    def left_over(self, pieces: Iterable[Piece], decider_of: DeciderOf) -> Iterator[tuple[Group, int]]:
        """Admits scans, one after the other. Those that may not go this way are yielded, group and position, each
        before the next is looked at; nothing has been counted or logged for them. A piece is asked for when those
        before it are decided.

        `decider_of` is handed in with each call: kept here it would tie batches to themselves, and only the cycle
        collector would free them, tens of milliseconds at a time.
        """
        places, partitions = self._places, self._partitions
        oldest_ms, newest_ms = self._oldest_ms, self._newest_ms
        join = b"".join
        for group, first, heads in pieces:
            verdicts, touch = group.verdicts, group.partitions.add
            for position, (ticket_id, ticket, at, digest, scan_id, scan_time_ms) in enumerate(heads, first):
                place = places.get(ticket_id % partitions) or self._place(ticket_id % partitions, decider_of)
                if place is not None:
                    partition, decider, chunk_of, entrance_of, shared, young, old, leases = place
                    number = ticket_id // partitions
                    chunk = chunk_of(number >> CHUNK_ROWS_BITS)
                    offset = (number & ROW_MASK) * ROW_SIZE
                    # Terms and digest come before anything is worked out for a head's terms, which may be anybody's.
                    if chunk is not None and chunk.startswith(at[GATE_LENGTH:] + digest + FRESH, offset):
                        entrance = entrance_of(at) or decider.open(at)
                        if entrance is not None:
                            run, persons, lease, counted, gate, use, members, stencil = entrance
                            if (
                                oldest_ms <= scan_time_ms <= newest_ms
                                and scan_id not in young
                                and scan_id not in old
                                and (lease is None or lease.spare >= persons)
                            ):
                                scan_ids, add_scan, add_ticket, add_gate, add_time = members
                                if not scan_ids:
                                    partition.begin_run(run)
                                add_scan(scan_id)
                                add_ticket(ticket_id)
                                add_gate(gate)
                                add_time(scan_time_ms)
                                if shared:
                                    chunk = partition.table.changing(number)
                                chunk[offset + USE_OFFSET : offset + USE_END] = use
                                young[scan_id] = run
                                if counted is not None:
                                    (leases.get(counted) or partition.zone_lease(counted)).inside += persons
                                before, between, after = stencil
                                verdicts[position] = join((before, scan_id, between, ticket, after))
                                touch(partition)
                                continue
                yield group, position

    def _place(self, index: int, decider_of: DeciderOf) -> _Place | None:
        decider = decider_of(index)
        if decider is None:
            return None
        partition = decider.partition
        place = _Place(
            partition,
            decider,
            partition.table.chunks.get,
            decider.entrances.get,
            partition.table.shared,
            partition.scans.young,
            partition.scans.old,
            partition.leases,
        )
        self._places[index] = place
        return place
