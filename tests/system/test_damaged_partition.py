"""`parkgate up` of a park whose ledger has a damaged partition: all others serve, and the damage is told."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from parkgate.gate.v1 import gate_pb2
from tests.cluster.test_damage import flip_first_entry
from tests.system import traffic as day
from tests.system.stack import Stack, tell

pytestmark = [pytest.mark.system, pytest.mark.ray, pytest.mark.timeout(300)]


@pytest.fixture
def own_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Of this test alone, for it damages the ledger."""
    made = Stack(tmp_path_factory.mktemp("damaged") / "data")
    try:
        made.up()
        yield made
    finally:
        made.kill_everything()


async def test_a_park_with_a_damaged_partition_comes_up_and_says_what_is_damaged(own_stack: Stack) -> None:
    """I6, I7: tickets of the damaged one hear RETRY."""
    stack = own_stack
    partitions = stack.settings.partitions
    tickets = {number % partitions: item for number, item in await tickets_by_number(stack, partitions)}
    assert len(tickets) == partitions, "one for each"
    await day.wait_reported(stack)
    flip_first_entry(stack.endpoints.ledger_url, "p0")
    stack.down()
    tell(f"up with a damaged partition after {stack.up():.1f} s")
    assert stack.all_running()
    said = " ".join(stack.output("status").decode().split())
    assert "Partition p0 is stopped: entry 1 of the log of p0 is damaged" in said
    async with day.Turnstile(stack, "main-1", []) as turnstile:
        for partition in range(1, partitions):
            verdict = await turnstile.scan(tickets[partition])
            assert verdict.decision == gate_pb2.DECISION_ADMIT
    with redis.Redis.from_url(stack.endpoints.ledger_url) as client:
        taken = int(client.hget("pg:{p0}:head", "epoch") or 0)  # type: ignore[arg-type]
    (late,) = await day.sell(stack, "day", 1, day.today(stack))
    assert late.token, "selling goes on"
    with redis.Redis.from_url(stack.endpoints.ledger_url) as client:
        assert int(client.hget("pg:{p0}:head", "epoch") or 0) == taken  # type: ignore[arg-type]
    stack.down()


async def tickets_by_number(stack: Stack, count: int) -> list[tuple[int, bytes]]:
    sold = await day.sell(stack, "day", count, day.today(stack))
    return [(int.from_bytes(ticket.token[1:9], "big"), ticket.token) for ticket in sold]
