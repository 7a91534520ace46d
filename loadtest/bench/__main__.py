"""Runs every scenario in turn, several rounds, and writes the tables and `build/bench.json`.

Rounds alternate between the scenarios, because machines are shared and their speed drifts: a ratio is of one round,
of what ran minutes apart, and its figure the median of the rounds. Before the rounds, with few tickets and then with
millions, come the figures of cost; after them, at half of the saturation that they found, those of delay.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from rich.console import Console
from rich.progress import track

from loadtest.bench import costs, figures, meters, orders, scenarios, system, whole
from loadtest.bench.client import Plan
from ops.embedded import EmbeddedPostgres, EmbeddedValkey
from ops.polling import prefer_plain_polling

BUILD = Path("build")
BASE_PORT = 23_460
ROUNDS = 4
TIME_ZONE = "Europe/Zurich"
PEER_TOKENS = scenarios.PEER_TOKENS * scenarios.PEERS * ROUNDS
console = Console(width=110)


@dataclass
class Whole:
    """One run of everything on one system."""

    bench: scenarios.Bench
    service: system.Files
    registered: Path
    """The tokens in the order in which they are registered; the bench has them as they are shown."""
    found: dict[str, float] = field(default_factory=dict)
    rounds: dict[str, Sequence[float]] = field(default_factory=dict)
    """What was found round by round."""

    async def measure(self) -> dict[str, float]:
        """All figures, by name."""
        steady = costs.Steady(self.bench.stack, self._next_plan)
        await self._costs(steady)
        for number in range(ROUNDS):
            with console.status(f"round {number + 1} of {ROUNDS} ..."):
                await scenarios.one_round(self.bench)
        self.rounds |= figures.of_rounds(self.bench.results)
        self.found |= figures.medians_of(self.rounds)
        with console.status("half of saturation ..."):
            await self._delays(steady)
        with console.status(f"a group of {whole.GROUP:,} ..."):
            self.found["bulk_issue_s"] = whole.bulk_issue_s(self.bench.stack)
        return self.found

    async def _costs(self, steady: costs.Steady) -> None:
        data_dir = self.bench.stack.data_dir
        self._register(0, costs.FEW_TICKETS)
        with console.status(f"cost of a scan with {costs.FEW_TICKETS:,} tickets ..."):
            few = (await steady.cpu_per_scan_us((costs.COMMON_STREAMS,), 1))[costs.COMMON_STREAMS]
            meters.settle(self.bench.stack)
            self.found["idle_cpu_share"] = steady.idle_share()
            before = meters.owner_bytes(data_dir)
        self._register(costs.FEW_TICKETS, costs.MANY_TICKETS - costs.FEW_TICKETS)
        with console.status(f"cost of a scan with {costs.MANY_TICKETS:,} tickets ..."):
            meters.settle(self.bench.stack)
            added = meters.owner_bytes(data_dir) - before
            many = await steady.cpu_per_scan_us(costs.STREAMS, costs.PASSES)
        console.print(
            f"CPU of a scan: {few:.0f} µs with {costs.FEW_TICKETS:,} tickets from {costs.COMMON_STREAMS} streams; with "
            f"{costs.MANY_TICKETS:,} " + ", ".join(f"{cost:.0f} µs from {streams}" for streams, cost in many.items())
        )
        self.found["bytes_per_ticket"] = added / (costs.MANY_TICKETS - costs.FEW_TICKETS)
        self.found["cpu_per_scan_spread"] = costs.spread([few, *many.values()])

    async def _delays(self, steady: costs.Steady) -> None:
        saturation = figures.summary(self.bench.results)["system_single_400"].per_s
        runs = [await steady.half_load(saturation) for _ in range(ROUNDS)]
        for result, _ in runs:
            console.print(
                f"half of saturation, {saturation / 2:,.0f} scans a second from {costs.TURNSTILES} turnstiles: p50 "
                f"{result.p50_ms:.1f} ms, p99 {result.p99_ms:.1f} ms ({result.late} of {result.scans:,} sent late)"
            )
        delays = {
            "half_load_p99_ms": [result.p99_ms for result, _ in runs],
            "half_load_p99_vs_p50": [result.p99_ms / result.p50_ms for result, _ in runs],
        }
        self.rounds |= delays
        self.found |= figures.medians_of(delays)
        self.found["reporting_lag_p99_s"] = max(lag_s for _, lag_s in runs)

    def _register(self, first: int, count: int) -> None:
        calls = system.register(self.bench.stack, self.service, self.registered, first, count)
        label = f"registering {count:,} tickets"
        for _ in track(calls, label, total=-(-count // system.REGISTER_AT_ONCE), console=console):
            pass

    def _next_plan(self, streams: int, count: int) -> Plan:
        first, self.bench.next_token = self.bench.next_token, self.bench.next_token + count
        return self.bench.plan(f"localhost:{self.bench.stack.gate_port}", streams, 1, first, count)


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
    """The exit code: 0 when every bar is met."""
    prefer_plain_polling()
    BUILD.mkdir(exist_ok=True)
    (BUILD / "bench.json").unlink(missing_ok=True)  # a run that breaks off leaves none that looks like its own
    peers = BUILD / "bench-peers"
    shutil.rmtree(peers, ignore_errors=True)
    with console.status("a cold start ..."):
        cold_s = whole.cold_start_s(BUILD / "bench-cold", BASE_PORT)
    with (
        system.running(BUILD / "bench-data", BASE_PORT) as stack,
        EmbeddedValkey(peers) as valkey,
        EmbeddedPostgres(peers) as postgres,
    ):
        gate = stack.enroll("gate", "bench", "--gates", ",".join(system.GATES))
        service = stack.enroll("service", "bench-sales")
        tokens = BUILD / "bench-data" / "tokens"
        with console.status(f"writing {costs.MANY_TICKETS:,} tokens ..."):
            system.write_tokens(tokens, costs.MANY_TICKETS, TIME_ZONE)
            shown = tokens.with_name("shown")
            system.write_shown(shown, tokens, (costs.FEW_TICKETS, PEER_TOKENS, costs.MANY_TICKETS))
        prepare_postgres(postgres.url, PEER_TOKENS)
        sales = orders.Orders(stack, stack.enroll("service", "bench-orders"), scenarios.SECONDS)
        bench = scenarios.Bench(stack, gate, shown, valkey.url, postgres.url, sales, PEER_TOKENS)
        run = Whole(bench, service, tokens)
        found = {"cold_start_s": cold_s} | asyncio.run(run.measure())
    shutil.rmtree(peers, ignore_errors=True)
    medians = figures.summary(bench.results)
    figures.show(console, medians, found, run.rounds)
    figures.write(BUILD / "bench.json", medians, found, run.rounds)
    console.print(f"written to {BUILD / 'bench.json'}")
    return 0 if figures.all_met(found) else 1


if __name__ == "__main__":
    sys.exit(main())
