"""A row of `make chaos`: an hour without Postgres, compressed. Gates admit, reporting catches up (I6, I10).

Real owners, gateway, TLS, Valkey and Postgres, without Ray. What is compressed is the time: a busy park's hour of
36,000 admissions, each with its passage, comes within a minute: reporting is compared with sixty times the rate of a
real hour.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from zoneinfo import ZoneInfo

from cluster.config import QUOTA_PARTITION
from ops.embedded import EmbeddedPostgres, EmbeddedValkey
from parkgate.gate.v1 import gate_pb2
from reporting.config import ReportingConfig
from reporting.database import migrate
from reporting.joint import JointWriter
from reporting.worker import PartitionWorker
from tests.chaos.rows import Row
from tests.checker import check_books, read_ledger
from tests.checker.sources import books_of, ledger_of
from tests.cluster.harness import GateClient, LocalCluster, example_document, scan
from tests.fuzz.run import silence

SCANS = 36_000
FRAME = 100
FASTER = 5
"""Reporting must catch up at so many times the rate of arrival; up to five seconds go by before it looks again."""
LONGEST_WAIT_S = 2.0
"""A frame that waits longer has waited for Postgres."""
PATIENCE_S = 120.0


@dataclass(slots=True)
class Hour:
    """What became of it. Events are scans and passages."""

    scans: int
    faster: float = FASTER
    admitted: int = 0
    retries: int = 0
    arrival_s: float = 0.0
    longest_wait_s: float = 0.0
    log_bytes: int = 0
    catch_up_s: float = 0.0
    violations: list[str] = field(default_factory=list)

    @property
    def times_faster(self) -> float:
        """The rate of catching up, by the rate of arrival."""
        return self.arrival_s / self.catch_up_s

    def judge(self) -> None:
        """What must hold."""
        for holds, broken in (
            (self.admitted == self.scans, f"I10: {self.admitted} of {self.scans} were admitted"),
            (self.longest_wait_s < LONGEST_WAIT_S, f"I10: a frame waited {self.longest_wait_s:.1f} s"),
            (self.times_faster >= self.faster, f"I10: caught up at {self.times_faster:.1f} times the rate of arrival"),
        ):
            if not holds:
                self.violations.append(broken)


async def an_hour_without_postgres(folder: Path, scans: int, faster: float = FASTER) -> Hour:
    """Starts everything, takes Postgres away, sends the hour's guests, brings it back, and counts."""
    hour = Hour(scans, faster)
    async with AsyncExitStack() as stack:
        valkey = stack.enter_context(EmbeddedValkey(folder / "valkey"))
        postgres = stack.enter_context(EmbeddedPostgres(folder / "postgres"))
        cluster = LocalCluster(valkey.url, folder)
        document = example_document()
        for zone in document["zones"]:
            zone["capacity"] = 0  # more come in this hour than the example park holds
        await cluster.start(document)
        stack.push_async_callback(cluster.stop)
        tokens = [cluster.token("day") for _ in range(scans)]
        for start in range(0, scans, 5_000):
            await cluster.register(*tokens[start : start + 5_000])
        names = (*cluster.config.partition_names, QUOTA_PARTITION)
        config = ReportingConfig(postgres.url, valkey.url, names, str(cluster.catalogue.venue.time_zone))
        await migrate(config.postgres_url)
        async with _reporting(config) as workers:
            await _caught_up(workers, valkey.url)
            postgres.stop()
            await _guests(cluster, tokens, hour)
            await cluster.gateway.backlog.look()
            hour.log_bytes = cluster.gateway.backlog.now.log_bytes
            postgres.start()
            began = time.monotonic()
            await _caught_up(workers, valkey.url)
            hour.catch_up_s = time.monotonic() - began
        ledger = read_ledger(ledger_of(valkey.url, names))
        broken = [*ledger.violations, *check_books(books_of(postgres.url), ledger, ZoneInfo(config.time_zone))]
        hour.violations += map(str, broken)
    hour.judge()
    return hour


@asynccontextmanager
async def _reporting(config: ReportingConfig):  # type: ignore[no-untyped-def]
    """The workers of all partitions, as their actor runs them."""
    writer = JointWriter(config.postgres_url, len(config.partitions))
    workers = [PartitionWorker(config, name, writer) for name in config.partitions]
    tasks = [asyncio.create_task(worker.run()) for worker in workers]
    try:
        yield workers
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await writer.close()
        for worker in workers:
            await worker.close()


async def _caught_up(workers: Sequence[PartitionWorker], _url: str) -> None:
    async with asyncio.timeout(PATIENCE_S):
        for worker in workers:
            while worker.state().sequence < await worker._log.last_sequence():  # noqa: ASYNC110 - it has no event
                await asyncio.sleep(0.02)


async def _guests(cluster: LocalCluster, tokens: list[bytes], hour: Hour) -> None:
    began = time.monotonic()
    gate = await cluster.gate("main-1")
    for start in range(0, len(tokens), FRAME):
        sent = time.monotonic()
        verdicts = await _admitted(gate, tokens[start : start + FRAME], hour)
        reports = [
            gate_pb2.PassageReport(scan_id=v.scan_id, ticket_id=v.ticket_id, outcome=gate_pb2.PASSAGE_OUTCOME_PASSED)
            for v in verdicts
        ]
        await gate.exchange(gate_pb2.ClientFrame(passages=reports))
        hour.longest_wait_s = max(hour.longest_wait_s, time.monotonic() - sent)
        await asyncio.sleep(0.12)  # guests do not come as fast as a loop can ask
    hour.arrival_s = time.monotonic() - began


async def _admitted(gate: GateClient, tokens: list[bytes], hour: Hour) -> list[gate_pb2.Verdict]:
    """Verdicts of a frame, which is sent again while it is told RETRY."""
    frame = gate_pb2.ClientFrame(scans=[scan(token) for token in tokens])
    while True:
        verdicts = list((await gate.exchange(frame)).verdicts)
        again = sum(verdict.decision == gate_pb2.DECISION_RETRY for verdict in verdicts)
        if not again:
            hour.admitted += sum(verdict.decision == gate_pb2.DECISION_ADMIT for verdict in verdicts)
            return verdicts
        hour.retries += again


def postgres_row(scans: int = SCANS) -> Row:
    """The row. Workers log every attempt, which here is meant, and so is what owners say of their start."""
    logging.getLogger("reporting").setLevel(logging.CRITICAL)
    with silence(), tempfile.TemporaryDirectory(prefix="parkgate-away-") as folder, suppress(asyncio.CancelledError):
        hour = asyncio.run(an_hour_without_postgres(Path(folder), scans))
    return Row(
        "postgres",
        "away for an hour",
        f"{hour.scans:,} scans and passages within {hour.arrival_s:.0f} s, {hour.log_bytes / hour.scans:.0f} bytes of "
        f"log a guest; then read {hour.times_faster:.0f} times as fast, with the wait for the next try, "
        f"{2 * hour.scans / hour.catch_up_s:,.0f} events/s; longest wait at a gate {hour.longest_wait_s:.2f} s",
        1,
        hour.scans,
        hour.retries,
        hour.admitted,
        tuple(hour.violations),
        round(hour.catch_up_s * 1_000),
    )
