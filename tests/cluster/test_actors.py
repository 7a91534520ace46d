"""What an actor says when it ends: a state that cannot be is an alarm, being replaced is not. And what it does while a
call is held."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from cluster import actors
from cluster.config import ClusterConfig
from cluster.gateway import EXPIRE_EVERY_S
from cluster.holding import LOOK_EVERY_S, Hold
from tests.cluster.harness import NODE, LocalCluster
from ticketcore.errors import FencedError, UnavailableError

LONG_S = 60.0


@pytest.mark.parametrize(
    ("failure", "level"), [(FencedError("a later owner"), "warning"), (AssertionError("impossible"), "critical")]
)
def test_an_actor_that_was_replaced_ends_without_an_alarm(
    failure: BaseException, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[int] = []
    monkeypatch.setattr(actors.os, "_exit", ended.append)
    with capture_logs() as said:
        actors._die_if_broken(failure)
        actors._die_if_broken(None)
    assert ended == [actors.EXIT_BROKEN]
    assert [line["log_level"] for line in said] == [level]
    assert ("rebuilt from the ledger" in said[0]["event"]) == (level == "critical")


@pytest.mark.parametrize("loop", ["expire", "end_revoked"])
async def test_a_gateway_whose_loop_has_ended_ends_and_is_made_anew(
    cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch, loop: str
) -> None:
    """I7, I10: nobody would answer late frames, or end the streams of devices that were revoked."""
    ended: list[int] = []
    monkeypatch.setattr(actors.os, "_exit", ended.append)
    actor = actors.GatewayActor.__new__(actors.GatewayActor)
    actor._gateway, actor._lock, actor._port = cluster.gateway, asyncio.Lock(), cluster.gateway.port
    actor._hold = Hold()
    await actor.start()
    assert ended == []

    def broken(*_: Any) -> None:
        raise ValueError("nobody expects this")

    monkeypatch.setattr(cluster.gateway.gates, loop, broken)
    async with asyncio.timeout(5):
        while cluster.gateway.failure is None:  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(EXPIRE_EVERY_S)
    with capture_logs() as said:
        await actor.start()
    assert ended == [actors.EXIT_BROKEN]
    assert [(line["log_level"], "nobody expects this" in line["error"]) for line in said] == [("critical", True)]


@pytest.fixture
async def owner(valkey_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[actors.OwnerActor]:
    """It has two partitions, and nobody around it."""
    monkeypatch.setattr(actors, "_node", lambda: NODE)
    config = ClusterConfig(valkey_url, Path("/tmp") / f"pg-{os.getpid()}-{os.urandom(3).hex()}", partitions=2)
    actor = actors.OwnerActor("owner-0", config, 0, lambda _name: None)
    assert await actor.start([0, 1]) == os.getpid()
    yield actor
    await actor.stop()
    config.run_dir.rmdir()


async def held(actor: Any, *arguments: object) -> asyncio.Task[int]:
    """A call that waits inside the actor."""
    call = asyncio.create_task(actor.start(*arguments, LONG_S))
    done, _ = await asyncio.wait([call], timeout=LOOK_EVERY_S / 2)
    assert not done
    return call


async def test_a_held_call_ends_when_another_has_taken_a_partition_and_the_next_takes_it_again(
    owner: actors.OwnerActor,
) -> None:
    """I10: nobody asks it for what is not its own any more, so it would not notice otherwise."""
    call, ledger = await held(owner, [0, 1]), owner._host.ledger
    taken = await ledger.take("p1", "another")
    async with asyncio.timeout(4 * LOOK_EVERY_S):
        await call
    assert owner._host.owner.owned.keys() == {0}
    await owner.start([0, 1])
    assert owner._host.owner.owned.keys() == {0, 1}
    assert (await ledger.heads(["p1"]))["p1"].epoch == taken.epoch + 1


async def test_a_partition_that_is_set_aside_is_work_when_it_is_time_to_look_at_it_again(
    owner: actors.OwnerActor,
) -> None:
    """I6, I10: until then its absence is nothing to come back for."""
    owner._host.owner.drop([1])
    owner._host.owner._look_again["p1"] = asyncio.get_running_loop().time() + LONG_S
    call = await held(owner, [0, 1])
    await asyncio.sleep(2 * LOOK_EVERY_S)
    assert not call.done()
    owner._host.owner._look_again["p1"] = 0.0
    async with asyncio.timeout(4 * LOOK_EVERY_S):
        await call


async def test_a_held_call_fails_when_the_ledger_is_away(
    owner: actors.OwnerActor, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = await held(owner, [0, 1])

    async def away(*_: object) -> None:
        raise UnavailableError("the ledger is away")

    monkeypatch.setattr(owner._host.ledger, "heads", away)
    with pytest.raises(UnavailableError):
        async with asyncio.timeout(4 * LOOK_EVERY_S):
            await call


async def test_a_look_waits_for_a_partition_that_another_call_is_taking(
    owner: actors.OwnerActor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after the supervisor was killed and is back. By what a look has read before, the partition would be lost."""
    call, host = await held(owner, [0, 1]), owner._host
    looks, heads = [], host.ledger.heads

    async def read(names: Any) -> Any:
        looks.append(names)
        return await heads(names)

    monkeypatch.setattr(host.ledger, "heads", read)
    async with owner._lock:
        await asyncio.sleep(2 * LOOK_EVERY_S)
        assert looks == []
    async with asyncio.timeout(4 * LOOK_EVERY_S):
        while not looks:  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.01)
    assert not call.done()


async def test_a_held_call_keeps_no_other_call_waiting_and_ends_as_the_actor_stops(owner: actors.OwnerActor) -> None:
    """I10: neither a supervisor that is back nor the end of the installation waits for it."""
    call = await held(owner, [0, 1])
    async with asyncio.timeout(LOOK_EVERY_S):
        assert await owner.start([0, 1]) == os.getpid()
    await owner.stop()
    assert call.done()
    assert call.result() == os.getpid()


async def test_an_owner_whose_work_fails_ends_while_a_call_is_held(
    owner: actors.OwnerActor, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[int] = []
    monkeypatch.setattr(actors.os, "_exit", ended.append)
    await held(owner, [0, 1])
    owner._host.owner.failure = FencedError("a later owner")
    await ends(ended)


async def ends(ended: list[int]) -> None:
    async with asyncio.timeout(4 * LOOK_EVERY_S):
        while not ended:  # noqa: ASYNC110 - a process that ends has no event
            await asyncio.sleep(0.01)
    assert ended[0] == actors.EXIT_BROKEN


async def test_a_quota_owner_and_a_gateway_whose_work_fails_end_while_a_call_is_held(
    cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[int] = []
    monkeypatch.setattr(actors.os, "_exit", ended.append)
    gateway, quota = actors.GatewayActor.__new__(actors.GatewayActor), actors.QuotaActor.__new__(actors.QuotaActor)
    gateway._gateway, gateway._port = cluster.gateway, cluster.gateway.port
    quota._host, quota._started = cluster.quota, True
    for actor in (gateway, quota):
        actor._lock, actor._hold = asyncio.Lock(), Hold()
    watched = [await held(gateway), await held(quota)]

    def broken() -> None:
        raise ValueError("nobody expects this")

    monkeypatch.setattr(cluster.gateway.gates, "expire", broken)
    await ends(ended)
    gateway._hold.release()
    ended.clear()
    cluster.quota.owner.failure = FencedError("a later owner")
    await ends(ended)
    quota._hold.release()
    await asyncio.gather(*watched)
