"""The quota and capacity owner over a real ledger: restarts, lost replies, races, the clock (I2, I4)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

from cluster import quota_owner
from cluster.quota_state import replay, restore, snapshot
from parkgate.cluster.v1 import control_pb2
from parkgate.events.v1 import events_pb2
from tests.cluster.plain_owner import LOST_AFTER, LOST_BEFORE, Fault, until
from tests.cluster.plain_quota import QuotaDesk

DONE, SOLD_OUT, GONE = (
    control_pb2.HOLD_OUTCOME_DONE,
    control_pb2.HOLD_OUTCOME_SOLD_OUT,
    control_pb2.HOLD_OUTCOME_GONE,
)


@pytest.fixture
async def quotas(valkey_url: str) -> AsyncIterator[QuotaDesk]:
    desk = await QuotaDesk(valkey_url).start()
    yield desk
    await desk.stop()


async def test_a_restart_keeps_holds_and_the_clock_takes_them_only_until_they_are_pinned(quotas: QuotaDesk) -> None:
    """I4"""
    for number in (1, 2, 3):
        assert (await quotas.place(number)).outcome == DONE
    assert (await quotas.move("pin_hold", 2)).outcome == DONE
    assert (await quotas.move("pin_hold", 3)).outcome == DONE
    assert (await quotas.move("confirm_hold", 3)).outcome == DONE
    await quotas.owner.stop()
    await quotas.take_over()
    before = await quotas.quota()
    assert (before.held, before.pinned, before.sold) == (1, 1, 1)
    quotas.clock.now_ms += 999
    assert (await quotas.move("pin_hold", 9)).outcome == control_pb2.HOLD_OUTCOME_UNKNOWN
    assert (await quotas.quota()).held == 1
    quotas.clock.now_ms += 1
    assert (await quotas.move("pin_hold", 1)).outcome == GONE
    quotas.clock.now_ms += 3_600_000
    assert (await quotas.move("confirm_hold", 2)).outcome == DONE, "pinned: however late the payment's answer comes"
    after = await quotas.quota()
    assert (after.held, after.pinned, after.sold) == (0, 0, 2)


@pytest.mark.parametrize("lost", [LOST_BEFORE, LOST_AFTER])
async def test_an_append_without_an_answer_is_repeated_and_counts_once(quotas: QuotaDesk, lost: Fault) -> None:
    """I2, I4"""
    quotas.ledger.faults = [lost, lost]
    assert (await quotas.place(1, units=4)).outcome == DONE
    await quotas.owner.stop()
    await quotas.take_over()
    assert (await quotas.quota()).held == 4
    assert (await quotas.place(1, units=4)).outcome == DONE, "the same hold again is the same hold"
    assert (await quotas.quota()).held == 4


async def test_a_fenced_quota_owner_answers_nothing(quotas: QuotaDesk) -> None:
    """I4: two live owners of one quota would sell it twice."""
    zombie = quotas.owner
    await quotas.take_over()
    late, quotas.owner = quotas.owner, zombie
    answer = asyncio.ensure_future(quotas.place(1, units=10))
    await until(lambda: zombie.failure is not None)
    quotas.owner = late
    assert not answer.done()
    assert (await quotas.place(2, units=10)).outcome == DONE
    answer.cancel()


async def test_quotas_are_told_of_once_they_are_durable_and_by_their_owner_only(quotas: QuotaDesk) -> None:
    """I2, I4: a hold that is still on its way to the ledger may never be."""
    held, zombie = asyncio.Event(), quotas.owner
    quotas.ledger.faults = [Fault(written=True, replied=True, gate=held)]
    placing = asyncio.ensure_future(quotas.place(1, units=4))
    await until(lambda: not quotas.ledger.faults)
    asking = asyncio.ensure_future(quotas.quota())
    await asyncio.sleep(0.05)
    assert not asking.done()
    held.set()
    assert (await placing).outcome == DONE
    assert (await asking).held == 4
    await quotas.take_over()
    late, quotas.owner = quotas.owner, zombie
    for _ in range(2):  # also once it has noticed
        asking = asyncio.ensure_future(quotas.quota())
        await until(lambda: zombie.failure is not None)
        await asyncio.sleep(0.05)
        assert not asking.done()
        asking.cancel()
    quotas.owner = late


async def test_holds_that_race_never_take_more_than_the_limit_and_end_exactly_full(quotas: QuotaDesk) -> None:
    """I4"""
    random.seed(7)
    units = [random.randint(1, 4) for _ in range(80)] + [1] * 5
    answers = await asyncio.gather(*(quotas.place(number, count, 100) for number, count in enumerate(units)))
    taken = sum(count for count, answer in zip(units, answers, strict=True) if answer.outcome == DONE)
    quota = await quotas.quota()
    assert taken == quota.held == 100
    assert all(
        answer.units_left < count for count, answer in zip(units, answers, strict=True) if answer.outcome == SOLD_OUT
    )


async def test_a_snapshot_of_quotas_never_holds_what_is_not_durable(
    quotas: QuotaDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I4: a later owner would have counted the hold twice, and sold less, or forgotten that it was finished."""
    monkeypatch.setattr(quota_owner, "SNAPSHOT_AFTER_ENTRIES", 1)
    for number in range(4):
        held = asyncio.Event()
        quotas.ledger.faults = [Fault(written=True, replied=True, gate=held)]
        placing = asyncio.ensure_future(quotas.place(number, 2))
        await asyncio.sleep(0.15)
        held.set()
        await placing
    await asyncio.sleep(0.05)
    await quotas.owner.stop()
    await quotas.take_over()
    assert await quotas.ledger.snapshot_sequence("q0") > 0
    assert (await quotas.quota()).held == 8


