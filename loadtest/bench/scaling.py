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
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from loadtest.bench import meters, scenarios, steady, system
from loadtest.bench.client import Plan
from ops.polling import prefer_plain_polling

BUILD = Path("build")
BASE_PORT = 23_560
TIME_ZONE = "Europe/Zurich"
FRAME_SCANS, FRAME, FRAME_STREAMS = 800_000, 200, 48
STEADY_SCANS, STEADY_PER_S, STEADY_STREAMS = 8_000, 1_000.0, 100
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
class Cost:
    """What a scan costs in one layout: CPU microseconds by part, and bytes."""

    layout: str
    per_s: float
    in_frames_us: dict[str, float]
    one_by_one_us: dict[str, float]
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


async def measure(layout: str, environment: dict[str, str], *roots: int) -> Cost:
    """Starts a system of that layout and measures what its scans cost. `roots` as for `meters.cpu_by_part`."""
    with system.running(BUILD / "scaling-data", BASE_PORT, **environment) as stack:
        gate = stack.enroll("gate", "bench", "--gates", ",".join(system.GATES))
        tokens = stack.data_dir / "tokens"
        count = FRAME_SCANS + STEADY_SCANS
        system.write_tokens(tokens, count, TIME_ZONE)
        for _ in system.register(stack, stack.enroll("service", "bench-sales"), tokens, 0, count):
            pass
        ca, certificate, key = str(gate.ca), str(gate.certificate), str(gate.key)
        address = f"localhost:{stack.gate_port}"
        plan = Plan(
            address, ca, certificate, key, system.GATES, FRAME_STREAMS, FRAME, 60.0, str(tokens), 0, FRAME_SCANS
        )
        meters.settle(stack)
        before, cpu = _bytes(stack), meters.cpu_by_part(stack.data_dir, *roots)
        in_frames = await scenarios.run_client(plan)
        meters.settle(stack)
        frames_us = _per_scan(cpu, meters.cpu_by_part(stack.data_dir, *roots), FRAME_SCANS)
        grown = [(now - then) / FRAME_SCANS for then, now in zip(before, _bytes(stack), strict=True)]
        lone = replace(plan, streams=STEADY_STREAMS, scans_a_frame=1, first_token=FRAME_SCANS, token_count=STEADY_SCANS)
        cpu = meters.cpu_by_part(stack.data_dir, *roots)
        await steady.measure(steady.Plan(lone, STEADY_PER_S))
        single_us = _per_scan(cpu, meters.cpu_by_part(stack.data_dir, *roots), STEADY_SCANS)
        return Cost(layout, in_frames.per_s, frames_us, single_us, *grown)


def _bytes(stack: system.Stack) -> tuple[int, int, int]:
    """Of the ledger's files, of Postgres' tables, and of the owners' memory."""
    data_dir = stack.data_dir
    return (
        meters.folder_bytes(data_dir / "ledger"),
        meters.folder_bytes(data_dir / "postgres" / "base"),
        meters.owner_bytes(data_dir),
    )


def _per_scan(before: dict[str, float], after: dict[str, float], scans: int) -> dict[str, float]:
    return {part: (after[part] - before.get(part, 0.0)) / scans * 1e6 for part in after}


def show(costs: list[Cost]) -> None:
    """Prints CPU by part, and bytes."""
    parts = [*meters.PARTS.values(), "others"]
    for title, of in (("frames of 200", "in_frames_us"), ("one by one, 1,000 a second", "one_by_one_us")):
        table = Table("layout", *parts, "all", title=f"CPU of a scan in µs, {title}", title_justify="left")
        for cost in costs:
            values: dict[str, float] = getattr(cost, of)
            table.add_row(cost.layout, *(f"{values[part]:.1f}" for part in parts), f"{sum(values.values()):.1f}")
        console.print(table)
    table = Table("layout", "scans/s", "ledger", "Postgres", "owners' memory", title="Bytes of a scan")
    for cost in costs:
        table.add_row(
            cost.layout,
            f"{cost.per_s:,.0f}",
            *(f"{value:,.0f}" for value in (cost.ledger_bytes, cost.postgres_bytes, cost.owner_bytes)),
        )
    console.print(table)


def main() -> None:
    """Every layout in turn."""
    prefer_plain_polling()
    BUILD.mkdir(exist_ok=True)
    costs: list[Cost] = []
    for owners in (1, 2, 4, 8):
        with console.status(f"{owners} owners ..."):
            costs.append(asyncio.run(measure(f"{owners} owners", {"PARKGATE_OWNERS": str(owners)})))
    with console.status("two nodes ..."), two_nodes() as (environment, root):
        environment |= {"PARKGATE_OWNERS": "2", "PARKGATE_GATEWAYS": "2"}
        costs.append(asyncio.run(measure("2 nodes", environment, root)))
    show(costs)
    rows = [{name: getattr(cost, name) for name in Cost.__slots__} for cost in costs]
    (BUILD / "scaling.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
