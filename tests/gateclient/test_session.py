"""The gate's session over a seeded, faulty link. Proves I3 and I7 on the gate's side, and its share of I1."""

from __future__ import annotations

import random
from datetime import date

import pytest
from seeded_link import SeededLink, TinyCluster, Weather

from gateclient.link_events import (
    GREETING_LIMIT_MS,
    HEARTBEAT_AFTER_MS,
    MAX_OPEN_WORK,
    SILENCE_LIMIT_MS,
    Instant,
    LinkDead,
    SessionLimits,
    Settled,
)
from gateclient.session import Session
from parkgate.gate.v1 import gate_pb2 as pb
from ticketcore.token import Claims, encode_claims

LIMITS = SessionLimits(answer_ms=400, reply_ms=60, receipt_ms=150, rescan_ms=1_000)


def scan_of(ticket: int, attempt: int, lane: int = 0) -> pb.Scan:
    token = encode_claims(Claims(1, ticket, 7, date(2026, 5, 1))) + bytes(64)
    return pb.Scan(scan_id=b"%8d%8d" % (ticket, attempt), token=token, lane=lane)


def link_of(seed: int, weather: Weather, retry_share: float = 0.0) -> SeededLink:
    chance = random.Random(seed)
    return SeededLink(Session(("north-1",), "test", LIMITS), TinyCluster(chance, retry_share), weather, chance)


def opened(session: Session) -> Instant:
    now = Instant(0, 0)
    session.connected(now)
    assert session.next_frame(now) is not None
    session.received(pb.ServerFrame(welcome=pb.Welcome()), now)
    return now


def test_a_scan_on_a_good_link_is_sent_once_and_settled_with_the_clusters_verdict() -> None:
    link = link_of(1, Weather())
    link.submit(scan_of(5, 1))
    link.run(30)
    assert [(v.decision, v.ticket_id) for v in link.settled] == [(pb.DECISION_ADMIT, 5)]
    assert link.session.stats.scans_sent == 1


def test_hello_goes_first_and_scans_wait_for_the_welcome() -> None:
    session = Session(("north-1", "north-2"), "test", LIMITS)
    session.submit(scan_of(1, 1), Instant(0, 0))
    assert session.next_frame(Instant(0, 0)) is None
    session.connected(Instant(1, 77))
    hello = session.next_frame(Instant(1, 77))
    assert hello is not None
    assert list(hello.hello.gate_ids) == ["north-1", "north-2"]
    assert hello.hello.device_time_ms == 77
    assert not hello.scans
    assert session.next_frame(Instant(2, 78)) is None
    session.received(pb.ServerFrame(welcome=pb.Welcome()), Instant(3, 79))
    frame = session.next_frame(Instant(3, 79))
    assert frame is not None
    assert not frame.HasField("hello")
    assert len(frame.scans) == 1


def test_all_scans_that_wait_go_in_one_frame_up_to_the_protocols_thousand() -> None:
    session = Session(("g",), "test", LIMITS)
    now = opened(session)
    for ticket in range(1, 1_302):
        session.submit(scan_of(ticket, 1), now)
    sizes = []
    while (frame := session.next_frame(now)) is not None:
        sizes.append(len(frame.scans))
    assert sizes == [1_000, 301]


def test_a_lost_reply_is_asked_again_with_the_same_scan_id() -> None:
    """I3, the gate's side."""
    session = Session(("g",), "test", LIMITS)
    opened(session)
    session.submit(scan_of(1, 1), Instant(0, 0))
    first = session.next_frame(Instant(0, 0))
    assert session.next_frame(Instant(LIMITS.reply_ms - 1, 0)) is None
    second = session.next_frame(Instant(LIMITS.reply_ms, 0))
    assert first is not None
    assert second is not None
    assert second.scans[0] == first.scans[0]


def test_a_retry_is_asked_again_after_the_time_that_the_server_gave() -> None:
    session = Session(("g",), "test", LIMITS)
    opened(session)
    scan = scan_of(1, 1)
    session.submit(scan, Instant(0, 0))
    session.next_frame(Instant(0, 0))
    told = pb.Verdict(scan_id=scan.scan_id, decision=pb.DECISION_RETRY, reason=pb.REASON_BACKPRESSURE)
    told.retry_after_ms = 120
    assert session.received(pb.ServerFrame(verdicts=[told]), Instant(5, 0)) == []
    assert session.next_wake_ms() == 125
    assert session.next_frame(Instant(124, 0)) is None
    again = session.next_frame(Instant(125, 0))
    assert again is not None
    assert again.scans[0] == scan