async def test_a_snapshot_that_takes_long_is_not_mixed_with_the_next(
    quotas: QuotaDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I2: both would be written in one place, and the log be trimmed below what is neither."""
    monkeypatch.setattr(quota_owner, "SNAPSHOT_AFTER_ENTRIES", 2)
    write, go_on, begun = quotas.ledger.write_snapshot, asyncio.Event(), list[int]()

    async def slowly(name: str, epoch: int, sequence: int, parts: AsyncIterator[bytes]) -> None:
        begun.append(sequence)
        await go_on.wait()
        await write(name, epoch, sequence, parts)

    monkeypatch.setattr(quotas.ledger, "write_snapshot", slowly)
    for number in range(1, 8):
        assert (await quotas.place(number)).outcome == DONE
    assert len(begun) == 1
    go_on.set()
    await until(lambda: not quotas.owner._writing)
    assert (await quotas.place(8)).outcome == DONE
    await until(lambda: len(begun) == 2)
    await until(lambda: not quotas.owner._writing)
    assert await quotas.ledger.snapshot_sequence("q0") == begun[1]
    await quotas.owner.stop()
    await quotas.take_over()
    assert (await quotas.quota()).held == 8


async def test_the_state_comes_back_from_the_log_and_from_a_snapshot(quotas: QuotaDesk) -> None:
    for number in range(6):
        await quotas.place(number, 1, 5)
    for what, number in (("pin_hold", 1), ("pin_hold", 2), ("confirm_hold", 2), ("release_hold", 3)):
        await quotas.move(what, number)
    line = events_pb2.QuotaLine(quota_key="a", units=1)
    await quotas.ask(return_units=control_pb2.ReturnUnitsRequest(request_id=b"r" * 16, lines=[line]))
    await quotas.ask(return_units=control_pb2.ReturnUnitsRequest(request_id=b"s" * 16, lines=[line]))
    assert quotas.owner.state.book.counters["a"].sold == -1, "that of a pinned hold, before its confirmation"
    assert (await quotas.quota()).sold == 0
    await quotas.capacity("p0", 0, 0, 3)
    await quotas.capacity("p1", 0, 0, 9)
    live = quotas.owner.state
    from cluster.quota_state import QuotaState

    replayed, restored = QuotaState("q0"), QuotaState("q0")
    async for entry in quotas.real.entries("q0", 0, live.sequence):
        replay(replayed, entry)
    restore(restored, snapshot(live))
    for again in (replayed, restored):
        assert again.book.counters == live.book.counters
        assert again.book.holds == live.book.holds
        assert again.book.returned == live.book.returned
        assert {number: zone.grants for number, zone in again.zones.items()} == {
            number: zone.grants for number, zone in live.zones.items()
        }
        assert again.zone(2).alerted_percent == live.zone(2).alerted_percent > 0
        assert (again.sequence, again.last_time_ms) == (live.sequence, live.last_time_ms)


async def test_a_hold_that_has_lapsed_stays_lapsed_under_a_later_owner_with_a_slower_clock(quotas: QuotaDesk) -> None:
    """I4: time never falls within a log, or a lapsed hold's neighbours would come back to life."""
    await quotas.place(1, live_ms=1_000)
    await quotas.place(2, live_ms=2_000)
    quotas.clock.now_ms += 1_500
    await quotas.move("pin_hold", 9)
    await quotas.place(3)
    quotas.clock.now_ms -= 60_000
    await quotas.owner.stop()
    await quotas.take_over()
    assert (await quotas.move("pin_hold", 1)).outcome == GONE
    placed = await quotas.place(4, live_ms=1_000)
    times = [entry.time_ms async for entry in quotas.real.entries("q0", 0, quotas.owner.state.sequence)]
    assert times == sorted(times)
    assert placed.lapse_time_ms == times[-1] + 1_000


def commands(*wanted: tuple[str, int]) -> control_pb2.ChangeHoldsRequest:
    """Commands of one call, each on the hold of that number; a place takes 4 of 10."""
    request = control_pb2.ChangeHoldsRequest()
    for what, number in wanted:
        hold_id = number.to_bytes(16, "big")
        if what == "place":
            place = request.commands.add().place
            place.hold_id, place.time_to_live_ms, place.catalogue_version = hold_id, 1_000, 1
            place.lines.add(quota_key="a", units=4, limit=10)
        else:
            getattr(request.commands.add(), what).hold_id = hold_id
    return request


async def test_holds_changed_in_one_call_are_decided_in_their_order_each_on_its_own(quotas: QuotaDesk) -> None:
    """I4: the third does not fit until the first is released, and its refusal stops nobody."""
    before = quotas.owner.state.sequence
    wanted = [("place", 1), ("pin", 1), ("place", 2), ("place", 3), ("pin", 3), ("release", 1), ("place", 3)]
    answer = (await quotas.ask(change_holds=commands(*wanted))).change_holds
    unknown = control_pb2.HOLD_OUTCOME_UNKNOWN
    assert [result.outcome for result in answer.results] == [DONE, DONE, DONE, SOLD_OUT, unknown, DONE, DONE]
    assert answer.results[3].units_left == 2
    assert quotas.owner.state.sequence == before + 1, "one entry, so one fsync"
    again = (
        await quotas.ask(change_holds=commands(("place", 2), ("pin", 2), ("confirm", 2), ("confirm", 2)))
    ).change_holds
    assert [result.outcome for result in again.results] == [DONE] * 4
    await quotas.owner.stop()
    await quotas.take_over()
    quota = await quotas.quota()
    assert (quota.held, quota.pinned, quota.sold) == (4, 0, 4)


async def test_an_empty_command_is_a_fault_and_changes_nothing(quotas: QuotaDesk) -> None:
    request = commands(("place", 1))
    request.commands.add()
    assert "knows no command None" in (await quotas.ask(change_holds=request)).fault
    assert (await quotas.quota()).held == 0
