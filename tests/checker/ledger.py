"""The ledger as bytes, read with the protobufs alone: its form is checked, and its events become elementary facts.

A columnar event (`ScansAdmitted`, `PassagesRecorded`) means exactly what as many single ones in its place would; it is
expanded here, so that nothing after this file knows how events are stored.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import DecodeError

from parkgate.events.v1 import events_pb2 as pb
from tests.checker.violation import Violation

SCAN_ID = 16


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """One entry of a partition's stream: the number in its stream id, its bytes, and where it stands among all.

    `order` sorts the entries of all partitions as they became durable; None where only each partition's own order is
    known, as from a real ledger: its times are the owners', and say when a batch was begun. `durable_ms` is when it
    became durable by the clients' clock, where that is known.
    """

    partition: str
    number: int
    data: bytes
    order: int | None = None
    durable_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Fact:
    """One elementary event."""

    partition: str
    sequence: int
    time_ms: int
    durable_ms: int | None
    kind: str
    body: Any

    @property
    def where(self) -> str:
        """For evidence."""
        return f"{self.kind} in entry {self.sequence} of {self.partition}"


@dataclass(slots=True)
class Ledger:
    """All facts, in the order in which they became durable, and what is wrong with the log's form."""

    facts: list[Fact] = field(default_factory=list)
    last: dict[str, int] = field(default_factory=dict)
    ordered: bool = True
    """Whether facts of different partitions are in the order in which they became durable."""
    violations: list[Violation] = field(default_factory=list)

    def of(self, *kinds: str) -> Iterator[Fact]:
        """Facts of some kinds."""
        return (fact for fact in self.facts if fact.kind in kinds)


@dataclass(slots=True)
class _Tail:
    """Where a partition's log stands while it is read."""

    sequence: int = 0
    epoch: int = 0
    time_ms: int = 0
    batches: set[bytes] = field(default_factory=set)


def read_ledger(stored: Iterable[StoredEntry]) -> Ledger:
    """Reads all entries, from the first ever written."""
    entries = list(stored)
    ledger, tails = Ledger(ordered=all(entry.order is not None for entry in entries)), defaultdict[str, _Tail](_Tail)
    for item in sorted(entries, key=lambda entry: (entry.order or 0, entry.partition, entry.number)):
        tail = tails[item.partition]
        try:
            entry = pb.LogEntry.FromString(item.data)
        except DecodeError as error:
            ledger.violations.append(Violation("I2", _name(item), "the entry cannot be read", str(error)))
            tail.sequence = item.number
            continue
        ledger.violations += _check_form(item, entry, tail)
        tail.sequence, tail.epoch, tail.time_ms = item.number, entry.epoch, entry.time_ms
        tail.batches.add(entry.batch_id)
        ledger.last[item.partition] = item.number
        for event in entry.events:
            for kind, body in elementary(event):
                ledger.facts.append(Fact(item.partition, item.number, entry.time_ms, item.durable_ms, kind, body))
    return ledger


def _name(item: StoredEntry) -> str:
    return f"entry {item.number} of {item.partition}"


def _check_form(item: StoredEntry, entry: pb.LogEntry, tail: _Tail) -> Iterator[Violation]:
    """Gapless sequences, epochs and times that never fall, each batch once."""
    if item.number != tail.sequence + 1:
        yield Violation("I2", _name(item), f"follows entry {tail.sequence}: the log has a gap or a repeat")
    if (entry.partition, entry.sequence) != (item.partition, item.number):
        yield Violation("I2", _name(item), f"says that it is entry {entry.sequence} of {entry.partition!r}")
    if entry.epoch < tail.epoch:
        yield Violation("I1", _name(item), f"is of epoch {entry.epoch}, after epoch {tail.epoch}: a fenced owner wrote")
    if entry.time_ms < tail.time_ms:
        yield Violation("I2", _name(item), f"time falls from {tail.time_ms} to {entry.time_ms}")
    if entry.batch_id in tail.batches:
        yield Violation("I2", _name(item), f"batch {entry.batch_id.hex()} was appended before: it is there twice")


def elementary(event: pb.Event) -> Iterator[tuple[str, Any]]:
    """The facts of one event, by the name of their body."""
    kind = event.WhichOneof("body")
    if kind == "scans_admitted":
        columns = event.scans_admitted
        for scan_id, ticket, gate, time_ms in _rows(columns, columns.gate_numbers, columns.scan_times_ms):
            scan = pb.ScanDecided()
            scan.CopyFrom(columns.alike)
            scan.scan_id, scan.ticket_id, scan.gate_number, scan.scan_time_ms = scan_id, ticket, gate, time_ms
            yield "scan_decided", scan
    elif kind == "passages_recorded":
        settled = event.passages_recorded
        for scan_id, ticket, gate in _rows(settled, settled.gate_numbers):
            passage = pb.PassageRecorded()
            passage.CopyFrom(settled.alike)
            passage.scan_id, passage.ticket_id, passage.gate_number = scan_id, ticket, gate
            yield "passage_recorded", passage
    elif kind is not None:
        yield kind, getattr(event, kind)


def _rows(columns: Any, *others: Any) -> Iterator[tuple[Any, ...]]:
    """Rows of columns, which must all be of one length."""
    ids = [columns.scan_ids[start : start + SCAN_ID] for start in range(0, len(columns.scan_ids), SCAN_ID)]
    return zip(ids, columns.ticket_ids, *others, strict=True)
