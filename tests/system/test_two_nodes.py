"""Parkgate on a Ray cluster of two nodes, links between them over TLS; and one node is lost. Proves I1, I2 and I3."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis

from cluster.link import Address
from ops.files import secret
from parkgate.gate.v1 import gate_pb2
from tests.system import traffic as day
from tests.system.stack import ROOT, Stack, tell

pytestmark = [pytest.mark.system, pytest.mark.ray, pytest.mark.timeout(240)]

RAY = {
    "RAY_AUTH_MODE": "token",
    "RAY_worker_niceness": "0",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "500",
    "RAY_health_check_failure_threshold": "4",
    "RAY_USAGE_STATS_ENABLED": "0",
}
BACK_WITHIN_S = 60.0


class RayCluster:
    """The process of `ray_cluster`."""

    def __init__(self, folder: Path) -> None:
        self.temp_dir = Path(tempfile.mkdtemp(prefix="pgr-", dir="/tmp"))  # Ray's sockets need a short path
        secret(folder, "ray")
        self.environ = {**RAY, "RAY_TMPDIR": str(self.temp_dir), "RAY_AUTH_TOKEN_PATH": str(folder / "secrets" / "ray")}
        path = os.pathsep.join([str(ROOT), str(ROOT / "protos")])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.system.ray_cluster"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, **self.environ, "PYTHONPATH": path},
        )
        try:
            self.about = self._hear()
        except BaseException:
            self.close()
            raise

    def remove_second(self) -> None:
        self._tell("remove")

    def add_second(self) -> str:
        """Returns its id."""
        return str(self._tell("add")["second"])

    def _tell(self, word: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()
        return self._hear()

    def _hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        while line and not line.startswith("{"):
            line = self._process.stdout.readline()
        assert line, "the Ray cluster ended at its start"
        return dict(json.loads(line))

    def close(self) -> None:
        self._process.communicate(timeout=60)
        shutil.rmtree(self.temp_dir)


@dataclass(frozen=True, slots=True)
class TwoNodes:
    """A stack on two nodes."""

    ray: RayCluster
    stack: Stack

    def owners(self) -> dict[str, str]:
        """The node of each ticket partition's owner; empty while it is being moved."""
        with redis.Redis.from_url(self.stack.endpoints.ledger_url) as client:
            names = [f"p{number}" for number in range(self.stack.settings.partitions)]
            heads = {name: client.hget(f"pg:{{{name}}}:head", "address") for name in names}
        return {name: Address.decode(head.decode()).node if head else "" for name, head in heads.items()}


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[TwoNodes]:
    ray = RayCluster(tmp_path / "ray")
    try:
        stack = Stack(tmp_path / "data", ray_address=ray.about["address"], owners=2, gateways=2)
        try:
            tell(f"two nodes: up after {stack.up(ray.environ):.1f} s")
            yield TwoNodes(ray, stack)
            stack.down()
        finally:
            stack.kill_everything()
    finally:
        ray.close()


async def test_owners_and_gateways_on_two_nodes_outlive_the_loss_of_one_and_move_to_the_next(nodes: TwoNodes) -> None:
    """I1, I2, I3."""
    stack, both = nodes.stack, {nodes.ray.about["head"], nodes.ray.about["second"]}
    assert set(nodes.owners().values()) == both
    tickets = await day.sell(stack, "day", 180, day.today(stack))
    told: list[day.Told] = []
    await scan_at_every_gateway(stack, tickets[:60], told)
    async with day.Turnstile(stack, "main-1", told) as main, day.Turnstile(stack, "lake-1", told) as lake:
        at = time.monotonic()
        nodes.ray.remove_second()
        # What runs on a lost node goes on until it notices; the guests go on, too, until everything has moved.
        late = tickets[60:]
        moved_s = await scan_until(main, late, lambda: set(nodes.owners().values()) == {nodes.ray.about["head"]})
        (fresh,) = await day.sell(stack, "day", 1, day.today(stack))
        assert (await main.scan(fresh.token)).decision == gate_pb2.DECISION_ADMIT
        again = await asyncio.gather(*(lake.scan(ticket.token) for ticket in (*tickets[:60], fresh)))
        assert {verdict.decision for verdict in again} == {gate_pb2.DECISION_REJECT}
        longest_s = max(after.at - before.at for before, after in itertools.pairwise(told) if after.at > at)
        await move_to_the_next(nodes, main, tickets)
        await start_the_service_anew(stack, main, tickets)
    tell(f"a node is lost: owners moved after {moved_s:.1f} s, no gate waited for more than {longest_s:.1f} s")
    counts = Counter(one.verdict.ticket_id for one in told if one.verdict.decision == gate_pb2.DECISION_ADMIT)
    assert counts == dict.fromkeys(counts, 1)
    assert set(counts) >= {ticket.ticket_id for ticket in (*tickets[:60], fresh)}
    await day.check_same_answers(stack, told)
    await day.wait_reported(stack)
    day.check_books(stack, told)


