"""The capacity owner over a real ledger: leases, recalls, capacities that change, owners that are away (I2, I4)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from cluster import quota_owner, recalling
from cluster.control import Control
from cluster.ledger import Head
from cluster.partition import partition_of
from parkgate.cluster.v1 import link_pb2
from parkgate.gate.v1 import gate_pb2
from tests.cluster import small_park
from tests.cluster.harness import LocalCluster, scan, ticket_id
from tests.cluster.plain_owner import until
from tests.cluster.plain_quota import QuotaDesk, Returning, Silent, Spare
from tests.cluster.test_gate_day import ADMIT, EXIT, document_with_capacity, reason, send_until_decided
from ticketcore.catalogue_document import canonical_json


@pytest.fixture
async def quotas(valkey_url: str) -> AsyncIterator[QuotaDesk]:
    desk = await QuotaDesk(valkey_url).start()
    yield desk
    await desk.stop()


async def test_leases_outlive_their_owner(quotas: QuotaDesk) -> None:
    """I4: the arena holds five."""
    quotas.links.append(Returning(p0=0))
    first = await quotas.capacity("p0", 0, 0, 3)
    await quotas.owner.stop()
    await quotas.take_over()
    rest = await quotas.capacity("p1", 0, 0, 9)
    assert (first.granted_total, rest.granted_total, rest.full) == (3, 2, True)
    again = await quotas.capacity("p0", 0, 0, 3)
    assert again.granted_total == 3, "a grant whose answer was lost is found again, not given twice"
    returned = await quotas.capacity("p0", 3, 2, 0)
    assert returned.granted_total == 3
    quotas.links[:] = [Returning(p0=2)]
    assert (await quotas.capacity("p1", 2, 0, 9)).granted_total == 4


@pytest.mark.parametrize("links", [[], [Silent()], [Returning(p1=0)]], ids=["away", "silent", "no longer its owner"])
async def test_nobody_is_told_full_while_units_may_lie_unused_where_nobody_answers(
    quotas: QuotaDesk, links: list[Returning | Silent]
) -> None:
    """I4, I7: the owner of p0 does not answer, and all five units may be unused there."""
    quotas.links[:] = links
    await quotas.capacity("p0", 0, 0, 5)
    answer = await quotas.ask_capacity("p1", 0, 0, 1)
    assert answer.fault == "units of zone 2 may lie unused at p0"
    assert not answer.HasField("capacity")


async def test_what_is_free_is_granted_though_not_all_answer(quotas: QuotaDesk) -> None:
    """I4"""
    quotas.links[:] = [Silent()]
    await quotas.capacity("p0", 0, 0, 3)
    some = await quotas.capacity("p1", 0, 0, 4)
    assert (some.granted_total, some.full) == (2, False)
    assert "p0" in (await quotas.ask_capacity("p1", 2, 0, 2)).fault


async def test_full_is_told_once_all_that_have_units_have_answered_that_they_need_them(quotas: QuotaDesk) -> None:
    """I4: whoever has no units, and the partition that asks, need not answer."""
    quotas.links[:] = [Silent(), Returning(p0=0)]
    await quotas.capacity("p0", 0, 0, 3)
    await quotas.capacity("p1", 0, 0, 2)
    full = await quotas.capacity("p1", 2, 0, 1)
    assert (full.granted_total, full.full) == (2, True)
    assert (await quotas.capacity("p2", 0, 0, 0)).full is False, "who asks for nothing is refused nothing"
    quotas.links[:] = [Silent(), Returning(p0=2)]
    rest = await quotas.capacity("p1", 2, 0, 1)
    assert (rest.granted_total, rest.full) == (3, False)


async def test_what_is_leased_beyond_a_lowered_capacity_is_asked_for_as_well(quotas: QuotaDesk) -> None:
    """I4: two of five are inside and three unused; with room for three, one more may come in."""
    quotas.links.append(Spare(3))
    await quotas.capacity("p0", 0, 0, 5)
    await quotas.set_capacity(3)
    answer = await quotas.capacity("p1", 0, 0, 1)
    assert (answer.granted_total, answer.full) == (1, False)
    assert quotas.owner.state.zone(2).leased == 3
    assert (await quotas.capacity("p1", 1, 0, 1)).full is True


async def test_a_question_under_way_is_answered_by_the_capacity_that_is_in_force_by_then(quotas: QuotaDesk) -> None:
    """I4: whoever publishes is told that it is in force; one question is being asked, and another waits for it."""
    gate = asyncio.Event()
    quotas.links.append(Spare(2, gate))
    await quotas.capacity("p0", 0, 0, 2)
    asked = asyncio.ensure_future(quotas.capacity("p1", 0, 0, 4))
    await quotas.links[0].asked.wait()
    waits = asyncio.ensure_future(quotas.capacity("p2", 0, 0, 1))
    publishing = asyncio.ensure_future(quotas.set_capacity(3))
    await until(lambda: quotas.owner.control.catalogue_version == 2)
    gate.set()
    await publishing
    assert ((await asked).granted_total, (await waits).granted_total) == (3, 0)
    assert quotas.owner.state.zone(2).leased == 3


async def test_full_is_not_said_of_a_capacity_that_was_lowered_while_units_were_recalled(quotas: QuotaDesk) -> None:
    """I4, I7: two of five are inside and three unused, of which two were asked for; with room for three nothing is
    free yet, and nobody was asked for the third. Found on a simulated day (5176 of `catalogue`)."""
    gate = asyncio.Event()
    quotas.links.append(Spare(3, gate))
    await quotas.capacity("p0", 0, 0, 5)
    asked = asyncio.ensure_future(quotas.ask_capacity("p1", 0, 0, 2))
    await quotas.links[0].asked.wait()
    publishing = asyncio.ensure_future(quotas.set_capacity(3))
    await until(lambda: quotas.owner.control.catalogue_version == 2)
    gate.set()
    assert "its capacity has changed; ask again" in (await asked).fault
    await publishing
    again = await quotas.capacity("p1", 0, 0, 2)
    assert (again.granted_total, again.full) == (1, True)


async def test_a_lowered_capacity_takes_unused_units_back_before_it_is_said_to_be_in_force(quotas: QuotaDesk) -> None:
    """I4: whoever comes after that would be let in with them."""
    quotas.links.append(Spare(3))
    await quotas.capacity("p0", 0, 0, 5)
    await quotas.set_capacity(3)
    assert quotas.owner.state.zone(2).leased == 3
    await quotas.take_over()
    assert quotas.owner.state.zone(2).leased == 3, "it is durable"


async def test_a_lowered_capacity_is_not_said_to_be_in_force_while_a_partition_with_units_is_silent(
    quotas: QuotaDesk,
) -> None:
    """I4"""
    quotas.links += [Silent(), Spare(1)]
    await quotas.capacity("p0", 0, 0, 5)
    await quotas.capacity("p1", 0, 0, 4)
    await Control(quotas.real).publish_catalogue(2, canonical_json(small_park.document(3)))
    assert "may lie unused at p1" in (await quotas.ask(refresh=link_pb2.RefreshRequest())).fault
    quotas.owner._routes.damaged["p1"] = Head(1, 1, "", "owner-1", "its log is damaged")
    assert not (await quotas.ask(refresh=link_pb2.RefreshRequest())).fault, "it lets nobody in with them"
    quotas.owner._routes.damaged.clear()
    quotas.links[0] = Returning(p0=2, p1=1)
    assert not (await quotas.ask(refresh=link_pb2.RefreshRequest())).fault
    assert quotas.owner.state.zone(2).leased == 3


async def test_units_beyond_a_lowered_capacity_are_taken_back_as_guests_leave(quotas: QuotaDesk) -> None:
    """I4: nobody asks for more there, for each guest who leaves makes room for the next."""
    everybody_inside = Spare(0)
    quotas.links.append(everybody_inside)
    await quotas.capacity("p0", 0, 0, 5)
    await quotas.set_capacity(3)
    assert quotas.owner.state.zone(2).leased == 5
    everybody_inside.units = 4
    await until(lambda: quotas.owner.state.zone(2).leased == 3)


async def test_a_quota_owner_that_takes_over_grants_by_the_capacity_that_is_in_force_by_then(
    quotas: QuotaDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I4: it began before that was published, and nobody could have asked it to read it."""
    taken = quotas.real.take

    async def publish_first(partition: str, owner: str) -> Any:
        await Control(quotas.real).publish_catalogue(2, canonical_json(small_park.document(3)))
        return await taken(partition, owner)

    monkeypatch.setattr(quotas.real, "take", publish_first)
    await quotas.take_over()
    assert (await quotas.capacity("p0", 0, 0, 5)).granted_total == 3


