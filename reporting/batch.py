"""Turns log entries into rows and sums, purely. The transaction that writes them is the store's.

Scans, passages and first admissions become rows of COPY's binary format (`reporting.copy_rows`), one a run of them;
tickets, which are rarer, lines of its text format: every value is a number, a date or hexadecimal bytes, so that
nothing needs escaping. Names of partitions are checked when a worker starts.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, tzinfo
from functools import lru_cache

from google.protobuf.json_format import MessageToJson

from parkgate.events.v1 import events_pb2 as pb
from reporting.copy_rows import LAST_MS, SCAN_ID_LENGTH, EntryRows, boolean, integers, members_of, smalls
from ticketcore.errors import DamagedDataError
from ticketcore.seal import reading
from ticketcore.token import decode_claims

MINUTE_MS = 60_000

ScanKey = tuple[int, str, int, int, int, int, int, int, int]
PassageKey = tuple[int, str, int, int, int, int, int]
TicketKey = tuple[str, int, int, int, bool]
Columns = tuple[bytes, Sequence[int], Sequence[int]]
"""Scans, tickets and gates of facts that are alike; the scans' ids are joined."""


@dataclass(slots=True)
class Batch:
    """What some consecutive entries of one partition say. `scans`, `passages` and `first` are rows of binary COPY."""

    partition: str
    entries: int = 0
    events: int = 0
    last_sequence: int = 0
    last_epoch: int = 0
    first_time_ms: int = 0
    last_time_ms: int = 0
    last_day: str = ""
    days: set[date] = field(default_factory=set)
    scans: bytearray = field(default_factory=bytearray)
    passages: bytearray = field(default_factory=bytearray)
    tickets: list[str] = field(default_factory=list)
    quotas: list[tuple[object, ...]] = field(default_factory=list)
    scan_sums: dict[ScanKey, list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0]))
    passage_sums: dict[PassageKey, list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0]))
    ticket_sums: dict[TicketKey, list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0]))
    first: bytearray = field(default_factory=bytearray)
    undone: list[tuple[int, str, int, int]] = field(default_factory=list)
    """Rows of `undone_first_admissions`."""
    recognised: set[int] = field(default_factory=set)
    """Tickets that are recognised at the end of the batch, by one of its admissions."""
    withdrawn: set[int] = field(default_factory=set)
    """Tickets that were recognised before the batch, and are so no more by one of its passages."""
    fleeting: set[int] = field(default_factory=set)
    """Tickets that the batch recognises and takes back: none of them may be recognised when it does."""


def batch_of(partition: str, entries: Iterable[pb.LogEntry], zone: tzinfo) -> Batch:
    """The rows and sums of consecutive entries. `zone` is the park's own time zone.

    Raises:
        DamagedDataError: an entry says what cannot be.
    """
    batch = Batch(partition)
    for entry in entries:
        with reading(f"partition {partition}, entry {entry.sequence},"):
            _Adder(batch, entry, zone).add_all(entry.events)
        batch.first_time_ms = batch.first_time_ms or entry.time_ms
        batch.entries += 1
        batch.last_sequence, batch.last_epoch = entry.sequence, entry.epoch
        batch.last_time_ms = entry.time_ms
    return batch


def utc_text(time_ms: int) -> str:
    """An instant as Postgres reads it. Times beyond the calendar (a mad clock of a device) become its ends."""
    seconds, milliseconds = divmod(min(max(time_ms, 0), LAST_MS), 1000)
    return f"{_second_text(seconds)}.{milliseconds:03d}+00"


@lru_cache(maxsize=4_096)
def _second_text(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}"


@lru_cache(maxsize=256)
def _day_of(minute: int, zone: tzinfo) -> tuple[date, str]:
    """The civil day of a minute since 1970, and how it is written. Clocks' offsets are whole minutes, so that a day
    begins with one."""
    day = datetime.fromtimestamp(minute * 60, zone).date()
    return day, day.isoformat()


