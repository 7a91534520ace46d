"""I1, I3, I5 and I8 in the ledger: entitlements replayed by the rules of their products, tickets by their lifecycle.

An entitlement is a ticket in one zone. Its counters follow from the facts alone: entries and re-entries add, exits
subtract, NOT_PASSED gives back what its admission took.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from parkgate.events.v1 import events_pb2 as pb
from parkgate.gate.v1 import gate_pb2 as gate
from tests.checker.history import History
from tests.checker.ledger import Fact, Ledger
from tests.checker.violation import Violation

ADMIT = gate.DECISION_ADMIT
ENTRY, REENTRY, EXIT = gate.ADMISSION_KIND_ENTRY, gate.ADMISSION_KIND_REENTRY, gate.ADMISSION_KIND_EXIT
NOT_PASSED = gate.PASSAGE_OUTCOME_NOT_PASSED
VOIDED = {pb.LIFECYCLE_REFUNDED, pb.LIFECYCLE_CANCELED, pb.LIFECYCLE_RESCHEDULED}
CLOSED = VOIDED | {pb.LIFECYCLE_REVOKED, pb.LIFECYCLE_BLOCKED}
DAY_MS = 86_400_000


@dataclass(slots=True)
class _Entitlement:
    admitted: int = 0
    inside: int = 0
    by_day: dict[int, int] = field(default_factory=lambda: defaultdict(int))


@dataclass(slots=True)
class _Ticket:
    zones: dict[int, _Entitlement] = field(default_factory=lambda: defaultdict(_Entitlement))
    lifecycle: int = pb.LIFECYCLE_ACTIVE
    requests: set[bytes] = field(default_factory=set)
    refused: set[bytes] = field(default_factory=set)
    registered: bool = False
    first: bool = False

    @property
    def admitted(self) -> int:
        return sum(zone.admitted for zone in self.zones.values())


class Entitlements:
    """Replays the facts of ticket partitions."""

    def __init__(self, history: History) -> None:
        self._terms: dict[int, dict[str, Any]] = {item.request["ticket"]: item.request for item in history.of("issue")}
        self._tickets: dict[int, _Ticket] = defaultdict(_Ticket)
        self._scans: dict[bytes, Fact] = {}
        self._settled: dict[bytes, Fact] = {}
        self.violations: list[Violation] = []

    def replay(self, ledger: Ledger) -> list[Violation]:
        """All violations of the log."""
        for fact in ledger.facts:
            match fact.kind:
                case "scan_decided":
                    self.violations += self._scan(fact)
                case "passage_recorded":
                    self.violations += self._passage(fact)
                case "ticket_changed":
                    self.violations += self._change(fact)
                case "ticket_change_refused":
                    self.violations += self._refusal(fact)
                case "ticket_registered":
                    self.violations += self._register(fact)
        return self.violations

    def _scan(self, fact: Fact) -> Iterator[Violation]:
        scan = fact.body
        earlier = self._scans.get(scan.scan_id)
        if earlier is not None:
            yield Violation("I3", f"scan {scan.scan_id.hex()}", "was decided twice", f"{earlier.where}; {fact.where}")
        self._scans[scan.scan_id] = fact
        if scan.decision == ADMIT:
            yield from self._admission(fact)

    def _admission(self, fact: Fact) -> Iterator[Violation]:
        scan, terms = fact.body, self._terms.get(fact.body.ticket_id)
        subject = f"ticket {scan.ticket_id} in zone {scan.zone_number}"
        if terms is None:
            yield Violation("I8", subject, "was admitted, but nobody has issued it", fact.where)
            return
        ticket = self._tickets[scan.ticket_id]
        if ticket.lifecycle in CLOSED and scan.kind != EXIT:
            state = pb.Lifecycle.Name(ticket.lifecycle)
            promise = "I5" if ticket.lifecycle in VOIDED else "I1"
            yield Violation(promise, subject, f"was admitted while {state}", fact.where)
        yield from self._first(ticket, fact)
        zone = ticket.zones[scan.zone_number]
        _count(zone, scan, fact.time_ms, 1)
        yield from (Violation("I1", subject, what, fact.where) for what in _beyond(zone, terms, fact.time_ms))

    def _first(self, ticket: _Ticket, fact: Fact) -> Iterator[Violation]:
        """Revenue is recognised with the first entry, and again only after it was undone."""
        is_first = fact.body.kind == ENTRY and not ticket.first
        if fact.body.first_admission != is_first:
            says = "a first admission" if fact.body.first_admission else "no first admission"
            yield Violation("I6", f"ticket {fact.body.ticket_id}", f"the ledger says {says} wrongly", fact.where)
        ticket.first = ticket.first or is_first

    def _passage(self, fact: Fact) -> Iterator[Violation]:
        passage = fact.body
        subject, admission = f"scan {passage.scan_id.hex()}", self._scans.get(passage.scan_id)
        if admission is None or admission.body.decision != ADMIT:
            yield Violation("I1", subject, "a passage was recorded of what was never admitted", fact.where)
            return
        earlier = self._settled.get(passage.scan_id)
        if earlier is not None:
            yield Violation("I1", subject, "its passage was recorded twice", f"{earlier.where}; {fact.where}")
            return
        self._settled[passage.scan_id] = fact
        if passage.outcome != NOT_PASSED:
            return
        if passage.persons_given_back != admission.body.persons:
            took, gave = admission.body.persons, passage.persons_given_back
            yield Violation("I1", subject, f"{took} persons were admitted and {gave} given back", fact.where)
        ticket = self._tickets[passage.ticket_id]
        _count(ticket.zones[passage.zone_number], admission.body, admission.time_ms, -1)
        if passage.first_admission_undone != (ticket.first and ticket.admitted == 0):
            yield Violation("I6", f"ticket {passage.ticket_id}", "its first admission is undone wrongly", fact.where)
        ticket.first = ticket.first and not passage.first_admission_undone

    def _change(self, fact: Fact) -> Iterator[Violation]:
        change, ticket = fact.body, self._tickets[fact.body.ticket_id]
        subject = f"ticket {change.ticket_id}"
        if change.request_id in ticket.requests:
            yield Violation("I5", subject, f"request {change.request_id.hex()} changed it twice", fact.where)
        if change.request_id in ticket.refused:
            yield Violation("I5", subject, f"request {change.request_id.hex()} changed it after a refusal", fact.where)
        if change.to in VOIDED and ticket.admitted > 0:
            state = pb.Lifecycle.Name(change.to)
            yield Violation("I5", subject, f"became {state} with {ticket.admitted} persons admitted", fact.where)
        ticket.requests.add(change.request_id)
        ticket.lifecycle = change.to

    def _refusal(self, fact: Fact) -> Iterator[Violation]:
        """A request that was answered is answered for good."""
        asked, ticket = fact.body, self._tickets[fact.body.ticket_id]
        subject = f"ticket {asked.ticket_id}"
        if asked.request_id in ticket.requests | ticket.refused:
            what = f"request {asked.request_id.hex()} was refused after it was answered"
            yield Violation("I5", subject, what, fact.where)
        if asked.refusal == pb.CHANGE_REFUSAL_ALREADY_USED and ticket.admitted == 0:
            yield Violation("I5", subject, "a change was refused as used, with nobody admitted", fact.where)
        ticket.refused.add(asked.request_id)

    def _register(self, fact: Fact) -> Iterator[Violation]:
        ticket_id = int.from_bytes(fact.body.claims[1:9], "big")
        ticket = self._tickets[ticket_id]
        if ticket.registered:
            yield Violation("I6", f"ticket {ticket_id}", "is registered twice", fact.where)
        ticket.registered = True


def _count(zone: _Entitlement, scan: Any, time_ms: int, sign: int) -> None:
    persons = sign * scan.persons
    if scan.kind == ENTRY:
        zone.admitted += persons
        zone.by_day[time_ms // DAY_MS] += persons
    if scan.counts_inside:
        zone.inside += -persons if scan.kind == EXIT else persons


def _beyond(zone: _Entitlement, terms: dict[str, Any], time_ms: int) -> Iterator[str]:
    """What of an entitlement's limits is broken."""
    party, entries, daily = terms["party"], terms["entries"], terms.get("daily_entries", 0)
    if entries and zone.admitted > entries * party:
        yield f"{zone.admitted} person-entries were admitted, {entries * party} are allowed"
    if daily and zone.by_day[time_ms // DAY_MS] > daily * party:
        yield f"{zone.by_day[time_ms // DAY_MS]} person-entries on one day, {daily * party} are allowed"
    if zone.inside > party:
        yield f"{zone.inside} persons are inside on a ticket for {party}"
    if zone.inside < 0:
        yield "more persons left than were inside"