@pytest.mark.parametrize("decision", [pb.DECISION_UNSPECIFIED, 99])
def test_a_decision_that_this_client_does_not_know_is_never_shown(decision: int) -> None:
    """I7: an unknown outcome is never ADMIT."""
    session = Session(("g",), "test", LIMITS)
    opened(session)
    scan = scan_of(1, 1)
    session.submit(scan, Instant(0, 0))
    session.next_frame(Instant(0, 0))
    strange = pb.Verdict(scan_id=scan.scan_id)
    strange.decision = decision  # type: ignore[assignment]
    assert session.received(pb.ServerFrame(verdicts=[strange]), Instant(1, 0)) == []
    shown = session.tick(Instant(LIMITS.answer_ms, 0))
    assert [event.verdict.decision for event in shown if isinstance(event, Settled)] == [pb.DECISION_RETRY]


def test_with_no_answer_before_the_deadline_the_guest_is_told_retry_and_never_blamed() -> None:
    """I7."""
    session = Session(("g",), "test", LIMITS)
    session.submit(scan_of(1, 1), Instant(0, 0))
    assert session.tick(Instant(LIMITS.answer_ms - 1, 0)) == []
    (event,) = session.tick(Instant(LIMITS.answer_ms, 0))
    assert isinstance(event, Settled)
    assert event.verdict.decision == pb.DECISION_RETRY
    assert event.verdict.reason == pb.REASON_TIMEOUT
    assert event.verdict.decided_by == pb.DECIDED_BY_GATE


def test_the_same_code_after_an_unknown_outcome_is_the_same_attempt() -> None:
    """I3 and I7: the first try was admitted and its reply lost; the guest tries again and is let in, not refused."""
    link = link_of(2, Weather())
    link.run(20)
    link.submit(scan_of(9, 1))
    link.run(1)
    link.up = False
    link.cut()
    link.run(LIMITS.answer_ms)
    assert [v.decision for v in link.settled] == [pb.DECISION_RETRY]
    assert link.cluster.used == {9: 1}
    link.up = True
    assert link.submit(scan_of(9, 2)) == scan_of(9, 1).scan_id
    link.run(50)
    assert link.settled[-1].decision == pb.DECISION_ADMIT
    assert link.cluster.used == {9: 1}


def test_an_unknown_outcome_that_nobody_comes_back_for_is_given_back() -> None:
    """I1's other half: what nobody used is not lost to the guest."""
    link = link_of(2, Weather())
    link.run(20)
    link.submit(scan_of(9, 1))
    link.run(1)
    link.up = False
    link.cut()
    link.run(LIMITS.answer_ms + LIMITS.rescan_ms + 5)
    link.up = True
    link.run(100)
    assert link.cluster.used == {9: 0}
    assert link.session.open_work == 0
    assert link.submit(scan_of(9, 2)) == scan_of(9, 2).scan_id
    link.run(50)
    assert link.settled[-1].decision == pb.DECISION_ADMIT


def test_a_late_admit_is_given_back_and_its_scan_id_never_used_again() -> None:
    """I1: the stored answer of that scan_id is an ADMIT whose entry was given back."""
    session = Session(("g",), "test", LIMITS)
    opened(session)
    scan = scan_of(9, 1)
    session.submit(scan, Instant(0, 0))
    session.next_frame(Instant(0, 0))
    session.tick(Instant(LIMITS.answer_ms, 0))
    late = pb.Verdict(scan_id=scan.scan_id, decision=pb.DECISION_ADMIT, ticket_id=9)
    session.received(pb.ServerFrame(verdicts=[late, late]), Instant(LIMITS.answer_ms + 1, 0))
    frame = session.next_frame(Instant(LIMITS.answer_ms + 1, 0))
    assert frame is not None
    assert [(r.scan_id, r.outcome, r.ticket_id) for r in frame.passages] == [
        (scan.scan_id, pb.PASSAGE_OUTCOME_NOT_PASSED, 9)
    ]
    again = scan_of(9, 2)
    assert session.submit(again, Instant(LIMITS.answer_ms + 2, 0))[0] == again.scan_id


def test_a_doubled_admit_of_a_scan_that_was_shown_is_not_given_back() -> None:
    session = Session(("g",), "test", LIMITS)
    opened(session)
    scan = scan_of(9, 1)
    session.submit(scan, Instant(0, 0))
    session.next_frame(Instant(0, 0))
    admit = pb.Verdict(scan_id=scan.scan_id, decision=pb.DECISION_ADMIT, ticket_id=9)
    assert len(session.received(pb.ServerFrame(verdicts=[admit, admit]), Instant(1, 0))) == 1
    assert session.received(pb.ServerFrame(verdicts=[admit]), Instant(2, 0)) == []
    assert session.unreceipted == 0


