"""What the workers make of an entry: a run in columns is worth as many single events in its place (I6)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC

from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.runs import scan_ids_of
from parkgate.events.v1 import events_pb2
from parkgate.gate.v1 import gate_pb2
from reporting.batch import batch_of
from reporting.copy_rows import FIRST_FIELDS, PASSAGE_FIELDS, SCAN_FIELDS
from reporting.reconcile import CountBook
from reporting.recount import Recount
from tests.cluster.elementary import elementary
from tests.cluster.plain_partition import Bench
from tests.cluster.small_park import scan, token
from tests.simulation.servers import copied, numbers_of

CODES = [token("day", number) for number in range(1, 9)] + [token("family", 20), token("pass", 21), token("show", 22)]
POSITION = 3
SCAN_IDS = {SCAN_FIELDS: 14, PASSAGE_FIELDS: 11, FIRST_FIELDS: 6}
"""Where the fields of a row stand; the scan ids by how many there are."""
PASSED, NOT_PASSED = gate_pb2.PASSAGE_OUTCOME_PASSED, gate_pb2.PASSAGE_OUTCOME_NOT_PASSED


def morning(order: list[tuple[int, int]], reports: list[tuple[int, int]]) -> list[events_pb2.LogEntry]:
    bench = Bench()
    bench.register(*CODES, price_minor=5_900)
    scans = [scan(CODES[code], number, lane=lane) for number, (code, lane) in enumerate(order, 1)]
    bench.send(*scans)
    for number, outcome in reports:
        bench.passage(scans[number % len(scans)], outcome)
    bench.now_ms += 2_000
    bench.assume_passages()
    return bench.log


def taken_apart(log: list[events_pb2.LogEntry]) -> list[events_pb2.LogEntry]:
    single = []
    for entry in log:
        copy = events_pb2.LogEntry()
        copy.CopyFrom(entry)
        copy.ClearField("events")
        copy.events.extend(elementary(entry))
        single.append(copy)
    return single


def members(rows: bytearray) -> list[tuple[object, ...]]:
    """Every member of rows that are runs: what it shares, its position, scan id, and what each further column says."""
    found: list[tuple[object, ...]] = []
    for fields in copied(rows):
        first = SCAN_IDS[len(fields)]
        columns = (scan_ids_of(fields[first]), *map(numbers_of, fields[first + 1 :]))
        place = int.from_bytes(fields[POSITION], "big")
        shared = (*fields[:POSITION], *fields[POSITION + 1 : first])
        found += [(*shared, place + nth, *member) for nth, member in enumerate(zip(*columns, strict=True))]
    return found


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, len(CODES) - 1), st.integers(0, 3)), min_size=1, max_size=20),
    st.lists(st.tuples(st.integers(0, 30), st.sampled_from([PASSED, NOT_PASSED])), max_size=8),
)
def test_a_run_is_counted_as_its_members_would_be(order: list[tuple[int, int]], reports: list[tuple[int, int]]) -> None:
    log = morning(order, reports)
    together, apart = batch_of("p0", log, UTC), batch_of("p0", taken_apart(log), UTC)
    assert members(together.scans) == members(apart.scans)
    assert members(together.passages) == members(apart.passages)
    assert members(together.first) == members(apart.first)
    rows = {"scans": bytearray(), "passages": bytearray(), "first": bytearray()}
    assert replace(together, **rows) == replace(apart, **rows)
    books = []
    for events in ([event for entry in log for event in entry.events], [e for entry in log for e in elementary(entry)]):
        recount = Recount()
        for event in events:
            recount.take(event)
        books.append(recount.book())
    assert books[0] == books[1]


def test_a_refund_that_was_refused_is_kept_to_be_read_and_counted_nowhere() -> None:
    """I6"""
    bench = Bench()
    bench.register(CODES[0], price_minor=5_900)
    bench.send(scan(CODES[0], 1))
    before = batch_of("p0", bench.log, UTC)
    bench.change(CODES[0], events_pb2.LIFECYCLE_REFUNDED, b"1" * 16)
    after = batch_of("p0", bench.log, UTC)
    ((*_, kind, body),) = after.quotas
    assert kind == "ticket_change_refused"
    assert '"refusal": "CHANGE_REFUSAL_ALREADY_USED"' in body
    one_more = {"entries": before.entries + 1, "events": before.events + 1, "last_sequence": before.last_sequence + 1}
    assert replace(before, quotas=after.quotas, **one_more) == after
    assert counted(bench.log) == counted(bench.log[:-1])


def counted(log: list[events_pb2.LogEntry]) -> CountBook:
    recount = Recount()
    for entry in log:
        for event in entry.events:
            recount.take(event)
    return recount.book()


def test_a_morning_is_logged_in_runs() -> None:
    """Or the test above would compare single events with themselves."""
    log = morning([(number, number % 2) for number in range(8)], [])
    bodies = [event.WhichOneof("body") for entry in log for event in entry.events]
    # Half of them through the gate that awaits a passage, half through the one that does not.
    assert bodies == ["ticket_registered"] * len(CODES) + ["scans_admitted"] * 2 + ["passages_recorded"]
