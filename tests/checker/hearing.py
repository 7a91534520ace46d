"""I1, I2, I3, I5, I7 and I8 between clients and ledger: what was heard is what is written, and what guests really did.

The ledger proves that the cluster contradicts itself nowhere; this proves that it told the truth.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from parkgate.events.v1 import events_pb2 as pb
from parkgate.gate.v1 import gate_pb2 as gate
from tests.checker.history import OK, UNKNOWN, History, Operation
from tests.checker.ledger import Fact, Ledger
from tests.checker.violation import Violation

FAULTS = {"BACKPRESSURE", "TIMEOUT", "INTERNAL_ERROR"}
"""Reasons that are ours, never the guest's."""
DECISIONS = {number: name.removeprefix("DECISION_") for name, number in gate.Decision.items()}
REASONS = {number: name.removeprefix("REASON_") for name, number in gate.Reason.items()}
KINDS = {number: name.removeprefix("ADMISSION_KIND_") for name, number in gate.AdmissionKind.items()}


def check_hearing(history: History, ledger: Ledger) -> Iterator[Violation]:
    """All violations between what clients heard and what the ledger holds."""
    decided = {fact.body.scan_id.hex(): fact for fact in ledger.of("scan_decided")}
    yield from _verdicts(history, decided)
    yield from _shown(history, decided)
    yield from _passages(history, ledger)
    yield from _refunds(history, ledger)


def _verdicts(history: History, decided: dict[str, Fact]) -> Iterator[Violation]:
    """Every verdict that reached a gate, also those that came too late to be shown."""
    first: dict[str, Operation] = {}
    for heard in history.of("verdict"):
        answer, scan_id = heard.answer, heard.request["scan_id"]
        if answer["decision"] == "RETRY":
            continue
        if answer["reason"] in FAULTS:
            yield Violation("I7", f"scan {scan_id}", f"a fault of ours was told as {answer['decision']}", _said(heard))
        before = first.setdefault(scan_id, heard)
        if before.answer != answer:
            yield Violation("I3", f"scan {scan_id}", "was answered in two ways", f"{_said(before)}; {_said(heard)}")
        yield from _written(heard, decided.get(scan_id))


def _shown(history: History, decided: dict[str, Fact]) -> Iterator[Violation]:
    """What each attempt ended with, as its guest was shown."""
    for scan in history.of("scan"):
        subject, decision = f"scan {scan.request['scan_id']}", scan.answer.get("decision")
        if scan.request.get("forged") and decision == "ADMIT":
            yield Violation("I8", subject, "a forged code was admitted", _said(scan))
        if scan.completed is None:
            continue
        if decision == "ADMIT" and scan.answer["ticket"] != scan.request["ticket"]:
            what = f"the admission of ticket {scan.answer['ticket']} was shown for ticket {scan.request['ticket']}"
            yield Violation("I1", subject, what, _said(scan))
        if scan.outcome == UNKNOWN and decision != "RETRY":
            yield Violation("I7", subject, f"an unknown outcome was shown as {decision}", _said(scan))
        if decision != "RETRY":
            yield from _written(scan, decided.get(scan.request["scan_id"]))


def _written(heard: Operation, fact: Fact | None) -> Iterator[Violation]:
    """What was heard stands in the ledger, and stood there before it was heard."""
    subject, answer = f"scan {heard.request['scan_id']}", heard.answer
    if fact is None and answer["reason"] == "CLOCK_SKEW":
        return  # of a time that is far off: told, and not decided
    if fact is None:
        admitted = answer["decision"] == "ADMIT"
        promise = "I2" if admitted else "I7"
        what = "was heard and is not in the ledger" if admitted else "was refused, and nobody has decided that"
        yield Violation(promise, subject, f"{answer['decision']} {what}", _said(heard))
        return
    written = verdict_of(fact.body)
    if written != answer:
        yield Violation("I3", subject, f"the ledger says {written}", _said(heard))
    if fact.durable_ms is not None and heard.completed is not None and heard.completed < fact.durable_ms:
        late = fact.durable_ms - heard.completed
        yield Violation("I2", subject, f"was heard {late} ms before it was durable", f"{_said(heard)}; {fact.where}")


