"""What an actor says when it ends: a state that cannot be is an alarm, being replaced is not."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from structlog.testing import capture_logs

from cluster import actors
from cluster.gateway import EXPIRE_EVERY_S
from tests.cluster.harness import LocalCluster
from ticketcore.errors import FencedError


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
