"""How long the supervisor waits for an actor, how often it calls, and what ends it. That it replaces one that stands
still or is lost is tried by `make chaos`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import ray

from cluster.config import ClusterConfig, GatewayConfig, TlsFiles
from cluster.ending import end
from cluster.holding import LOOK_EVERY_S
from cluster.ledger import CALL_TIMEOUT_S
from cluster.supervisor import HOLD_S, SILENT_S, START_TIMEOUT_S, WATCH_EVERY_S, Supervisor, Watched
from tests.simulation.loop import VirtualLoop

NOWHERE = Path("/nowhere")


def test_an_actor_owes_the_next_answer_soon_only_after_it_has_answered() -> None:
    """I10: while it starts, or comes back from a failure, it may take a minute to recover its partitions."""
    item = Watched("owner-0", object, lambda: None)
    assert (item.patience_s, item.hold_s) == (START_TIMEOUT_S, 0.0)
    item.pid = 4_711
    assert (item.patience_s, item.hold_s) == (SILENT_S, HOLD_S)
    item.failures = 1
    assert (item.patience_s, item.hold_s) == (START_TIMEOUT_S, 0.0)


def supervisor(monkeypatch: pytest.MonkeyPatch, create: Any) -> Supervisor:
    config = GatewayConfig("127.0.0.1", 0, TlsFiles(NOWHERE, NOWHERE, NOWHERE))
    monkeypatch.setattr("cluster.supervisor._find_or_make", create)
    return Supervisor(ClusterConfig("", NOWHERE), config, [], lambda name: None)


class Served:
    """An actor that answers at once, but for one call after it was told to break."""

    def __init__(self) -> None:
        self.broken = False
        self.start = self

    async def remote(self, *_: object) -> int:
        if self.broken:
            self.broken = False
            raise RuntimeError("Ray is not what it was")
        return 4_711


@pytest.mark.parametrize("at_start", [True, False])
async def test_a_watcher_that_ends_by_what_it_cannot_handle_ends_the_supervisor(
    monkeypatch: pytest.MonkeyPatch, at_start: bool
) -> None:
    """I10: an actor that nobody watches would never come back."""
    actor = Served()
    actor.broken = at_start
    watching = supervisor(monkeypatch, lambda *_: actor)
    if not at_start:
        await watching.start()
    actor.broken = True
    with pytest.raises(RuntimeError, match="not what it was"):
        await (watching.start() if at_start else watching.ended())
    await end(watching._tasks)


class Holding:
    """An actor that holds calls for as long as it may, or less; it may die and come back by itself."""

    def __init__(self, longest_s: float = START_TIMEOUT_S) -> None:
        self.longest_s = longest_s
        self.calls: list[tuple[float, float]] = []
        """When each came, and for how long it might be held."""
        self.dies = asyncio.Event()
        self.start = self

    async def remote(self, *arguments: Any) -> int:
        self.calls.append((asyncio.get_running_loop().time(), arguments[-1]))
        try:
            async with asyncio.timeout(min(arguments[-1], self.longest_s)):
                await self.dies.wait()
        except TimeoutError:
            return 4_711
        self.dies.clear()
        raise ray.exceptions.ActorDiedError


def watch(actor: Holding, monkeypatch: pytest.MonkeyPatch, until_s: float, dies_s: float | None = None) -> None:
    """One quota owner for that long, on virtual time."""

    async def watched() -> None:
        monkeypatch.setattr("cluster.supervisor._find_or_make", lambda *_: actor)
        gateway = GatewayConfig("127.0.0.1", 0, TlsFiles(NOWHERE, NOWHERE, NOWHERE))
        config = ClusterConfig("", NOWHERE, owners=0, gateways=0)
        watching = Supervisor(config, gateway, [], lambda _name: None)
        await watching.start()
        assert asyncio.get_running_loop().time() == 0.0, "what serves is ready at once"
        if dies_s is not None:
            asyncio.get_running_loop().call_at(dies_s, actor.dies.set)
        await asyncio.sleep(until_s)
        await end(watching._tasks)

    VirtualLoop().run(watched())


def test_an_actor_that_serves_is_called_as_seldom_as_it_may_hold_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    actor = Holding()
    watch(actor, monkeypatch, 2.5 * HOLD_S)
    begun = WATCH_EVERY_S
    assert actor.calls == [(0.0, 0.0), (begun, HOLD_S), (begun + HOLD_S, HOLD_S), (begun + 2 * HOLD_S, HOLD_S)]


def test_an_actor_that_always_has_something_to_do_is_called_no_more_often_than_others_were(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As when another takes its partitions again and again: neither Ray nor the ledger is run hot."""
    actor = Holding(longest_s=WATCH_EVERY_S / 5)
    watch(actor, monkeypatch, 1.1)
    assert [at for at, _ in actor.calls] == [number * WATCH_EVERY_S for number in range(5)]


def test_the_death_of_an_actor_is_noticed_while_it_holds_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """I10. And the next is asked whether it serves, not held."""
    actor = Holding()
    watch(actor, monkeypatch, 2.0, dies_s=1.0)
    assert actor.calls[2] == (1.0 + WATCH_EVERY_S, 0.0)


def test_an_actor_that_stands_still_is_noticed_no_later_for_what_it_may_hold() -> None:
    """I10: what it may hold, and the wait for a ledger that is silent, end before its silence is taken for death."""
    assert HOLD_S + 2 * CALL_TIMEOUT_S < SILENT_S
    assert LOOK_EVERY_S <= WATCH_EVERY_S
