"""What a partition decides, from idempotency to commit: no ledger, no clock, no network."""

from __future__ import annotations

import pytest

from parkgate.cluster.v1 import control_pb2
from parkgate.events.v1 import events_pb2
from parkgate.gate.v1 import gate_pb2
from tests.cluster.plain_partition import Bench
from tests.cluster.small_park import NOON_MS, reason, scan, token

EXIT = gate_pb2.DIRECTION_EXIT
PASSED, NOT_PASSED = gate_pb2.PASSAGE_OUTCOME_PASSED, gate_pb2.PASSAGE_OUTCOME_NOT_PASSED
MAIN, SIDE, ARENA, RIDE = range(4)


def test_a_ticket_blocked_and_freed_before_its_registration_is_not_refunded_after_its_use() -> None:
    """I5: the ticket was known by its change only, without a product, so that nobody looked at its visits."""
    bench, code = Bench(), token("day", 1)
    assert bench.change(code, events_pb2.LIFECYCLE_BLOCKED, b"1" * 16).outcome == control_pb2.CHANGE_OUTCOME_DONE
    assert bench.change(code, events_pb2.LIFECYCLE_ACTIVE, b"2" * 16).outcome == control_pb2.CHANGE_OUTCOME_DONE
    (admitted,) = bench.send(scan(code, 1))
    assert reason(admitted) == "ADMIT"
    late = bench.change(code, events_pb2.LIFECYCLE_REFUNDED, b"3" * 16)
    assert late.outcome == control_pb2.CHANGE_OUTCOME_ALREADY_USED
    assert late.state.persons_admitted == 1
    again = bench.recovered()
    assert again.change(code, events_pb2.LIFECYCLE_REFUNDED, b"4" * 16) == late


def test_the_first_admission_stays_while_anybody_of_the_ticket_is_admitted() -> None:
    """I6: a family comes in two parts and the first turns out not to have passed: the ticket is used all the same."""
    bench, code = Bench(), token("family", 1)
    bench.register(code)
    first, second = scan(code, 1, persons=3), scan(code, 2, persons=1)
    bench.send(first, second)
    assert bench.passage(first, NOT_PASSED).recorded == NOT_PASSED
    assert bench.partition.totals[2].admitted_first == 1
    assert bench.passage(second, NOT_PASSED).recorded == NOT_PASSED
    assert bench.partition.totals[2].admitted_first == 0
    bench.send(scan(code, 3))
    assert bench.partition.totals[2].admitted_first == 1
    undone = [
        event.passage_recorded.first_admission_undone
        for entry in bench.log
        for event in entry.events
        if event.HasField("passage_recorded")
    ]
    assert undone == [False, True]
    assert bench.recovered().partition.totals == bench.partition.totals


def test_a_passage_report_of_a_scan_that_was_never_admitted_records_nothing() -> None:
    """I7: PASSED would have told a gate that an entry it gives back was taken, while the scan is still on its way."""
    bench, code = Bench(), token("day", 1)
    bench.register(code)
    unseen, refused, admitted, left = scan(code, 1), scan(code[:50], 2), scan(code, 3), scan(code, 4, direction=EXIT)
    assert bench.passage(unseen, NOT_PASSED) == gate_pb2.PassageReceipt(scan_id=unseen.scan_id)
    bench.send(refused, admitted)
    refused.token = code  # the report names the ticket, whatever was scanned
    assert bench.passage(refused, PASSED).recorded == gate_pb2.PASSAGE_OUTCOME_UNSPECIFIED
    assert bench.passage(admitted, PASSED).recorded == PASSED
    bench.send(left)
    assert bench.passage(left, PASSED).recorded == PASSED
    assert bench.passage(left, NOT_PASSED).recorded == PASSED, "an exit is never given back"


@pytest.mark.parametrize("scan_time_ms", [-(2**63), -1, 2**63 - 1])
def test_a_scan_time_that_no_calendar_holds_is_refused_and_logged_as_one_that_it_holds(scan_time_ms: int) -> None:
    """I8: a reader of the log (reporting) could not turn it into a date and would stop there for ever."""
    bench = Bench()
    (verdict,) = bench.send(scan(token("day", 1), 1, scan_time_ms))
    assert reason(verdict) == "CLOCK_SKEW"
    logged = bench.log[0].events[0].scan_decided
    assert 0 <= logged.scan_time_ms <= 4_102_444_800_000


def test_a_direction_that_the_protocol_does_not_know_counts_and_is_logged_as_an_entry() -> None:
    """I8"""
    bench, code = Bench(), token("day", 1)
    bench.send(scan(code, 1, direction=77), scan(code, 2, direction=-1))
    assert [event.scan_decided.direction for event in bench.log[0].events] == [gate_pb2.DIRECTION_ENTRY] * 2


@pytest.mark.parametrize("scan_id", [b"", b"short", bytes(17), bytes(100_000)])
def test_a_scan_without_a_proper_id_is_refused_and_leaves_nothing_behind(scan_id: bytes) -> None:
    """I8: nothing can be remembered by an id that is none; the log and the memory are not a place to write to."""
    bench, code = Bench(), token("day", 1)
    bench.register(code)
    attempt = scan(code, 1)
    attempt.scan_id = scan_id
    (verdict,) = bench.send(attempt)
    assert reason(verdict) == "MALFORMED_CODE"
    assert (len(bench.log), len(bench.partition.scans)) == (1, 0)


@pytest.mark.parametrize("lifecycle", [-1, 4, 9, 300])
def test_a_ticket_is_not_registered_in_a_state_that_it_cannot_begin_in(lifecycle: int) -> None:
    """I8: such a row would stop its owner at every scan."""
    bench, code = Bench(), token("day", 1)
    response = bench.register(code, lifecycle=lifecycle)
    assert len(response.conflicting_ticket_ids) == 1
    assert bench.log == []


def test_a_ticket_whose_claims_no_issuer_writes_is_not_registered() -> None:
    bench, code = Bench(), token("day", 1)
    response = bench.register(code[:9] + bytes(2) + code[11:])
    assert len(response.conflicting_ticket_ids) == 1


@pytest.mark.parametrize("to", [-1, 0, 9, 300])
def test_a_change_to_a_state_that_does_not_exist_is_not_allowed(to: int) -> None:
    """I8"""
    bench, code = Bench(), token("day", 1)
    bench.register(code)
    assert bench.change(code, to, b"1" * 16).outcome == control_pb2.CHANGE_OUTCOME_NOT_ALLOWED


def test_an_older_request_that_comes_again_changes_nothing() -> None:
    """A repeated block after the unblock would lock a guest out whom staff have let in."""
    bench, code = Bench(), token("day", 1)
    bench.register(code)
    bench.change(code, events_pb2.LIFECYCLE_BLOCKED, b"1" * 16)
    bench.change(code, events_pb2.LIFECYCLE_ACTIVE, b"2" * 16)
    again = bench.recovered().change(code, events_pb2.LIFECYCLE_BLOCKED, b"1" * 16)
    assert again.outcome == control_pb2.CHANGE_OUTCOME_DONE
    assert again.state.lifecycle == events_pb2.LIFECYCLE_ACTIVE


def test_noon_is_noon() -> None:
    bench = Bench()
    assert bench.batch().context.moment.minute == 12 * 60
    assert bench.now_ms == NOON_MS
