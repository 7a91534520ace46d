"""A snapshot is of the instant at which it was begun, whatever happens while it is made, a part at a time."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster import snapshot_parts
from cluster.partition import Partition
from cluster.recovery import restore
from cluster.snapshot_parts import Still, snapshot
from parkgate.gate.v1 import gate_pb2
from tests.cluster.plain_partition import Bench
from tests.cluster.small_park import scan, token
from tests.cluster.test_recovery import Day, state_of, steps

MANY = 2_500


@pytest.fixture(autouse=True)
def small_parts() -> Iterator[None]:
    """So that a few steps make many parts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(snapshot_parts, "ITEMS_IN_PART", 2)
        patch.setattr(snapshot_parts, "CHUNKS_IN_PART", 1)
        yield


def restored(data: bytes) -> Partition:
    partition = Partition("p0", 1)
    restore(partition, data, 1)
    return partition


@settings(max_examples=60, deadline=None)
@given(st.lists(steps, min_size=1, max_size=20), st.lists(steps, min_size=1, max_size=20))
def test_what_happens_while_a_snapshot_is_made_is_not_in_it(before: list[tuple], meanwhile: list[tuple]) -> None:
    """I2: the log is replayed from the instant of the snapshot on; what was in both would be counted twice."""
    day = Day()
    for step in before:
        day.play(step)
    whole = snapshot(day.bench.partition, 1)
    still, parts = Still(day.bench.partition, 1), []
    for part in still.parts():
        parts.append(part)
        if meanwhile:
            day.play(meanwhile.pop(0))
    for step in meanwhile:
        day.play(step)
    still.release()
    assert b"".join(parts) == whole
    assert state_of(restored(whole))["sequence"] == still.sequence


def test_tickets_that_change_while_their_chunk_is_waiting_are_written_as_they_were() -> None:
    bench = Bench()
    codes = [token("day", number) for number in range(1, 1_000, 200)]
    bench.register(*codes)
    before = {number: bytes(rows) for number, rows in bench.partition.table.still()}
    still = Still(bench.partition, 1)
    for code in codes:
        bench.change(code, 2, code[:16])
    bench.register(token("day", 2))
    parts = b"".join(still.parts())
    still.release()
    after = {number: bytes(rows) for number, rows in bench.partition.table.still()}
    assert {number: bytes(rows) for number, rows in restored(parts).table.still()} == before != after


def test_passages_that_are_settled_while_a_snapshot_is_made_are_awaited_in_it() -> None:
    """I4: of guests who came together, one was reported before, one is meanwhile."""
    bench = Bench()
    shown = [scan(token("day", number), number) for number in range(1, 4)]
    bench.register(*(item.token for item in shown))
    bench.send(*shown)
    bench.passage(shown[0], gate_pb2.PASSAGE_OUTCOME_PASSED)
    before = deepcopy(state_of(bench.partition))
    still = Still(bench.partition, 1)
    bench.passage(shown[1], gate_pb2.PASSAGE_OUTCOME_PASSED)
    parts = b"".join(still.parts())
    still.release()
    assert bench.partition.awaited == 1
    assert state_of(restored(parts)) == before
    assert restored(parts).awaited == 2


def test_once_released_tickets_are_changed_in_place() -> None:
    """Or every change after a snapshot would copy 8 kB."""
    bench, code = Bench(), token("day", 1)
    bench.register(code)
    Still(bench.partition, 1).release()
    ((_, rows),) = bench.partition.table.chunks.items()
    bench.change(code, 2, code[:16])
    ((_, same),) = bench.partition.table.chunks.items()
    assert same is rows


def test_parts_are_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scans are decided between two of them."""
    monkeypatch.undo()
    bench = Bench()
    codes = [token("day", number) for number in range(1, MANY + 1)]
    bench.register(*codes)
    bench.send(*(scan(code, number) for number, code in enumerate(codes, 1)))
    bench.assume_passages()
    still = Still(bench.partition, 1)
    sizes = [len(part) for part in still.parts()]
    still.release()
    assert sum(sizes) > 60 * MANY
    assert max(sizes) < 300_000
    assert len([size for size in sizes if size]) > 8
