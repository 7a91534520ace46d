"""The state of one partition, and how each event changes it. Live decisions and recovery go through the same methods.

Nothing here decides, waits or writes: `cluster.deciding` decides, `cluster.owner` appends. The methods named `count_*`,
`begin_run`, `hold_run`, `join`, `settle*`, `register`, `see`, `change`, `refuse`, `lease` change state, one for each
kind of event, and `age` does by the clock. Of others only `cluster.short_way` does, which has `join` written out:
tests/cluster/test_runs.py compares what it leaves with what the long way and recovery leave.

A `Visit` is never changed in place: all first admissions of a run at one gate share one. Those are found by the number
in a ticket's row (`cluster.uses`); all others, and what became of a shared one, in `visits`, which counts before it.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence, Set
from copy import copy
from dataclasses import dataclass, field
from itertools import islice

from cluster.runs import AdmissionRun
from cluster.scan_memory import ScanMemory
from cluster.ticket_table import Origin, Row, TicketTable
from cluster.uses import BY_TICKET, UNUSED, Uses
from cluster.visit_keys import visit_key
from parkgate.events.v1 import events_pb2
from parkgate.gate.v1 import gate_pb2
from ticketcore.admission import EMPTY_VISIT, Kind, Passing, Visit, apply_passing, undo_passing
from ticketcore.capacity import ZoneLease
from ticketcore.lifecycle import Change
from ticketcore.token import CLAIMS_LENGTH

SETTLED_MEMORY = 100_000
"""Settled passages that are remembered, at least, to answer a repeated report: some minutes of the busiest partition.
When there are twice as many the elder half is dropped, for dropping one at a time from a dict slows down with each."""

REQUEST_ID_LENGTH = 16
CHANGES_KEPT = 31 * REQUEST_ID_LENGTH
"""Bytes of earlier request ids kept for a ticket, besides the last: far more changes than a ticket ever sees."""
ANSWER_LENGTH = REQUEST_ID_LENGTH + 1
"""Bytes of a request that was refused: its id, and why."""
REFUSALS_KEPT = 32
"""Refused requests that are kept for a ticket: as many as changes."""


@dataclass(slots=True)
class Totals:
    """Counts of one product since the partition began; what a recount needs after the log was trimmed."""

    registered: int = 0
    registered_minor: int = 0
    admitted_first: int = 0
    persons_entered: int = 0
    persons_reentered: int = 0
    persons_exited: int = 0
    refused: int = 0
    changed: dict[int, int] = field(default_factory=dict)
    changed_minor: dict[int, int] = field(default_factory=dict)
    scans_entered: int = 0
    scans_reentered: int = 0
    scans_exited: int = 0
    entered_given_back: int = 0
    reentered_given_back: int = 0
    refusals: dict[int, int] = field(default_factory=dict)
    passages: dict[int, int] = field(default_factory=dict)
    zones: set[int] = field(default_factory=set)
    """Where its tickets were ever admitted, whatever the catalogue in force says of it."""


def partition_of(ticket_id: int, partitions: int) -> int:
    """Index of the partition that owns a ticket. Sequences count up by one, so tickets spread evenly."""
    return ticket_id % partitions


def partition_of_scan(token: bytes, scan_id: bytes, partitions: int) -> int:
    """Index of the partition that decides a scan; one whose token names no ticket goes by its scan id."""
    if len(token) > CLAIMS_LENGTH:
        return int.from_bytes(token[1:9], "big") % partitions
    return int.from_bytes(scan_id[-4:], "big") % partitions


class Partition:
    """One partition's tickets, visits, holds, leases and memory of scans."""

    def __init__(self, name: str, partitions: int) -> None:
        self.name = name
        self.table = TicketTable(partitions)
        self.uses = Uses()
        self.visits: dict[int, Visit] = {}
        """Visits by ticket. The row of each of these tickets has a use."""
        self.holds: dict[bytes, Passing | AdmissionRun] = {}
        """Admissions whose passage is awaited, by scan: of a run only what the memory of scans does not lead to."""
        self.awaited = 0
        """How many passages are awaited, between two turns."""
        self.settled: dict[bytes, int] = {}
        self.deadlines: dict[int, deque[tuple[int, bytes | AdmissionRun]]] = {}
        self.leases: dict[int, ZoneLease] = {}
        self.changes: dict[int, bytes] = {}
        self.refusals: dict[int, bytes] = {}
        self.scans = ScanMemory()
        self.totals: defaultdict[int, Totals] = defaultdict(Totals)
        self.far_off = 0
        """Scans refused for their time and not logged, since the partition was taken; for operators only."""
        self.epoch = 0
        self.sequence = 0
        """Of the last entry that is durable."""
        self.appending = False
        """The entry after it is on its way to the ledger."""
        self.last_time_ms = 0
        self.snapshot_sequence = 0
        self.fenced = False
        """A later owner has taken it: what was decided here since the last append that was done counts for nothing."""

    @property
    def next_sequence(self) -> int:
        """Of the entry that is being decided."""
        return self.sequence + 1 + self.appending

    def appended(self, sequence: int, time_ms: int) -> None:
        """Takes note that an entry is durable."""
        self.sequence, self.last_time_ms, self.appending = sequence, time_ms, False

    # Looking

    def visit(self, ticket_id: int, zone_number: int) -> Visit:
        """Counters of an entitlement; the shared empty ones if it was never used."""
        use = self.table.use(ticket_id)
        if use == UNUSED:
            return EMPTY_VISIT
        own = self.visits.get(visit_key(ticket_id, zone_number))
        return own or self.uses.find(use, zone_number) or EMPTY_VISIT

    def zones_used(self, product_number: int) -> Set[int]:
        """Zones where tickets of a product were ever admitted. A catalogue may have taken the product out of some."""
        totals = self.totals.get(product_number)
        return totals.zones if totals is not None else frozenset()

    def visits_of(self, ticket_id: int, zones: Iterable[int]) -> list[Visit]:
        """Counters of a ticket in each of these zones where it was used."""
        visits = (self.visit(ticket_id, zone) for zone in zones)
        return [visit for visit in visits if visit is not EMPTY_VISIT]

    def admitted(self, ticket_id: int, zones: Iterable[int]) -> int:
        """Person-entries that were counted on a ticket, over these zones."""
        return sum(visit.admitted for visit in self.visits_of(ticket_id, zones))

    def passing(self, scan_id: bytes) -> Passing | None:
        """The admission whose passage is awaited; None if none is by that scan."""
        held = self._held(scan_id)
        return held.passing(scan_id) if isinstance(held, AdmissionRun) else held

    def _held(self, scan_id: bytes) -> Passing | AdmissionRun | None:
        held = self.holds.get(scan_id) or self.scans.run_of(scan_id)
        return None if isinstance(held, AdmissionRun) and not held.awaits(scan_id) else held

    def awaited_runs(self) -> dict[AdmissionRun, frozenset[bytes]]:
        """Runs of which passages are awaited, and whose of them are settled, as it is now."""
        runs = (held for queue in self.deadlines.values() for _, held in queue if isinstance(held, AdmissionRun))
        return {run: frozenset(run.settled) for run in runs if run.awaited()}

    def zone_lease(self, zone_number: int) -> ZoneLease:
        """The partition's lease of a zone; also counts who is inside zones without a limit."""
        lease = self.leases.get(zone_number)
        if lease is None:
            lease = self.leases[zone_number] = ZoneLease(zone_number)
        return lease

    # Changing, one method for each kind of event

    def count_admission(self, scan_id: bytes, passing: Passing) -> None:
        """Counts an admission, and holds it if its passage is awaited."""
        visit = copy(self.visit(passing.ticket_id, passing.zone_number))
        apply_passing(visit, passing)
        self.keep_visit(passing.ticket_id, passing.zone_number, visit)
        totals = self.totals[passing.product_number]
        totals.zones.add(passing.zone_number)
        kind, persons = passing.kind, passing.persons
        if kind is Kind.EXIT:
            self.zone_lease(passing.zone_number).inside -= persons
            totals.persons_exited += persons
            totals.scans_exited += 1
            return
        if kind is Kind.ENTRY:
            totals.scans_entered += 1
            totals.persons_entered += persons
            totals.admitted_first += passing.first_admission
        else:
            totals.scans_reentered += 1
            totals.persons_reentered += persons
        if passing.counts_inside:
            self.zone_lease(passing.zone_number).inside += persons
        if passing.deadline_ms:
            self.hold(scan_id, passing)

    def join(self, run: AdmissionRun, scan_id: bytes, ticket_id: int, gate_number: int, scan_time_ms: int) -> None:
        """Counts an admission that is like the others of a run, and remembers and holds it. `count_run` must follow.
        The short way of deciding has this written out."""
        if not run.scan_ids:
            self.begin_run(run)
        run.add(scan_id, ticket_id, gate_number, scan_time_ms)
        self.table.set_use(ticket_id, self.use_of(run, gate_number))
        self.scans.keep_alike(scan_id, run)
        if run.alike.counts_inside:
            self.count_inside(run)

    def keep_visit(self, ticket_id: int, zone_number: int, visit: Visit) -> None:
        """Takes a ticket's own visit."""
        self.visits[visit_key(ticket_id, zone_number)] = visit
        if self.table.use(ticket_id) == UNUSED:
            self.table.set_use(ticket_id, BY_TICKET)

    def use_of(self, run: AdmissionRun, gate_number: int) -> int:
        """The number of the visit that an admission of a run leaves."""
        use = run.uses.get(gate_number)
        if use is None:
            use = run.uses[gate_number] = self.uses.add(run.alike.zone_number, run.visit(gate_number))
        return use

    def drop_unused(self, run: AdmissionRun) -> None:
        """Takes back what a run has opened for gates at which nobody was admitted; it will get no more members."""
        for gate_number in run.uses.keys() - set(run.gate_numbers):
            self.uses.drop(run.uses.pop(gate_number))

    def begin_run(self, run: AdmissionRun) -> None:
        """Takes note of a run's first member."""
        self.totals[run.alike.product_number].zones.add(run.alike.zone_number)

    def count_inside(self, run: AdmissionRun) -> None:
        """Counts the persons of one member of a run who are inside now."""
        self.zone_lease(run.alike.zone_number).inside += run.alike.persons

    def count_run(self, run: AdmissionRun) -> None:
        """Counts a run that will get no more members."""
        members = len(run.scan_ids)
        totals = self.totals[run.alike.product_number]
        totals.scans_entered += members
        totals.persons_entered += members * run.alike.persons
        totals.admitted_first += members * run.alike.event.first_admission
        if run.deadline_ms:
            self.awaited += members
            self._await(run.alike.timeout_ms, run.deadline_ms, run)

    def hold_run(self, run: AdmissionRun, scan_ids: Iterable[bytes]) -> None:
        """Awaits passage reports of some members of a run, which are remembered already if they are at all."""
        run.settled = set(run.scan_ids).difference(scan_ids)
        self.awaited += len(run.awaited())
        self._await(run.alike.timeout_ms, run.deadline_ms, run)
        self._hold_forgotten(run)

    def age(self, now_ms: int) -> None:
        """Forgets what may be forgotten; called once a batch."""
        if not self.scans.age(now_ms):
            return
        for timeout_ms, queue in self.deadlines.items():
            awaited = [item for item in queue if not isinstance(item[1], AdmissionRun) or item[1].awaited()]
            self.deadlines[timeout_ms] = deque(awaited)  # in a long log that is replayed nearly all is settled
            for _, held in awaited:
                if isinstance(held, AdmissionRun):
                    self._hold_forgotten(held)

    def _hold_forgotten(self, run: AdmissionRun) -> None:
        """Members that are awaited for longer than their scans are remembered are found by themselves."""
        if self.scans.run_of(run.scan_ids[0]) is not run:
            self.holds.update(dict.fromkeys(run.awaited(), run))

    def hold(self, scan_id: bytes, passing: Passing) -> None:
        """Awaits a passage report."""
        self.holds[scan_id] = passing
        self.awaited += 1
        self._await(passing.deadline_ms - passing.time_ms, passing.deadline_ms, scan_id)

    def _await(self, timeout_ms: int, deadline_ms: int, held: bytes | AdmissionRun) -> None:
        """Deadlines of one time-out come in order, so a queue for each needs no sorting."""
        queue = self.deadlines.get(timeout_ms)
        if queue is None:
            queue = self.deadlines[timeout_ms] = deque()
        queue.append((deadline_ms, held))

    def count_refusal(self, product_number: int, reason: int) -> None:
        """Counts a refusal."""
        totals = self.totals[product_number]
        totals.refused += 1
        totals.refusals[reason] = totals.refusals.get(reason, 0) + 1

    def settle(self, scan_id: bytes, outcome: int, first_admission_undone: bool) -> None:
        """Settles a held admission; NOT_PASSED gives the entry back, which may undo the ticket's first admission."""
        held = self._held(scan_id)
        if held is None:
            return
        self.holds.pop(scan_id, None)
        if isinstance(held, AdmissionRun):
            held.settle(scan_id)
            product_number = held.alike.product_number
        else:
            product_number = held.product_number
        self._count_settled(product_number, (scan_id,), outcome)
        if outcome == gate_pb2.PASSAGE_OUTCOME_NOT_PASSED:
            passing = held.passing(scan_id) if isinstance(held, AdmissionRun) else held
            self._give_back(passing)
            self.totals[passing.product_number].admitted_first -= first_admission_undone

    def settle_rest(self, run: AdmissionRun, outcome: int) -> None:
        """Settles all members of a run whose passage is still awaited; nothing is given back."""
        scan_ids = run.awaited()
        if self.holds:
            for scan_id in scan_ids:
                self.holds.pop(scan_id, None)
        self._count_settled(run.alike.product_number, scan_ids, outcome)
        run.end()

    def _count_settled(self, product_number: int, scan_ids: Sequence[bytes], outcome: int) -> None:
        self.awaited -= len(scan_ids)
        self.settled.update(dict.fromkeys(scan_ids, outcome))
        if len(self.settled) >= 2 * SETTLED_MEMORY:
            self.settled = dict(islice(self.settled.items(), SETTLED_MEMORY, None))
        passages = self.totals[product_number].passages
        passages[outcome] = passages.get(outcome, 0) + len(scan_ids)

    def _give_back(self, passing: Passing) -> None:
        visit = copy(self.visit(passing.ticket_id, passing.zone_number))
        undo_passing(visit, passing)
        self.keep_visit(passing.ticket_id, passing.zone_number, visit)
        totals = self.totals[passing.product_number]
        if passing.kind is Kind.ENTRY:
            totals.persons_entered -= passing.persons
            totals.entered_given_back += passing.persons
        else:
            totals.persons_reentered -= passing.persons
            totals.reentered_given_back += passing.persons
        if passing.counts_inside:
            self.zone_lease(passing.zone_number).inside -= passing.persons

    def may_be_given_back(self, passing: Passing) -> bool:
        """False if the guests have been seen leaving: then they had passed, whatever the turnstile says."""
        visit = self.visit(passing.ticket_id, passing.zone_number)
        return not passing.counts_inside or visit.inside >= passing.persons

    def register(self, event: events_pb2.TicketRegistered) -> None:
        """Stores a registered ticket; one that was seen or changed before keeps its lifecycle."""
        ticket_id = int.from_bytes(event.claims[1:9], "big")
        known = self.table.find(ticket_id)
        state = known.lifecycle if known is not None else event.lifecycle
        self.table.put(event.claims, event.digest, state, Origin.REGISTERED, event.price_minor)
        totals = self.totals[int.from_bytes(event.claims[9:11], "big")]
        totals.registered += 1
        totals.registered_minor += event.price_minor

    def see(self, claims: bytes, digest: bytes, lifecycle: int) -> None:
        """Stores a ticket that was admitted on its signature, before its registration."""
        self.table.put(claims, digest, lifecycle, Origin.SEEN, 0)

    def change(self, event: events_pb2.TicketChanged) -> None:
        """Changes a ticket's lifecycle."""
        if self.table.find(event.ticket_id) is None:
            self.table.put_unknown(event.ticket_id, event.to)
        else:
            self.table.set_lifecycle(event.ticket_id, event.to)
        self.changes[event.ticket_id] = self.changes.get(event.ticket_id, b"")[-CHANGES_KEPT:] + event.request_id
        totals = self.totals[event.product_number]
        totals.changed[event.to] = totals.changed.get(event.to, 0) + 1
        totals.changed_minor[event.to] = totals.changed_minor.get(event.to, 0) + event.price_minor

    def refuse(self, event: events_pb2.TicketChangeRefused) -> None:
        """Remembers that a change of a ticket's lifecycle was refused."""
        answer = event.request_id + bytes((Change(event.refusal),))
        kept = self.refusals.get(event.ticket_id, b"") + answer
        self.refusals[event.ticket_id] = kept[-REFUSALS_KEPT * ANSWER_LENGTH :]

    def answer_to(self, ticket_id: int, request_id: bytes) -> Change | None:
        """What that request to change the ticket was answered; None if it was not asked before."""
        if request_id in _pieces(self.changes.get(ticket_id, b""), REQUEST_ID_LENGTH):
            return Change.DONE
        for answer in _pieces(self.refusals.get(ticket_id, b""), ANSWER_LENGTH):
            if answer[:REQUEST_ID_LENGTH] == request_id:
                return Change(answer[REQUEST_ID_LENGTH])
        return None

    def lease(self, event: events_pb2.LeaseChanged) -> None:
        """Takes a lease's totals over."""
        lease = self.zone_lease(event.zone_number)
        lease.received_total = max(lease.received_total, event.received_total)
        lease.returned_total = max(lease.returned_total, event.returned_total)

    def next_deadline(self) -> int | None:
        """When the next passage report is overdue; None if none is awaited."""
        return min((queue[0][0] for queue in self.deadlines.values() if queue), default=None)

    def due(self, now_ms: int, about: int) -> Iterator[bytes | AdmissionRun]:
        """Scans, and runs, whose passage reports have not come in time, about so many scans; each is named once and
        must be settled before the next."""
        for queue in self.deadlines.values():
            while queue and queue[0][0] <= now_ms and about > 0:
                held = queue.popleft()[1]
                about -= len(held.awaited()) if isinstance(held, AdmissionRun) else 1
                yield held

    def is_registered(self, row: Row | None) -> bool:
        """Whether sales have registered the ticket."""
        return row is not None and row.origin == Origin.REGISTERED


def _pieces(joined: bytes, length: int) -> Iterator[bytes]:
    return (joined[start : start + length] for start in range(0, len(joined), length))
