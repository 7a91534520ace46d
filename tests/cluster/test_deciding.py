"""What a partition decides, from idempotency to commit: no ledger, no clock, no network."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.partition import ANSWER_LENGTH, REFUSALS_KEPT
from parkgate.cluster.v1 import control_pb2
from parkgate.events.v1 import events_pb2
from parkgate.gate.v1 import gate_pb2
from tests.cluster.plain_partition import Bench, visits_in
from tests.cluster.small_park import NOON_MS, reason, rules_after, scan, token
from ticketcore.admission import Mode

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


@pytest.mark.parametrize("zones", [["arena"], []])
@pytest.mark.parametrize("persons", [0, 2], ids=["by the short way", "looked at closely"])
def test_a_ticket_is_not_refunded_after_its_use_when_a_later_catalogue_takes_its_product_out_of_the_zone(
    zones: list[str], persons: int
) -> None:
    """I5: admissions are counted where they were, not where the catalogue in force would have them."""
    bench, code = Bench(), token("family", 1)
    bench.register(code)
    (admitted,) = bench.send(scan(code, 1, persons=persons))
    assert reason(admitted) == "ADMIT"
    bench.rules = rules_after({"family": zones})
    for again in (bench, bench.recovered(), bench.recovered(snapshot_after=2)):
        late = again.change(code, events_pb2.LIFECYCLE_REFUNDED, b"1" * 16)
        assert late.outcome == control_pb2.CHANGE_OUTCOME_ALREADY_USED
        assert late.state.persons_admitted == late.state.persons_inside == admitted.persons_admitted
        assert late.state.first_use.admit_time_ms == NOON_MS


@pytest.mark.parametrize("persons", [0, 2], ids=["by the short way", "looked at closely"])
def test_a_ticket_is_recognised_once_when_a_later_catalogue_lets_it_in_elsewhere(persons: int) -> None:
    """I6: revenue is recognised with a ticket's first admission anywhere, also where its product is no more."""
    bench, code = Bench(), token("family", 1)
    bench.register(code)
    first, second = scan(code, 1, lane=MAIN), scan(code, 2, lane=ARENA, persons=persons)
    bench.send(first)
    bench.lease(2, 5)
    bench.rules = rules_after({"family": ["arena"]})
    again = bench.recovered()
    (admitted,) = again.send(second)
    assert reason(admitted) == "ADMIT"
    assert again.partition.totals[2].admitted_first == 1
    again.passage(second, NOT_PASSED)
    assert again.partition.totals[2].admitted_first == 1
    again.passage(first, NOT_PASSED)
    assert again.partition.totals[2].admitted_first == 0
    assert again.change(code, events_pb2.LIFECYCLE_REFUNDED, b"1" * 16).outcome == control_pb2.CHANGE_OUTCOME_DONE


@pytest.mark.parametrize("zones", [["arena"], []], ids=["taken out of the zone", "withdrawn"])
def test_nobody_is_locked_in_by_a_later_catalogue(zones: list[str]) -> None:
    """I4: they leave and are counted out, and do not come in again."""
    bench, code = Bench(), token("family", 1)
    bench.register(code)
    bench.send(scan(code, 1, persons=3))
    bench.rules = rules_after({"family": zones})
    for again in (bench, bench.recovered()):
        again.rules = bench.rules
        refused = again.send(scan(code, 2))
        assert reason(refused[0]) in ("WRONG_GATE", "WRONG_PRODUCT")
    (some,) = bench.send(scan(code, 3, lane=SIDE, persons=2, direction=EXIT))
    assert (reason(some), some.persons_admitted, some.persons_remaining) == ("ADMIT", 2, 1)
    again = bench.recovered()
    again.rules = bench.rules
    (rest,) = again.send(scan(code, 4, direction=EXIT))
    assert (reason(rest), rest.persons_admitted) == ("ADMIT", 1)
    assert again.partition.zone_lease(1).inside == 0
    (nobody,) = again.send(scan(code, 5, direction=EXIT))
    assert reason(nobody) in ("WRONG_GATE", "WRONG_PRODUCT")


