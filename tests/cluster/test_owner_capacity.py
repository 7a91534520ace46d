"""A partition owner whose zones are short of units while its ledger, or the capacity owner, is slow to answer."""

from __future__ import annotations

import asyncio

import pytest

from cluster.batch import WaitingScan
from parkgate.cluster.v1 import link_pb2
from parkgate.gate.v1 import gate_pb2
from tests.cluster.elementary import elementary
from tests.cluster.plain_owner import ARENA, MAIN, Desk, Fault, until
from tests.cluster.small_park import reason, token


async def test_units_given_back_while_an_append_is_in_flight_are_told_of_with_their_own_entry_only(desk: Desk) -> None:
    """I4: told of with the entry before, a fenced one would leave them with both the next owner and the whole park."""
    show, other = token("show", 2), token("show", 4)
    await desk.register(show, other)
    partition, held = desk.owner.owned[0], asyncio.Event()
    partition.zone_lease(2).receive(5)
    desk.ledger.faults = [Fault(written=True, replied=True, gate=held)]
    scanned = desk.group(desk.scan(show, lane=ARENA))
    await until(lambda: not desk.ledger.faults)
    recalled = desk.ask(recall=link_pb2.RecallRequest(zone_number=2, wanted=3))
    await until(lambda: partition.zone_lease(2).returned_total == 3)
    in_flight = partition.sequence + 1
    assert partition.zone_lease(2).returned_by(in_flight) == 0
    assert partition.zone_lease(2).returned_by(in_flight + 1) == 3
    held.set()
    await asyncio.gather(scanned, recalled)
    assert partition.zone_lease(2).returned_by(partition.sequence) == 3


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


async def test_scans_that_wait_for_capacity_are_told_to_come_again_when_nobody_can_say(desk: Desk) -> None:
    """I4, I7: without the capacity owner nobody is let into a limited zone, and nobody is told that it is full."""
    codes = [token("show", number) for number in range(1, 4)]
    await desk.register(*codes)
    verdicts = await desk.send(*(desk.scan(code, lane=ARENA) for code in codes))
    assert {(reason(verdict), verdict.decision) for verdict in verdicts} == {
        ("INTERNAL_ERROR", gate_pb2.DECISION_RETRY)
    }
    logged = [event for name in ("p0", "p1") for entry in await desk.log(name) for event in elementary(entry)]
    assert not any(event.HasField("scan_decided") for event in logged)


@pytest.mark.parametrize(("counted", "told"), [(0, "INTERNAL_ERROR"), (1, "CAPACITY_FULL")])
async def test_full_is_not_passed_on_while_units_given_back_here_are_on_their_way(
    desk: Desk, counted: int, told: str
) -> None:
    """I4, I7: the capacity owner has not counted the unit yet that was given back, so it may be free."""
    code, waiting = token("show", 2), list[WaitingScan]()
    await desk.register(code)

    class Slow:
        def want(self, scans: list[WaitingScan]) -> None:
            waiting.extend(scans)

    desk.owner.leasing = Slow()  # type: ignore[assignment]
    lease = desk.owner.owned[0].zone_lease(2)
    lease.received_total = lease.returned_total = 1
    group = desk.group(desk.scan(code, lane=ARENA))
    await until(lambda: bool(waiting))
    answer = link_pb2.CapacityResponse(granted_total=1, returned_total=counted, full=True)
    desk.owner.resume(waiting, answer)
    (verdict,) = gate_pb2.ServerFrame.FromString((await group).server_frame).verdicts
    assert reason(verdict) == told


async def test_whoever_comes_after_the_question_is_not_told_its_answer(desk: Desk) -> None:
    """I4: somebody may have left since the capacity owner said "full"; found on a simulated day (546 of `gateways`)."""
    day, first, later = token("day", 1), token("show", 2), token("show", 4)
    await desk.register(day, first, later)
    waiting, held = list[WaitingScan](), asyncio.Event()

    class Slow:
        def want(self, scans: list[WaitingScan]) -> None:
            waiting.extend(scans)

    desk.owner.leasing = Slow()  # type: ignore[assignment]
    asked = desk.group(desk.scan(first, lane=ARENA))
    await until(lambda: len(waiting) == 1)
    desk.ledger.faults = [Fault(written=True, replied=True, gate=held)]
    admitted = desk.group(desk.scan(day, lane=MAIN))
    await until(lambda: not desk.ledger.faults)  # from now on a batch is open, until its append is done
    desk.owner.resume(list(waiting), link_pb2.CapacityResponse(full=True))
    came_later = desk.group(desk.scan(later, lane=ARENA))
    await until(lambda: len(waiting) == 2)
    held.set()
    (verdict,) = gate_pb2.ServerFrame.FromString((await asked).server_frame).verdicts
    assert reason(verdict) == "CAPACITY_FULL"
    assert not came_later.done()
    await admitted
    desk.owner.resume(waiting[1:], link_pb2.CapacityResponse(granted_total=1))
    (verdict,) = gate_pb2.ServerFrame.FromString((await came_later).server_frame).verdicts
    assert reason(verdict) == "ADMIT"
