"""State after live decisions == state after a replay of the log == state after a snapshot and the rest (I2, I3, I6)."""

from __future__ import annotations

from collections import Counter, defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.partition import Partition
from cluster.recovery import COUNTERS, replay, restore
from cluster.runs import AdmissionRun
from cluster.scan_memory import SCAN_MEMORY_MS
from cluster.snapshot_parts import snapshot
from cluster.ticket_table import USE, USE_END, USE_OFFSET
from cluster.visit_keys import ticket_of, zone_of
from parkgate.events.v1 import events_pb2
from parkgate.gate.v1 import gate_pb2
from tests.cluster.elementary import elementary
from tests.cluster.plain_partition import Bench, replayed, rows_of, visits_in
from tests.cluster.small_park import NOON_MS, RULES, reason, rules_after, scan, scan_id, ticket_id, token
from ticketcore.admission import Passing
from ticketcore.errors import DamagedDataError
from ticketcore.lifecycle import CHANGES, VOIDING, Lifecycle
from ticketcore.token import Flags

PASSED, NOT_PASSED = gate_pb2.PASSAGE_OUTCOME_PASSED, gate_pb2.PASSAGE_OUTCOME_NOT_PASSED
CODES = [
    token("day", 1),
    token("day", 2),
    token("family", 3),
    token("two-day", 4),
    token("show", 5),
    token("rides", 6),
    token("pass", 7, flags=Flags.IDENTITY),
    token("day", 300),  # in another chunk of the table
]
CATALOGUES = [RULES, rules_after({"day": ["arena"], "two-day": ["park"]}, 2), rules_after({"day": [], "rides": []}, 3)]
codes = st.sampled_from(CODES)
lanes = st.integers(0, 4)
steps = st.one_of(
    st.tuples(
        st.just("scan"),
        st.lists(
            st.tuples(codes, lanes, st.sampled_from([0, 0, 1, 2, 3]), st.sampled_from([0, 1, 2, 2]), st.booleans()),
            min_size=1,
            max_size=4,
        ),
    ),
    st.tuples(
        st.just("scan"),
        st.lists(st.tuples(codes, lanes, st.just(0), st.just(0), st.just(True)), min_size=1, max_size=4),
    ),
    st.tuples(st.just("repeat"), st.integers(1, 30)),
    st.tuples(st.just("forge"), st.binary(min_size=81, max_size=81)),
    st.tuples(st.just("passage"), st.integers(0, 30), st.sampled_from([PASSED, NOT_PASSED, NOT_PASSED])),
    st.tuples(st.just("register"), codes, st.sampled_from([0, 2, 3])),
    st.tuples(st.just("change"), codes, st.integers(1, 8), st.integers(1, 5)),
    st.tuples(st.just("change"), codes, st.sampled_from([1, 4]), st.integers(1, 5)),
    st.tuples(st.just("lease"), st.integers(1, 12)),
    st.tuples(st.just("recall"), st.integers(1, 6)),
    st.tuples(st.just("publish"), st.integers(0, 2)),
    st.tuples(st.just("void_used"), st.integers(6, 9)),
    st.tuples(st.just("ask_again")),
    st.tuples(st.just("wait"), st.sampled_from([1, 1_999, 2_000, 60_000, 8 * 3_600_000, 24 * 3_600_000])),
)


