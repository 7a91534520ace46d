"""Runs: admissions, and passages, that are alike. Decided one by one; remembered and logged together.

Most of a morning's admissions are the first of a registered ticket, by its whole party, through a gate of one zone.
They differ in scan, ticket, gate and device time only. A run keeps a column for each of these, and the rest once. Its
members share one `Visit` for each gate, one verdict with two gaps, and one event in the log: a quarter of the work.

A run is open while its batch is decided, and its members are all different tickets, unused in the zone until then. So
admissions of several open runs may be put in any order, and a run stands in the log for as many single events at the
place where it was closed. Whatever else is to be logged closes the open runs first (`Decider.log`).
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from functools import lru_cache

from cluster.verdicts import write_verdict
from parkgate.events.v1 import events_pb2
from parkgate.gate.v1 import gate_pb2
from ticketcore.admission import Kind, Passing, Visit, apply_passing

SCAN_ID_LENGTH = 16
NOBODY: frozenset[bytes] = frozenset()
TICKET_ID_LENGTH = 8
_SCAN_GAP = bytes(range(0xA0, 0xB0))
_TICKET_GAP = bytes(range(0xE0, 0xE8))
"""Stand in for scan and ticket while a stencil is cut; no other field of a verdict can hold 8 bytes like these."""


class Alike:
    """What the admissions of a run share: their event, without scan, ticket, gate and times, and what follows."""

    __slots__ = (
        "counts_inside",
        "event",
        "kind",
        "persons",
        "product_number",
        "stencil",
        "timeout_ms",
        "zone_number",
    )

    def __init__(self, event: events_pb2.ScanDecided, timeout_ms: int) -> None:
        self.event = event
        self.timeout_ms = timeout_ms
        self.zone_number = event.zone_number
        self.product_number = event.product_number
        self.persons = event.persons
        self.kind = Kind(event.kind)
        self.counts_inside = event.counts_inside
        verdict = gate_pb2.Verdict()
        write_verdict(verdict, event)
        verdict.scan_id, verdict.ticket_id = _SCAN_GAP, int.from_bytes(_TICKET_GAP, "little")
        frame = gate_pb2.ServerFrame(verdicts=[verdict]).SerializeToString()
        before, rest = frame.split(_SCAN_GAP)
        self.stencil: tuple[bytes, bytes, bytes] = (before, *rest.split(_TICKET_GAP))  # type: ignore[assignment]
        """A server frame that holds only the verdict: before the scan id, between it and the ticket id, which is
        little-endian, as protobuf writes it, and after that."""


@lru_cache(maxsize=4_096)
def alike_of(event: bytes, timeout_ms: int) -> Alike:
    """The one object for a serialized event; `timeout_ms` 0 means that no passage is awaited."""
    return Alike(events_pb2.ScanDecided.FromString(event), timeout_ms)


class AdmissionRun:
    """Admissions of one batch and partition that are alike, column by column."""

    __slots__ = (
        "_positions",
        "alike",
        "day",
        "deadline_ms",
        "gate_numbers",
        "is_over",
        "scan_ids",
        "scan_times_ms",
        "settled",
        "ticket_ids",
        "time_ms",
        "uses",
    )

    def __init__(self, alike: Alike, time_ms: int, day: int) -> None:
        self.alike = alike
        self.time_ms = time_ms
        self.day = day
        self.deadline_ms = time_ms + alike.timeout_ms if alike.timeout_ms else 0
        self.scan_ids: list[bytes] = []
        self.ticket_ids: list[int] = []
        self.gate_numbers: list[int] = []
        self.scan_times_ms: list[int] = []
        self.settled: Set[bytes] = NOBODY
        """Members whose passage was settled before the deadline."""
        self.is_over = not self.deadline_ms
        """Whether nobody's passage is awaited any more."""
        self.uses: dict[int, int] = {}
        """The number of the visit that an admission leaves, by gate."""
        self._positions: dict[bytes, int] = {}

    @classmethod
    def of_event(cls, event: events_pb2.ScansAdmitted, time_ms: int, day: int) -> AdmissionRun:
        """An empty run like the logged one. `AdmissionRun` and event may be joined member by member with `members`."""
        alike = events_pb2.ScanDecided()
        alike.CopyFrom(event.alike)
        timeout_ms = alike.passage_deadline_ms - time_ms if alike.passage_deadline_ms else 0
        alike.passage_deadline_ms = 0
        return cls(alike_of(alike.SerializeToString(deterministic=True), timeout_ms), time_ms, day)

    def add(self, scan_id: bytes, ticket_id: int, gate_number: int, scan_time_ms: int) -> None:
        """Adds a member."""
        self.scan_ids.append(scan_id)
        self.ticket_ids.append(ticket_id)
        self.gate_numbers.append(gate_number)
        self.scan_times_ms.append(scan_time_ms)

    def visit(self, gate_number: int) -> Visit:
        """The counters that an admission through a gate leaves."""
        visit = Visit()
        apply_passing(visit, self._passing(0, gate_number))
        return visit

    def passing(self, scan_id: bytes) -> Passing:
        """A member as the fact it is."""
        position = self.position(scan_id)
        return self._passing(self.ticket_ids[position], self.gate_numbers[position])

    def awaits(self, scan_id: bytes) -> bool:
        """Whether a member's passage is awaited."""
        return not self.is_over and scan_id not in self.settled

    def awaited(self) -> list[bytes]:
        """Members whose passage is awaited. Not to be changed: they may be all."""
        if self.is_over:
            return []
        settled = self.settled
        return [scan_id for scan_id in self.scan_ids if scan_id not in settled] if settled else self.scan_ids

    def settle(self, scan_id: bytes) -> None:
        """Awaits a member's passage no more."""
        if not isinstance(self.settled, set):
            self.settled = set()
        self.settled.add(scan_id)

    def end(self) -> None:
        """Awaits nobody's passage any more."""
        self.is_over, self.settled = True, NOBODY
        self._positions = {}

    def position(self, scan_id: bytes) -> int:
        """Where a member stands."""
        if len(self._positions) != len(self.scan_ids):
            self._positions = {known: position for position, known in enumerate(self.scan_ids)}
        return self._positions[scan_id]

    def _passing(self, ticket_id: int, gate_number: int) -> Passing:
        alike = self.alike
        return Passing(
            ticket_id,
            alike.zone_number,
            alike.product_number,
            gate_number,
            alike.kind,
            alike.persons,
            self.time_ms,
            self.day,
            alike.counts_inside,
            alike.event.first_admission,
            self.deadline_ms,
        )

    def write_verdict(self, scan_id: bytes, verdict: gate_pb2.Verdict) -> None:
        """The verdict that a member was answered with."""
        verdict.CopyFrom(gate_pb2.Verdict())
        write_verdict(verdict, self.alike.event)
        verdict.scan_id, verdict.ticket_id = scan_id, self.ticket_ids[self.position(scan_id)]

    def write_event(self, event: events_pb2.ScansAdmitted) -> None:
        """The event that says it all."""
        event.alike.CopyFrom(self.alike.event)
        event.alike.passage_deadline_ms = self.deadline_ms
        event.scan_ids = b"".join(self.scan_ids)
        event.ticket_ids.extend(self.ticket_ids)
        event.gate_numbers.extend(self.gate_numbers)
        event.scan_times_ms.extend(self.scan_times_ms)


