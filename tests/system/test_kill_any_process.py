"""Any one process of a running system is killed with SIGKILL during a stream: gates get RETRY, then right answers.

Proves I1, I2, I3, I4, I6 and I7 over the whole line.
"""

from __future__ import annotations

import asyncio
import time

import pytest

from ops.processes import Identity, wait_gone
from parkgate.gate.v1 import gate_pb2
from tests.system import traffic as day
from tests.system.stack import Stack, tell

pytestmark = [pytest.mark.system, pytest.mark.ray, pytest.mark.timeout(240)]

TICKETS = 200
KILLED = (
    "owner",
    "quota",
    "gateway",
    "reporting actor",
    "valkey",
    "postgres",
    "sales",
    "reporting",
    "raylet",
    "gcs_server",
    "cluster",
    "supervisor",
)
BACK_WITHIN_S = 60.0
_days = iter(range(1, 400))


@pytest.mark.parametrize("name", KILLED)
async def test_nothing_is_lost_or_done_twice_when_a_process_is_killed(stack: Stack, name: str) -> None:
    tickets = await day.sell(stack, "day", TICKETS, day.today(stack))
    async with day.Traffic(stack, [ticket.token for ticket in tickets], day.today(stack, next(_days))) as traffic:
        await traffic.wait_admitted(time.monotonic(), 10)
        killed, at = stack.kill(name), time.monotonic()
        await wait_back(stack, name, killed)
        back_s = time.monotonic() - at
        (late,) = await day.sell(stack, "day", 1, day.today(stack))
        async with day.Turnstile(stack, "main-3", traffic.told) as turnstile:
            assert (await turnstile.scan(late.token)).decision == gate_pb2.DECISION_ADMIT
        pause_s = traffic.longest_pause(at)
    tell(
        f"{name}: the gates heard nothing for {pause_s:.1f} s, everything runs {back_s:.1f} s after the kill; "
        f"{len(traffic.told)} scans, {len(traffic.admitted())} admitted; the window heard {dict(traffic.failures)}"
    )
    day.check_verdicts(traffic)
    await day.check_same_answers(stack, traffic.told)
    await day.check_sold_out(stack, traffic)
    await day.wait_reported(stack)
    day.check_books(stack, traffic.told)


async def test_the_stack_goes_on_when_its_watcher_is_killed(stack: Stack) -> None:
    supervisor = stack.process("supervisor")
    assert wait_gone(stack.kill("watcher"), 5)
    (ticket,) = await day.sell(stack, "day", 1, day.today(stack))
    async with day.Turnstile(stack, "main-1", []) as turnstile:
        assert (await turnstile.scan(ticket.token)).decision == gate_pb2.DECISION_ADMIT
    assert stack.process("supervisor") == supervisor
    assert stack.all_running()


async def wait_back(stack: Stack, name: str, killed: Identity) -> None:
    deadline = time.monotonic() + BACK_WITHIN_S
    while True:
        try:
            if stack.process(name) != killed and stack.all_running():
                return
        except LookupError:
            pass
        assert time.monotonic() < deadline, f"{name} did not come back"
        await asyncio.sleep(0.1)
