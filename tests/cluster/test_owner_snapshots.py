"""When a partition owner takes snapshots, and what they hold while its ledger is slow or fails it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cluster.snapshot_parts import snapshot
from parkgate.events.v1 import events_pb2
from tests.cluster.plain_owner import SIDE, Desk, Fault, until
from tests.cluster.small_park import token
from ticketcore.errors import UnavailableError


async def test_a_snapshot_never_holds_what_is_not_durable_yet(desk: Desk) -> None:
    """I6: a snapshot made while an append is in flight would count its events again when the log is replayed."""
    desk.owner._snapshots._config = desk.owner.config
    object.__setattr__(desk.owner.config, "snapshot_after_events", 0)
    codes = [token("day", number) for number in range(1, 5)]
    await desk.register(*codes)
    held = asyncio.Event()
    desk.ledger.faults = [Fault(written=True, replied=True, gate=held)]
    answer = desk.group(*(desk.scan(code, lane=SIDE) for code in codes))
    await asyncio.sleep(0.25)  # two ticks, in which a snapshot is due while the append is held
    held.set()
    await answer
    live = [snapshot(partition, 2) for partition in desk.owner.owned.values()]
    await desk.owner.stop()
    await desk.take_over()
    again = desk.owner.owned
    assert [partition.totals[1].persons_entered for partition in again.values()] == [2, 2]
    assert [events_pb2.PartitionSnapshot.FromString(data) for data in live] == [
        events_pb2.PartitionSnapshot.FromString(snapshot(partition, 2)) for partition in again.values()
    ]


async def test_a_snapshot_waits_until_the_log_is_as_long_as_the_last_one(valkey_url: str) -> None:
    """Else a park of millions of tickets writes all of them down again for every 20 MB of scans."""
    desk = await Desk(valkey_url, partitions=1, snapshot_after_events=0).start()
    partition = desk.owner.owned[0]
    await desk.register(*(token("day", number) for number in range(1, 301)))  # 18 kB of rows
    await until(lambda: partition.snapshot_sequence == 1)
    stored = await desk.real.read_snapshot(partition.name)
    assert stored is not None
    appended, number = 0, 300
    while appended <= len(stored[1]):
        assert partition.snapshot_sequence == 1, f"after {appended} bytes of log"
        number += 1
        await desk.register(token("day", number))
        appended = sum(len(item.entry) for item in desk.ledger.appends if item.sequence > 1)
    await until(lambda: partition.snapshot_sequence > 1)
    await desk.stop()


async def test_what_is_logged_while_a_snapshot_is_written_counts_against_the_size_of_that_one(
    valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = await Desk(valkey_url, partitions=1, snapshot_after_events=0).start()
    partition, held, write = desk.owner.owned[0], asyncio.Event(), desk.real.write_snapshot

    async def slowly(name: str, epoch: int, sequence: int, parts: Any) -> int:
        await held.wait()
        return await write(name, epoch, sequence, parts)

    monkeypatch.setattr(desk.real, "write_snapshot", slowly)
    await desk.register(*(token("day", number) for number in range(1, 301)))  # 18 kB of rows
    await desk.register(token("day", 301))
    held.set()
    await until(lambda: partition.snapshot_sequence == 1)
    for number in range(302, 306):
        await desk.register(token("day", number))
        await asyncio.sleep(0.01)
    assert partition.snapshot_sequence == 1
    await desk.stop()


async def test_a_snapshot_that_failed_is_tried_again_soon(valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a whole interval of log later, and not with every turn."""
    desk = await Desk(valkey_url, partitions=1, snapshot_after_events=100).start()  # 10 kB
    partition, tried = desk.owner.owned[0], list[int]()

    async def away(_: str, __: int, sequence: int, parts: object) -> int:
        tried.append(sequence)
        raise UnavailableError("the ledger is away, by the test")

    monkeypatch.setattr(desk.ledger, "write_snapshot", away, raising=False)
    await desk.register(*(token("day", number) for number in range(1, 301)))
    await until(lambda: tried == [1])
    for number in range(301, 401):
        await desk.register(token("day", number))
        if len(tried) == 2:
            break
    assert len(tried) == 2, "not tried again within 100 entries"
    assert 5 <= tried[1] <= 25, f"at entry {tried[1]}, some 100 bytes each"
    monkeypatch.undo()
    for number in range(401, 501):
        await desk.register(token("day", number))
    await until(lambda: partition.snapshot_sequence > tried[-1])
    await desk.stop()