def verdict_of(scan: pb.ScanDecided | gate.Verdict) -> dict[str, Any]:
    """A decision as histories write it; of the event, or of the verdict that a gate heard."""
    persons = scan.persons if isinstance(scan, pb.ScanDecided) else scan.persons_admitted
    return {
        "decision": DECISIONS[scan.decision],
        "reason": REASONS[scan.reason],
        "persons": persons,
        "kind": KINDS[scan.kind],
        "ticket": scan.ticket_id,
    }


def _passages(history: History, ledger: Ledger) -> Iterator[Violation]:
    """Guests who really went through: never more than the ticket allows, and never on an entry that was given back."""
    terms = {item.request["ticket"]: item.request for item in history.of("issue")}
    recorded = {fact.body.scan_id.hex(): fact for fact in ledger.of("passage_recorded")}
    through: dict[tuple[int, int], int] = defaultdict(int)
    for passage in history.of("passage"):
        asked = passage.request
        if not asked["passed"]:
            continue
        fact = recorded.get(asked["scan_id"])
        if fact is not None and fact.body.outcome == gate.PASSAGE_OUTCOME_NOT_PASSED:
            what = "the guests went through, and their entry was given back"
            yield Violation("I1", f"scan {asked['scan_id']}", what, fact.where)
        if asked["kind"] == "ENTRY":
            through[asked["ticket"], asked["zone"]] += asked["persons"]
    for (ticket, zone), persons in through.items():
        allowed = terms[ticket]["entries"] * terms[ticket]["party"] if ticket in terms else 0
        if persons > allowed and (ticket not in terms or terms[ticket]["entries"]):
            what = f"{persons} persons went through, {allowed} may"
            yield Violation("I1", f"ticket {ticket} in zone {zone}", what)
    yield from _refunded_and_inside(history, {ticket for ticket, _ in through})


def _refunded_and_inside(history: History, used: set[int]) -> Iterator[Violation]:
    for refund in history.of("refund"):
        if refund.outcome == OK and refund.answer["changed"] == "DONE" and refund.request["ticket"] in used:
            ticket = refund.request["ticket"]
            yield Violation("I5", f"ticket {ticket}", "the guest is inside and has the money back", _said(refund))


def _refunds(history: History, ledger: Ledger) -> Iterator[Violation]:
    """Money that was given back was given back by the ledger, once; who asks again hears the same."""
    first: dict[str, Operation] = {}
    changed = {fact.body.request_id.hex() for fact in ledger.of("ticket_changed")}
    used = {fact.body.ticket_id for fact in ledger.of("scan_decided") if fact.body.decision == gate.DECISION_ADMIT}
    for refund in history.of("refund"):
        if refund.outcome != OK:
            continue
        done, written = refund.answer["changed"] == "DONE", refund.request["request_id"] in changed
        if refund.answer["changed"] == "ALREADY_USED" and refund.request["ticket"] not in used:
            what = "its refund was refused as used, and nobody was ever admitted on it"
            yield Violation("I7", f"ticket {refund.request['ticket']}", what, _said(refund))
        if done != written:
            says = "was refunded, and the ledger knows nothing of it" if done else "was refused, and the ledger did it"
            yield Violation("I5", f"ticket {refund.request['ticket']}", says, _said(refund))
        before = first.setdefault(refund.request["request_id"], refund)
        if before.answer != refund.answer:
            what, said = "its refund was answered in two ways", f"{_said(before)}; {_said(refund)}"
            yield Violation("I5", f"ticket {refund.request['ticket']}", what, said)


def _said(operation: Operation) -> str:
    return f"{operation.process} heard {operation.answer} at {operation.completed} ms (asked at {operation.invoked})"