def test_who_was_let_in_on_a_signature_leaves_also_if_that_is_no_longer_enough() -> None:
    """I4: the registration of the ticket may still be on its way."""
    bench, code = Bench(), token("family", 1)
    bench.send(scan(code, 1, persons=3))
    strict = rules_after({})
    for pair, rule in strict.pairs.items():
        strict.pairs[pair] = replace(rule, admit_on_signature=False)
    bench.rules = strict
    assert reason(bench.send(scan(code, 2, persons=1))[0]) == "UNKNOWN_TICKET"
    (some,) = bench.send(scan(code, 3, direction=EXIT))
    assert (reason(some), some.persons_admitted) == ("ADMIT", 3)


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
def test_a_scan_time_that_no_calendar_holds_is_refused_and_not_logged(scan_time_ms: int) -> None:
    """I8: a reader of the log (reporting) could not turn it into a date and would stop there for ever."""
    bench = Bench()
    (verdict,) = bench.send(scan(token("day", 1), 1, scan_time_ms))
    assert reason(verdict) == "CLOCK_SKEW"
    assert bench.log == []


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


@pytest.mark.parametrize("price_minor", [-1, 2**48, 2**63 - 1])
def test_a_ticket_is_not_registered_at_a_price_that_nobody_pays(price_minor: int) -> None:
    """I8: a row has six bytes for it; nothing is written down that is not what was sent."""
    bench, code = Bench(), token("day", 1)
    assert len(bench.register(code, price_minor=price_minor).conflicting_ticket_ids) == 1
    assert bench.log == []
    assert bench.register(code, price_minor=2**48 - 1).registered == 1


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


REFUSED = control_pb2.CHANGE_OUTCOME_ALREADY_USED, control_pb2.CHANGE_OUTCOME_NOT_ALLOWED
DONE = control_pb2.CHANGE_OUTCOME_DONE


@pytest.mark.parametrize("snapshot_after", [None, 1, 2, 3])
def test_a_refund_that_was_refused_stays_refused_when_the_guest_turns_back(snapshot_after: int | None) -> None:
    """I5: whoever heard ALREADY_USED has booked it; a late copy of the question, or the sweep, must hear it too."""
    bench, code = Bench(), token("day", 1)
    bench.register(code)
    shown = scan(code, 1)
    bench.send(shown)
    assert bench.change(code, events_pb2.LIFECYCLE_REFUNDED, b"1" * 16).outcome == REFUSED[0]
    bench = bench.recovered(snapshot_after)
    assert bench.passage(shown, NOT_PASSED).recorded == NOT_PASSED
    again = bench.change(code, events_pb2.LIFECYCLE_REFUNDED, b"1" * 16)
    assert (again.outcome, again.state.lifecycle) == (REFUSED[0], events_pb2.LIFECYCLE_ACTIVE)
    assert bench.change(code, events_pb2.LIFECYCLE_REFUNDED, b"2" * 16).outcome == DONE
    assert bench.change(code, events_pb2.LIFECYCLE_REFUNDED, b"1" * 16).outcome == REFUSED[0]


def test_a_change_that_its_lifecycle_did_not_allow_stays_refused_when_it_would() -> None:
    bench, code = Bench(), token("day", 1)
    bench.register(code)
    assert bench.change(code, events_pb2.LIFECYCLE_ACTIVE, b"1" * 16).outcome == REFUSED[1]
    assert bench.change(code, events_pb2.LIFECYCLE_BLOCKED, b"2" * 16).outcome == DONE
    for again in (bench.recovered(), bench.recovered(snapshot_after=2), bench):
        assert again.change(code, events_pb2.LIFECYCLE_ACTIVE, b"1" * 16).outcome == REFUSED[1]
        assert again.change(code, events_pb2.LIFECYCLE_ACTIVE, b"3" * 16).outcome == DONE


