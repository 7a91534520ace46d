"""A recount over snapshots that owners write and logs that they trim, against one of everything ever logged. I6."""

from __future__ import annotations

import pytest
import redis as redis_sync
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger_writer import PartitionLog, admitted, columns_of, passage, refused, registered

from cluster.ledger import Ledger, at_once
from cluster.partition import Partition
from cluster.recovery import replay
from cluster.snapshot_parts import snapshot
from parkgate.events.v1 import events_pb2 as pb
from parkgate.gate.v1 import gate_pb2 as gate
from reporting.log_reader import make_client
from reporting.reconcile import CountBook
from reporting.recount import Recount, recount
from tests.cluster import small_park
from tests.cluster.plain_partition import Bench
from tests.cluster.small_park import scan, token
from tests.cluster.test_recovery import Day, steps
from ticketcore.errors import DamagedDataError

PARTITIONS = 4
ENTRY, EXIT = gate.DIRECTION_ENTRY, gate.DIRECTION_EXIT


def counted(entries: list[pb.LogEntry], before: bytes = b"") -> CountBook:
    counter = Recount()
    if before:
        counter.take_snapshot(pb.PartitionSnapshot.FromString(before))
    for entry in entries:
        for event in entry.events:
            counter.take(event)
    return counter.book()


@settings(max_examples=120, deadline=None)
@given(st.lists(steps, min_size=1, max_size=25), st.floats(0, 1))
def test_a_snapshot_and_the_log_after_it_count_as_the_whole_log_does(story: list[tuple], cut: float) -> None:
    """Of live decisions, cut anywhere: refusals, scans, persons, passages, tickets, money."""
    day = Day()
    for step in story:
        day.play(step)
    log = day.bench.log
    kept = int(cut * len(log))
    owner = Bench().partition
    for entry in log[:kept]:
        replay(owner, entry, small_park.RULES)
    whole = counted(log)
    assert counted(log[kept:], snapshot(owner, 1)) == whole
    assert counted([], snapshot(day.bench.partition, 1)) == whole


def test_a_snapshot_counts_every_kind_of_admission_and_passage() -> None:
    """Each count once by hand: random stories seldom re-enter."""
    bench, family = Bench(), token("family", 1)
    bench.register(family, price_minor=9_900)
    visits = [(1, ENTRY, 4), (2, EXIT, 3), (3, ENTRY, 2), (4, ENTRY, 1), (5, ENTRY, 1)]
    for number, direction, persons in visits:
        (verdict,) = bench.send(scan(family, number, bench.now_ms, direction=direction, persons=persons))
        outcome = gate.PASSAGE_OUTCOME_NOT_PASSED if number == 4 else gate.PASSAGE_OUTCOME_PASSED
        bench.passage(scan(family, number), outcome)
        bench.now_ms += 60_000
    assert verdict.kind == gate.ADMISSION_KIND_REENTRY
    bench.send(scan(family, 6, bench.now_ms))
    book = counted([], snapshot(bench.partition, 1))
    assert {name: (count.units, count.amount_minor) for name, count in book.counts.items()} == {
        "registered product=2": (1, 9_900),
        "admitted product=2": (1, 9_900),
        "scans entry": (1, 0),
        "persons entry": (4, 0),
        "scans exit": (1, 0),
        "persons exit": (3, 0),
        "scans reentry": (3, 0),
        "persons reentry": (4, 0),
        "passages passed": (3, 0),
        "passages not_passed": (1, 0),
        "persons given back": (1, 0),
        "refused reason=ALREADY_USED": (1, 0),
    }
    assert counted(bench.log) == book


def test_of_tickets_that_came_together_a_snapshot_counts_those_that_were_turned_back_as_unused() -> None:
    """They share the visit of their admission until then."""
    bench, codes = Bench(), [token("day", number) for number in (1, 2, 3)]
    bench.register(*codes, price_minor=100)
    shown = [scan(code, number) for number, code in enumerate(codes, 1)]
    bench.send(*shown)
    bench.passage(shown[1], gate.PASSAGE_OUTCOME_NOT_PASSED)
    book = counted([], snapshot(bench.partition, 1))
    assert book == counted(bench.log)
    assert book.counts["admitted product=1"].units == 2