def _times(gates: Sequence[int]) -> Mapping[int, int]:
    """How often each gate is among them."""
    return {gates[0]: 1} if len(gates) == 1 else Counter(gates)


class _Adder:
    """Adds the events of one entry to a batch. A position is a fact's: a run takes as many as it has members."""

    def __init__(self, batch: Batch, entry: pb.LogEntry, zone: tzinfo) -> None:
        self._batch = batch
        minute = entry.time_ms // MINUTE_MS
        self._park_date, self._day = _day_of(minute, zone)
        self._minute_ms = minute * MINUTE_MS
        self._entry = entry
        self._position = 0
        self._rows = EntryRows(batch.partition, entry.sequence, self._park_date, entry.time_ms)

    def add_all(self, events: Iterable[pb.Event]) -> None:
        """Adds every event."""
        for event in events:
            self._position += self._add(event)
        self._batch.events += self._position
        self._batch.last_day = self._day

    def _add(self, event: pb.Event) -> int:
        """Adds one event; answers how many facts it stands for."""
        match event.WhichOneof("body"):
            case "scans_admitted":
                run = event.scans_admitted
                return self._scans(run.alike, (run.scan_ids, run.ticket_ids, run.gate_numbers), run.scan_times_ms)
            case "passages_recorded":
                passed = event.passages_recorded
                return self._passages(passed.alike, (passed.scan_ids, passed.ticket_ids, passed.gate_numbers))
            case "scan_decided":
                scan = event.scan_decided
                return self._scans(scan, (scan.scan_id, (scan.ticket_id,), (scan.gate_number,)), (scan.scan_time_ms,))
            case "passage_recorded":
                passage = event.passage_recorded
                return self._passages(passage, (passage.scan_id, (passage.ticket_id,), (passage.gate_number,)))
            case "ticket_registered":
                _add_registered(self._batch, event.ticket_registered, self._prefix(), self._day)
            case "ticket_changed":
                _add_changed(self._batch, event.ticket_changed, self._prefix(), self._day)
            case str() as body:
                self._keep(event, body)
        return 1

    def _scans(self, alike: pb.ScanDecided, columns: Columns, times_ms: Sequence[int]) -> int:
        batch, (_, ticket_ids, gates) = self._batch, columns
        _check(columns, len(times_ms), self._entry)
        batch.days.add(self._park_date)
        product, persons = alike.product_number, alike.persons
        key = (alike.zone_number, product, alike.direction, alike.decision, alike.reason, alike.kind)
        fields, members = _scan_fields(*key, persons, alike.verification, alike.first_admission), members_of(*columns)
        batch.scans += self._rows.scans(self._position, fields, members, times_ms)
        for gate, scans in _times(gates).items():
            sums = batch.scan_sums[self._minute_ms, self._day, gate, *key]
            sums[0] += scans
            sums[1] += scans * persons
        if alike.first_admission:
            batch.first += self._rows.first_admissions(self._position, product, members)
            self._recognise(ticket_ids)
        return len(ticket_ids)

    def _recognise(self, ticket_ids: Sequence[int]) -> None:
        recognised, new = self._batch.recognised, set(ticket_ids)
        if len(new) != len(ticket_ids) or not recognised.isdisjoint(new):
            twice = {ticket_id for ticket_id, times in Counter(ticket_ids).items() if times > 1} | recognised & new
            raise second_first_admission(self._entry.partition, self._entry.sequence, twice)
        recognised |= new

    def _passages(self, alike: pb.PassageRecorded, columns: Columns) -> int:
        batch, (_, ticket_ids, gates) = self._batch, columns
        _check(columns, len(ticket_ids), self._entry)
        batch.days.add(self._park_date)
        zone_number, product, given_back = alike.zone_number, alike.product_number, alike.persons_given_back
        undone = alike.first_admission_undone
        fields = _passage_fields(zone_number, product, alike.outcome, given_back, alike.kind, undone)
        batch.passages += self._rows.passages(self._position, fields, members_of(*columns))
        for gate, passages in _times(gates).items():
            key = (self._minute_ms, self._day, gate, zone_number, product, alike.kind, alike.outcome)
            sums = batch.passage_sums[key]
            sums[0] += passages
            sums[1] += passages * given_back
        for nth, ticket_id in enumerate(ticket_ids if undone else ()):
            batch.undone.append((_signed(ticket_id), batch.partition, self._entry.sequence, self._position + nth))
            if ticket_id in batch.recognised:
                batch.recognised.discard(ticket_id)
                batch.fleeting.add(ticket_id)
            else:
                batch.withdrawn.add(ticket_id)
        return len(ticket_ids)

    def _keep(self, event: pb.Event, body: str) -> None:
        text = MessageToJson(getattr(event, body), preserving_proto_field_name=True, indent=None)
        entry = self._entry
        place = (self._day, self._batch.partition, entry.sequence, self._position, utc_text(entry.time_ms))
        self._batch.quotas.append((*place, body, text))

    def _prefix(self) -> str:
        entry = self._entry
        place = (self._day, self._batch.partition, str(entry.sequence), str(self._position), utc_text(entry.time_ms))
        return "\t".join(place)


