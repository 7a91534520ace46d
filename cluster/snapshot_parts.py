"""A partition at one instant, serialized part by part, so that scans are decided in between.

Taking the instant costs some milliseconds: what is never changed in place is shared (visits, runs, verdicts), chunks of
tickets are copied by whoever changes them later, and only the dicts that lead to all of it are copied. Every part is a
serialized `PartitionSnapshot`; joined, the parts are one, as protobuf joins messages.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TypeVar

from cluster.partition import Partition, Totals
from cluster.recovery import COUNTERS, SNAPSHOT_FORMAT, TOTALS
from cluster.runs import AdmissionRun
from cluster.uses import Use
from cluster.visit_keys import ticket_of, visit_key, zone_of
from parkgate.events.v1 import events_pb2
from ticketcore.admission import Passing, Visit

ITEMS_IN_PART = 1_000
"""Of visits, scans and the like: half a millisecond of work."""
CHUNKS_IN_PART = 32
"""Of 256 tickets each."""
Record = events_pb2.PartitionSnapshot
Item = TypeVar("Item")


class Still:
    """A partition as it stands now, which must be between two turns: during an append it holds what the ledger may not.
    `release` it when it is not needed any more."""

    def __init__(self, partition: Partition, partitions: int) -> None:
        self.name = partition.name
        self.sequence = partition.sequence
        self._table = partition.table
        self._header = _header(partition, partitions)
        self._chunks = partition.table.still()
        self._uses = partition.uses.still()
        self._visits = partition.visits.copy()
        self._holds = partition.holds.copy()
        self._awaited = partition.awaited_runs()
        self._settled = partition.settled.copy()
        self._scans = (partition.scans.old.copy(), partition.scans.young.copy())

    def release(self) -> None:
        """Tickets are changed in place again."""
        self._table.release()

    def parts(self) -> Iterator[bytes]:
        """All of it. An empty part says that as much work was done as for another."""
        yield self._header.SerializeToString()
        yield from _table_parts(self._chunks)
        yield from _use_parts(self._uses)
        yield from _visit_parts(self._visits)
        yield from _hold_parts(self._holds)
        yield from self._run_parts()
        yield from _settled_parts(self._settled)
        for scans in self._scans:
            yield from _verdict_parts(scans)

    def _run_parts(self) -> Iterator[bytes]:
        """Runs that are remembered, elder first, and those that are only awaited."""
        remembered: dict[AdmissionRun, None] = {}
        for scans in self._scans:
            for some in _portions(scans.values()):
                remembered.update((kept, None) for kept in some if isinstance(kept, AdmissionRun))
                yield b""
        for runs in _portions(remembered | dict.fromkeys(self._awaited), lambda run: len(run.scan_ids)):
            record = Record()
            for run in runs:
                item = record.runs.add(admit_time_ms=run.time_ms, day=run.day, remembered=run in remembered)
                settled = self._awaited.get(run)
                if settled is not None:
                    item.held_scan_ids = b"".join(scan_id for scan_id in run.scan_ids if scan_id not in settled)
                run.write_event(item.admitted)
            yield record.SerializeToString()


def snapshot(partition: Partition, partitions: int) -> bytes:
    """The partition's whole state, serialized in one go."""
    still = Still(partition, partitions)
    try:
        return b"".join(still.parts())
    finally:
        still.release()


def _header(partition: Partition, partitions: int) -> Record:
    """What is small."""
    record = Record(
        partition=partition.name,
        sequence=partition.sequence,
        time_ms=partition.last_time_ms,
        partitions=partitions,
        changes=partition.changes,
        refused_changes=partition.refusals,
        format=SNAPSHOT_FORMAT,
    )
    for lease in partition.leases.values():
        record.leases.add(
            zone_number=lease.zone_number, received_total=lease.received_total, returned_total=lease.returned_total
        )
        record.inside.add(zone_number=lease.zone_number, persons=lease.inside)
    for product, totals in partition.totals.items():
        record.totals.append(_totals_record(product, totals))
    return record