class Day:
    """Plays steps on a bench and remembers what was sent."""

    def __init__(self) -> None:
        self.bench = Bench()
        self.bench.register(*CODES[::2], price_minor=5_900)
        self.sent: list[gate_pb2.Scan] = []
        self.answers: dict[tuple[bytes, int], tuple[int, int]] = {}
        """By ticket and request: what it asked for, and what it was told."""

    def play(self, step: tuple) -> None:
        what, *details = step
        getattr(self, what)(*details)
        self.bench.assume_passages()

    def scan(self, items: list[tuple]) -> None:
        scans = []
        for code, lane, persons, direction, proof_seen in items:
            fields = {"lane": lane, "persons": persons, "direction": direction, "proof_seen": proof_seen}
            scans.append(scan(code, len(self.sent) + len(scans) + 1, self.bench.now_ms, **fields))
        self.sent += scans
        self.bench.send(*scans)

    def repeat(self, count: int) -> None:
        self.bench.send(*self.sent[-count:])

    def forge(self, code: bytes) -> None:
        self.scan([(code, 0, 0, 0, False)])

    def passage(self, number: int, outcome: int) -> None:
        if self.sent:
            self.bench.passage(self.sent[number % len(self.sent)], outcome)

    def register(self, code: bytes, lifecycle: int) -> None:
        self.bench.register(code, lifecycle=lifecycle, price_minor=100)

    def change(self, code: bytes, to: int, request: int) -> None:
        outcome = self.bench.change(code, to, request.to_bytes(16, "big")).outcome
        if to in CHANGES:  # else it is refused whatever was asked before
            _, before = self.answers.setdefault((code, request), (to, outcome))
            assert outcome == before, "a request was answered in two ways"

    def lease(self, more: int) -> None:
        self.bench.lease(2, self.bench.partition.zone_lease(2).received_total + more)

    def recall(self, wanted: int) -> None:
        self.bench.recall(2, wanted)

    def void_used(self, request: int) -> None:
        for code in CODES:
            if any(self.bench.partition.visit(ticket_id(code), zone).admitted for zone in (1, 2, 3)):
                self.change(code, Lifecycle.REFUNDED, request)

    def ask_again(self) -> None:
        for (code, request), (to, _) in list(self.answers.items()):
            self.change(code, to, request)

    def publish(self, catalogue: int) -> None:
        self.bench.rules = CATALOGUES[catalogue]

    def wait(self, ms: int) -> None:
        self.bench.now_ms += ms


def state_of(partition: Partition) -> dict[str, object]:
    """Everything that a partition holds, but for how old its memory of scans is."""
    chunks, deadlines = list(partition.table.chunks.items()), awaited(partition)
    assert partition.awaited == sum(map(len, deadlines.values()))
    remembered = {*partition.scans.young, *partition.scans.old}
    members = {scan_id for items in deadlines.values() for _, scan_id, _ in items}
    assert {scan_id for scan_id in remembered if partition.passing(scan_id) is not None} <= members
    return {
        "sequence": partition.sequence,
        "time": partition.last_time_ms,
        "rows": {number: [row[:USE_OFFSET] + row[USE_END:] for row in rows_of(rows)] for number, rows in chunks},
        "tickets": len(partition.table),
        "visits": visits_in(partition),
        "settled": partition.settled,
        "deadlines": deadlines,
        "leases": {
            number: lease
            for number, lease in partition.leases.items()
            if lease.received_total or lease.returned_total or lease.inside
        },
        "changes": partition.changes,
        "refusals": partition.refusals,
        "totals": dict(partition.totals),
    }


def awaited(partition: Partition) -> dict[int, list[tuple[int, bytes, Passing]]]:
    """Passages that are awaited, by time-out, in the order in which they fall due; those of one instant by scan."""
    due: dict[int, list[tuple[int, bytes, Passing]]] = {}
    for timeout, queue in partition.deadlines.items():
        for deadline_ms, held in queue:
            members = held.scan_ids if isinstance(held, AdmissionRun) else [held]
            due.setdefault(timeout, []).extend(
                (deadline_ms, member, passing)
                for member in members
                if (passing := partition.passing(member)) is not None
            )
    return {timeout: sorted(items) for timeout, items in due.items() if items}


def answers_of(bench: Bench, sent: list[gate_pb2.Scan]) -> list[bytes | None]:
    """What the scan memory tells of scans that may still be repeated."""
    answers: list[bytes | None] = []
    for item in sent:
        if bench.now_ms - item.scan_time_ms > 300_000:
            continue
        verdict = gate_pb2.Verdict()
        known = bench.partition.scans.recall(item.scan_id, verdict)
        answers.append(verdict.SerializeToString(deterministic=True) if known else None)
    return answers


