"""A day so small that it can be read: what tests of the checker begin with, and then spoil in one place."""

from __future__ import annotations

from datetime import UTC, date
from typing import Any

from parkgate.events.v1 import events_pb2 as pb
from parkgate.gate.v1 import gate_pb2 as gate
from tests.checker import OK, Books, History, StoredEntry, Violation, check, read_ledger
from tests.checker.books import recount
from ticketcore.token import Claims, encode_claims

TICKET, ZONE, CAPACITY, QUOTA = 7, 2, 3, "day"
ENTRY, REENTRY, EXIT = gate.ADMISSION_KIND_ENTRY, gate.ADMISSION_KIND_REENTRY, gate.ADMISSION_KIND_EXIT
PASSED, NOT_PASSED = gate.PASSAGE_OUTCOME_PASSED, gate.PASSAGE_OUTCOME_NOT_PASSED
HELD, PINNED, CONFIRMED, LAPSED = 1, 2, 3, 5
ORDER, PRODUCT = 3, 4


def scan_id(number: int) -> bytes:
    return number.to_bytes(16, "big")


def admitted(scan: int, ticket: int = TICKET, **fields: Any) -> pb.Event:
    """A scan is admitted."""
    values: dict[str, Any] = {
        "gate_number": 21,
        "zone_number": ZONE,
        "product_number": 4,
        "direction": gate.DIRECTION_ENTRY,
        "decision": gate.DECISION_ADMIT,
        "kind": ENTRY,
        "persons": 1,
        "first_admission": True,
        "counts_inside": True,
    }
    return pb.Event(scan_decided=pb.ScanDecided(scan_id=scan_id(scan), ticket_id=ticket, **(values | fields)))


def refused(scan: int, reason: int, ticket: int = TICKET) -> pb.Event:
    """A scan is refused."""
    decided = {"decision": gate.DECISION_REJECT, "reason": reason, "kind": 0, "persons": 0}
    return admitted(scan, ticket, first_admission=False, counts_inside=False, **decided)


def passage(scan: int, outcome: int, ticket: int = TICKET, **fields: Any) -> pb.Event:
    """A passage is settled."""
    back = outcome == NOT_PASSED
    values: dict[str, Any] = {
        "gate_number": 21,
        "zone_number": ZONE,
        "product_number": 4,
        "kind": ENTRY,
        "outcome": outcome,
        "persons_given_back": int(back),
        "first_admission_undone": back,
    }
    recorded = pb.PassageRecorded(scan_id=scan_id(scan), ticket_id=ticket, **(values | fields))
    return pb.Event(passage_recorded=recorded)


def registered(ticket: int = TICKET) -> pb.Event:
    """A ticket is registered."""
    claims = encode_claims(Claims(1, ticket, 4, date(2026, 6, 1)))
    event = pb.TicketRegistered(claims=claims, digest=bytes(12), lifecycle=pb.LIFECYCLE_ACTIVE, price_minor=1_000)
    return pb.Event(ticket_registered=event)


def changed(to: int, request: int = 1, ticket: int = TICKET, price_minor: int = 0) -> pb.Event:
    """A ticket's lifecycle changes."""
    event = pb.TicketChanged(ticket_id=ticket, request_id=scan_id(request), price_minor=price_minor)
    event.to = to  # type: ignore[assignment]
    return pb.Event(ticket_changed=event)


def change_refused(refusal: int, request: int = 1, ticket: int = TICKET) -> pb.Event:
    """A refund is refused."""
    event = pb.TicketChangeRefused(ticket_id=ticket, request_id=scan_id(request), to=pb.LIFECYCLE_REFUNDED)
    event.refusal = refusal  # type: ignore[assignment]
    return pb.Event(ticket_change_refused=event)


def lease(received: int, returned: int = 0) -> pb.Event:
    """A partition's lease of the zone."""
    return pb.Event(lease_changed=pb.LeaseChanged(zone_number=ZONE, received_total=received, returned_total=returned))


def moved(granted: int, returned: int = 0, partition: str = "p0") -> pb.Event:
    """The capacity owner's totals of a partition."""
    return pb.Event(
        capacity_moved=pb.CapacityMoved(
            zone_number=ZONE, partition=partition, granted_total=granted, returned_total=returned
        )
    )


