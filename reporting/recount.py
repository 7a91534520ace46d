"""Counts the ledger again, from Redis, event by event: the second opinion on everything that reporting says (I6).

It shares nothing with the workers but the event format: no batches, no sums by minute, no SQL. It keeps each ticket and
each first admission, so it can disagree. Totals over all partitions, by name; see `CountBook`.

A log that was trimmed no longer has its beginning. Then the partition's snapshot, which its owner wrote, stands for
everything up to its sequence: tickets, their prices and lifecycles and who was admitted come from its rows and visits,
scans and passages from its totals. The log after it is counted as ever.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

import redis.asyncio as redis

from parkgate.events.v1 import events_pb2 as pb
from parkgate.gate.v1 import gate_pb2 as gate
from reporting.reconcile import Count, CountBook
from reporting.snapshots import admitted_of, read_snapshot, tickets_of
from ticketcore.errors import DamagedDataError
from ticketcore.seal import reading, unseal
from ticketcore.token import decode_claims

PAGE = 500
QUOTA = "q"
"""The first letter of partitions that hold quotas and capacity: nothing in their logs is part of the books."""


class Recount:
    """Takes events one at a time and keeps what they leave."""

    def __init__(self) -> None:
        self._price: dict[int, int] = {}
        self._product: dict[int, int] = {}
        self._lifecycle: dict[int, int] = {}
        self._admitted: dict[int, int] = {}
        self._tallies: Counter[str] = Counter()

    def take(self, event: pb.Event) -> None:
        """Counts one event.

        Raises:
            DamagedDataError: it contradicts what came before it, or says what cannot be.
        """
        with reading("an event of the ledger"):
            self._take(event)

    def _take(self, event: pb.Event) -> None:
        match event.WhichOneof("body"):
            case "ticket_registered":
                self._registered(event.ticket_registered)
            case "ticket_changed":
                self._lifecycle[event.ticket_changed.ticket_id] = event.ticket_changed.to
                self._product.setdefault(event.ticket_changed.ticket_id, event.ticket_changed.product_number)
            case "scan_decided":
                self._scanned(event.scan_decided, [event.scan_decided.ticket_id])
            case "scans_admitted":
                self._scanned(event.scans_admitted.alike, event.scans_admitted.ticket_ids)
            case "passage_recorded":
                self._passed(event.passage_recorded, [event.passage_recorded.ticket_id])
            case "passages_recorded":
                self._passed(event.passages_recorded.alike, event.passages_recorded.ticket_ids)

    def take_snapshot(self, snapshot: pb.PartitionSnapshot) -> None:
        """Counts everything that a partition's snapshot stands for, in place of the events."""
        for ticket in tickets_of(snapshot):
            self._product[ticket.ticket_id] = ticket.product_number
            self._lifecycle[ticket.ticket_id] = ticket.lifecycle
            if ticket.is_registered:
                self._price[ticket.ticket_id] = ticket.price_minor
        self._admitted |= {ticket_id: self._product[ticket_id] for ticket_id in admitted_of(snapshot)}
        for totals in snapshot.totals:
            self._take_totals(totals)

    def book(self) -> CountBook:
        """What has been counted."""
        counts = {name: Count(units) for name, units in self._tallies.items() if units}
        for ticket_id, price in self._price.items():
            _add(counts, f"registered product={self._product[ticket_id]}", price)
        for name, lifecycle in (("refunded", pb.LIFECYCLE_REFUNDED), ("rescheduled", pb.LIFECYCLE_RESCHEDULED)):
            for ticket_id in (ticket for ticket, state in self._lifecycle.items() if state == lifecycle):
                _add(counts, f"{name} product={self._product[ticket_id]}", self._price.get(ticket_id, 0))
        for ticket_id, product in self._admitted.items():
            _add(counts, f"admitted product={product}", self._price.get(ticket_id, 0))
        return CountBook("ledger", counts)

    def _registered(self, ticket: pb.TicketRegistered) -> None:
        claims = decode_claims(ticket.claims)
        if claims.ticket_id in self._price:
            raise DamagedDataError(f"ticket {claims.ticket_id} is registered twice in the ledger")
        self._price[claims.ticket_id] = ticket.price_minor
        self._product[claims.ticket_id] = claims.product_number
        self._lifecycle.setdefault(claims.ticket_id, ticket.lifecycle)

    def _scanned(self, scan: pb.ScanDecided, ticket_ids: Sequence[int]) -> None:
        scans = len(ticket_ids)
        if scan.decision != gate.DECISION_ADMIT:
            self._tallies[_refused(scan.reason)] += scans
            return
        kind = gate.AdmissionKind.Name(scan.kind).removeprefix("ADMISSION_KIND_").lower()
        self._tally_admissions(kind, scans, scan.persons * scans)
        if scan.first_admission:
            self._admit_first(ticket_ids, scan.product_number)

    def _admit_first(self, ticket_ids: Sequence[int], product_number: int) -> None:
        for ticket_id in ticket_ids:
            if ticket_id in self._admitted:
                raise DamagedDataError(f"ticket {ticket_id} is admitted for the first time twice")
            self._admitted[ticket_id] = product_number

    def _passed(self, passage: pb.PassageRecorded, ticket_ids: Sequence[int]) -> None:
        self._tallies[_settled(passage.outcome)] += len(ticket_ids)
        self._tallies["persons given back"] += passage.persons_given_back * len(ticket_ids)
        if passage.first_admission_undone:
            for ticket_id in ticket_ids:
                self._undo_first(ticket_id)

    def _undo_first(self, ticket_id: int) -> None:
        if self._admitted.pop(ticket_id, None) is None:
            raise DamagedDataError(f"the first admission of ticket {ticket_id} is undone, and there is none")

    def _take_totals(self, totals: pb.ProductTotals) -> None:
        given_back = (totals.entered_given_back, totals.reentered_given_back)
        self._tally_admissions("entry", totals.scans_entered, totals.persons_entered + given_back[0])
        self._tally_admissions("reentry", totals.scans_reentered, totals.persons_reentered + given_back[1])
        self._tally_admissions("exit", totals.scans_exited, totals.persons_exited)
        self._tallies["persons given back"] += sum(given_back)
        for refusal in totals.refusals:
            self._tallies[_refused(refusal.reason)] += refusal.scans
        for passage in totals.passages:
            self._tallies[_settled(passage.outcome)] += passage.passages

    def _tally_admissions(self, kind: str, scans: int, persons: int) -> None:
        self._tallies[f"scans {kind}"] += scans
        self._tallies[f"persons {kind}"] += persons