@settings(max_examples=120, deadline=None)
@given(st.lists(steps, min_size=1, max_size=25), st.floats(0, 1))
def test_a_partition_comes_back_exactly_as_it_was(story: list[tuple], cut: float) -> None:
    """I2, I3, I6: counters, holds, leases, totals, tickets, and every answer that may still be asked again."""
    day = Day()
    for step in story:
        day.play(step)
    live = day.bench
    for snapshot_after in (None, max(1, int(cut * len(live.log)))):
        again = live.recovered(snapshot_after)
        assert state_of(again.partition) == state_of(live.partition)
        assert answers_of(again, day.sent) == answers_of(live, day.sent)
        # And it goes on alike.
        more = [scan(code, 1_000 + number, live.now_ms, proof_seen=True) for number, code in enumerate(CODES)]
        assert again.send(*more) == live.recovered().send(*more)


class Recount:
    """What the log alone says of persons and tickets; an audit, event by event."""

    def __init__(self, log: list[events_pb2.LogEntry]) -> None:
        self.entered: Counter[tuple[int, int]] = Counter()
        self.inside: Counter[int] = Counter()
        self.tickets: dict[int, set[int]] = defaultdict(set)
        self.decided: list[bytes] = []
        self._admissions: dict[bytes, events_pb2.ScanDecided] = {}
        self._voided: set[int] = set()
        for entry in log:
            for event in elementary(entry):
                body = event.WhichOneof("body")
                getattr(self, str(body), lambda _: None)(getattr(event, str(body)))

    def scan_decided(self, scan: events_pb2.ScanDecided) -> None:
        self.decided.append(scan.scan_id)
        if scan.decision != gate_pb2.DECISION_ADMIT:
            return
        self._admissions[scan.scan_id] = scan
        leaving = scan.kind == gate_pb2.ADMISSION_KIND_EXIT
        self.inside[scan.zone_number] += scan.persons * scan.counts_inside * (-1 if leaving else 1)
        if scan.kind == gate_pb2.ADMISSION_KIND_ENTRY:
            assert scan.ticket_id not in self._voided, "admitted after it was voided"
            self.entered[scan.ticket_id, scan.zone_number] += scan.persons
        if scan.first_admission:
            self.tickets[scan.product_number].add(scan.ticket_id)

    def passage_recorded(self, passage: events_pb2.PassageRecorded) -> None:
        scan, back = self._admissions[passage.scan_id], passage.persons_given_back
        self.inside[scan.zone_number] -= back * scan.counts_inside
        if scan.kind == gate_pb2.ADMISSION_KIND_ENTRY:
            self.entered[scan.ticket_id, scan.zone_number] -= back
        if passage.first_admission_undone:
            self.tickets[passage.product_number].remove(passage.ticket_id)

    def ticket_changed(self, change: events_pb2.TicketChanged) -> None:
        if Lifecycle(change.to) in VOIDING:
            self._voided.add(change.ticket_id)
            used = sum(persons for (ticket, _), persons in self.entered.items() if ticket == change.ticket_id)
            assert used == 0, "voided after an admission"


ALLOWED = {1: 1, 2: 1, 3: 4, 4: 2, 5: 1, 6: 3, 300: 1}
"""Persons who may enter each zone, by the ticket's sequence; the pass is not counted."""


