"""Runs every scenario in turn, several rounds, and writes the table and `build/bench.json`.

Rounds alternate between the scenarios, and each figure is the median of its rounds, because machines are shared and
their speed drifts: a ratio then compares what ran side by side.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import statistics
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import psycopg
from rich.console import Console
from rich.progress import track
from rich.table import Table

from loadtest.bench import orders, redis_lua, reporting, system
from loadtest.bench.client import Plan, Result
from ops.embedded import EmbeddedPostgres, EmbeddedValkey

BUILD = Path("build")
BASE_PORT = 23_460
ROUNDS = 3
SECONDS = 4.0
FRAME = 200
FRAME_STREAMS = 48
TIME_ZONE = "Europe/Zurich"
TOKENS_A_ROUND = {"single_100": 60_000, "single_400": 60_000, "frames_200": 500_000, "lone": 8_000}
PEER_TOKENS = 60_000
"""Tokens a run of a peer; each run has its own, so that each is redeemed once."""
PEER_RUNS = 4 * ROUNDS
REDIS_CALLS = 200_000
NO_LATENCY = 0.0
"""Nobody waits for an answer: shown as a dash, null in the file."""
BARS = {"single_vs_echo": 0.45, "frames_vs_redis_lua": 1.3}
console = Console(width=110)


@dataclass
class Bench:
    """The parts that scenarios use, and what they measured."""

    stack: system.Stack
    gate: system.Files
    tokens: Path
    valkey_url: str
    postgres_url: str
    orders: orders.Orders
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
        """Runs a scenario once and keeps its result.

        Raises:
            RuntimeError: a scan was not admitted: then the figure would be of something else.
        """
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

    async def of_peer(self, module: str, arguments: list[str], streams: int, frame: int) -> Result:
        """A peer that serves the same stream in a process of its own."""
        first, self.next_of_peer = self.next_of_peer, (self.next_of_peer + PEER_TOKENS) % (PEER_TOKENS * PEER_RUNS)
        async with serving(module, [*arguments, *self.server_files()]) as port:
            return await run_client(self.plan(f"localhost:{port}", streams, frame, first, PEER_TOKENS))

    def server_files(self) -> list[str]:
        """CA, certificate and key of the system's own gateway, for peers."""
        pki = self.stack.data_dir / "pki"
        return [str(pki / "ca.pem"), str(pki / "server" / "gateway.pem"), str(pki / "server" / "gateway.key")]


async def run_client(plan: Plan) -> Result:
    """Runs the client in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "loadtest.bench.client",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate(json.dumps(asdict(plan)).encode())
    if process.returncode != 0:
        raise RuntimeError(f"the client failed against {plan.address}")
    return Result(**json.loads(out))


@asynccontextmanager
async def serving(module: str, arguments: list[str]) -> AsyncIterator[int]:
    """A peer's server, and its port."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *arguments, stdout=asyncio.subprocess.PIPE
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
        await bench.measure(f"echo_{streams}", lambda n=streams: bench.of_peer(echo, ["1"], n, 1))  # type: ignore[misc]
        await bench.measure(f"system_{name}", lambda n=streams, w=name: bench.of_system(w, n, 1))  # type: ignore[misc]
    await bench.measure("postgres_400", lambda: bench.of_peer(front, [bench.postgres_url], 400, 1))
    if redis_lua.available():
        for clients in (100, 200):
            await bench.measure(
                f"redis_lua_{clients}",
                lambda n=clients: redis_lua.measure(bench.valkey_url, n, REDIS_CALLS),  # type: ignore[misc]
            )
    await bench.measure("system_frames_200", lambda: bench.of_system("frames_200", FRAME_STREAMS, FRAME))
    await bench.measure("reporting_catch_up", bench.of_reporting)
    await bench.measure("echo_lone", lambda: bench.of_peer(echo, ["1"], 1, 1))
    await bench.measure("system_lone", lambda: bench.of_system("lone", 1, 1))
    for form in orders.FORMS:
        await bench.measure(f"orders_{form}", lambda f=form: bench.orders.measure(f))  # type: ignore[misc]


def summary(results: dict[str, list[Result]]) -> dict[str, Result]:
    """The median of each figure over the rounds."""
    medians: dict[str, Result] = {}
    for name, rounds in results.items():
        values = {
            key: statistics.median(getattr(result, key) for result in rounds) for key in ("per_s", "p50_ms", "p99_ms")
        }
        medians[name] = replace(rounds[-1], retried=sum(result.retried for result in rounds), **values)
    return medians


