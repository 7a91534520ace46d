"""The gates' part as it runs in a rehearsal: processes of its own, told by pipes, over TLS, against an echo."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from loadtest.surge import plan as planning
from loadtest.surge.alone import certificates, echoes
from loadtest.surge.gate_parts import GateParts
from loadtest.surge.parts import Certificate, Order, Phase
from loadtest.surge.plan import Plan
from loadtest.surge.scenario import load
from ops.errors import OpsError
from tests.surge.gate_stub import serving_over_tls
from tests.surge.small_day import TEXT

RAMP_TICKETS = 400


def sell(plan: Plan, sold: Path, without: int) -> None:
    """Everybody's tickets, but those of one party."""
    parties = [(guests.number, sum(line.count for line in guests.kind.tickets)) for guests in plan.guests]
    counts = [*((party, count) for party, count in parties if party != without), (None, RAMP_TICKETS)]
    sold.write_text(
        "".join(
            json.dumps({"party": party, "tokens": [base64.b64encode(os.urandom(81)).decode() for _ in range(count)]})
            + "\n"
            for party, count in counts
        )
    )


def orders(folder: Path, addresses: Sequence[str], files: Certificate, count: int) -> list[Order]:
    """Of so many processes that share the gates of the small day."""
    order = Order(
        str(folder / "day.toml"), {}, list(addresses), files, str(folder / "sold.jsonl"), "", "2026-05-01",
        [(1, True), (1, True)],
    )  # fmt: skip
    return [replace(order, result=str(folder / f"gates-{n}.json"), share=(n, count)) for n in range(count)]


async def test_two_processes_play_a_day_and_a_ramp_and_tell_all_of_it(tmp_path: Path) -> None:
    (tmp_path / "day.toml").write_text(TEXT)
    plan = planning.make(load(str(tmp_path / "day.toml")))
    missing = next(number for number, turns in enumerate(plan.turns) if turns)
    sell(plan, tmp_path / "sold.jsonl", missing)
    gates = tuple(gate for entrance in plan.scenario.entrances for gate in entrance.gates)
    files = certificates(tmp_path, gates)
    with echoes(tmp_path, 1) as (_, addresses):
        parts = await GateParts.start(orders(tmp_path, addresses, files, 2))
        try:
            assert await parts.ready() == plan.scenario.devices
            parts.tell(f"go {time.monotonic() + 0.1}")
            await parts.settled()
            assert parts.phase is Phase.EVENING
            assert plan.scenario.ramp is not None
            await parts.held(100, plan.scenario.ramp, 1_000)
            parts.tell("end")
            await parts.done()
            found = parts.result()
        finally:
            await parts.end()
    assert found["processes"] == len(found["pulses"]) == 2
    assert found["without_ticket"] == len(plan.turns[missing])
    assert len(found["samples"]["due_s"]) + found["skipped"] + found["without_ticket"] == plan.scans
    assert parts.steps[0].admitted == parts.steps[0].sent > 20
    assert all(found["delays_s"]), "at each entrance"


async def test_a_certificate_that_speaks_for_some_of_the_gates_ends_the_process_at_once(tmp_path: Path) -> None:
    """Also its other devices end, which were welcome."""
    (tmp_path / "day.toml").write_text(TEXT)
    (tmp_path / "sold.jsonl").touch()
    files = certificates(tmp_path, ("main-1", "main-2"))
    async with serving_over_tls(tmp_path, denied={"lake-1", "lake-2"}) as address:
        parts = await GateParts.start(orders(tmp_path, [address], files, 1))
        try:
            async with asyncio.timeout(20):
                with pytest.raises(OpsError, match="devices were not welcome: it does not speak for gate 'lake-1'"):
                    await parts.ready()
        finally:
            await parts.end()
