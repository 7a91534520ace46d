"""Postgres is away under load: gates go on, selling stops with a clear error, reports catch up. Proves I10."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import pytest

from tests.system import traffic as day
from tests.system.stack import Stack, tell

pytestmark = [pytest.mark.system, pytest.mark.ray, pytest.mark.timeout(180)]

AWAY_S = 20.0
SLOWEST_S = 2.0
"""A gate that waits longer has waited for Postgres."""


async def test_gates_admit_while_postgres_hangs_and_reports_catch_up(stack: Stack) -> None:
    """I10."""
    tickets = [ticket for _ in range(4) for ticket in await day.sell(stack, "day", 200, day.today(stack))]
    async with day.Traffic(stack, [ticket.token for ticket in tickets], day.today(stack, 399)) as traffic:
        await traffic.wait_admitted(time.monotonic(), 10)
        postgres = [stack.process("postgres"), *stack.below("postgres")]
        # Stopped, not killed: connections stay open and nothing answers, which is worse than a refusal.
        for who in postgres:
            os.kill(who.pid, signal.SIGSTOP)
        at = time.monotonic()
        try:
            await asyncio.sleep(AWAY_S)
        finally:
            for who in postgres:
                os.kill(who.pid, signal.SIGCONT)
        pause_s = traffic.longest_pause(at)
        admitted = sum(told.at > at for told in traffic.admitted())
        await day.sell(stack, "day", 1, day.today(stack))
    tell(
        f"Postgres away for {AWAY_S:.0f} s: {admitted} admitted meanwhile, the longest pause {pause_s:.2f} s; "
        f"the window heard {dict(traffic.failures)}"
    )
    assert admitted > 100
    assert pause_s < SLOWEST_S
    assert traffic.failures
    assert all("UNAVAILABLE" in said and "database is away" in said for said in traffic.failures), traffic.failures
    day.check_verdicts(traffic)
    await day.check_sold_out(stack, traffic)
    await day.wait_reported(stack)
    day.check_books(stack, traffic.told)
