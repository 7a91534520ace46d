"""Writes partitions' logs into a real Valkey, in the documented key format, as owners would."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date

import redis

from parkgate.events.v1 import events_pb2 as pb
from parkgate.gate.v1 import gate_pb2 as gate
from ticketcore.seal import seal
from ticketcore.token import Claims, encode_claims

START_MS = 1_777_622_400_000
"""2026-05-01 08:00 UTC, 10:00 in Paris."""
ENTRY = gate.ADMISSION_KIND_ENTRY
REFUSALS = (gate.REASON_ALREADY_USED, gate.REASON_EXPIRED, gate.REASON_WRONG_GATE, gate.REASON_BAD_SIGNATURE)


@dataclass
class PartitionLog:
    """One partition's log; appends entries with the next sequence."""

    client: redis.Redis
    partition: str
    sequence: int = 0
    epoch: int = 1
    time_ms: int = START_MS

    def append(self, events: Iterable[pb.Event]) -> pb.LogEntry:
        """Appends one entry."""
        self.sequence += 1
        entry = self.entry(events)
        self.client.xadd(
            f"pg:{{{self.partition}}}:log", {"e": seal(entry.SerializeToString())}, id=f"{self.sequence}-0"
        )
        return entry

    def entry(self, events: Iterable[pb.Event]) -> pb.LogEntry:
        """An entry with the present sequence."""
        return pb.LogEntry(
            partition=self.partition,
            sequence=self.sequence,
            epoch=self.epoch,
            time_ms=self.time_ms,
            batch_id=self.sequence.to_bytes(8, "big"),
            events=events,
        )


def registered(ticket_id: int, product: int = 1, price: int = 5_000) -> pb.Event:
    """A ticket is issued."""
    claims = encode_claims(Claims(1, ticket_id, product, date(2026, 5, 1)))
    ticket = pb.TicketRegistered(claims=claims, digest=bytes(12), lifecycle=pb.LIFECYCLE_ACTIVE, price_minor=price)
    return pb.Event(ticket_registered=ticket)


def changed(ticket_id: int, to: pb.Lifecycle.ValueType, product: int = 1, price: int = 5_000) -> pb.Event:
    """A ticket's lifecycle changes."""
    change = pb.TicketChanged(
        ticket_id=ticket_id, request_id=bytes(16), to=to, product_number=product, price_minor=price
    )
    setattr(change, "from", pb.LIFECYCLE_ACTIVE)
    return pb.Event(ticket_changed=change)


def admitted(ticket_id: int, scan: int, *, first: bool = True, product: int = 1, persons: int = 1) -> pb.Event:
    """A ticket is admitted."""
    return pb.Event(
        scan_decided=pb.ScanDecided(
            scan_id=scan.to_bytes(16, "big"),
            ticket_id=ticket_id,
            gate_number=scan % 5 + 1,
            zone_number=1,
            product_number=product,
            direction=gate.DIRECTION_ENTRY,
            decision=gate.DECISION_ADMIT,
            kind=ENTRY,
            persons=persons,
            scan_time_ms=START_MS,
            verification=gate.VERIFICATION_DIGEST,
            first_admission=first,
        )
    )


def left(ticket_id: int, scan: int, *, product: int = 1, persons: int = 1) -> pb.Event:
    """Somebody leaves."""
    event = admitted(ticket_id, scan, first=False, product=product, persons=persons)
    event.scan_decided.direction, event.scan_decided.kind = gate.DIRECTION_EXIT, gate.ADMISSION_KIND_EXIT
    return event


def refused(ticket_id: int, scan: int, reason: gate.Reason.ValueType) -> pb.Event:
    """A scan is refused."""
    event = admitted(ticket_id, scan, first=False, persons=0)
    event.scan_decided.decision, event.scan_decided.reason = gate.DECISION_REJECT, reason
    event.scan_decided.kind = gate.ADMISSION_KIND_UNSPECIFIED
    return event


