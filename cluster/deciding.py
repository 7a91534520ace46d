"""Decides scans and passages on a partition: the order of checks from idempotency to commit.

Synchronous and without I/O. What it changes, it changes in memory and in the batch's log entry; the owner appends the
entry before anybody hears a verdict. A scan that needs more of a zone's capacity than the partition has comes back as
`Waiting`, with nothing changed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cluster.partition import Hold, Partition
from cluster.scan_memory import SCAN_MAX_AGE_MS, SCAN_MAX_AHEAD_MS
from cluster.ticket_table import Origin, Row
from parkgate.events.v1 import events_pb2
from parkgate.gate.v1 import gate_pb2
from ticketcore import token as tokens
from ticketcore.admission import (
    MODE_REASON,
    PLAIN_ENTRY,
    Admission,
    Facts,
    Kind,
    Mode,
    Passing,
    Request,
    Visit,
    decide,
    facts_of_claims,
)
from ticketcore.lifecycle import Lifecycle
from ticketcore.reasons import OVERRIDE_ALLOWED, Decision, Reason, decision_for
from ticketcore.rules import Moment, Rule, Rules

SIGNATURE_CHECKS_PER_BATCH = 40
"""Each costs about 110 µs: a flood of forged codes may not hold a batch up by more than some 4 ms. Beyond: RETRY."""
BACKPRESSURE_RETRY_MS = 200
SCAN_ID_LENGTH = 16
MAX_QR_TEXT = 512

_ENTRY = gate_pb2.DIRECTION_ENTRY
_EXIT = gate_pb2.DIRECTION_EXIT
_DIGEST = gate_pb2.VERIFICATION_DIGEST
_SIGNATURE = gate_pb2.VERIFICATION_SIGNATURE
_CLUSTER = gate_pb2.DECIDED_BY_CLUSTER
_PASSED = gate_pb2.PASSAGE_OUTCOME_PASSED
_NOT_PASSED = gate_pb2.PASSAGE_OUTCOME_NOT_PASSED


@dataclass(slots=True)
class Context:
    """What all scans of a batch share."""

    moment: Moment
    rules: Rules
    ring: tokens.KeyRing
    modes: dict[int, Mode] = field(default_factory=dict)
    signature_checks_left: int = SIGNATURE_CHECKS_PER_BATCH
    full_zones: frozenset[tuple[str, int]] = frozenset()
    # (partition, zone) for which the capacity owner has just said that nothing is left.


@dataclass(frozen=True, slots=True)
class Waiting:
    """The scan needs `persons` units of a zone's capacity before it can be decided."""

    zone_number: int
    persons: int


@dataclass(slots=True)
class _Genuine:
    row: Row
    verification: int