async def test_a_zone_without_a_limit_needs_no_lease(quotas: QuotaDesk) -> None:
    request = {"zone_number": 1, "partition": "p0", "received_total": 7, "wanted": 2}
    answer = (await quotas.ask(capacity=request)).capacity
    assert (answer.unlimited, answer.granted_total, answer.full) == (True, 7, False)


async def zone_alerts(quotas: QuotaDesk) -> list[int]:
    """Levels told so far, in percent."""
    entries = [entry async for entry in quotas.real.entries("q0", 0, quotas.owner.state.sequence)]
    events = [event for entry in entries for event in entry.events]
    return [event.alert_raised.level_percent for event in events if event.HasField("alert_raised")]


async def test_a_zone_that_fills_again_is_told_again_and_one_that_stays_full_is_not(
    quotas: QuotaDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The arena holds five. An owner that comes back from a snapshot knows what was told."""
    monkeypatch.setattr(quota_owner, "SNAPSHOT_AFTER_ENTRIES", 1)
    await quotas.capacity("p0", 0, 0, 4)
    assert await zone_alerts(quotas) == [80]
    await quotas.capacity("p1", 0, 0, 1)
    assert await zone_alerts(quotas) == [80, 100]
    await until(lambda: not quotas.owner._writing)
    await quotas.owner.stop()
    await quotas.take_over()
    assert (quotas.owner._snapshot_sequence > 0, quotas.owner.state.zone(2).alerted_percent) == (True, 100)
    await quotas.capacity("p0", 4, 1, 0)
    await quotas.capacity("p0", 4, 1, 1)
    assert await zone_alerts(quotas) == [80, 100, 100], "four of five are a fifth below"
    await quotas.capacity("p0", 5, 5, 0)
    assert quotas.owner.state.zone(2).alerted_percent == 0
    await quotas.capacity("p0", 5, 5, 4)
    assert await zone_alerts(quotas) == [80, 100, 100, 100]


async def test_a_lost_host_holds_up_a_question_for_capacity_no_longer_than_a_silent_owner(
    quotas: QuotaDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I10: all questions of the zone wait behind it, while nobody answers at an address that the ledger still names."""

    async def lost() -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(recalling, "RECALL_TIMEOUT_S", 0.05)
    monkeypatch.setattr(quotas.owner._routes, "look_up", lost)
    await quotas.capacity("p0", 0, 0, 3)
    answer = await asyncio.wait_for(quotas.capacity("p1", 0, 0, 9), 1.0)
    assert not answer.full, "nobody has said that the units of p0 are used"


async def test_a_full_zone_stays_exactly_full_through_restarts_of_owner_and_capacity_owner(
    two_owners: LocalCluster,
) -> None:
    """I2, I4: leases are inherited; nothing is stranded and nobody too many gets in."""
    cluster = two_owners
    await cluster.publish(document_with_capacity(cluster, "park", 12), 2)
    codes = [cluster.token("day") for _ in range(30)]
    await cluster.register(*codes)
    gate = await cluster.gate("main-1")
    first = await send_until_decided(gate, [scan(code) for code in codes[:8]])
    assert {reason(verdict) for verdict in first} == {"UNSPECIFIED"}
    old = await cluster.replace_owner(0)
    await old.stop()
    from cluster.hosting import QuotaHost
    from tests.cluster.harness import NODE

    await cluster.quota.stop()
    cluster.quota = QuotaHost(cluster.config, NODE)
    await cluster.quota.start()
    rest = await send_until_decided(gate, [scan(code) for code in codes[8:]])
    assert [verdict.decision for verdict in rest].count(ADMIT) == 4
    assert {reason(verdict) for verdict in rest} == {"UNSPECIFIED", "CAPACITY_FULL"}
    inside = {verdict.ticket_id for verdict in (*first, *rest) if verdict.decision == ADMIT}
    leaving = [code for code in codes if ticket_id(code) in inside][:3]
    await send_until_decided(gate, [scan(code, direction=EXIT) for code in leaving])
    waiting = [code for code in codes if ticket_id(code) not in inside]
    again = await send_until_decided(gate, [scan(code) for code in waiting])
    assert [verdict.decision for verdict in again].count(ADMIT) == 3


async def test_guests_are_told_retry_while_the_owner_of_the_last_units_is_away_and_admitted_once_it_is_back(
    two_owners: LocalCluster,
) -> None:
    """I4, I7: over real links; all units are leased by a partition of the owner that is away."""
    cluster = two_owners
    await cluster.publish(document_with_capacity(cluster, "park", 3), 2)
    park = next(zone.number for zone in cluster.catalogue.zones.values() if zone.id == "park")
    await cluster.quota.owner.control.refresh()
    leased = link_pb2.CapacityRequest(zone_number=park, partition=cluster.config.partition_names[0], wanted=3)
    assert (await cluster.quota.owner._capacity(leased)).granted_total == 3
    codes = [code for code in (cluster.token("day") for _ in range(16)) if _owner_of(cluster, code) == 1][:4]
    await cluster.register(*codes)
    await cluster.owners[0].stop()
    gate = await cluster.gate("main-1")
    for _ in range(2):
        (verdict,) = await gate.send(scan(codes[0]))
        assert (verdict.decision, reason(verdict)) == (gate_pb2.DECISION_RETRY, "INTERNAL_ERROR")
        assert verdict.retry_after_ms > 0
    await cluster.replace_owner(0)
    verdicts = await send_until_decided(gate, [scan(code) for code in codes])
    assert sorted(reason(verdict) for verdict in verdicts) == ["CAPACITY_FULL"] + ["UNSPECIFIED"] * 3


def _owner_of(cluster: LocalCluster, code: bytes) -> int:
    return partition_of(ticket_id(code), cluster.config.partitions) % len(cluster.owners)
