"""Counts the ledger again, from Redis, event by event: the second opinion on everything that reporting says (I6).

It shares nothing with the workers but the event format: no batches, no sums by minute, no SQL. It keeps each ticket and
each scan, so it can disagree. Totals over all partitions, by name; see `CountBook`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

import redis.asyncio as redis

from parkgate.events.v1 import events_pb2 as pb
from parkgate.gate.v1 import gate_pb2 as gate
from reporting.reconcile import Count, CountBook
from ticketcore.errors import DamagedDataError
from ticketcore.token import decode_claims

PAGE = 500


class Recount:
    """Takes events one at a time and keeps what they leave."""

    def __init__(self) -> None:
        self._price: dict[int, int] = {}
        self._product: dict[int, int] = {}
        self._lifecycle: dict[int, int] = {}
        self._admitted: dict[int, int] = {}
        self._tallies: dict[str, Count] = {}

    def take(self, event: pb.Event) -> None:
        """Counts one event."""
        match event.WhichOneof("body"):
            case "ticket_registered":
                self._registered(event.ticket_registered)
            case "ticket_changed":
                self._lifecycle[event.ticket_changed.ticket_id] = event.ticket_changed.to
                self._product.setdefault(event.ticket_changed.ticket_id, event.ticket_changed.product_number)
            case "scan_decided":
                self._scanned(event.scan_decided)
            case "passage_recorded":
                self._passed(event.passage_recorded)
            case "scans_admitted":
                self._run_admitted(event.scans_admitted)
            case "passages_recorded":
                for _ in event.passages_recorded.ticket_ids:
                    self._passed(event.passages_recorded.alike)

    def book(self) -> CountBook:
        """What has been counted."""
        counts = dict(self._tallies)
        for ticket_id, price in self._price.items():
            _add(counts, f"registered product={self._product[ticket_id]}", 1, price)
        for name, lifecycle in (("refunded", pb.LIFECYCLE_REFUNDED), ("rescheduled", pb.LIFECYCLE_RESCHEDULED)):
            for ticket_id in (ticket for ticket, state in self._lifecycle.items() if state == lifecycle):
                _add(counts, f"{name} product={self._product[ticket_id]}", 1, self._price.get(ticket_id, 0))
        for ticket_id, product in self._admitted.items():
            _add(counts, f"admitted product={product}", 1, self._price.get(ticket_id, 0))
        return CountBook("ledger", counts)

    def _registered(self, ticket: pb.TicketRegistered) -> None:
        claims = decode_claims(ticket.claims)
        if claims.ticket_id in self._price:
            raise DamagedDataError(f"ticket {claims.ticket_id} is registered twice in the ledger")
        self._price[claims.ticket_id] = ticket.price_minor
        self._product[claims.ticket_id] = claims.product_number
        self._lifecycle.setdefault(claims.ticket_id, ticket.lifecycle)

    def _scanned(self, scan: pb.ScanDecided) -> None:
        if scan.decision != gate.DECISION_ADMIT:
            _add(self._tallies, f"refused reason={gate.Reason.Name(scan.reason).removeprefix('REASON_')}", 1)
            return
        kind = gate.AdmissionKind.Name(scan.kind).removeprefix("ADMISSION_KIND_").lower()
        _add(self._tallies, f"scans {kind}", 1)
        _add(self._tallies, f"persons {kind}", scan.persons)
        if scan.first_admission:
            if scan.ticket_id in self._admitted:
                raise DamagedDataError(f"ticket {scan.ticket_id} is admitted for the first time twice")
            self._admitted[scan.ticket_id] = scan.product_number

    def _run_admitted(self, run: pb.ScansAdmitted) -> None:
        scan = pb.ScanDecided()
        scan.CopyFrom(run.alike)
        for ticket_id in run.ticket_ids:
            scan.ticket_id = ticket_id
            self._scanned(scan)

    def _passed(self, passage: pb.PassageRecorded) -> None:
        outcome = gate.PassageOutcome.Name(passage.outcome).removeprefix("PASSAGE_OUTCOME_").lower()
        _add(self._tallies, f"passages {outcome}", 1)
        _add(self._tallies, "persons given back", passage.persons_given_back)
        if passage.first_admission_undone:
            self._admitted.pop(passage.ticket_id)


def _add(counts: dict[str, Count], name: str, units: int, amount_minor: int = 0) -> None:
    if units or amount_minor:
        before = counts.get(name, Count())
        counts[name] = Count(before.units + units, before.amount_minor + amount_minor)


async def recount(client: redis.Redis, partitions: Sequence[str]) -> CountBook:
    """Counts all entries of all partitions.

    Raises:
        DamagedDataError: the ledger contradicts itself, or was trimmed and no snapshot's totals are there.
    """
    counter = Recount()
    for partition in partitions:
        async for entry in entries_of(client, partition):
            for event in entry.events:
                counter.take(event)
    return counter.book()


async def entries_of(client: redis.Redis, partition: str) -> AsyncIterator[pb.LogEntry]:
    """All entries of a partition's log, from the first ever written.

    Raises:
        DamagedDataError: an entry is missing.
    """
    key, expected, start = f"pg:{{{partition}}}:log", 1, "-"
    while True:
        rows = cast(Any, await client.xrange(key, min=start, count=PAGE))
        if not rows:
            return
        for row_id, fields in rows:
            if expected == 1 and row_id != b"1-0":
                trimmed_totals(partition, int(row_id.split(b"-")[0]))
            entry = pb.LogEntry.FromString(fields[b"e"])
            if entry.sequence != expected:
                raise DamagedDataError(f"entry {expected} of {partition} is missing: {entry.sequence} comes instead")
            yield entry
            expected += 1
        start = f"({rows[-1][0].decode()}"


def trimmed_totals(partition: str, first_sequence: int) -> None:
    """The totals of a log's trimmed part, from its snapshot. Snapshots hold none yet, so this cannot be answered.

    Raises:
        DamagedDataError: always, until they do.
    """
    raise DamagedDataError(
        f"the log of {partition} begins at entry {first_sequence}: what was trimmed cannot be counted again, "
        "because snapshots hold no totals"
    )