def _table_parts(chunks: Iterable[tuple[int, bytearray]]) -> Iterator[bytes]:
    for some in _portions(chunks, lambda _: ITEMS_IN_PART // CHUNKS_IN_PART):
        record = Record()
        for number, rows in some:
            record.chunks.add(number=number, rows=bytes(rows))
        yield record.SerializeToString()


def _use_parts(uses: Iterable[Use | None]) -> Iterator[bytes]:
    for some in _portions(uses):
        record = Record()
        for use in some:
            if use is None:
                record.uses.add()
            else:
                record.uses.add(zone_number=use.zone_number, counters=_counters(use.visit))
        yield record.SerializeToString()


def _counters(visit: Visit) -> list[int]:
    return [getattr(visit, name) for name in COUNTERS]


def _visit_parts(visits: dict[int, Visit]) -> Iterator[bytes]:
    """Tickets that share their counters share a record, as after a snapshot of an earlier version."""
    for some in _portions(visits.items()):
        sharing: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
        for key, visit in some:
            sharing[id(visit), zone_of(key)].append(ticket_of(key))
        record = Record()
        for (_, zone_number), ticket_ids in sharing.items():
            visit = visits[visit_key(ticket_ids[0], zone_number)]
            record.visits.add(ticket_ids=ticket_ids, zone_number=zone_number, counters=_counters(visit))
        yield record.SerializeToString()


def _hold_parts(holds: dict[bytes, Passing | AdmissionRun]) -> Iterator[bytes]:
    """Those that belong to no run."""
    for some in _portions(holds.items()):
        record = Record()
        for scan_id, held in some:
            if isinstance(held, Passing):
                record.held.add(admission=_admission_of(scan_id, held), admit_time_ms=held.time_ms, day=held.day)
        yield record.SerializeToString()


def _settled_parts(settled: dict[bytes, int]) -> Iterator[bytes]:
    for some in _portions(settled.items()):
        alike: defaultdict[int, list[bytes]] = defaultdict(list)
        for scan_id, outcome in some:
            alike[outcome].append(scan_id)
        record = Record()
        for outcome, scan_ids in alike.items():
            record.settled_alike.add(outcome=outcome, scan_ids=b"".join(scan_ids))
        yield record.SerializeToString()


def _verdict_parts(scans: dict[bytes, bytes | AdmissionRun]) -> Iterator[bytes]:
    """Those that belong to no run."""
    for some in _portions(scans.items()):
        record = Record()
        for scan_id, kept in some:
            if isinstance(kept, bytes):
                record.verdicts.add(scan_id=scan_id, verdict=kept)
        yield record.SerializeToString()


def _portions(items: Iterable[Item], size: Callable[[Item], int] | None = None) -> Iterator[list[Item]]:
    """Items, so many at a time; `size` says what one counts for."""
    rest = iter(items)
    if size is None:
        while some := list(islice(rest, ITEMS_IN_PART)):
            yield some
        return
    some, total = [], 0
    for item in rest:
        some.append(item)
        total += size(item)
        if total >= ITEMS_IN_PART:
            yield some
            some, total = [], 0
    if some:
        yield some


def _admission_of(scan_id: bytes, passing: Passing) -> events_pb2.ScanDecided:
    return events_pb2.ScanDecided(
        scan_id=scan_id,
        ticket_id=passing.ticket_id,
        zone_number=passing.zone_number,
        product_number=passing.product_number,
        gate_number=passing.gate_number,
        kind=int(passing.kind),  # type: ignore[arg-type]
        persons=passing.persons,
        first_admission=passing.first_admission,
        passage_deadline_ms=passing.deadline_ms,
        counts_inside=passing.counts_inside,
    )


def _totals_record(product: int, totals: Totals) -> events_pb2.ProductTotals:
    record = events_pb2.ProductTotals(product_number=product, zone_numbers=sorted(totals.zones))
    for name in TOTALS:
        setattr(record, name, getattr(totals, name))
    for to, tickets in totals.changed.items():
        record.changed.add(to=to, tickets=tickets, price_minor=totals.changed_minor[to])
    for reason, scans in totals.refusals.items():
        record.refusals.add(reason=reason, scans=scans)
    for outcome, passages in totals.passages.items():
        record.passages.add(outcome=outcome, passages=passages)
    return record