def ratios(figures: dict[str, Result]) -> dict[str, float]:
    """The ratios of one run; one that could not be measured is left out."""
    redis = [figure.per_s for name, figure in figures.items() if name.startswith("redis_lua")]
    found = {
        "single_vs_echo": figures["system_single_400"].per_s / figures["echo_400"].per_s,
        "single_vs_postgres": figures["system_single_400"].per_s / figures["postgres_400"].per_s,
        "orders_per_s": max(figures[f"orders_{form}"].per_s for form in orders.FORMS),
        "reporting_per_s": figures["reporting_catch_up"].per_s,
    }
    if redis:
        found["frames_vs_redis_lua"] = figures["system_frames_200"].per_s / max(redis)
    return found


def show(figures: dict[str, Result], found: dict[str, float]) -> None:
    """Prints both tables."""
    table = Table(
        "scenario",
        title="Scans (or orders, or events of reporting) per second, fsync always, client included",
        title_justify="left",
    )
    for column in ("per second", "p50 ms", "p99 ms", "retried"):
        table.add_column(column, justify="right")
    for name, figure in figures.items():
        latencies = (f"{value:.2f}" if value else "–" for value in (figure.p50_ms, figure.p99_ms))
        table.add_row(name, f"{figure.per_s:,.0f}", *latencies, str(figure.retried))
    console.print(table)
    for name, value in found.items():
        bar = BARS.get(name)
        verdict = "" if bar is None else (" [green]met[/green]" if value >= bar else " [red]missed[/red]")
        console.print(f"{name:<22}{value:6.2f}" + (f"   bar {bar}{verdict}" if bar else ""))
    if "frames_vs_redis_lua" not in found:
        console.print("[yellow]frames_vs_redis_lua was not measured: redis-benchmark is not installed[/yellow]")


def write(figures: dict[str, Result], found: dict[str, float]) -> Path:
    """Writes `build/bench.json`."""
    scenarios = [
        {"name": name, "per_s": figure.per_s, "p50_ms": figure.p50_ms or None, "p99_ms": figure.p99_ms or None}
        for name, figure in figures.items()
    ]
    path = BUILD / "bench.json"
    path.write_text(json.dumps({"scenarios": scenarios, "ratios": found}, indent=1) + "\n")
    return path


async def measure_all(bench: Bench) -> None:
    """All rounds."""
    for number in range(ROUNDS):
        with console.status(f"round {number + 1} of {ROUNDS} ..."):
            await one_round(bench)


def prepare_postgres(url: str, tickets: int) -> None:
    """The peer's table: the same ticket ids, none of them used."""
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE tickets (ticket_id bigint PRIMARY KEY, used_time timestamptz)")
        connection.execute(
            "INSERT INTO tickets SELECT (%s::bigint << 48) | n FROM generate_series(1, %s) AS n",
            (system.BENCH_ISSUER, tickets),
        )
        connection.execute("ANALYZE tickets")


def main() -> int:
    """The exit code: 0 when both bars of the first release are met."""
    BUILD.mkdir(exist_ok=True)
    peers = BUILD / "bench-peers"
    shutil.rmtree(peers, ignore_errors=True)
    wanted = sum(TOKENS_A_ROUND.values()) * ROUNDS
    with (
        system.running(BUILD / "bench-data", BASE_PORT) as stack,
        EmbeddedValkey(peers) as valkey,
        EmbeddedPostgres(peers) as postgres,
    ):
        gate = stack.enroll("gate", "bench", "--gates", ",".join(system.GATES))
        tokens = BUILD / "bench-data" / "tokens"
        system.write_tokens(tokens, wanted, TIME_ZONE)
        prepare_postgres(postgres.url, PEER_TOKENS * PEER_RUNS)
        calls = system.register(stack, stack.enroll("service", "bench-sales"), tokens)
        for _ in track(
            calls, f"registering {wanted:,} tickets", total=wanted // system.REGISTER_AT_ONCE, console=console
        ):
            pass
        sales = orders.Orders(stack, stack.enroll("service", "bench-orders"), SECONDS)
        bench = Bench(stack, gate, tokens, valkey.url, postgres.url, sales)
        asyncio.run(measure_all(bench))
    shutil.rmtree(peers, ignore_errors=True)
    figures = summary(bench.results)
    found = ratios(figures)
    show(figures, found)
    console.print(f"written to {write(figures, found)}")
    return 0 if all(found.get(name, bar) >= bar for name, bar in BARS.items()) else 1


if __name__ == "__main__":
    sys.exit(main())
