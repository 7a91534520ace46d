"""I1, I3, I5, I7 and I8 in the ledger: entitlements replayed by their products' rules, tickets by their lifecycle.

An entitlement is a ticket in one zone. Its counters follow from the facts alone: entries and re-entries add, exits
subtract, NOT_PASSED gives back what its admission took.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import date, tzinfo

from parkgate.events.v1 import events_pb2 as pb
from parkgate.gate.v1 import gate_pb2 as gate
from tests.checker.catalogues import Catalogues
from tests.checker.history import History
from tests.checker.ledger import Fact, Ledger
from tests.checker.refusals import OF_PLACES, shown_codes, untrue_code, untrue_use
from tests.checker.tickets import ENTRY, EXIT, Entitlement, Terms, Ticket, park_day
from tests.checker.violation import Violation

ADMIT = gate.DECISION_ADMIT
NOT_PASSED = gate.PASSAGE_OUTCOME_NOT_PASSED
VOIDED = {pb.LIFECYCLE_REFUNDED, pb.LIFECYCLE_CANCELED, pb.LIFECYCLE_RESCHEDULED}
CLOSED = VOIDED | {pb.LIFECYCLE_REVOKED, pb.LIFECYCLE_BLOCKED}


class Entitlements:
    """Replays the facts of ticket partitions. Days are those of the park's time zone."""

    def __init__(self, history: History, zone: tzinfo) -> None:
        self._zone = zone
        self._catalogues = Catalogues(history)
        self._shown = shown_codes(history)
        self._terms: dict[int, Terms] = {item.request["ticket"]: item.request for item in history.of("issue")}
        self._tickets: dict[int, Ticket] = defaultdict(Ticket)
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
                    self.violations += self._refused_change(fact)
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
        else:
            yield from self._refusal(fact)

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
        if scan.kind != EXIT and self._places(fact) == {False}:
            yield Violation("I1", subject, "was admitted, and no catalogue in force has its product there", fact.where)
        yield from self._first(ticket, fact)
        ticket.seen = True
        zone = ticket.zones[scan.zone_number]
        day = park_day(fact.time_ms, self._zone)
        zone.count(scan, day, 1)
        yield from (Violation("I1", subject, what, fact.where) for what in _beyond(zone, terms, day))

    def _refusal(self, fact: Fact) -> Iterator[Violation]:
        scan, code = fact.body, self._shown.get(fact.body.scan_id)
        said = gate.Reason.Name(scan.reason).removeprefix("REASON_")
        if code is not None and code.ticket in self._terms:
            registered = self._tickets[code.ticket].registered_in == fact.partition
            if untrue_code(scan, code, registered):
                yield Violation("I7", f"ticket {code.ticket}", f"a genuine code was told {said}", fact.where)
        terms = self._terms.get(scan.ticket_id)
        if terms is None:
            return
        if scan.reason in OF_PLACES and self._places(fact) == {True}:
            subject = f"ticket {scan.ticket_id} in zone {scan.zone_number}"
            yield Violation("I7", subject, f"was told {said}, and its product is there", fact.where)
        day = park_day(fact.time_ms, self._zone)
        known = untrue_use(scan, self._tickets[scan.ticket_id], terms, day, code)
        if known:
            subject = f"ticket {scan.ticket_id} in zone {scan.zone_number}"
            yield Violation("I7", subject, f"was told {said}, and {known}", fact.where)

    def _places(self, fact: Fact) -> set[bool]:
        """Whether the ticket's product is in the zone, by each catalogue that may have decided the scan; empty if none
        says."""
        scan, code = fact.body, self._shown.get(fact.body.scan_id)
        since_ms = code.invoked if code is not None else None
        return self._catalogues.may_be_in(scan.product_number, scan.zone_number, since_ms, fact.durable_ms)

    def _first(self, ticket: Ticket, fact: Fact) -> Iterator[Violation]:
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
        day = park_day(admission.time_ms, self._zone)
        ticket.zones[passage.zone_number].count(admission.body, day, -1)
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

    def _refused_change(self, fact: Fact) -> Iterator[Violation]:
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
        if ticket.registered_in:
            yield Violation("I6", f"ticket {ticket_id}", "is registered twice", fact.where)
        ticket.registered_in = fact.partition
        if not ticket.requests and not ticket.seen:  # one that was seen or changed before stays what it is
            ticket.lifecycle = fact.body.lifecycle


def _beyond(zone: Entitlement, terms: Terms, day: date) -> Iterator[str]:
    """What of an entitlement's limits is broken."""
    party, entries, daily = terms["party"], terms["entries"], terms.get("daily_entries", 0)
    if entries and zone.admitted > entries * party:
        yield f"{zone.admitted} person-entries were admitted, {entries * party} are allowed"
    if daily and zone.by_day[day] > daily * party:
        yield f"{zone.by_day[day]} person-entries on one day, {daily * party} are allowed"
    if zone.inside > party:
        yield f"{zone.inside} persons are inside on a ticket for {party}"
    if zone.inside < 0:
        yield "more persons left than were inside"