def test_a_passage_report_is_sent_again_until_it_is_receipted() -> None:
    session = Session(("g",), "test", LIMITS)
    opened(session)
    report = pb.PassageReport(scan_id=bytes(16), ticket_id=3, outcome=pb.PASSAGE_OUTCOME_PASSED)
    session.report_passage(report, Instant(0, 0))
    assert session.next_frame(Instant(0, 0)) == pb.ClientFrame(passages=[report])
    assert session.next_frame(Instant(LIMITS.receipt_ms - 1, 0)) is None
    assert session.next_frame(Instant(LIMITS.receipt_ms, 0)) == pb.ClientFrame(passages=[report])
    not_yet = pb.PassageReceipt(scan_id=bytes(16), retry_after_ms=50)
    session.received(pb.ServerFrame(receipts=[not_yet]), Instant(100, 0))
    assert session.unreceipted == 1
    assert session.next_frame(Instant(150, 0)) == pb.ClientFrame(passages=[report])
    done = pb.PassageReceipt(scan_id=bytes(16), recorded=pb.PASSAGE_OUTCOME_PASSED)
    session.received(pb.ServerFrame(receipts=[done]), Instant(151, 0))
    assert session.unreceipted == 0
    assert session.next_frame(Instant(5_000, 0)) is None


@pytest.mark.parametrize(("after_ms", "sent"), [(-1, False), (0, True), (1, True)])
def test_a_heartbeat_goes_out_when_nothing_else_did_for_ten_seconds(after_ms: int, sent: bool) -> None:
    session = Session(("g",), "test", LIMITS)
    opened(session)
    frame = session.next_frame(Instant(HEARTBEAT_AFTER_MS + after_ms, 5))
    assert (frame is not None and frame.heartbeat.count == 1) is sent


def test_a_link_that_stays_silent_is_declared_dead() -> None:
    session = Session(("g",), "test", LIMITS)
    opened(session)
    assert session.tick(Instant(SILENCE_LIMIT_MS - 1, 0)) == []
    (event,) = session.tick(Instant(SILENCE_LIMIT_MS, 0))
    assert isinstance(event, LinkDead)


def test_more_work_than_the_bound_is_told_retry_at_once_and_nothing_is_kept_of_it() -> None:
    """I7: too much at once is our fault, not the guest's."""
    session = Session(("g",), "test", LIMITS)
    now = opened(session)
    for ticket in range(1, MAX_OPEN_WORK + 1):
        assert session.submit(scan_of(ticket, 1), now)[1] == []
    _, (event,) = session.submit(scan_of(MAX_OPEN_WORK + 1, 1), now)
    assert isinstance(event, Settled)
    assert event.verdict.decision == pb.DECISION_RETRY
    assert event.verdict.reason == pb.REASON_BACKPRESSURE
    assert session.open_work == MAX_OPEN_WORK


@pytest.mark.parametrize("seed", range(40))
def test_through_any_weather_every_scan_is_settled_once_and_the_books_agree(seed: int) -> None:
    """I1, I3, I7: an ADMIT shown is an admission on the cluster's books; in the end each ticket was let in at most
    once, what was given back was not shown as passed, and every passage report was receipted."""
    chance = random.Random(seed * 7 + 1)
    weather = Weather(
        drop=chance.choice([0.0, 0.1, 0.4]),
        double=chance.choice([0.0, 0.2]),
        break_link=chance.choice([0.0, 0.02]),
        delay_ms=chance.choice([(1, 5), (1, 90), (50, 300)]),
    )
    link = link_of(seed, weather, retry_share=chance.choice([0.0, 0.3]))
    asked = 0
    passed: set[bytes] = set()
    for attempt in range(120):
        link.submit(scan_of(chance.randint(1, 30), attempt, lane=chance.randint(0, 1)))
        asked += 1
        before = len(link.settled)
        link.run(chance.randint(1, 700) if attempt % 3 else 2)
        for verdict in link.settled[before:]:
            if verdict.decision == pb.DECISION_ADMIT:
                passed.add(verdict.scan_id)
                report = pb.PassageReport(scan_id=verdict.scan_id, ticket_id=verdict.ticket_id)
                report.outcome = pb.PASSAGE_OUTCOME_PASSED
                link.session.report_passage(report, link.now)
    link.weather = Weather()
    link.run(GREETING_LIMIT_MS + LIMITS.answer_ms + LIMITS.rescan_ms + 1_000)

    shown_admits = [verdict for verdict in link.settled if verdict.decision == pb.DECISION_ADMIT]
    assert len(link.settled) == asked
    assert len({verdict.ticket_id for verdict in shown_admits}) == len(shown_admits)
    assert all(link.cluster.answers[verdict.scan_id] == verdict for verdict in shown_admits)
    assert all(link.cluster.passages[scan_id] == pb.PASSAGE_OUTCOME_PASSED for scan_id in passed)
    assert sum(link.cluster.used.values()) == len(shown_admits)
    assert link.session.open_work == 0
