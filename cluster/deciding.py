"""Decides scans and passages on a partition: the order of checks from idempotency to commit.

Synchronous and without I/O. What it changes, it changes in memory and in the batch's log entry; the owner appends the
entry before anybody hears a verdict. A scan that needs more of a zone's capacity than the partition has comes back as
`Waiting`, with nothing changed.

Within a minute most scans of a gate differ in ticket and scan id only. What they share (how the ticket's terms stand at
the gate, and the verdict and event of their admission) is worked out once (`cluster.minute`). The first entry of a
registered ticket, the commonest scan of all, takes a short way to the same decision (`cluster.short_way`), and comes
here only where an answer is not the usual one.
"""

from __future__ import annotations

from dataclasses import dataclass

from cluster.heads import gate_of
from cluster.minute import Context, Known, look_of
from cluster.partition import Partition
from cluster.runs import SCAN_ID_LENGTH, AdmissionRun, Alike, PassageRun
from cluster.scan_memory import SCAN_MARGIN_MS, SCAN_MAX_AGE_MS, SCAN_MAX_AHEAD_MS
from cluster.short_way import Entrance
from cluster.ticket_table import Origin, Row
from cluster.verdicts import write_uses
from parkgate.events.v1 import events_pb2
from parkgate.gate.v1 import gate_pb2
from ticketcore import token as tokens
from ticketcore.admission import (
    EMPTY_VISIT,
    MODE_REASON,
    PLAIN_ENTRY,
    Admission,
    Kind,
    Passing,
    Request,
    Visit,
    decide,
    terms_of,
)
from ticketcore.lifecycle import Lifecycle
from ticketcore.reasons import OVERRIDE_ALLOWED, Decision, Reason, decision_for
from ticketcore.rules import Rule

BACKPRESSURE_RETRY_MS = 200
MAX_QR_TEXT = 512

_ENTRY = gate_pb2.DIRECTION_ENTRY
_EXIT = gate_pb2.DIRECTION_EXIT
_DIGEST = gate_pb2.VERIFICATION_DIGEST
_SIGNATURE = gate_pb2.VERIFICATION_SIGNATURE
_CLUSTER = gate_pb2.DECIDED_BY_CLUSTER
_PASSED = gate_pb2.PASSAGE_OUTCOME_PASSED
_NOT_PASSED = gate_pb2.PASSAGE_OUTCOME_NOT_PASSED
_ASSUMED = gate_pb2.PASSAGE_OUTCOME_ASSUMED
_UNRECORDED = gate_pb2.PASSAGE_OUTCOME_UNSPECIFIED
_REGISTERED = int(Origin.REGISTERED)
_ACTIVE = int(Lifecycle.ACTIVE)
_NEW = 0
"""Origin of a row that is not in the table yet: a well signed token that was never registered."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """The scan needs `persons` units of a zone's capacity before it can be decided."""

    zone_number: int
    persons: int


Genuine = tuple[int, Row, int]
"""Ticket id, row, and how the token was proved genuine."""
Examined = tuple[Genuine, Known, Visit, "Admission | Reason | Waiting"]


