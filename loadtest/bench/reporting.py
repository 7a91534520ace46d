"""How fast reporting catches up: a real ledger full of what owners write in a rush, carried into a real Postgres.

The logs hold runs in columns, as owners log a morning: one entry a batch, with admissions that are alike and then
their passages. Every ticket is admitted for the first time. Workers read as in production, one process, all partitions;
afterwards every row and every sum is counted, and the figure stands only if not one event is missing or double.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
import redis
from psycopg import sql

from parkgate.events.v1 import events_pb2 as pb
from parkgate.gate.v1 import gate_pb2 as gate
from reporting.config import ReportingConfig
from reporting.database import migrate
from reporting.joint import JointWriter
from reporting.worker import PartitionWorker
from ticketcore.seal import seal

PARTITIONS = ("p0", "p1", "p2", "p3")
BATCH = 250
"""Admissions of one entry: what a turn of an owner holds when 1,000 arrive at once for its four partitions."""
ENTRIES = 250
"""Entries a partition: half a million events in all."""
SOLD = 20
"""Tickets that were sold, for each that comes: those who come are strewn among five million."""
START_MS = 1_777_622_400_000
ENTRY_MS = 25
GATES = 12
PERSONS = (1, 2, 4)
SCAN_ID_LENGTH = 16


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """What one run came to."""

    events: int
    seconds: float

    @property
    def per_s(self) -> float:
        """Events a second, from the first read to the last commit."""
        return self.events / self.seconds


async def measure(postgres_url: str, valkey_url: str) -> CaughtUp:
    """Fills the ledger, lets the workers catch up in a database of this run's own, and counts.

    Raises:
        RuntimeError: a row or a sum is not what was written.
    """
    persons = write_ledger(valkey_url)
    with fresh_database(postgres_url) as url:
        seconds = await catch_up(ReportingConfig(url, valkey_url, PARTITIONS, "Europe/Paris"))
        scans = len(PARTITIONS) * ENTRIES * BATCH
        check(url, scans, persons)
    return CaughtUp(2 * scans, seconds)


async def catch_up(config: ReportingConfig) -> float:
    """Lets workers of all partitions catch up, one transaction at a time as in production; answers the seconds."""
    await migrate(config.postgres_url)
    writer = JointWriter(config.postgres_url, len(config.partitions))
    workers = [PartitionWorker(config, name, writer) for name in config.partitions]
    began = time.perf_counter()
    await asyncio.gather(*(worker.catch_up() for worker in workers))
    seconds = time.perf_counter() - began
    await writer.close()
    await asyncio.gather(*(worker.close() for worker in workers))
    return seconds


@contextmanager
def fresh_database(url: str) -> Iterator[str]:
    """A database that is there for one run."""
    name = sql.Identifier(f"reporting_{uuid.uuid4().hex}")
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(name))
        yield f"{url.rpartition('/')[0]}/{name.as_string()[1:-1]}"
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


def write_ledger(url: str) -> int:
    """Writes the logs; answers how many persons they admit."""
    chance = random.Random(1)
    persons = 0
    with redis.Redis.from_url(url) as client:
        for index, name in enumerate(PARTITIONS):
            client.delete(f"pg:{{{name}}}:log", f"pg:{{{name}}}:reported")
            tickets = chance.sample(range(SOLD * ENTRIES * BATCH), ENTRIES * BATCH)
            with client.pipeline(transaction=False) as pipe:
                for sequence in range(1, ENTRIES + 1):
                    shown = tickets[(sequence - 1) * BATCH : sequence * BATCH]
                    entry = _entry(name, sequence, [1 + index + len(PARTITIONS) * one for one in shown], chance)
                    persons += entry.events[0].scans_admitted.alike.persons * BATCH
                    pipe.xadd(f"pg:{{{name}}}:log", {"e": seal(entry.SerializeToString())}, id=f"{sequence}-0")
                pipe.execute()
    return persons


def _entry(partition: str, sequence: int, ticket_ids: list[int], chance: random.Random) -> pb.LogEntry:
    time_ms = START_MS + sequence * ENTRY_MS
    columns: dict[str, Any] = {
        "scan_ids": os.urandom(SCAN_ID_LENGTH * BATCH),
        "ticket_ids": ticket_ids,
        "gate_numbers": chance.choices(range(1, GATES + 1), k=BATCH),
    }
    product = chance.randrange(len(PERSONS))
    scan = pb.ScanDecided(
        zone_number=1,
        product_number=product + 1,
        direction=gate.DIRECTION_ENTRY,
        decision=gate.DECISION_ADMIT,
        kind=gate.ADMISSION_KIND_ENTRY,
        persons=PERSONS[product],
        verification=gate.VERIFICATION_DIGEST,
        first_admission=True,
        counts_inside=True,
        passage_deadline_ms=time_ms + 20_000,
    )
    passage = pb.PassageRecorded(
        zone_number=1,
        product_number=product + 1,
        kind=gate.ADMISSION_KIND_ENTRY,
        outcome=gate.PASSAGE_OUTCOME_PASSED,
    )
    times = [time_ms - chance.randrange(1_000) for _ in range(BATCH)]
    admitted = pb.ScansAdmitted(alike=scan, scan_times_ms=times, **columns)
    passed = pb.PassagesRecorded(alike=passage, **columns)
    events = [pb.Event(scans_admitted=admitted), pb.Event(passages_recorded=passed)]
    return pb.LogEntry(
        partition=partition,
        sequence=sequence,
        epoch=1,
        time_ms=time_ms,
        batch_id=sequence.to_bytes(8, "big"),
        events=events,
    )


def check(postgres_url: str, scans: int, persons: int) -> None:
    """Counts rows and sums in Postgres. Raises: RuntimeError."""
    wanted = {
        "SELECT count(DISTINCT scan_id), sum(persons) FROM reporting.scan_events": (scans, persons),
        "SELECT count(DISTINCT scan_id), count(*) FROM reporting.passage_events": (scans, scans),
        "SELECT sum(scans), sum(persons) FROM reporting.scan_minutes": (scans, persons),
        "SELECT sum(passages), sum(persons_given_back) FROM reporting.passage_minutes": (scans, 0),
        "SELECT count(*), count(DISTINCT scan_id) FROM reporting.first_admissions": (scans, scans),
        "SELECT sum(sequence), count(*) FROM reporting.offsets": (len(PARTITIONS) * ENTRIES, len(PARTITIONS)),
    }
    with psycopg.connect(postgres_url) as books:
        for statement, expected in wanted.items():
            found = books.execute(statement.encode()).fetchone()
            if found is None or tuple(map(int, found)) != expected:
                raise RuntimeError(f"reporting lost or doubled events: {statement}: {found}, must be {expected}")