def a_morning(log: PartitionLog) -> list[pb.LogEntry]:
    """Tickets 3, 7, 11 are of partition p3 of four. The last is admitted before it is registered, and turned back."""
    early = admitted(11, 3, persons=2)
    claims = registered(11, price=900).ticket_registered.claims
    early.scan_decided.claims, early.scan_decided.digest = claims, bytes(12)
    for event in (first := admitted(3, 1), early):
        event.scan_decided.passage_deadline_ms = log.time_ms + 20_000
    return [
        log.append([registered(3, price=4_000), registered(7, product=2, price=1)]),
        log.append([first, early, refused(3, 4, gate.REASON_ALREADY_USED)]),
        log.append([passage(first, gate.PASSAGE_OUTCOME_PASSED)]),
        log.append([registered(11, price=900)]),
        log.append([passage(early, gate.PASSAGE_OUTCOME_NOT_PASSED, undone=True), refused(0, 5, gate.REASON_EXPIRED)]),
    ]


@pytest.mark.parametrize("trimmed", [1, 2, 3, 4, 5])
async def test_a_trimmed_log_counts_as_before_it_was_trimmed(valkey_url: str, trimmed: int) -> None:
    with redis_sync.Redis.from_url(valkey_url) as writer:
        entries = a_morning(PartitionLog(writer, "p3"))
    client, ledger = make_client(valkey_url), Ledger(valkey_url)
    whole = await recount(client, ("p0", "p3"))
    owner = Partition("p3", PARTITIONS)
    for entry in entries[:trimmed]:
        replay(owner, entry, small_park.RULES)
    epoch = (await ledger.take("p3", "test")).epoch
    await ledger.write_snapshot("p3", epoch, trimmed, at_once(snapshot(owner, PARTITIONS)))
    await ledger.trim("p3", trimmed + 1)
    assert await recount(client, ("p0", "p3")) == whole
    assert whole.counts["registered product=1"].amount_minor == 4_900
    assert whole.counts["persons given back"].units == 2
    await ledger.close()
    await client.aclose()


async def test_a_trimmed_log_without_a_snapshot_that_reaches_it_is_refused(valkey_url: str) -> None:
    client, ledger = make_client(valkey_url), Ledger(valkey_url)
    with redis_sync.Redis.from_url(valkey_url) as writer:
        entries = a_morning(PartitionLog(writer, "p3"))
    await ledger.trim("p3", 3)
    with pytest.raises(DamagedDataError, match="begins at entry 3, and there is no snapshot"):
        await recount(client, ("p3",))
    owner = Partition("p3", PARTITIONS)
    replay(owner, entries[0], small_park.RULES)
    epoch = (await ledger.take("p3", "test")).epoch
    await ledger.write_snapshot("p3", epoch, 1, at_once(snapshot(owner, PARTITIONS)))
    with pytest.raises(DamagedDataError, match="its snapshot ends at 1"):
        await recount(client, ("p3",))
    replay(owner, entries[1], small_park.RULES)
    older = pb.PartitionSnapshot.FromString(snapshot(owner, PARTITIONS))
    older.format = 1
    await ledger.write_snapshot("p3", epoch, 2, at_once(older.SerializeToString()))
    with pytest.raises(DamagedDataError, match="has layout 1, this version reads 2 and 3"):
        await recount(client, ("p3",))
    await ledger.close()
    await client.aclose()


async def test_a_trimmed_log_of_quotas_hinders_no_recount(valkey_url: str) -> None:
    client = make_client(valkey_url)
    with redis_sync.Redis.from_url(valkey_url) as writer:
        log = PartitionLog(writer, "q0", sequence=41)
        log.append([pb.Event(limit_set=pb.LimitSet(limit=5))])
    assert (await recount(client, ("q0",))).counts == {}
    await client.aclose()


def test_columns_count_as_what_they_stand_for() -> None:
    admissions = [admitted(ticket, ticket, persons=3) for ticket in range(1, 6)]
    passages = [passage(event, gate.PASSAGE_OUTCOME_PASSED) for event in admissions]
    one_by_one = pb.LogEntry(events=[registered(1), *admissions, *passages])
    in_columns = pb.LogEntry(events=[registered(1), columns_of(admissions), columns_of(passages)])
    assert counted([in_columns]) == counted([one_by_one])
    assert counted([in_columns]).counts["persons entry"].units == 15
    with pytest.raises(DamagedDataError, match="ticket 1 is admitted for the first time twice"):
        counted([in_columns, in_columns.__class__(events=[columns_of(admissions[:1])])])
