"""Writes verdicts: from what was logged, from earlier uses, and for what could not be decided."""

from __future__ import annotations

from parkgate.events.v1 import events_pb2
from parkgate.gate.v1 import gate_pb2
from ticketcore.admission import Visit


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
    verdict.decided_by = gate_pb2.DECIDED_BY_CLUSTER
    verdict.verification = event.verification
    verdict.kind = event.kind


def retry(verdict: gate_pb2.Verdict, scan_id: bytes, reason: gate_pb2.Reason.ValueType, after_ms: int) -> None:
    """The verdict for what could not be decided, for no fault of the guest (I7)."""
    verdict.scan_id = scan_id
    verdict.decision = gate_pb2.DECISION_RETRY
    verdict.reason = reason
    verdict.retry_after_ms = after_ms
    verdict.decided_by = gate_pb2.DECIDED_BY_CLUSTER


def in_frame(verdict: gate_pb2.Verdict) -> bytes:
    """A server frame that holds only this verdict. Protobuf joins what is repeated, so that such frames in a row are
    one frame with all of their verdicts."""
    return gate_pb2.ServerFrame(verdicts=(verdict,)).SerializeToString()