@settings(max_examples=150, deadline=None)
@given(st.lists(steps, min_size=1, max_size=25))
def test_whatever_happens_nobody_is_admitted_twice_and_the_books_agree(story: list[tuple]) -> None:
    """I1, I4, I5, I6: the promises, recounted from the log alone."""
    day = Day()
    for step in story:
        day.play(step)
    day.ask_again()
    partition, recount = day.bench.partition, Recount(day.bench.log)
    assert len(recount.decided) == len(set(recount.decided)), "a scan was decided twice"
    for code in CODES:
        number = ticket_id(code)
        for zone in (1, 2, 3):
            entered = recount.entered[number, zone]
            assert entered <= ALLOWED.get(number & 0xFFFF_FFFF, entered)
            assert partition.visit(number, zone).admitted == entered
    for zone in (1, 2, 3):
        assert partition.zone_lease(zone).inside == recount.inside[zone]
    arena = partition.zone_lease(2)
    assert arena.inside <= arena.received_total - arena.returned_total
    for product, totals in partition.totals.items():
        assert totals.admitted_first == len(recount.tickets[product])


def test_an_entry_that_does_not_follow_is_damage() -> None:
    bench = Bench()
    bench.register(token("day", 1))
    bench.send(scan(token("day", 1), 1))
    partition = Partition("p0", 1)
    with pytest.raises(DamagedDataError, match="sequence 2"):
        replay(partition, bench.log[1], RULES)
    replay(partition, bench.log[0], RULES)
    with pytest.raises(DamagedDataError, match="sequence 1"):
        replay(partition, bench.log[0], RULES)
    partition.epoch = bench.log[1].epoch + 1
    with pytest.raises(DamagedDataError, match="epoch"):
        replay(partition, bench.log[1], RULES)


def test_an_event_of_another_owner_is_damage() -> None:
    entry = events_pb2.LogEntry(sequence=1, time_ms=NOON_MS)
    entry.events.add().hold_changed.hold_id = b"x"
    with pytest.raises(DamagedDataError, match="hold_changed"):
        replay(Partition("p0", 1), entry, RULES)


@pytest.mark.parametrize(("name", "partitions"), [("p1", 1), ("p0", 2)])
def test_a_snapshot_of_another_partition_or_another_division_is_damage(name: str, partitions: int) -> None:
    data = snapshot(Partition("p0", 1), 1)
    with pytest.raises(DamagedDataError, match="p0"):
        restore(Partition(name, partitions), data, partitions)


def of_layout_2(partition: Partition) -> events_pb2.PartitionSnapshot:
    """The snapshot as versions before wrote it: no uses, every visit by its ticket."""
    record = events_pb2.PartitionSnapshot.FromString(snapshot(partition, 1))
    for name in ("uses", "inside", "visits"):
        record.ClearField(name)
    record.format = 2
    for chunk in record.chunks:
        chunk.rows = b"".join(row[:USE_OFFSET] + USE.pack(0) + row[USE_END:] for row in rows_of(chunk.rows))
    for key, visit in visits_in(partition).items():
        counters = [getattr(visit, name) for name in COUNTERS]
        record.visits.add(ticket_ids=[ticket_of(key)], zone_number=zone_of(key), counters=counters)
    return record


@settings(max_examples=60, deadline=None)
@given(st.lists(steps, min_size=1, max_size=20))
def test_a_snapshot_of_the_layout_before_is_read(story: list[tuple]) -> None:
    """I1, I2: a park is brought up to date without counting anything again."""
    day = Day()
    for step in story:
        day.play(step)
    again = Partition("p0", 1)
    restore(again, of_layout_2(day.bench.partition).SerializeToString(), 1)
    assert state_of(again) == state_of(day.bench.partition)


def test_a_snapshot_of_an_earlier_version_tells_by_its_visits_where_tickets_were_admitted() -> None:
    bench = Bench()
    bench.register(*CODES)
    bench.send(scan(CODES[0], 1), scan(CODES[2], 2, persons=2), scan(CODES[5], 3, lane=3))
    stored = of_layout_2(bench.partition)
    for totals in stored.totals:
        totals.ClearField("zone_numbers")
    again = Partition("p0", 1)
    restore(again, stored.SerializeToString(), 1)
    assert {product: totals.zones for product, totals in again.totals.items() if totals.zones} == {
        1: {1},
        2: {1},
        5: {3},
    }
    assert again.totals == bench.partition.totals