def passage(admission: pb.Event, outcome: gate.PassageOutcome.ValueType, *, undone: bool = False) -> pb.Event:
    """What became of an admission."""
    scan = admission.scan_decided
    given_back = scan.persons if outcome == gate.PASSAGE_OUTCOME_NOT_PASSED else 0
    return pb.Event(
        passage_recorded=pb.PassageRecorded(
            scan_id=scan.scan_id,
            ticket_id=scan.ticket_id,
            gate_number=scan.gate_number,
            zone_number=scan.zone_number,
            product_number=scan.product_number,
            outcome=outcome,
            persons_given_back=given_back,
            kind=scan.kind,
            first_admission_undone=undone,
        )
    )


def columns_of(events: Sequence[pb.Event]) -> pb.Event:
    """Admissions, or passages, that are alike but for scan, ticket, gate and time, as one event in columns."""
    singles = [event.scan_decided if event.HasField("scan_decided") else event.passage_recorded for event in events]
    columns = {
        "scan_ids": b"".join(single.scan_id for single in singles),
        "ticket_ids": [single.ticket_id for single in singles],
        "gate_numbers": [single.gate_number for single in singles],
    }
    alike = type(singles[0])()
    alike.CopyFrom(singles[0])
    for name in ("scan_id", "ticket_id", "gate_number"):
        alike.ClearField(name)
    if isinstance(alike, pb.PassageRecorded):
        return pb.Event(passages_recorded=pb.PassagesRecorded(alike=alike, **columns))
    alike.ClearField("scan_time_ms")
    times = [event.scan_decided.scan_time_ms for event in events]
    return pb.Event(scans_admitted=pb.ScansAdmitted(alike=alike, scan_times_ms=times, **columns))


@dataclass
class BusyDay:
    """A seeded day of one partition: tickets are issued, refunded, admitted, turned back, refused."""

    log: PartitionLog
    chance: random.Random
    first_ticket: int
    fresh: list[tuple[int, int, int]] = field(default_factory=list)
    used: list[int] = field(default_factory=list)
    made: int = 0

    def write(self, entries: int, events_each: int = 8) -> None:
        """Appends entries with some events each, a few seconds apart; sent together, so that they cost one fsync."""
        client = self.log.client
        with client.pipeline(transaction=False) as pipe:
            self.log.client = pipe
            for _ in range(entries):
                self.log.time_ms += self.chance.randint(0, 9_000)
                self.log.epoch += self.chance.random() < 0.01
                count = self.chance.randint(1, 2 * events_each - 1)
                self.log.append([event for _ in range(count) for event in self._events()])
            pipe.execute()
        self.log.client = client

    def _events(self) -> list[pb.Event]:
        self.made += 1
        scan = self.first_ticket * 1_000_000 + self.made
        roll = self.chance.random()
        if roll < 0.4 or not self.fresh:
            ticket, product = self.first_ticket + self.made, self.chance.randint(1, 4)
            price = self.chance.randint(0, 9_999)
            self.fresh.append((ticket, product, price))
            return [registered(ticket, product, price)]
        if roll < 0.7 or not self.used:
            return self._use(scan)
        if roll < 0.75:
            ticket, product, price = self.fresh.pop()
            return [changed(ticket, pb.LIFECYCLE_REFUNDED, product, price)]
        if roll < 0.8:
            return [left(self.chance.choice(self.used), scan)]
        return [refused(self.chance.choice(self.used), scan, self.chance.choice(REFUSALS))]

    def _use(self, scan: int) -> list[pb.Event]:
        ticket, product, price = self.fresh.pop(self.chance.randrange(len(self.fresh)))
        admission = admitted(ticket, scan, product=product, persons=self.chance.randint(1, 4))
        if self.chance.random() < 0.2:
            self.fresh.append((ticket, product, price))
            return [admission, passage(admission, gate.PASSAGE_OUTCOME_NOT_PASSED, undone=True)]
        self.used.append(ticket)
        return [admission, passage(admission, gate.PASSAGE_OUTCOME_PASSED)]