class Decider:
    """Decides one batch's scans and passages on one partition, into one log entry."""

    __slots__ = ("_entry", "_newest_ms", "_oldest_ms", "_passages", "_runs", "context", "entrances", "partition")

    def __init__(self, partition: Partition, context: Context) -> None:
        self.partition = partition
        self.context = context
        self._oldest_ms = context.moment.time_ms - SCAN_MAX_AGE_MS
        self._newest_ms = context.moment.time_ms + SCAN_MAX_AHEAD_MS
        self.entrances: dict[bytes, Entrance] = {}
        """Of the runs that are open, for the short way to look up."""
        self._entry = events_pb2.LogEntry()
        self._runs: dict[Alike, AdmissionRun] = {}
        self._passages: dict[tuple[int, int, Kind, int], PassageRun] = {}

    # The log

    def log(self) -> events_pb2.Event:
        """A new event. Runs that are open end here: what is logged keeps the order in which it was decided."""
        self._close_runs()
        return self._entry.events.add()

    def entry(self) -> events_pb2.LogEntry:
        """All that was logged. Nothing may be decided after it."""
        self._close_runs()
        return self._entry

    def _close_runs(self) -> None:
        """Passages after admissions: one may settle an admission of the same batch, but never the other way round."""
        for run in self._runs.values():
            self.partition.drop_unused(run)
            if run.scan_ids:  # else it was opened for a scan that was not admitted
                run.write_event(self._entry.events.add().scans_admitted)
                self.partition.count_run(run)
        for passages in self._passages.values():
            passages.write_event(self._entry.events.add().passages_recorded)
        self.entrances.clear()
        self._runs.clear()
        self._passages.clear()

    # Scans

    def open(self, at: bytes) -> Entrance | None:
        """Opens a run for first entries, or one more gate to it. `at` is gate and terms, as in a scan's head. None
        where first entries have to be looked at closely."""
        context = self.context
        try:
            first = context.minute.first_entries[at]
        except KeyError:
            first = context.first_entry(at)
        if first is None:
            return None
        alike = first.alike
        run = self._runs.get(alike)
        if run is None:
            run = self._runs[alike] = AdmissionRun(alike, context.moment.time_ms, context.moment.day)
        lease = self.partition.zone_lease(alike.zone_number) if first.capacity_limited else None
        gate_number = gate_of(at)
        use = self.partition.use_of(run, gate_number)
        entrance = self.entrances[at] = Entrance.to(run, gate_number, use, lease)
        return entrance

    def decide(self, scan: gate_pb2.Scan, gate_number: int, verdict: gate_pb2.Verdict) -> Waiting | None:
        """Decides one scan into `verdict`; or says what it waits for, and has changed nothing."""
        if self.partition.scans.recall(scan.scan_id, verdict):
            return None
        examined = self._examine(scan, gate_number, verdict)
        if isinstance(examined, Reason):
            self._refuse(scan, gate_number, examined, None, verdict)
            return None
        genuine, known, visit, decided = examined
        if isinstance(decided, Admission) and self.partition.scans.is_full:
            decided = Reason.BACKPRESSURE  # what cannot be remembered may not be decided (I3)
        if isinstance(decided, Admission):
            self._admit(scan, genuine, (known, visit, decided), verdict)
        elif isinstance(decided, Reason):
            self._refuse(scan, gate_number, decided, genuine, verdict)
        else:
            verdict.Clear()
            return decided
        return None

    def dry_run(self, scan: gate_pb2.Scan, gate_number: int, verdict: gate_pb2.Verdict) -> None:
        """What the scan would be told now, with nothing changed or remembered. Capacity is not asked for."""
        examined = self._examine(scan, gate_number, verdict)
        verdict.scan_id, verdict.decided_by = scan.scan_id, _CLUSTER
        decided: Admission | Reason | Waiting
        if isinstance(examined, Reason):
            decided = examined
        else:
            (verdict.ticket_id, row, verification), _, _, decided = examined
            verdict.product_number = row.terms.product_number
            verdict.verification = verification  # type: ignore[assignment]
        if isinstance(decided, Reason):
            verdict.decision, verdict.reason = int(decision_for(decided)), int(decided)  # type: ignore[assignment]
            verdict.override_allowed = decided in OVERRIDE_ALLOWED
            return
        verdict.decision = gate_pb2.DECISION_ADMIT
        verdict.persons_admitted = decided.persons
        if isinstance(decided, Admission):
            verdict.persons_remaining, verdict.entries_remaining = decided.persons_remaining, decided.entries_remaining
            verdict.kind = int(decided.kind)  # type: ignore[assignment]

    def _examine(self, scan: gate_pb2.Scan, gate_number: int, verdict: gate_pb2.Verdict) -> Examined | Reason:
        """All checks in their order; changes nothing but the verdict's first and last use."""
        context = self.context
        reason = _device(scan, gate_number, context)
        if reason is not Reason.NONE:
            return reason
        genuine = _genuine(self.partition, scan, context)
        if isinstance(genuine, Reason):
            return genuine
        known = context.known(genuine[1].terms, gate_number)
        visit = self.partition.visit(genuine[0], context.minute.rules.gate_zone[gate_number])
        if visit.first_ms:
            write_uses(verdict, visit)
        return genuine, known, visit, self._judge(scan, gate_number, genuine, known, visit)

    def _judge(
        self, scan: gate_pb2.Scan, gate_number: int, genuine: Genuine, known: Known, visit: Visit
    ) -> Admission | Reason | Waiting:
        """Mode, lifecycle, validity, place, counters, person and capacity of a genuine token."""
        _, row, verification = genuine
        is_exit = scan.direction == _EXIT
        modes = self.context.minute.modes
        if modes and (modes.get(gate_number), is_exit) in MODE_REASON:
            return MODE_REASON[modes[gate_number], is_exit]
        persons, proof_seen = scan.persons, scan.proof_seen
        plain = not (is_exit or persons or proof_seen)
        if plain and visit is EMPTY_VISIT and row.lifecycle == _ACTIVE:
            outcome = known.fresh
        else:
            request = PLAIN_ENTRY if plain else Request(is_exit, persons, proof_seen)
            outcome = decide(row.terms, row.lifecycle, visit, known.standing, self.context.moment, request)
        rule = known.standing.rule
        if isinstance(outcome, Reason) or rule is None:
            return outcome
        if verification == _SIGNATURE and not is_exit and not rule.admit_on_signature:
            return Reason.UNKNOWN_TICKET
        if (
            rule.capacity_limited
            and not is_exit
            and self.partition.zone_lease(rule.zone_number).spare < outcome.persons
        ):
            known_full = (self.partition.name, rule.zone_number) in self.context.full_zones
            return Reason.CAPACITY_FULL if known_full else Waiting(rule.zone_number, outcome.persons)
        return outcome

    def _refuse(
        self, scan: gate_pb2.Scan, gate_number: int, reason: Reason, genuine: Genuine | None, verdict: gate_pb2.Verdict
    ) -> None:
        """Refusals ride along in the log; a RETRY is no decision and is neither logged nor remembered."""
        if self.partition.scans.is_full:
            reason = Reason.BACKPRESSURE
        decision = decision_for(reason)
        verdict.scan_id = scan.scan_id
        verdict.decision, verdict.reason = int(decision), int(reason)  # type: ignore[assignment]
        verdict.decided_by = _CLUSTER
        verdict.override_allowed = reason in OVERRIDE_ALLOWED
        if decision is Decision.RETRY:
            verdict.retry_after_ms = BACKPRESSURE_RETRY_MS
            return
        if len(scan.scan_id) != SCAN_ID_LENGTH:
            return  # nothing can be asked again by an id that is none, and it may be of any length
        if self._is_far_off(scan.scan_time_ms):
            self.partition.far_off += 1
            return  # whatever time its device says, which may be one that no calendar holds
        event = self.log().scan_decided
        if genuine is not None:
            verdict.ticket_id = event.ticket_id = genuine[0]
            verdict.product_number = event.product_number = genuine[1].terms.product_number
            event.zone_number = self.context.rules.gate_zone[gate_number]
        event.scan_id = scan.scan_id
        event.gate_number = gate_number
        event.direction = _EXIT if scan.direction == _EXIT else _ENTRY
        event.decision, event.reason = verdict.decision, verdict.reason
        event.scan_time_ms = scan.scan_time_ms
        self.partition.count_refusal(event.product_number, event.reason)
        self.partition.scans.keep(scan.scan_id, verdict.SerializeToString())

    def _is_far_off(self, scan_time_ms: int) -> bool:
        """Whether a scan, which is CLOCK_SKEW, may have been decided and forgotten, or be forgotten before its time
        comes."""
        return not self._oldest_ms - SCAN_MARGIN_MS <= scan_time_ms <= self._newest_ms + SCAN_MARGIN_MS

    def _admit(
        self,
        scan: gate_pb2.Scan,
        genuine: Genuine,
        decided: tuple[Known, Visit, Admission],
        verdict: gate_pb2.Verdict,
    ) -> None:
        ticket_id, row, verification = genuine
        known, visit, admission = decided
        rule, moment, partition = known.standing.rule or known.standing.way_out, self.context.moment, self.partition
        assert rule is not None
        kind, persons = admission.kind, admission.persons
        first = kind is Kind.ENTRY and visit.admitted == 0 and not self._admitted_elsewhere(ticket_id, rule)
        left = (admission.persons_remaining, admission.entries_remaining)
        key = (kind, persons, *left, verification, first)
        look = known.looks.get(key)
        if look is None:
            look = known.looks[key] = look_of(rule, admission, verification, first)
        passing = Passing(
            ticket_id,
            rule.zone_number,
            rule.product_number,
            rule.gate_number,
            kind,
            persons,
            moment.time_ms,
            moment.day,
            rule.counts_inside,
            first,
            moment.time_ms + rule.passage_timeout_ms if rule.passage_timeout_ms and kind is not Kind.EXIT else 0,
        )
        scan_id = scan.scan_id
        event = self.log().scan_decided
        event.MergeFromString(look.event)
        event.scan_id, event.ticket_id, event.scan_time_ms = scan_id, ticket_id, scan.scan_time_ms
        event.passage_deadline_ms = passing.deadline_ms
        if row.origin == _NEW:
            event.claims, event.digest = scan.token[: tokens.CLAIMS_LENGTH], row.digest
            partition.see(event.claims, event.digest, row.lifecycle)
        partition.count_admission(scan_id, passing)
        verdict.MergeFrom(look.verdict)
        verdict.scan_id, verdict.ticket_id = scan_id, ticket_id
        partition.scans.keep(scan_id, verdict.SerializeToString())

    def _admitted_elsewhere(self, ticket_id: int, rule: Rule) -> bool:
        elsewhere = self._elsewhere(rule.product_number, rule.zone_number, rule.other_zones)
        return bool(elsewhere) and self.partition.admitted(ticket_id, elsewhere) > 0

    def _elsewhere(self, product_number: int, zone_number: int, other_zones: tuple[int, ...]) -> tuple[int, ...]:
        """Zones but one where a product's tickets may have been admitted: where they were in the time of an earlier
        catalogue, and `other_zones`, where they may be now and so also by this batch."""
        used = self.partition.zones_used(product_number)
        return tuple((used | set(other_zones)) - {zone_number}) if used - {zone_number} else other_zones

    def record_passage(self, report: gate_pb2.PassageReport, receipt: gate_pb2.PassageReceipt) -> None:
        """Records a passage report, or answers what was recorded before."""
        receipt.scan_id = report.scan_id
        passing = self.partition.passing(report.scan_id)
        if passing is None:
            receipt.recorded = self._recorded_before(report.scan_id)  # type: ignore[assignment]
            return
        outcome = report.outcome
        if outcome != _NOT_PASSED or not self.partition.may_be_given_back(passing):
            outcome = _PASSED
        self._settle(report.scan_id, passing, outcome)
        receipt.recorded = outcome

    def _recorded_before(self, scan_id: bytes) -> int:
        """Settled before, or never held (an exit): a late or doubled report changes nothing. Nothing is recorded of a
        scan that was refused or has not arrived: the gate asks again, or has nothing to settle."""
        outcome = self.partition.settled.get(scan_id)
        if outcome is not None:
            return outcome
        verdict = gate_pb2.Verdict()
        seen = self.partition.scans.recall(scan_id, verdict)
        return _PASSED if seen and verdict.decision == gate_pb2.DECISION_ADMIT else _UNRECORDED

    def assume(self, held: bytes | AdmissionRun) -> int:
        """Settles what nobody has reported in time: a scan, or all of a run that are still awaited. Answers how many
        there were."""
        if isinstance(held, AdmissionRun):
            scan_ids = held.awaited()
            if scan_ids:
                self._passages_like(held.passing(scan_ids[0]), _ASSUMED).add_all(held, scan_ids)
            self.partition.settle_rest(held, _ASSUMED)
            return len(scan_ids)
        passing = self.partition.passing(held)
        if passing is None:
            return 0
        self._settle(held, passing, _ASSUMED)
        return 1

    def _settle(self, scan_id: bytes, passing: Passing, outcome: int) -> None:
        """Settles a held admission and records it."""
        if outcome == _NOT_PASSED:
            self._give_back(scan_id, passing)
            return
        self._passages_like(passing, outcome).add(scan_id, passing.ticket_id, passing.gate_number)
        self.partition.settle(scan_id, outcome, first_admission_undone=False)

    def _passages_like(self, passing: Passing, outcome: int) -> PassageRun:
        key = (passing.zone_number, passing.product_number, passing.kind, outcome)
        run = self._passages.get(key)
        if run is None:
            run = self._passages[key] = PassageRun(_passage(passing, outcome))
        return run

    def _give_back(self, scan_id: bytes, passing: Passing) -> None:
        undone = self._is_only_admission(passing)
        event = self.log().passage_recorded
        event.CopyFrom(_passage(passing, _NOT_PASSED))
        event.scan_id = scan_id
        event.ticket_id = passing.ticket_id
        event.gate_number = passing.gate_number
        event.persons_given_back = passing.persons
        event.first_admission_undone = undone
        self.partition.settle(scan_id, _NOT_PASSED, undone)

    def _is_only_admission(self, passing: Passing) -> bool:
        """Whether the ticket counts as never admitted once this admission is given back. Others may have come after
        the first, so it need not be the first that is undone."""
        zones = self.partition.zones_used(passing.product_number)
        return passing.kind is Kind.ENTRY and self.partition.admitted(passing.ticket_id, zones) == passing.persons


