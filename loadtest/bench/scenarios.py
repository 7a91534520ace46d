"""The scenarios that a round runs in turn, each against its peer, and what they measured."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from loadtest.bench import meters, orders, redis_lua, reporting, system
from loadtest.bench.client import Plan, Result
from ops.embedded.base import own_module
from ops.polling import PLAIN_POLLING

SECONDS = 4.0
FRAME = 200
FRAME_STREAMS = 48
TOKENS_A_ROUND = {"single_100": 70_000, "single_400": 80_000, "frames_200": 900_000, "lone": 8_000}
PEER_TOKENS = 60_000
"""Tokens a run of a peer; each run has its own, so that each is redeemed once."""
PEERS = 5
"""Runs of peers that take tokens, a round."""
REDIS_CALLS = 200_000
REDIS_LONE_CALLS = 4_000
NO_LATENCY = 0.0
"""Nobody waits for an answer: shown as a dash, null in the file."""


@dataclass
class Bench:
    """The parts that scenarios use, and what they measured."""

    stack: system.Stack
    gate: system.Files
    tokens: Path
    valkey_url: str
    postgres_url: str
    orders: orders.Orders
    peer_tokens: int
    """Rows of the Postgres peer: its runs take turns with them."""
    next_token: int = 0
    next_of_peer: int = 0
    results: dict[str, list[Result]] = field(default_factory=dict)

    def plan(self, address: str, streams: int, frame: int, first: int, count: int) -> Plan:
        """A plan of the client."""
        ca, certificate, key = (str(path) for path in (self.gate.ca, self.gate.certificate, self.gate.key))
        return Plan(
            address, ca, certificate, key, system.GATES, streams, frame, SECONDS, str(self.tokens), first, count
        )

    async def measure(self, name: str, run: Callable[[], Awaitable[Result]]) -> None:
        """Runs a scenario once, on a machine that has nothing else to do, and keeps its result.

        Raises:
            RuntimeError: a scan was not admitted: then the figure would be of something else.
        """
        await asyncio.to_thread(meters.settle, self.stack)
        result = await run()
        if result.not_admitted:
            raise RuntimeError(f"{name}: {result.not_admitted} of the scans were not admitted: {result.reasons}")
        self.results.setdefault(name, []).append(result)

    async def of_system(self, name: str, streams: int, frame: int) -> Result:
        """The system, with tickets that were never used."""
        count = TOKENS_A_ROUND[name.removeprefix("system_")]
        first, self.next_token = self.next_token, self.next_token + count
        return await run_client(self.plan(f"localhost:{self.stack.gate_port}", streams, frame, first, count))

    async def of_reporting(self) -> Result:
        """Reporting alone, behind by half a million events, on the ledger and Postgres of the peers."""
        caught_up = await reporting.measure(self.postgres_url, self.valkey_url)
        return Result(caught_up.per_s, NO_LATENCY, NO_LATENCY, caught_up.events, 0, True, 0, {}, NO_LATENCY)

    async def of_peer(
        self, module: str, arguments: list[str], streams: int, frame: int, environment: Mapping[str, str] | None = None
    ) -> Result:
        """A peer that serves the same stream in a process of its own; with the environment of ours, unless given."""
        first, self.next_of_peer = self.next_of_peer, (self.next_of_peer + PEER_TOKENS) % self.peer_tokens
        async with serving(module, [*arguments, *self.server_files()], environment) as port:
            return await run_client(self.plan(f"localhost:{port}", streams, frame, first, PEER_TOKENS))

    def server_files(self) -> list[str]:
        """CA, certificate and key of the system's own gateway, for peers."""
        pki = self.stack.data_dir / "pki"
        return [str(pki / "ca.pem"), str(pki / "server" / "gateway.pem"), str(pki / "server" / "gateway.key")]


def as_shipped() -> dict[str, str]:
    """The environment with gRPC as it comes: what a bare echo is."""
    return {name: value for name, value in os.environ.items() if name not in PLAIN_POLLING}


async def run_client(plan: Plan) -> Result:
    """Runs the client in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        *own_module("loadtest.bench.client"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate(json.dumps(asdict(plan)).encode())
    if process.returncode != 0:
        raise RuntimeError(f"the client failed against {plan.address}")
    return Result(**json.loads(out))


@asynccontextmanager
async def serving(module: str, arguments: list[str], environment: Mapping[str, str] | None) -> AsyncIterator[int]:
    """A peer's server, and its port."""
    process = await asyncio.create_subprocess_exec(
        *own_module(module, *arguments), stdout=asyncio.subprocess.PIPE, env=environment
    )
    try:
        assert process.stdout is not None
        yield int(await process.stdout.readline())
    finally:
        process.terminate()
        await process.wait()


async def one_round(bench: Bench) -> None:
    """Every scenario once, the ones of a ratio next to each other."""
    echo, front = "loadtest.bench.echo", "loadtest.bench.postgres_front"
    for streams in (100, 400):
        name = f"single_{streams}"
        await bench.measure(f"echo_{streams}", lambda n=streams: bench.of_peer(echo, ["1"], n, 1, as_shipped()))  # type: ignore[misc]
        await bench.measure(f"system_{name}", lambda n=streams, w=name: bench.of_system(w, n, 1))  # type: ignore[misc]
    await bench.measure("echo_400_polling", lambda: bench.of_peer(echo, ["1"], 400, 1))
    await bench.measure("postgres_400", lambda: bench.of_peer(front, [bench.postgres_url], 400, 1))
    if redis_lua.available():
        for clients in (100, 200):
            await bench.measure(
                f"redis_lua_{clients}",
                lambda n=clients: redis_lua.measure(bench.valkey_url, n, REDIS_CALLS),  # type: ignore[misc]
            )
    await bench.measure("system_frames_200", lambda: bench.of_system("frames_200", FRAME_STREAMS, FRAME))
    await bench.measure("reporting_catch_up", bench.of_reporting)
    await bench.measure("echo_lone", lambda: bench.of_peer(echo, ["1"], 1, 1, as_shipped()))
    await bench.measure("system_lone", lambda: bench.of_system("lone", 1, 1))
    if redis_lua.available():
        await bench.measure("redis_lone", lambda: redis_lua.measure_write(bench.valkey_url, REDIS_LONE_CALLS))
    for form in orders.FORMS:
        await bench.measure(f"orders_{form}", lambda f=form: bench.orders.measure(f))  # type: ignore[misc]