def _refused(reason: gate.Reason.ValueType) -> str:
    return f"refused reason={gate.Reason.Name(reason).removeprefix('REASON_')}"


def _settled(outcome: gate.PassageOutcome.ValueType) -> str:
    return f"passages {gate.PassageOutcome.Name(outcome).removeprefix('PASSAGE_OUTCOME_').lower()}"


def _add(counts: dict[str, Count], name: str, amount_minor: int) -> None:
    before = counts.get(name, Count())
    counts[name] = Count(before.units + 1, before.amount_minor + amount_minor)


async def recount(client: redis.Redis, partitions: Sequence[str]) -> CountBook:
    """Counts all entries of all partitions, and the snapshots of those whose log was trimmed.

    Raises:
        DamagedDataError: the ledger contradicts itself, or what was trimmed is in no snapshot.
        TransientError: a snapshot was replaced again and again meanwhile.
    """
    counter = Recount()
    for partition in partitions:
        async for event in _events_of(client, partition, counter):
            counter.take(event)
    return counter.book()


async def _events_of(client: redis.Redis, partition: str, counter: Recount) -> AsyncIterator[pb.Event]:
    first = await _first_sequence(client, partition)
    after = 0
    if partition.startswith(QUOTA):
        after = max(first - 1, 0)
    elif first != 1:
        after = await _take_snapshot(client, partition, counter, first)
    async for entry in entries_of(client, partition, after):
        for event in entry.events:
            yield event


async def _first_sequence(client: redis.Redis, partition: str) -> int:
    """The sequence that the log begins with; 0 for an empty one."""
    rows = cast(Any, await client.xrange(f"pg:{{{partition}}}:log", count=1))
    return int(rows[0][0].split(b"-")[0]) if rows else 0


async def _take_snapshot(client: redis.Redis, partition: str, counter: Recount, first: int) -> int:
    """Counts the snapshot of a log that begins with entry `first` (0: it is empty); answers the last it stands for."""
    snapshot = await read_snapshot(client, partition)
    if snapshot is None and not first:
        return 0
    if snapshot is None or (first and snapshot.sequence < first - 1):
        reaches = f"its snapshot ends at {snapshot.sequence}" if snapshot else "there is no snapshot"
        raise DamagedDataError(
            f"the log of {partition} begins at entry {first}, and {reaches}: what is between is lost"
        )
    counter.take_snapshot(snapshot)
    return snapshot.sequence


async def entries_of(client: redis.Redis, partition: str, after: int = 0) -> AsyncIterator[pb.LogEntry]:
    """All entries of a partition's log after a sequence.

    Raises:
        DamagedDataError: an entry is missing or damaged.
    """
    key, expected = f"pg:{{{partition}}}:log", after + 1
    while True:
        rows = cast(Any, await client.xrange(key, min=f"{expected}-0", count=PAGE))
        if not rows:
            return
        for _, fields in rows:
            entry = pb.LogEntry.FromString(unseal(fields[b"e"], f"entry {expected} of {partition}"))
            if entry.sequence != expected:
                raise DamagedDataError(f"entry {expected} of {partition} is missing: {entry.sequence} comes instead")
            yield entry
            expected += 1