class Decider:
    """Decides one batch's scans and passages on one partition, into one log entry."""

    __slots__ = ("context", "entry", "partition")

    def __init__(self, partition: Partition, context: Context, entry: events_pb2.LogEntry) -> None:
        self.partition = partition
        self.context = context
        self.entry = entry

    def decide(self, scan: gate_pb2.Scan, gate_number: int, verdict: gate_pb2.Verdict) -> Waiting | None:
        """Decides one scan into `verdict`; or says what it waits for, and has changed nothing."""
        remembered = self.partition.scans.find(scan.scan_id)
        if remembered is not None:
            verdict.MergeFromString(remembered)
            return None
        genuine, decided = self._examine(scan, gate_number, verdict)
        if isinstance(decided, Waiting):
            verdict.Clear()
            return decided
        if isinstance(decided, Reason):
            self._refuse(scan, gate_number, decided, genuine.row if genuine else None, verdict)
        else:
            assert genuine is not None
            self._admit(scan, genuine, *decided, verdict)
        return None

    def dry_run(self, scan: gate_pb2.Scan, gate_number: int, verdict: gate_pb2.Verdict) -> None:
        """What the scan would be told now, with nothing changed or remembered. Capacity is not asked for."""
        genuine, decided = self._examine(scan, gate_number, verdict)
        verdict.scan_id, verdict.decided_by = scan.scan_id, _CLUSTER
        if genuine is not None:
            facts = genuine.row.facts
            verdict.ticket_id, verdict.product_number = facts.ticket_id, facts.product_number
            verdict.verification = genuine.verification  # type: ignore[assignment]
        if isinstance(decided, Reason):
            verdict.decision, verdict.reason = int(decision_for(decided)), int(decided)  # type: ignore[assignment]
            verdict.override_allowed = decided in OVERRIDE_ALLOWED
            return
        verdict.decision = gate_pb2.DECISION_ADMIT
        if isinstance(decided, Waiting):
            verdict.persons_admitted = decided.persons
            return
        admission = decided[0]
        verdict.persons_admitted, verdict.persons_remaining = admission.persons, admission.persons_remaining
        verdict.entries_remaining = admission.entries_remaining
        verdict.kind = int(admission.kind)  # type: ignore[assignment]

    def _examine(
        self, scan: gate_pb2.Scan, gate_number: int, verdict: gate_pb2.Verdict
    ) -> tuple[_Genuine | None, tuple[Admission, Rule] | Reason | Waiting]:
        """All checks in their order; changes nothing but the verdict's first and last use."""
        reason = _device(scan, gate_number, self.context)
        if reason is not Reason.NONE:
            return None, reason
        genuine = _genuine(self.partition, scan, self.context)
        if not isinstance(genuine, _Genuine):
            return None, genuine
        return genuine, self._judge(scan, gate_number, genuine, verdict)

    def _judge(
        self, scan: gate_pb2.Scan, gate_number: int, genuine: _Genuine, verdict: gate_pb2.Verdict
    ) -> tuple[Admission, Rule] | Reason | Waiting:
        """Mode, lifecycle, validity, place, counters, person and capacity of a genuine token."""
        rules = self.context.rules
        is_exit = scan.direction == _EXIT
        facts = genuine.row.facts
        visit = self.partition.visit(facts.ticket_id, rules.gate_zone[gate_number])
        write_uses(verdict, visit)
        mode = self.context.modes.get(gate_number)
        if mode is not None and (mode, is_exit) in MODE_REASON:
            return MODE_REASON[mode, is_exit]
        plain = not (is_exit or scan.persons or scan.proof_seen)
        request = PLAIN_ENTRY if plain else Request(is_exit, scan.persons, scan.proof_seen)
        outcome, rule = decide(facts, visit, rules, gate_number, self.context.moment, request)
        if isinstance(outcome, Reason) or rule is None:
            return outcome  # type: ignore[return-value]
        if genuine.verification == _SIGNATURE and not rule.admit_on_signature:
            return Reason.UNKNOWN_TICKET
        if rule.capacity_limited and outcome.kind is not Kind.EXIT:
            lease = self.partition.zone_lease(rule.zone_number)
            if lease.spare < outcome.persons:
                known_full = (self.partition.name, rule.zone_number) in self.context.full_zones
                return Reason.CAPACITY_FULL if known_full else Waiting(rule.zone_number, outcome.persons)
        return outcome, rule

    def _refuse(
        self, scan: gate_pb2.Scan, gate_number: int, reason: Reason, row: Row | None, verdict: gate_pb2.Verdict
    ) -> None:
        """Refusals ride along in the log; a RETRY is no decision and is neither logged nor remembered."""
        decision = decision_for(reason)
        verdict.scan_id = scan.scan_id
        verdict.decision, verdict.reason = int(decision), int(reason)  # type: ignore[assignment]
        verdict.decided_by = _CLUSTER
        verdict.override_allowed = reason in OVERRIDE_ALLOWED
        if decision is Decision.RETRY:
            verdict.retry_after_ms = BACKPRESSURE_RETRY_MS
            return
        event = self.entry.events.add().scan_decided
        if row is not None:
            verdict.ticket_id = event.ticket_id = row.facts.ticket_id
            verdict.product_number = event.product_number = row.facts.product_number
            event.zone_number = self.context.rules.gate_zone[gate_number]
        event.scan_id = scan.scan_id
        event.gate_number = gate_number
        event.direction = scan.direction or _ENTRY
        event.decision, event.reason = verdict.decision, verdict.reason
        event.scan_time_ms = scan.scan_time_ms
        self.partition.count_refusal(event.product_number)
        self.partition.scans.keep(scan.scan_id, verdict.SerializeToString())

    def _admit(
        self, scan: gate_pb2.Scan, genuine: _Genuine, admission: Admission, rule: Rule, verdict: gate_pb2.Verdict
    ) -> None:
        facts, moment, kind = genuine.row.facts, self.context.moment, admission.kind
        event = self.entry.events.add().scan_decided
        if genuine.row.origin == 0:
            event.claims, event.digest = scan.token[: tokens.CLAIMS_LENGTH], genuine.row.digest
            self.partition.see(event.claims, event.digest, facts.lifecycle)
        passing = Passing(kind, admission.persons, rule.gate_number, moment.time_ms, moment.day, rule.counts_inside)
        awaits = rule.passage_timeout_ms and kind is not Kind.EXIT
        deadline_ms = moment.time_ms + rule.passage_timeout_ms if awaits else 0
        first = kind is Kind.ENTRY and self._is_first(facts)
        hold = Hold(facts.ticket_id, rule.zone_number, facts.product_number, passing, first, deadline_ms)
        self.partition.count_admission(scan.scan_id, hold)
        _write_admission(event, scan, genuine, hold)
        event.persons_remaining, event.entries_remaining = admission.persons_remaining, admission.entries_remaining
        write_verdict(verdict, event)
        self.partition.scans.keep(scan.scan_id, verdict.SerializeToString())

    def _is_first(self, facts: Facts) -> bool:
        zones = self.context.rules.zones_of_product[facts.product_number]
        return self.partition.admitted(facts.ticket_id, zones) == 0

    def record_passage(self, report: gate_pb2.PassageReport, receipt: gate_pb2.PassageReceipt) -> None:
        """Records a passage report, or answers what was recorded before."""
        receipt.scan_id = report.scan_id
        hold = self.partition.holds.get(report.scan_id)
        if hold is None:
            # Settled before, or never held (an exit): a late or doubled report changes nothing.
            receipt.recorded = self.partition.settled.get(report.scan_id, _PASSED)  # type: ignore[assignment]
            return
        outcome = report.outcome
        if outcome != _NOT_PASSED or not self.partition.may_be_given_back(hold):
            outcome = _PASSED
        self.settle(report.scan_id, outcome)
        receipt.recorded = outcome

    def settle(self, scan_id: bytes, outcome: int) -> None:
        """Settles a hold and records it."""
        hold = self.partition.settle(scan_id, outcome)
        if hold is None:
            return
        event = self.entry.events.add().passage_recorded
        event.scan_id = scan_id
        event.ticket_id = hold.ticket_id
        event.gate_number = hold.passing.gate_number
        event.zone_number = hold.zone_number
        event.product_number = hold.product_number
        event.outcome = outcome  # type: ignore[assignment]
        event.kind = int(hold.passing.kind)  # type: ignore[assignment]
        if outcome == _NOT_PASSED:
            event.persons_given_back = hold.passing.persons
            event.first_admission_undone = hold.first_admission


