"""A partition owner whose ledger fails it: what is answered, what is not, and what is there afterwards."""

from __future__ import annotations

import asyncio

from cluster.recovery import snapshot
from parkgate.cluster.v1 import link_pb2
from parkgate.events.v1 import events_pb2
from tests.cluster.plain_owner import ARENA, MAIN, SIDE, Desk, Fault, until
from tests.cluster.small_park import NOON_MS, reason, token


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


async def test_a_frame_that_waits_for_capacity_is_not_answered_when_its_other_partition_is_fenced(desk: Desk) -> None:
    """I1, I2: the first scan is decided by an owner that turns out to be fenced while the second waits for capacity."""
    day, show = token("day", 2), token("show", 3)  # of two partitions
    await desk.register(day, show)
    waiting: list[object] = []

    class Slow:
        def want(self, scans: list) -> None:
            waiting.extend(scans)

    zombie = desk.owner
    zombie.leasing = Slow()  # type: ignore[assignment]
    await desk.real.take("p0", "a later owner")
    group = desk.group(desk.scan(day, lane=MAIN), desk.scan(show, lane=ARENA))
    await until(lambda: bool(zombie.counters.fenced))
    zombie.resume(waiting, link_pb2.CapacityResponse(granted_total=3))  # type: ignore[arg-type]
    await asyncio.sleep(0.1)
    assert not group.done()


async def test_time_never_falls_within_a_partition_also_when_the_next_owner_has_a_slower_clock(desk: Desk) -> None:
    await desk.register(token("day", 1), token("day", 2))
    desk.clock.now_ms -= 90_000
    await desk.owner.stop()
    await desk.take_over()
    (verdict,) = await desk.send(desk.scan(token("day", 1)))
    assert reason(verdict) == "ADMIT"
    times = [entry.time_ms for entry in await desk.log("p1")]
    assert times == sorted(times) == [NOON_MS, NOON_MS]