def test_a_refusal_is_logged_once_and_one_that_no_ticket_could_change_never() -> None:
    """What is asked of every ticket in vain needs no memory, and a flood of it fills no log."""
    bench, code = Bench(), token("day", 1)
    bench.register(code)
    for _ in range(2):
        bench.change(code, events_pb2.LIFECYCLE_ACTIVE, b"1" * 16)
        bench.change(code, events_pb2.LIFECYCLE_UNPAID, b"2" * 16)
        bench.change(code, 0, b"3" * 16)
        bench.change(code, 99, b"4" * 16)
    refused = [event.ticket_change_refused for entry in bench.log[1:] for event in entry.events]
    assert [(event.request_id, event.to, event.refusal) for event in refused] == [
        (b"1" * 16, events_pb2.LIFECYCLE_ACTIVE, events_pb2.CHANGE_REFUSAL_NOT_ALLOWED)
    ]


def test_refusals_of_a_ticket_are_remembered_up_to_a_bound() -> None:
    bench, code = Bench(), token("day", 1)
    bench.register(code)
    for number in range(REFUSALS_KEPT + 40):
        bench.change(code, events_pb2.LIFECYCLE_ACTIVE, number.to_bytes(16, "big"))
    bench.change(code, events_pb2.LIFECYCLE_BLOCKED, b"1" * 16)
    (kept,) = bench.partition.refusals.values()
    assert len(kept) == REFUSALS_KEPT * ANSWER_LENGTH
    oldest = REFUSALS_KEPT + 40 - REFUSALS_KEPT
    assert bench.change(code, events_pb2.LIFECYCLE_ACTIVE, oldest.to_bytes(16, "big")).outcome == REFUSED[1]
    assert bench.change(code, events_pb2.LIFECYCLE_ACTIVE, (oldest - 1).to_bytes(16, "big")).outcome == DONE


def test_guests_who_were_seen_leaving_had_passed_whatever_the_turnstile_says() -> None:
    """I1: an entry given back after its exit would be an entry more, with nobody to show for it."""
    bench, code = Bench(), token("day", 1)
    entry = scan(code, 1)
    bench.send(entry, scan(code, 2, direction=EXIT))
    assert bench.passage(entry, NOT_PASSED).recorded == PASSED
    assert bench.partition.visit(int.from_bytes(code[1:9], "big"), 1).admitted == 1


@pytest.mark.parametrize("attempts", [1, 39, 40, 41])
def test_a_flood_of_forgeries_is_checked_up_to_a_bound_and_told_to_come_again_beyond(attempts: int) -> None:
    """I7, I8: what was not checked is RETRY, never a bad ticket, and is decided when it comes again."""
    bench = Bench()
    forged = [scan(token("day", 1)[:17] + bytes([number]) * 64, number) for number in range(1, attempts + 1)]
    verdicts = bench.send(*forged)
    retried = [verdict for verdict in verdicts if verdict.decision == gate_pb2.DECISION_RETRY]
    assert len(retried) == max(attempts - 40, 0)
    assert all(verdict.retry_after_ms and reason(verdict) == "BACKPRESSURE" for verdict in retried)
    again = bench.send(*forged)
    assert {reason(verdict) for verdict in again} == {"BAD_SIGNATURE"}


_tokens = st.one_of(
    st.binary(max_size=120),
    st.builds(
        lambda claims, signature: bytes((1 << 5 | 3,)) + claims + signature,
        st.binary(min_size=16, max_size=16),
        st.binary(min_size=64, max_size=64),
    ),
    st.builds(
        lambda number, position, mask: _altered(token("day", number), position, mask),
        st.integers(1, 3),
        st.integers(0, 80),
        st.integers(1, 255),
    ),
)


