"""A batch has one instant, and a partition's log never goes back in time (I1: a day's entries are counted by it)."""

from __future__ import annotations

import pytest

from cluster import owner_commands
from parkgate.cluster.v1 import control_pb2, link_pb2
from parkgate.gate.v1 import gate_pb2
from tests.cluster.plain_partition import Bench
from tests.cluster.small_park import NOON_MS, reason, scan, ticket_id, token
from ticketcore.errors import UnavailableError

EXIT = gate_pb2.DIRECTION_EXIT
MIDNIGHT_MS = NOON_MS + 12 * 3_600_000
TAKEN_LATER_MS = (-1, 0, 1)
"""The last entry of a partition that is taken while a batch is open: before its instant, at it, after it."""


def taken(after_ms: int) -> Bench:
    """A bench whose partition's last entry is so long after its batches' instant."""
    bench, code = Bench(), token("day", 1)
    bench.register(code, token("show", 2))
    bench.send(scan(code, 1))
    bench.lease(2, 5)
    bench.now_ms -= after_ms
    return bench


@pytest.mark.parametrize("after_ms", TAKEN_LATER_MS)
def test_a_partition_that_is_taken_while_a_batch_is_open_is_decided_at_no_instant_before_its_last_entry(
    after_ms: int,
) -> None:
    bench, late = taken(after_ms), after_ms > 0
    (verdict,) = bench.send(scan(token("show", 2), 2, lane=2))
    assert reason(verdict) == ("INTERNAL_ERROR" if late else "ADMIT")
    assert (verdict.decision == gate_pb2.DECISION_RETRY) is late
    receipt = bench.passage(scan(token("day", 1), 1), gate_pb2.PASSAGE_OUTCOME_PASSED)
    assert (receipt.retry_after_ms > 0) is late
    times = [entry.time_ms for entry in bench.log]
    assert times == sorted(times)


@pytest.mark.parametrize("after_ms", TAKEN_LATER_MS)
def test_commands_on_such_a_partition_are_asked_again_and_change_nothing(after_ms: int) -> None:
    bench = taken(after_ms)
    recall = link_pb2.RecallRequest(zone_number=2, wanted=3)
    inspect = control_pb2.InspectTicketsRequest(ticket_ids=[ticket_id(token("day", 1))])
    for command, request in ((owner_commands.recall, recall), (owner_commands.inspect, inspect)):
        if after_ms > 0:
            with pytest.raises(UnavailableError):
                command(bench.batch(), request, set())  # type: ignore[operator]
        else:
            command(bench.batch(), request, set())  # type: ignore[operator]
    assert bench.partition.zone_lease(2).spare == (5 if after_ms > 0 else 2)


@pytest.mark.parametrize("after_ms", TAKEN_LATER_MS)
def test_passages_that_are_due_on_such_a_partition_wait_for_the_next_batch(after_ms: int) -> None:
    """Whoever is asked whether more is due must not be told so: the same batch would be asked for ever."""
    bench = taken(after_ms)
    bench.now_ms += 2_000 + max(after_ms, 0)
    bench.partition.last_time_ms = bench.now_ms + after_ms
    batch = bench.batch()
    assert batch.assume_passages(10) is False
    bench.commit(batch)
    assert len(bench.partition.settled) == (0 if after_ms > 0 else 1)
    bench.now_ms += 1
    batch = bench.batch()
    assert batch.assume_passages(10) is False
    assert len(bench.partition.settled) == 1


def test_a_day_s_entries_are_not_counted_on_the_day_before_when_owners_clocks_differ() -> None:
    """I1: the ticket is for one entry a day. The earlier owner's clock was past midnight, this one's is not."""
    bench, code = Bench(), token("two-day", 1)
    bench.now_ms = MIDNIGHT_MS + 20_000
    bench.register(code)
    bench.send(scan(code, 1, bench.now_ms), scan(code, 2, bench.now_ms, direction=EXIT))
    bench.now_ms = MIDNIGHT_MS - 20_000
    (retry,) = bench.send(scan(code, 3, bench.now_ms))
    assert retry.decision == gate_pb2.DECISION_RETRY
    bench.now_ms = MIDNIGHT_MS + 20_000
    (second,) = bench.send(scan(code, 3, bench.now_ms))
    assert second.decision == gate_pb2.DECISION_ADMIT, "left and came back: a re-entry, which counts no entry"
    assert second.kind == gate_pb2.ADMISSION_KIND_REENTRY