@pytest.mark.parametrize("registered", [True, False], ids=["in a run", "by themselves"])
def test_a_hold_that_was_restored_is_still_settled_by_report_or_clock(registered: bool) -> None:
    bench = Bench()
    first, second = scan(token("day", 1), 1), scan(token("day", 2), 2)
    if registered:
        bench.register(first.token, second.token)
    bench.send(first, second)
    again = bench.recovered(snapshot_after=len(bench.log))
    assert again.passage(first, NOT_PASSED).recorded == NOT_PASSED
    for after_ms, settled in ((1_999, False), (2_000, True)):
        again.now_ms = NOON_MS + after_ms
        again.assume_passages()
        assert (second.scan_id in again.partition.settled) is settled
    late = again.passage(second, NOT_PASSED)
    assert late.recorded == gate_pb2.PASSAGE_OUTCOME_ASSUMED, "counted as passed, and marked so"
    assert replayed(again.log, RULES).settled == again.partition.settled


@pytest.mark.parametrize("settled", [gate_pb2.PASSAGE_OUTCOME_PASSED, gate_pb2.PASSAGE_OUTCOME_ASSUMED])
def test_a_passage_that_was_settled_before_a_snapshot_is_settled_after_it(settled: int) -> None:
    """I1, I5: a device that says later that nobody went through would give the entry back."""
    bench, shown = Bench(), scan(token("day", 1), 1)
    bench.register(shown.token)
    bench.send(shown)
    if settled == gate_pb2.PASSAGE_OUTCOME_PASSED:
        bench.passage(shown, settled)
    else:
        bench.now_ms += 20_000
        bench.assume_passages()
    again = bench.recovered(snapshot_after=len(bench.log))
    assert again.passage(shown, NOT_PASSED).recorded == settled
    assert reason(again.send(scan(shown.token, 2, again.now_ms))[0]) == "ALREADY_USED"


def test_a_passage_is_awaited_for_longer_than_its_scan_is_remembered() -> None:
    """I4, I5: a gate that gives guests ten minutes, or a clock that was put right."""
    bench = Bench()
    shown = [scan(token("day", number), number) for number in (1, 2, 3)]
    bench.register(*(item.token for item in shown))
    bench.send(*shown)
    for _ in range(2):
        bench.now_ms += SCAN_MEMORY_MS
        bench.batch()
    assert len(bench.partition.scans) == 0
    again = Partition("p0", 1)
    restore(again, snapshot(bench.partition, 1), 1)
    assert state_of(again) == state_of(bench.partition)
    for partition in (bench.partition, again):
        bench.partition, logged = partition, len(bench.log)
        assert bench.passage(shown[1], NOT_PASSED).recorded == NOT_PASSED
        assert partition.awaited == 2
        bench.assume_passages()
        assert partition.settled[shown[0].scan_id] == gate_pb2.PASSAGE_OUTCOME_ASSUMED
        assert (partition.awaited, partition.holds) == (0, {})
        assert len(bench.log) == logged + 2


def test_a_forgotten_settlement_is_answered_by_the_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.partition.SETTLED_MEMORY", 1)
    bench = Bench()
    bench.send(scan(token("day", 1), 1), scan(token("day", 2), 2))
    for number in (1, 2):
        bench.passage(scan(token("day", number), number), PASSED)
    assert list(bench.partition.settled) == [scan_id(2)]
    assert bench.passage(scan(token("day", 1), 1), PASSED).recorded == PASSED


def test_a_scan_that_was_refused_off_an_unregistered_ticket_is_recalled_after_recovery() -> None:
    bench, code = Bench(), token("pass", 1)
    (refused,) = bench.send(scan(code, 1, proof_seen=True))
    assert reason(refused) == "UNKNOWN_TICKET"
    assert bench.recovered().send(scan(code, 1)) == [refused]
