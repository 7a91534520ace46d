"""Brings a partition back: the snapshot, then the log after it. `cluster.snapshot_parts` makes snapshots.

Replay applies the facts that were logged, through the same methods as the live decision; it decides nothing again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from operator import itemgetter

from cluster.partition import REQUEST_ID_LENGTH, Partition, Totals
from cluster.runs import SCAN_ID_LENGTH, AdmissionRun, scan_ids_of
from cluster.ticket_table import MAX_PRICE_MINOR
from cluster.uses import Use
from cluster.verdicts import write_uses, write_verdict
from cluster.visit_keys import ticket_of, zone_of
from parkgate.events.v1 import events_pb2
from parkgate.gate.v1 import gate_pb2
from ticketcore.admission import Kind, Passing, Visit
from ticketcore.errors import DamagedDataError
from ticketcore.lifecycle import Change, Lifecycle
from ticketcore.reasons import OVERRIDE_ALLOWED, Reason
from ticketcore.rules import Rules, moment_at
from ticketcore.seal import reading
from ticketcore.token import CLAIMS_LENGTH, DIGEST_LENGTH

SNAPSHOT_FORMAT = 3
SINGLE_VISITS_FORMAT = 2
"""Of versions that shared no visits by number: read, and never written."""
COUNTERS = (
    "admitted",
    "admitted_today",
    "entered_today",
    "inside",
    "day",
    "first_ms",
    "first_gate",
    "last_ms",
    "last_gate",
    "last_exit_ms",
)
TOTALS = (
    "registered",
    "registered_minor",
    "admitted_first",
    "persons_entered",
    "persons_reentered",
    "persons_exited",
    "refused",
    "scans_entered",
    "scans_reentered",
    "scans_exited",
    "entered_given_back",
    "reentered_given_back",
)


def replay(partition: Partition, entry: events_pb2.LogEntry, rules: Rules) -> None:
    """Applies one log entry.

    Raises:
        DamagedDataError: it is not the entry that must follow, or says what cannot be.
    """
    if entry.sequence != partition.sequence + 1 or entry.epoch < partition.epoch:
        raise DamagedDataError(
            f"partition {partition.name} at sequence {partition.sequence} of epoch {partition.epoch} cannot be "
            f"followed by sequence {entry.sequence} of epoch {entry.epoch}"
        )
    with reading(f"entry {entry.sequence} of the log of {partition.name}"):
        day = moment_at(entry.time_ms, rules.time_zone).day
        partition.age(entry.time_ms)  # before its events, as in the live batch: or they would age too soon
        for event in entry.events:
            _apply(partition, event, entry.time_ms, day)
    partition.sequence, partition.epoch, partition.last_time_ms = entry.sequence, entry.epoch, entry.time_ms


def _apply(partition: Partition, event: events_pb2.Event, time_ms: int, day: int) -> None:
    match event.WhichOneof("body"):
        case "scan_decided":
            _apply_scan(partition, event.scan_decided, time_ms, day)
        case "scans_admitted":
            run = run_of(partition, event.scans_admitted, time_ms, day)
            join_all(partition, run, event.scans_admitted)
            partition.count_run(run)
        case "passage_recorded":
            passage = event.passage_recorded
            partition.settle(passage.scan_id, passage.outcome, passage.first_admission_undone)
        case "passages_recorded":
            for scan_id in scan_ids_of(event.passages_recorded.scan_ids):
                partition.settle(scan_id, event.passages_recorded.alike.outcome, False)
        case "ticket_registered":
            partition.register(_checked(event.ticket_registered))
        case "ticket_changed":
            partition.change(event.ticket_changed)
        case "ticket_change_refused":
            partition.refuse(_checked_refusal(event.ticket_change_refused))
        case "lease_changed":
            partition.lease(event.lease_changed)
        case other:
            raise DamagedDataError(f"the log of partition {partition.name} holds a {other} event")


def _checked(event: events_pb2.TicketRegistered) -> events_pb2.TicketRegistered:
    """A row of the table would take claims or a digest of another length, and fill them up with zeros."""
    if len(event.claims) != CLAIMS_LENGTH or len(event.digest) != DIGEST_LENGTH:
        raise ValueError(f"a registration with {len(event.claims)} bytes of claims and {len(event.digest)} of digest")
    if not 0 <= event.price_minor <= MAX_PRICE_MINOR:
        raise ValueError(f"a registration at a price of {event.price_minor}")
    return event


def _checked_refusal(event: events_pb2.TicketChangeRefused) -> events_pb2.TicketChangeRefused:
    """An id of another length would shift all that are kept after it."""
    if len(event.request_id) != REQUEST_ID_LENGTH or Change(event.refusal) is Change.DONE:
        raise ValueError(f"a refusal {event.refusal} of a request whose id has {len(event.request_id)} bytes")
    return event


def _apply_scan(partition: Partition, event: events_pb2.ScanDecided, time_ms: int, day: int) -> None:
    verdict = gate_pb2.Verdict()
    if event.ticket_id:
        write_uses(verdict, partition.visit(event.ticket_id, event.zone_number))
    write_verdict(verdict, event)
    if event.decision == gate_pb2.DECISION_ADMIT:
        if event.claims:
            partition.see(event.claims, event.digest, Lifecycle.ACTIVE)
        partition.count_admission(event.scan_id, passing_of(event, time_ms, day))
    else:
        verdict.override_allowed = Reason(event.reason) in OVERRIDE_ALLOWED
        partition.count_refusal(event.product_number, event.reason)
    partition.scans.keep(event.scan_id, verdict.SerializeToString())


def run_of(partition: Partition, event: events_pb2.ScansAdmitted, time_ms: int, day: int) -> AdmissionRun:
    """An empty run like the logged one.

    Raises:
        DamagedDataError: its columns are not of one length.
    """
    members = len(event.ticket_ids)
    lengths = {members, len(event.gate_numbers), len(event.scan_times_ms)}
    if len(lengths) != 1 or len(event.scan_ids) != members * SCAN_ID_LENGTH:
        raise DamagedDataError(f"the log of partition {partition.name} holds a run whose columns differ in length")
    return AdmissionRun.of_event(event, time_ms, day)


def join_all(partition: Partition, run: AdmissionRun, event: events_pb2.ScansAdmitted) -> None:
    """Counts every member of a logged run."""
    columns = (scan_ids_of(event.scan_ids), event.ticket_ids, event.gate_numbers, event.scan_times_ms)
    for member in zip(*columns, strict=True):
        partition.join(run, *member)


def passing_of(event: events_pb2.ScanDecided, time_ms: int, day: int) -> Passing:
    """The passing of a logged admission."""
    return Passing(
        event.ticket_id,
        event.zone_number,
        event.product_number,
        event.gate_number,
        Kind(event.kind),
        event.persons,
        time_ms,
        day,
        event.counts_inside,
        event.first_admission,
        event.passage_deadline_ms,
    )


def restore(partition: Partition, data: bytes, partitions: int) -> None:
    """Takes a snapshot over into an empty partition.

    Raises:
        DamagedDataError: it cannot be read, is not this partition's, or the ticket space was divided otherwise.
    """
    with reading(f"the snapshot of {partition.name}"):
        record = events_pb2.PartitionSnapshot.FromString(data)
        _check_snapshot(partition, record, partitions)
        _restore(partition, record)


def _check_snapshot(partition: Partition, record: events_pb2.PartitionSnapshot, partitions: int) -> None:
    if record.partition != partition.name or record.partitions != partitions:
        raise DamagedDataError(
            f"the snapshot of {record.partition} of {record.partitions} partitions is not one of {partition.name} of "
            f"{partitions}; the number of partitions cannot be changed once tickets are registered"
        )
    if record.format not in (SINGLE_VISITS_FORMAT, SNAPSHOT_FORMAT):
        raise DamagedDataError(
            f"the snapshot of {record.partition} has layout {record.format}, this version reads "
            f"{SINGLE_VISITS_FORMAT} and {SNAPSHOT_FORMAT}: start the version of Parkgate that wrote it"
        )


def _restore(partition: Partition, record: events_pb2.PartitionSnapshot) -> None:
    uses = set[tuple[int]]().union(*(partition.table.load(chunk.number, chunk.rows) for chunk in record.chunks))
    _restore_visits(partition, record, uses)
    _restore_held(partition, record)
    partition.settled = {item.scan_id: item.outcome for item in record.settled}
    for alike in record.settled_alike:
        partition.settled.update(dict.fromkeys(scan_ids_of(alike.scan_ids), alike.outcome))
    partition.changes = dict(record.changes)
    partition.refusals = dict(record.refused_changes)
    for lease in record.leases:
        partition.lease(lease)
    for item in record.verdicts:
        partition.scans.keep(item.scan_id, item.verdict)
    _restore_totals(partition, record.totals)
    if not any(totals.zones for totals in partition.totals.values()):
        _find_zones(partition)
    partition.sequence, partition.last_time_ms = record.sequence, record.time_ms
    partition.snapshot_sequence = record.sequence


def _restore_visits(partition: Partition, record: events_pb2.PartitionSnapshot, uses: Iterable[tuple[int]]) -> None:
    if record.uses:
        partition.uses.load(Use(use.zone_number, Visit(*use.counters)) if use.counters else None for use in record.uses)
    for (use,) in uses:
        if use not in partition.uses:  # whoever has it would count as never admitted
            raise ValueError(f"a ticket's use is {use}, which is none")
    for seen in record.visits:
        visit = Visit(*seen.counters)
        for ticket_id in seen.ticket_ids:
            partition.keep_visit(ticket_id, seen.zone_number, visit)
        if record.format == SINGLE_VISITS_FORMAT:
            partition.zone_lease(seen.zone_number).inside += visit.inside * len(seen.ticket_ids)
    for zone in record.inside:
        partition.zone_lease(zone.zone_number).inside = zone.persons


def _restore_held(partition: Partition, record: events_pb2.PartitionSnapshot) -> None:
    """In the order of their deadlines, as they were awaited."""
    waiting: list[tuple[int, Callable[[], None]]] = []
    for held in record.held:
        passing = passing_of(held.admission, held.admit_time_ms, held.day)
        waiting.append((passing.deadline_ms, partial(partition.hold, held.admission.scan_id, passing)))
    for item in record.runs:
        run = run_of(partition, item.admitted, item.admit_time_ms, item.day)
        waiting.append((run.deadline_ms, partial(_restore_run, partition, run, item)))
    for _, hold in sorted(waiting, key=itemgetter(0)):
        hold()


def _restore_run(partition: Partition, run: AdmissionRun, item: events_pb2.RememberedRun) -> None:
    event = item.admitted
    scan_ids = scan_ids_of(event.scan_ids)
    for member in zip(scan_ids, event.ticket_ids, event.gate_numbers, event.scan_times_ms, strict=True):
        run.add(*member)
    if item.remembered:
        for scan_id in scan_ids:
            partition.scans.keep_alike(scan_id, run)
    if item.held_scan_ids:
        partition.hold_run(run, scan_ids_of(item.held_scan_ids))
    else:
        run.end()


def _restore_totals(partition: Partition, records: Iterable[events_pb2.ProductTotals]) -> None:
    for record in records:
        partition.totals[record.product_number] = Totals(
            **{name: getattr(record, name) for name in TOTALS},
            changed={item.to: item.tickets for item in record.changed},
            changed_minor={item.to: item.price_minor for item in record.changed},
            refusals={item.reason: item.scans for item in record.refusals},
            passages={item.outcome: item.passages for item in record.passages},
            zones=set(record.zone_numbers),
        )


def _find_zones(partition: Partition) -> None:
    """Snapshots of earlier versions do not say where a product's tickets were admitted; their visits do, one by one."""
    for key in partition.visits:
        row = partition.table.find(ticket_of(key))
        if row is not None:
            partition.totals[row.terms.product_number].zones.add(zone_of(key))
