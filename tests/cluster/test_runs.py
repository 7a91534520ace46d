"""The short way of a first entry decides as the long way does, and a run is logged in the order of what was decided."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.batch import Group
from cluster.recovery import replay, restore
from cluster.runs import alike_of
from cluster.short_way import DeciderOf, Piece, ShortWay
from cluster.snapshot_parts import snapshot
from cluster.verdicts import write_verdict
from parkgate.events.v1 import events_pb2
from parkgate.gate.v1 import gate_pb2
from tests.cluster.elementary import elementary
from tests.cluster.plain_partition import GATES, Bench, Ignored, replayed
from tests.cluster.small_park import MAIN, NOON_MS, RULES, SIDE, reason, scan, scan_id, ticket_id, token
from tests.cluster.test_recovery import Day, answers_of, state_of, steps
from ticketcore.admission import Mode
from ticketcore.errors import DamagedDataError

EXIT, NOT_PASSED = gate_pb2.DIRECTION_EXIT, gate_pb2.PASSAGE_OUTCOME_NOT_PASSED


def singly(log: list[events_pb2.LogEntry]) -> list[bytes]:
    return [event.SerializeToString(deterministic=True) for entry in log for event in elementary(entry)]


def bodies(bench: Bench) -> list[str | None]:
    return [event.WhichOneof("body") for entry in bench.log for event in entry.events]


def _all_of(_way: ShortWay, pieces: Iterable[Piece], _decider_of: DeciderOf) -> Iterator[tuple[Group, int]]:
    for group, first, heads in pieces:
        for position, _ in enumerate(heads, first):
            yield group, position


@settings(max_examples=100, deadline=None)
@given(st.lists(steps, min_size=1, max_size=25))
def test_the_short_way_decides_and_logs_what_the_long_way_does(story: list[tuple]) -> None:
    """I1, I3, I4, I8: taking the short way away changes no verdict, no event and nothing that is kept."""
    short, long = Day(), Day()
    for step in story:
        short.play(step)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ShortWay, "left_over", _all_of)
        for step in story:
            long.play(step)
    assert sorted(singly(short.bench.log)) == sorted(singly(long.bench.log))
    assert state_of(short.bench.partition) == state_of(long.bench.partition)
    assert answers_of(short.bench, short.sent) == answers_of(long.bench, long.sent)


def test_scans_that_are_not_a_first_entry_take_the_long_way() -> None:
    """Each with its own reason; what is only unusual is still admitted."""
    bench, codes = Bench(modes={12: Mode.CLOSED}), [token("day", number) for number in range(1, 9)]
    bench.register(*codes)
    bench.change(codes[7], events_pb2.LIFECYCLE_BLOCKED, b"r" * 16)
    told = bench.send(
        scan(codes[0], 1),
        scan(codes[0], 1),  # a retry
        scan(codes[0], 2),  # another scan of the same ticket
        scan(codes[1], 3, direction=EXIT),
        scan(codes[2], 4, persons=1),
        scan(codes[3], 5, lane=1),  # a closed gate
        scan(codes[4], 6, lane=9),  # no gate
        scan(codes[5][:-1] + bytes([codes[5][-1] ^ 1]), 7),
        scan(codes[6], 8, NOON_MS - 600_000),
        scan(codes[7], 9),
    )
    assert [reason(verdict) for verdict in told] == [
        "ADMIT",
        "ADMIT",
        "ALREADY_USED",
        "NOT_INSIDE",
        "ADMIT",
        "GATE_CLOSED",
        "WRONG_GATE",
        "BAD_SIGNATURE",
        "CLOCK_SKEW",
        "BLOCKED",
    ]
    assert told[0] == told[1]
    assert told[2].first_use.admit_time_ms == NOON_MS


def test_a_run_ends_where_something_else_is_logged() -> None:
    bench, codes = Bench(), [token("day", number) for number in range(1, 5)]
    bench.register(*codes)
    bench.send(scan(codes[0], 1), scan(codes[1], 2), scan(codes[0], 3), scan(codes[2], 4), scan(codes[3], 5))
    assert bodies(bench)[4:] == ["scans_admitted", "scan_decided", "scans_admitted"]
    logged = [event.scan_decided.scan_id for event in elementary(bench.log[1])]
    assert logged == [scan_id(number) for number in range(1, 6)]


def test_a_member_of_a_run_gives_its_entry_back_alone() -> None:
    """Members share their counters: changing one's must leave the others' as they are (I1)."""
    bench, codes = Bench(), [token("day", 1), token("day", 2)]
    bench.register(*codes)
    scans = [scan(code, number) for number, code in enumerate(codes, 1)]
    bench.send(*scans)
    assert bench.passage(scans[0], NOT_PASSED).recorded == NOT_PASSED
    assert [bench.partition.visit(ticket_id(code), 1).admitted for code in codes] == [0, 1]
    told = bench.send(scan(codes[0], 3), scan(codes[1], 4))
    assert [verdict.decision for verdict in told] == [gate_pb2.DECISION_ADMIT, gate_pb2.DECISION_REJECT]
    assert state_of(bench.recovered().partition) == state_of(bench.partition)


def test_forged_claims_leave_nothing_behind_in_what_is_kept_for_a_minute() -> None:
    """I8: a flood of invented claims may not fill the memory."""
    bench, code = Bench(), token("day", 1)
    bench.register(code)
    bench.send(*(scan(code[:9] + number.to_bytes(8, "big") + code[17:], number) for number in range(1, 30)))
    assert bench.minute is not None
    assert not bench.minute.first_entries


def test_a_run_whose_columns_differ_in_length_is_damage() -> None:
    bench, codes = Bench(), [token("day", 1), token("day", 2)]
    bench.register(*codes)
    bench.send(*(scan(code, number) for number, code in enumerate(codes, 1)))
    entry = bench.log[1]
    entry.events[0].scans_admitted.gate_numbers.pop()
    with pytest.raises(DamagedDataError, match="columns"):
        replay(replayed(bench.log[:1], RULES), entry, RULES)


def test_uses_are_as_many_as_ways_in_which_tickets_were_first_used() -> None:
    """A device whose clock is wrong, or a crowd before a full zone, would else fill the memory."""
    bench, codes = Bench(), [token("day", number) for number in range(1, 6)]
    bench.register(*codes)
    shared = bench.partition.uses
    none = len(shared.still())
    for number in range(10):
        bench.send(scan(codes[0], number, NOON_MS - 600_000))
    assert len(shared.still()) == none + 1
    bench.send(scan(codes[1], 21), scan(codes[2], 22), scan(codes[3], 23, lane=1))
    assert [use.visit.first_gate for use in shared.still() if use] == [MAIN, SIDE]
    bench.send(scan(codes[4], 24))
    assert len([use for use in shared.still() if use]) == 3, "another batch is another instant"


def test_a_snapshot_of_an_earlier_layout_is_refused() -> None:
    bench = Bench()
    record = events_pb2.PartitionSnapshot.FromString(snapshot(bench.partition, 1))
    record.format = 1
    with pytest.raises(DamagedDataError, match="layout 1"):
        restore(Bench().partition, record.SerializeToString(), 1)


def test_a_stencil_writes_what_protobuf_writes() -> None:
    event = events_pb2.ScanDecided(
        zone_number=300, product_number=70_000, decision=gate_pb2.DECISION_ADMIT, persons=4, verification=1, kind=1
    )
    alike = alike_of(event.SerializeToString(deterministic=True), 0)
    for number in (0, 1, 2**64 - 1):
        wanted = gate_pb2.Verdict()
        write_verdict(wanted, event)
        wanted.scan_id, wanted.ticket_id = b"s" * 16, number
        before, between, after = alike.stencil
        frame = before + b"s" * 16 + between + number.to_bytes(8, "little") + after
        assert gate_pb2.ServerFrame.FromString(frame).verdicts == [wanted]


def test_what_groups_say_counts_in_the_order_in_which_they_came() -> None:
    """A guest is turned back, and shows the ticket at the next gate at once: both arrive together."""
    turned_back = gate_pb2.PASSAGE_OUTCOME_NOT_PASSED
    for report_first in (True, False):
        bench, code = Bench(), token("day", 1)
        bench.register(code)
        shown = scan(code, 1)
        assert reason(bench.send(shown)[0]) == "ADMIT"
        report = gate_pb2.PassageReport(scan_id=shown.scan_id, ticket_id=ticket_id(code), outcome=turned_back)
        frames = [gate_pb2.ClientFrame(passages=[report]), gate_pb2.ClientFrame(scans=[scan(code, 2)])]
        groups = [Group(Ignored(), 1, frame, GATES) for frame in frames]  # type: ignore[arg-type]
        batch = bench.batch()
        batch.decide_groups(groups if report_first else groups[::-1])
        bench.commit(batch)
        answer = gate_pb2.ServerFrame.FromString(groups[1].answer()).verdicts[0]
        assert reason(answer) == ("ADMIT" if report_first else "ALREADY_USED")


def test_a_batch_is_gone_with_its_last_answer() -> None:
    """Nothing in it leads back to it: what only the cycle collector frees holds guests up while it is freed."""
    bench, codes = Bench(), [token("day", number) for number in (1, 2)]
    bench.register(*codes)
    batch = bench.batch()
    group = Group(Ignored(), 1, gate_pb2.ClientFrame(scans=[scan(code, 7) for code in codes]), GATES)  # type: ignore[arg-type]
    batch.decide_groups([group])
    bench.commit(batch)
    gone = weakref.ref(batch)
    gc.disable()
    try:
        del batch
        assert gone() is None
    finally:
        gc.enable()