def _device(scan: gate_pb2.Scan, gate_number: int, context: Context) -> Reason:
    if len(scan.scan_id) != SCAN_ID_LENGTH:
        return Reason.MALFORMED_CODE
    if gate_number not in context.rules.gate_zone:
        return Reason.WRONG_GATE
    age = context.moment.time_ms - scan.scan_time_ms
    return Reason.NONE if -SCAN_MAX_AHEAD_MS <= age <= SCAN_MAX_AGE_MS else Reason.CLOCK_SKEW


def _genuine(partition: Partition, scan: gate_pb2.Scan, context: Context) -> _Genuine | Reason:
    """The ticket of a token that sales signed, or why it is not one."""
    token = scan.token
    if len(token) != tokens.TOKEN_LENGTH:
        return _malformed(scan)
    row = partition.table.find(int.from_bytes(token[1:9], "big"))
    if row is not None and row.digest == tokens.digest(token):
        return _Genuine(row, _DIGEST if row.origin == Origin.REGISTERED else _SIGNATURE)
    if context.signature_checks_left <= 0:
        return Reason.BACKPRESSURE
    context.signature_checks_left -= 1
    try:
        tokens.verify(token, context.ring)
    except tokens.TokenFault as fault:
        return fault.reason
    if row is None:
        facts = facts_of_claims(token[: tokens.CLAIMS_LENGTH], Lifecycle.ACTIVE)
        return _Genuine(Row(facts, tokens.digest(token), 0, 0), _SIGNATURE)
    if row.origin == Origin.CHANGED:
        facts = facts_of_claims(token[: tokens.CLAIMS_LENGTH], row.facts.lifecycle)
        return _Genuine(Row(facts, row.digest, Origin.CHANGED, 0), _SIGNATURE)
    # Well signed, but not the code that sales registered for this ticket: an older or a second one.
    return Reason.REVOKED


def _malformed(scan: gate_pb2.Scan) -> Reason:
    try:
        tokens.check_form(scan.token or tokens.from_qr_text(scan.qr_text[:MAX_QR_TEXT]))
    except tokens.TokenFault as fault:
        return fault.reason
    return Reason.MALFORMED_CODE


def _write_admission(event: events_pb2.ScanDecided, scan: gate_pb2.Scan, genuine: _Genuine, hold: Hold) -> None:
    passing = hold.passing
    event.scan_id = scan.scan_id
    event.ticket_id = hold.ticket_id
    event.gate_number = passing.gate_number
    event.zone_number = hold.zone_number
    event.product_number = hold.product_number
    event.direction = scan.direction or _ENTRY
    event.decision = gate_pb2.DECISION_ADMIT
    event.kind = int(passing.kind)  # type: ignore[assignment]
    event.persons = passing.persons
    event.scan_time_ms = scan.scan_time_ms
    event.verification = genuine.verification  # type: ignore[assignment]
    event.first_admission = hold.first_admission
    event.counts_inside = passing.counts_inside
    event.passage_deadline_ms = hold.deadline_ms


def write_uses(verdict: gate_pb2.Verdict, visit: Visit) -> None:
    """First and last use of an entitlement before this scan, if it was used."""
    if visit.first_ms:
        verdict.first_use.admit_time_ms, verdict.first_use.gate_number = visit.first_ms, visit.first_gate
        verdict.last_use.admit_time_ms, verdict.last_use.gate_number = visit.last_ms, visit.last_gate


def write_verdict(verdict: gate_pb2.Verdict, event: events_pb2.ScanDecided) -> None:
    """The verdict that a decided scan was answered with; first and last use are the caller's, from before it."""
    verdict.scan_id = event.scan_id
    verdict.decision = event.decision
    verdict.reason = event.reason
    verdict.persons_admitted = event.persons
    verdict.persons_remaining = event.persons_remaining
    verdict.entries_remaining = event.entries_remaining
    verdict.ticket_id = event.ticket_id
    verdict.product_number = event.product_number
    verdict.decided_by = _CLUSTER
    verdict.verification = event.verification
    verdict.kind = event.kind