def _device(scan: gate_pb2.Scan, gate_number: int, context: Context) -> Reason:
    if len(scan.scan_id) != SCAN_ID_LENGTH:
        return Reason.MALFORMED_CODE
    age = context.moment.time_ms - scan.scan_time_ms
    if not -SCAN_MAX_AHEAD_MS <= age <= SCAN_MAX_AGE_MS:
        return Reason.CLOCK_SKEW
    return Reason.NONE if gate_number in context.minute.rules.gate_zone else Reason.WRONG_GATE


def _genuine(partition: Partition, scan: gate_pb2.Scan, context: Context) -> Genuine | Reason:
    """The ticket of a token that sales signed, or why it is not one."""
    token = scan.token
    if len(token) != tokens.TOKEN_LENGTH:
        return _malformed(scan)
    ticket_id = int.from_bytes(token[1:9], "big")
    row = partition.table.find(ticket_id)
    if row is not None and row.digest == tokens.digest(token):
        return ticket_id, row, _DIGEST if row.origin == _REGISTERED else _SIGNATURE
    return _signed(token, row, context)


def _signed(token: bytes, row: Row | None, context: Context) -> Genuine | Reason:
    """A token whose digest is not the registered one: its signature decides what it is."""
    if context.signature_checks_left <= 0:
        return Reason.BACKPRESSURE
    context.signature_checks_left -= 1
    try:
        claims = tokens.verify(token, context.ring)
    except tokens.TokenFault as fault:
        return fault.reason
    terms = terms_of(token[: tokens.CLAIMS_LENGTH])
    if row is None or row.origin == Origin.CHANGED:
        # A ticket that was only changed so far is stored when it is admitted, or its visits would not be found (I5).
        state = Lifecycle.ACTIVE if row is None else row.lifecycle
        return claims.ticket_id, Row(terms, tokens.digest(token), state, _NEW, 0), _SIGNATURE
    # Well signed, but not the code that sales registered for this ticket: an older or a second one.
    return Reason.REVOKED


def _malformed(scan: gate_pb2.Scan) -> Reason:
    try:
        tokens.check_form(scan.token or tokens.from_qr_text(scan.qr_text[:MAX_QR_TEXT]))
    except tokens.TokenFault as fault:
        return fault.reason
    return Reason.MALFORMED_CODE


def _passage(passing: Passing, outcome: int) -> events_pb2.PassageRecorded:
    """The event of a settled passage, without scan, ticket and gate."""
    return events_pb2.PassageRecorded(
        zone_number=passing.zone_number,
        product_number=passing.product_number,
        outcome=outcome,  # type: ignore[arg-type]
        kind=int(passing.kind),  # type: ignore[arg-type]
    )
