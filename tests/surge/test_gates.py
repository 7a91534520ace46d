"""The gates' part of the generator over real streams, against a gateway that admits everybody."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from loadtest.surge import plan as planning
from loadtest.surge.gates import TELL_S, Gates, day_and_ramp
from loadtest.surge.parts import Certificate, Order
from loadtest.surge.ramp import RampShots
from loadtest.surge.scenario import Scenario
from loadtest.surge.stream import Stream
from tests.surge.gate_stub import admit, serving
from tests.surge.small_day import scenario

RAMP = {"product": "day", "first_per_s": 200, "factor": 2, "steps": 1, "seconds": 0.5}


def order() -> Order:
    return Order("small", {}, [], Certificate("", "", ""), "", "", "2026-05-01", [(1, True), (1, True)])


@asynccontextmanager
async def gates_of(day: Scenario, ramp_tickets: int) -> AsyncIterator[Gates]:
    """With a stream at each entrance, and nobody on the day: the evening is at once."""
    async with serving(admit) as (_, line):
        gates = Gates(planning.make(day), order())
        gates.streams = [[Stream(line, ("main-1",), False, gates.traffic)] for _ in day.entrances]
        gates.ramp_tokens = [bytes(81)] * ramp_tickets
        tasks = [asyncio.create_task(stream.run()) for (stream,) in gates.streams]
        try:
            async with asyncio.timeout(5):
                for (stream,) in gates.streams:
                    await stream.welcome.wait()
            yield gates
        finally:
            for (stream,) in gates.streams:
                stream.ending = True
            for task in tasks:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task


def phases(said: str) -> list[str]:
    return [one["text"] for one in map(json.loads, said.splitlines()) if one["kind"] == "phase"]


async def test_the_live_line_counts_the_scans_of_the_ramp_and_their_time() -> None:
    async with gates_of(scenario(ramp=RAMP), 400) as gates:
        ramp = RampShots(gates)
        await ramp.run()
        shown = gates.progress()
        (step,) = ramp.steps
        assert step.held
        assert shown["per_s"] == 2 * step.sent / TELL_S, "each guest was let in, and left again"
        assert shown["p99_ms"] == pytest.approx(step.p99_ms)
        assert "p99_ms" not in gates.progress(), "nothing was answered since"


async def test_the_ramp_is_announced_where_there_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    async with gates_of(scenario(ramp=RAMP), 400) as gates:
        assert await day_and_ramp(gates, RampShots(gates))
    assert phases(capsys.readouterr().out) == ["evening", "ramp"]


@pytest.mark.parametrize("ramp", [None, RAMP | {"steps": 0}])
async def test_a_day_without_a_ramp_ends_in_the_evening(
    ramp: dict[str, object] | None, capsys: pytest.CaptureFixture[str]
) -> None:
    async with gates_of(scenario(ramp=ramp), 0) as gates:
        assert await day_and_ramp(gates, RampShots(gates))
    assert phases(capsys.readouterr().out) == ["evening"]
