"""The cost of a scan part by part, with 1, 2, 4 and 8 owners and on two nodes: what docs/scaling.md reckons with.

`python -m loadtest.bench.scaling` prints a table and writes `build/scaling.json`. On one machine more owners bring no
speed; what is to be seen is whether a scan costs the same when its park is spread over more of them.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from statistics import linear_regression

from rich.console import Console
from rich.table import Table

from loadtest.bench import meters, scenarios, steady, system
from loadtest.bench.client import Plan
from ops.polling import prefer_plain_polling
from ops.settings import load

BUILD = Path("build")
BASE_PORT = 23_560
TIME_ZONE = "Europe/Zurich"
FRAME_SCANS, FRAME, FRAME_STREAMS = 800_000, 200, 48
STREAMS, STEADY_PER_S, STEADY_S = 100, 1_000.0, 8.0
RATES = (250.0, 500.0, 1_000.0, 2_000.0, 3_000.0)
"""Scans one by one, with one owner: the more a second, the more share a turn."""
IDLE_S = 4.0
LAST_REPORTS_S = 1.0
TURNS = "parkgate_owner_turns_total"
NODE = {"num_cpus": 2, "object_store_memory": 100 * 1024 * 1024, "include_dashboard": False}
NODES = f"""
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, connect=False, head_node_args={NODE})
cluster.add_node(**{NODE})
print("address", cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""
RAY = {"RAY_AUTH_MODE": "token", "RAY_worker_niceness": "0", "RAY_USAGE_STATS_ENABLED": "0"}
console = Console(width=130)


@dataclass(frozen=True, slots=True)
class Rate:
    """Scans one by one at a rate: the turns that one takes, and its CPU microseconds by part."""

    per_s: float
    turns: float
    cpu_us: dict[str, float]


@dataclass(frozen=True, slots=True)
class Cost:
    """What a scan costs in one layout: CPU microseconds by part, and bytes; `idle` is the share of a core, in
    percent, that the layout uses when nobody asks, and no part of the other figures."""

    layout: str
    idle: dict[str, float]
    per_s: float
    in_frames_us: dict[str, float]
    one_by_one: list[Rate]
    ledger_bytes: float
    postgres_bytes: float
    owner_bytes: float


@contextmanager
def two_nodes() -> Iterator[tuple[dict[str, str], int]]:
    """A Ray cluster of two nodes on this machine; yields the environment of whoever joins it, and its process."""
    folder = Path(tempfile.mkdtemp(prefix="pgn-", dir="/tmp"))  # Ray's sockets need a short path
    token = folder / "token"
    token.write_text(secrets.token_hex(32))
    token.chmod(0o600)
    environment = RAY | {"RAY_TMPDIR": str(folder), "RAY_AUTH_TOKEN_PATH": str(token)}
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [sys.executable, "-c", NODES], stdin=pipe, stdout=pipe, text=True, env=dict(os.environ) | environment
    )
    try:
        assert process.stdout is not None
        line = next((line for line in process.stdout if line.startswith("address ")), "")
        if not line:
            raise RuntimeError("the Ray cluster of two nodes ended at its start")
        yield environment | {"PARKGATE_RAY_ADDRESS": line.split()[1]}, process.pid
    finally:
        process.communicate(timeout=60)
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(slots=True)
class _Meter:
    """CPU by part of one system. `roots` as for `meters.processes_of`."""

    stack: system.Stack
    roots: tuple[int, ...]
    idle: dict[str, float] = field(default_factory=dict)
    """CPU seconds a second while nobody asks."""
    _began: float = 0.0
    _cpu: dict[str, float] = field(default_factory=dict)
    _turns: float = 0.0

    async def rest(self) -> None:
        """Waits until nothing is left to do, and measures what that takes."""
        await asyncio.to_thread(meters.settle, self.stack, *self.roots)
        self.begin()
        await asyncio.sleep(IDLE_S)
        cpu, seconds = self._read(), time.monotonic() - self._began
        self.idle = {part: (cpu[part] - self._cpu.get(part, 0.0)) / seconds for part in cpu}

    def begin(self) -> None:
        """From now on counts."""
        self._cpu, self._turns = self._read(), meters.total(self.stack.metrics_ports, TURNS)
        self._began = time.monotonic()

    def since(self, scans: int) -> tuple[float, dict[str, float]]:
        """Turns and CPU microseconds of each of so many scans since `begin`, without what idling takes."""
        cpu, seconds = self._read(), time.monotonic() - self._began
        used = {part: cpu[part] - self._cpu.get(part, 0.0) - self.idle.get(part, 0.0) * seconds for part in cpu}
        turns = meters.total(self.stack.metrics_ports, TURNS) - self._turns
        return turns / scans, {part: max(seconds, 0.0) / scans * 1e6 for part, seconds in used.items()}

    def _read(self) -> dict[str, float]:
        return meters.cpu_by_part(self.stack.data_dir, *self.roots)


