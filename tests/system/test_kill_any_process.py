"""Any one process of a running system is killed with SIGKILL during a stream: gates get RETRY, then right answers.

Proves I1, I2, I3, I4, I6 and I7 over the whole line.
"""

from __future__ import annotations

import asyncio
import time

import pytest

from ops.processes import Identity
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
        admitted_s = await traffic.wait_admitted(at + 0.05, BACK_WITHIN_S)
        await wait_back(stack, name, killed)
        back_s = time.monotonic() - at
    tell(
        f"{name}: first ADMIT {admitted_s:.1f} s after the kill, everything runs {back_s:.1f} s after it; "
        f"{len(traffic.told)} scans, {len(traffic.admitted())} admitted; the window heard {dict(traffic.failures)}"
    )
    day.check_verdicts(traffic)
    await day.check_same_answers(stack, traffic.told)
    await day.check_sold_out(stack, traffic)
    await day.wait_reported(stack)
    day.check_books(stack, traffic.told)


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