def _altered(code: bytes, position: int, mask: int) -> bytes:
    return code[:position] + bytes((code[position] ^ mask,)) + code[position + 1 :]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(_tokens, st.text(max_size=40), st.integers(0, 6), st.integers(0, 2**32 - 1)), max_size=6))
def test_nothing_that_sales_did_not_sign_is_admitted_whatever_its_bytes(items: list[tuple]) -> None:
    """I8: registered or not, known key or not, as bytes or as text."""
    bench = Bench()
    bench.register(token("day", 1), token("day", 2))
    genuine = {token("day", number) for number in (1, 2, 3)}
    scans = [
        scan(code, number, qr_text=text, lane=lane, persons=persons)
        for number, (code, text, lane, persons) in enumerate(items, 1)
        if code not in genuine
    ]
    for verdict in bench.send(*scans):
        assert verdict.decision in {gate_pb2.DECISION_REJECT, gate_pb2.DECISION_RETRY}
        assert verdict.ticket_id == 0
    for item in scans:
        dry = gate_pb2.Verdict()
        batch = bench.batch()
        decider = batch.decider(0)
        assert decider is not None
        decider.dry_run(item, 11, dry)
        assert dry.decision != gate_pb2.DECISION_ADMIT
    assert not visits_in(bench.partition)


def test_a_dry_run_changes_nothing_and_is_not_remembered() -> None:
    bench, code = Bench(), token("show", 1)
    bench.register(code)
    before = len(bench.log)
    for item in (scan(code, 1), scan(code[:40], 2)):
        batch, dry = bench.batch(), gate_pb2.Verdict()
        decider = batch.decider(0)
        assert decider is not None
        decider.dry_run(item, 21, dry)
        bench.commit(batch)
    assert (len(bench.log), len(bench.partition.scans), visits_in(bench.partition)) == (before, 0, {})


def test_the_order_of_checks_from_idempotency_to_capacity() -> None:
    """Each scan has every fault from its own on; the first that is checked is told."""
    bench = Bench()
    code = token("show", 1, entries=1)
    bench.register(code)
    other_key = token("show", 2, key_id=9)
    bench.modes = {21: Mode.SUSPENDED}
    arena = {"lane": ARENA}
    late, nowhere = scan(other_key, 1, NOON_MS - 200_000, lane=9), scan(other_key, 2, lane=9)
    unknown_key, closed = scan(other_key, 3, **arena), scan(code, 4, **arena)
    told = [reason(verdict) for verdict in bench.send(late, nowhere)]
    assert told == ["CLOCK_SKEW", "WRONG_GATE"]
    bench.change(code, events_pb2.LIFECYCLE_BLOCKED, b"1" * 16)
    assert [reason(verdict) for verdict in bench.send(unknown_key, closed)] == ["UNKNOWN_KEY", "ENTRY_SUSPENDED"]
    bench.modes = {}
    assert reason(bench.send(scan(code, 5, **arena))[0]) == "BLOCKED"
    bench.change(code, events_pb2.LIFECYCLE_ACTIVE, b"2" * 16)
    assert reason(bench.send(scan(code, 6, **arena))[0]) == "CAPACITY_FULL"
    bench.lease(2, 1)
    assert reason(bench.send(scan(code, 7, **arena))[0]) == "ADMIT"
    assert reason(bench.send(closed)[0]) == "ENTRY_SUSPENDED", "idempotency comes before everything"


def test_another_well_signed_code_of_a_registered_ticket_is_revoked() -> None:
    """I1, I8: two codes of one ticket would be two entitlements; only the one that sales registered is good."""
    bench, code = Bench(), token("day", 1)
    bench.register(code)
    (other,) = bench.send(scan(token("day", 1, valid_days=9, entries=9), 1))
    assert reason(other) == "REVOKED"
    assert reason(bench.send(scan(code, 2))[0]) == "ADMIT"