def second_first_admission(partition: str, sequence: int, ticket_ids: Iterable[int]) -> DamagedDataError:
    """What a ledger is that recognises tickets twice."""
    named = ", ".join(map(str, sorted(ticket_ids)))
    return DamagedDataError(
        f"the ledger of {partition} up to {sequence} has a second first admission of tickets {named}"
    )


def _check(columns: Columns, times: int, entry: pb.LogEntry) -> None:
    """A column that is too short would put one fact's ticket beside another's gate."""
    joined, ticket_ids, gates = columns
    if not len(ticket_ids) == len(gates) == times == len(joined) / SCAN_ID_LENGTH:
        raise DamagedDataError(f"entry {entry.sequence} of {entry.partition} has columns that differ in length")


@lru_cache(maxsize=4_096)
def _scan_fields(*values: int) -> bytes:
    """The fields that scans share: zone, product; direction, decision, reason, kind; persons; verification, first
    admission."""
    place = integers(*values[:2]) + smalls(*values[2:6]) + integers(values[6])
    return place + smalls(values[7]) + boolean(bool(values[8]))


@lru_cache(maxsize=4_096)
def _passage_fields(*values: int) -> bytes:
    """The fields that passages share: zone, product, outcome, persons given back, kind, first admission undone."""
    zone_and_product, (outcome, given_back, kind, undone) = integers(*values[:2]), values[2:]
    return zone_and_product + smalls(outcome) + integers(given_back) + smalls(kind) + boolean(bool(undone))


def _add_registered(batch: Batch, ticket: pb.TicketRegistered, prefix: str, day: str) -> None:
    claims = decode_claims(ticket.claims)
    product, lifecycle, price = claims.product_number, ticket.lifecycle, ticket.price_minor
    batch.tickets.append(f"{prefix}\t{claims.ticket_id}\t{product}\t0\t{lifecycle}\t{price}\t\\\\x\t1\n")
    _add_ticket_sum(batch, (day, product, 0, lifecycle, True), price)


def _add_changed(batch: Batch, change: pb.TicketChanged, prefix: str, day: str) -> None:
    before = getattr(change, "from")
    batch.tickets.append(
        f"{prefix}\t{_signed(change.ticket_id)}\t{change.product_number}\t{before}\t{change.to}\t{change.price_minor}"
        f"\t\\\\x{change.request_id.hex()}\t0\n"
    )
    _add_ticket_sum(batch, (day, change.product_number, before, change.to, False), change.price_minor)


def _add_ticket_sum(batch: Batch, key: TicketKey, price_minor: int) -> None:
    sums = batch.ticket_sums[key]
    sums[0] += 1
    sums[1] += price_minor


def _signed(ticket_id: int) -> int:
    """Ticket ids of ours are positive; what a forged token claims may not fit and is kept by its bits."""
    return ticket_id if ticket_id < 1 << 63 else ticket_id - (1 << 64)