async def measure(layout: str, environment: dict[str, str], rates: Sequence[float], *roots: int) -> Cost:
    """Starts a system of that layout and measures what its scans cost. `roots` as for `meters.processes_of`."""
    with system.running(BUILD / "scaling-data", BASE_PORT, **environment) as stack:
        gate = stack.enroll("gate", "bench", "--gates", ",".join(system.GATES))
        counts = [FRAME_SCANS, *(int(rate * STEADY_S) for rate in rates)]
        shown = _register(stack, counts)
        files = (str(gate.ca), str(gate.certificate), str(gate.key))
        address = f"localhost:{stack.gate_port}"
        plan = Plan(address, *files, system.GATES, FRAME_STREAMS, FRAME, 60.0, str(shown), 0, FRAME_SCANS)
        meter = _Meter(stack, roots)
        await meter.rest()
        before = _bytes(stack, *roots)
        meter.begin()
        in_frames = await scenarios.run_client(plan)
        await asyncio.to_thread(meters.settle, stack, *roots)
        _, frames_us = meter.since(FRAME_SCANS)
        grown = [(now - then) / FRAME_SCANS for then, now in zip(before, _bytes(stack, *roots), strict=True)]
        one_by_one, first = [], FRAME_SCANS
        for rate, count in zip(rates, counts[1:], strict=True):
            lone = replace(plan, streams=STREAMS, scans_a_frame=1, first_token=first, token_count=count)
            one_by_one.append(await _at_rate(meter, steady.Plan(lone, rate)))
            first += count
        idle = {part: share * 100 for part, share in meter.idle.items()}
        return Cost(layout, idle, in_frames.per_s, frames_us, one_by_one, *grown)


def _register(stack: system.Stack, counts: Sequence[int]) -> Path:
    """Registers as many tickets as are to be scanned; the file of their tokens, each run's in no order."""
    tokens, shown = stack.data_dir / "tokens", stack.data_dir / "shown"
    system.write_tokens(tokens, sum(counts), TIME_ZONE)
    system.write_shown(shown, tokens, list(accumulate(counts)))
    for _ in system.register(stack, stack.enroll("service", "bench-sales"), tokens, 0, sum(counts)):
        pass
    return shown


async def _at_rate(meter: _Meter, plan: steady.Plan) -> Rate:
    """Without the passages that nobody reports: they are settled 20 s later."""
    await meter.rest()
    result = await steady.measure(plan, meter.begin)
    await asyncio.sleep(LAST_REPORTS_S)
    return Rate(plan.per_s, *meter.since(result.scans))


def _bytes(stack: system.Stack, *roots: int) -> tuple[int, int, int]:
    """Of the ledger's files, of Postgres' tables, and of the owners' memory."""
    data_dir = stack.data_dir
    return (
        meters.folder_bytes(data_dir / "ledger"),
        meters.folder_bytes(data_dir / "postgres" / "base"),
        meters.owner_bytes(data_dir, *roots),
    )


def _layout(owners: int) -> dict[str, str]:
    """With partitions as they are by default, or one an owner where that is more."""
    return {"PARKGATE_OWNERS": str(owners), "PARKGATE_PARTITIONS": str(max(owners, load(environ={}).partitions))}


def fit(rates: Sequence[Rate]) -> tuple[float, float, float]:
    """CPU microseconds of a turn and of a scan that fit what was measured best, and the worst miss as a share."""
    turns, cpu = [rate.turns for rate in rates], [sum(rate.cpu_us.values()) for rate in rates]
    of_turn, of_scan = linear_regression(turns, cpu)
    return of_turn, of_scan, max(abs(of_turn * x + of_scan - y) / y for x, y in zip(turns, cpu, strict=True))


def show(costs: list[Cost]) -> None:
    """Prints CPU by part, and bytes."""
    _by_part("Idle, percent of a core", [(cost.layout, cost.idle) for cost in costs])
    _by_part("CPU of a scan in µs, frames of 200", [(cost.layout, cost.in_frames_us) for cost in costs])
    singles = [(f"{cost.layout}, {rate.per_s:,.0f} a second", rate) for cost in costs for rate in cost.one_by_one]
    _by_part("CPU of a scan in µs, one by one", [(name, rate.cpu_us) for name, rate in singles])
    table = Table("one by one", "turns a scan", "CPU µs a scan")
    for name, rate in singles:
        table.add_row(name, f"{rate.turns:.2f}", f"{sum(rate.cpu_us.values()):.0f}")
    console.print(table)
    for cost in costs:
        if len(cost.one_by_one) > 2:
            of_turn, of_scan, miss = fit(cost.one_by_one)
            console.print(
                f"{cost.layout}, one by one: {of_turn:.0f} µs a turn and {of_scan:.0f} µs a scan, "
                f"at most {miss:.0%} beside what was measured"
            )
    table = Table("layout", "scans/s", "ledger", "Postgres", "owners' memory", title="Bytes of a scan")
    for cost in costs:
        table.add_row(
            cost.layout,
            f"{cost.per_s:,.0f}",
            *(f"{value:,.0f}" for value in (cost.ledger_bytes, cost.postgres_bytes, cost.owner_bytes)),
        )
    console.print(table)


def _by_part(title: str, rows: list[tuple[str, dict[str, float]]]) -> None:
    parts = [*meters.PARTS.values(), "others"]
    table = Table("layout", *parts, "all", title=title, title_justify="left")
    for name, values in rows:
        table.add_row(name, *(f"{values[part]:.1f}" for part in parts), f"{sum(values.values()):.1f}")
    console.print(table)


def main() -> None:
    """Every layout in turn."""
    prefer_plain_polling()
    BUILD.mkdir(exist_ok=True)
    costs: list[Cost] = []
    for owners in (1, 2, 4, 8):
        rates = RATES if owners == 1 else (STEADY_PER_S,)
        with console.status(f"{owners} owners ..."):
            costs.append(asyncio.run(measure(f"{owners} owners", _layout(owners), rates)))
        console.print(f"{owners} owners: {costs[-1].per_s:,.0f} scans a second in frames")
    with console.status("two nodes ..."), two_nodes() as (environment, root):
        environment |= {"PARKGATE_OWNERS": "2", "PARKGATE_GATEWAYS": "2"}
        costs.append(asyncio.run(measure("2 nodes", environment, (STEADY_PER_S,), root)))
    show(costs)
    (BUILD / "scaling.json").write_text(json.dumps([asdict(cost) for cost in costs], indent=1) + "\n")


if __name__ == "__main__":
    main()