async def move_to_the_next(nodes: TwoNodes, turnstile: day.Turnstile, tickets: list[Any]) -> None:
    """A node joins, and its share of the actors moves there while guests come."""
    assert misplaced(await asyncio.to_thread(rebalance, nodes)) == [], "there is one node"
    both = {nodes.ray.about["head"], nodes.ray.add_second()}
    moving = misplaced(await asyncio.to_thread(rebalance, nodes, "--dry-run"))
    assert any(actor.startswith("owner") for actor in moving)
    done = asyncio.create_task(asyncio.to_thread(rebalance, nodes))
    took_s = await scan_until(turnstile, tickets, done.done)
    assert [place["actor"] for place in done.result() if place["moved_s"]] == moving
    assert misplaced(done.result()) == []
    assert set(nodes.owners().values()) == both
    (fresh,) = await day.sell(nodes.stack, "day", 1, day.today(nodes.stack))
    assert (await turnstile.scan(fresh.token)).decision == gate_pb2.DECISION_ADMIT
    tell(f"a node has joined: {', '.join(moving)} moved to where they belong in {took_s:.1f} s")


async def start_the_service_anew(stack: Stack, turnstile: day.Turnstile, tickets: list[Any]) -> None:
    """Its actors outlive the service that watches them, gateways with their port among them; the next finds them."""
    killed = stack.kill("cluster")

    def is_back() -> bool:
        try:
            return stack.all_running() and stack.process("cluster") != killed
        except LookupError:
            return False

    took_s = await scan_until(turnstile, tickets, is_back)
    tell(f"the cluster service was killed: it watches its actors again after {took_s:.1f} s")


def misplaced(places: list[dict[str, Any]]) -> list[str]:
    return [place["actor"] for place in places if not place["is_right"]]


def rebalance(nodes: TwoNodes, *more: str) -> list[dict[str, Any]]:
    """What `parkgate rebalance` says of each actor."""
    return list(json.loads(nodes.stack.parkgate("rebalance", "--json", *more, environ=nodes.ray.environ)))


async def scan_until(turnstile: day.Turnstile, tickets: list[Any], done: Callable[[], bool]) -> float:
    """Shows ticket after ticket until that is so; returns how long that took."""
    began = time.monotonic()
    for ticket in itertools.cycle(tickets):
        await turnstile.scan(ticket.token)
        waited_s = time.monotonic() - began
        if done():
            return waited_s
        assert waited_s < BACK_WITHIN_S
        await asyncio.sleep(day.PACE_S)
    raise AssertionError


async def scan_at_every_gateway(stack: Stack, tickets: list[Any], told: list[day.Told]) -> None:
    """Each gateway is asked for tickets of every partition, so that it needs its links to the owners on both nodes."""
    async with AsyncExitStack() as exits:
        by_gateway: dict[str, day.Turnstile] = {}
        for _ in range(40):
            # Both gateways listen on one port, and the kernel deals out the connections.
            turnstile = await exits.enter_async_context(day.Turnstile(stack, "main-2", told))
            by_gateway.setdefault(turnstile.gateway, turnstile)
            if len(by_gateway) == stack.settings.gateways:
                break
        assert len(by_gateway) == stack.settings.gateways
        parts = [tickets[number :: len(by_gateway)] for number in range(len(by_gateway))]
        for turnstile, part in zip(by_gateway.values(), parts, strict=True):
            verdicts = await asyncio.gather(*(turnstile.scan(ticket.token) for ticket in part))
            assert {verdict.decision for verdict in verdicts} == {gate_pb2.DECISION_ADMIT}