class PassageRun:
    """Settled passages of one batch and partition that are alike; nothing is given back by them."""

    __slots__ = ("alike", "gate_numbers", "scan_ids", "ticket_ids")

    def __init__(self, alike: events_pb2.PassageRecorded) -> None:
        self.alike = alike
        self.scan_ids: list[bytes] = []
        self.ticket_ids: list[int] = []
        self.gate_numbers: list[int] = []

    def add(self, scan_id: bytes, ticket_id: int, gate_number: int) -> None:
        """Adds a passage."""
        self.scan_ids.append(scan_id)
        self.ticket_ids.append(ticket_id)
        self.gate_numbers.append(gate_number)

    def add_all(self, run: AdmissionRun, scan_ids: Sequence[bytes]) -> None:
        """Adds the passages of some members of a run, or of all."""
        if scan_ids is run.scan_ids:
            self.scan_ids += scan_ids
            self.ticket_ids += run.ticket_ids
            self.gate_numbers += run.gate_numbers
            return
        for scan_id in scan_ids:
            position = run.position(scan_id)
            self.add(scan_id, run.ticket_ids[position], run.gate_numbers[position])

    def write_event(self, event: events_pb2.PassagesRecorded) -> None:
        """The event that says it all."""
        event.alike.CopyFrom(self.alike)
        event.scan_ids = b"".join(self.scan_ids)
        event.ticket_ids.extend(self.ticket_ids)
        event.gate_numbers.extend(self.gate_numbers)


def scan_ids_of(joined: bytes) -> list[bytes]:
    """The 16-byte ids of a column."""
    return [joined[start : start + SCAN_ID_LENGTH] for start in range(0, len(joined), SCAN_ID_LENGTH)]