def hold(number: int, state: int, units: int = 1) -> pb.Event:
    """A hold changes."""
    event = pb.HoldChanged(hold_id=scan_id(number), state=state)  # type: ignore[arg-type]
    if state == HELD:
        event.lines.add(quota_key=QUOTA, units=units)
    return pb.Event(hold_changed=event)


class Story:
    """Entries, one after the other, and what clients say of them."""

    def __init__(self) -> None:
        self.history = History()
        self.entries: list[StoredEntry] = []
        self.numbers: dict[str, int] = {}
        asked = {"capacities": {str(ZONE): CAPACITY}, "quotas": {QUOTA: 2}, "time_zone": "UTC"}
        self.history.note("park", "nobody", 0, asked)
        self.issue(TICKET)

    def issue(self, ticket: int, entries: int = 1, party: int = 1, **more: int) -> None:
        asked = {"ticket": ticket, "product": "show", "entries": entries, "party": party, **more}
        self.history.note("issue", "sales", 0, asked)

    def show(self, scan: int, at: int = 0, ticket: int = TICKET, **more: Any) -> None:
        """A code is shown; what it was told stands in the ledger alone."""
        self.history.invoke("scan", "arena", at, scan_id=scan_id(scan).hex(), ticket=ticket, **more)

    def entry(self, *events: pb.Event, partition: str = "p0", durable_ms: int | None = None, **fields: Any) -> None:
        """Appends an entry; fields overwrite what it would say of itself."""
        number = self.numbers[partition] = self.numbers.get(partition, 0) + 1
        order = len(self.entries)
        values = {"partition": partition, "sequence": number, "epoch": 1, "time_ms": 1_000 + order}
        batch_id = number.to_bytes(8, "big")
        data = pb.LogEntry(batch_id=batch_id, events=events)
        for name, value in (values | fields).items():
            setattr(data, name, value)
        self.entries.append(
            StoredEntry(partition, number, data.SerializeToString(), order, durable_ms or 1_000 + order)
        )

    def enter(self, scan: int, ticket: int = TICKET, **fields: Any) -> None:
        """A unit is granted and spent: an admission with all that belongs to it."""
        self.entry(moved(scan), partition="q0")
        self.entry(lease(scan), admitted(scan, ticket, **fields))

    def hear(self, scan: int, decision: str = "ADMIT", at: int = 5_000, said: str = "verdict", **fields: Any) -> None:
        """A gate hears a verdict."""
        answer = {"decision": decision, "reason": "UNSPECIFIED", "persons": 1, "kind": "ENTRY", "ticket": TICKET}
        asked = {"scan_id": scan_id(scan).hex(), "ticket": TICKET}
        self.history.note(said, "arena", at, asked, **(answer | fields))

    def go(self, scan: int, ticket: int = TICKET, persons: int = 1) -> None:
        """Guests really go through."""
        asked = {"scan_id": scan_id(scan).hex(), "ticket": ticket, "zone": ZONE, "kind": "ENTRY", "persons": persons}
        self.history.note("passage", "arena", 6_000, {**asked, "passed": True})

    def refund(self, request: int = 1, state: str = "DONE", outcome: str = OK) -> None:
        """The desk heard about a refund."""
        operation = self.history.invoke("refund", "desk", 100, ticket=TICKET, request_id=scan_id(request).hex())
        operation.complete(7_000, outcome, changed=state)

    def books(self) -> Books:
        """What Postgres must hold."""
        return recount(read_ledger(self.entries), UTC)

    def check(self, books: Books | None = None) -> list[Violation]:
        return check(self.history, self.entries, books)

    def found(self, books: Books | None = None) -> list[str]:
        """Promises that are broken, each with what is said of it."""
        return [f"{item.promise} {item.what}" for item in self.check(books)]


def booking(name: str, kind: str, owed: int, paid: int, ticket: int | None = TICKET) -> list[tuple[Any, ...]]:
    """A transaction of two postings."""
    head, line = (name, kind, ORDER), (ticket, PRODUCT)
    return [(*head, *line, "deferred_revenue", "EUR", owed), (*head, *line, "cash", "EUR", paid)]
