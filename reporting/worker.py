"""Carries one partition's log into Postgres, exactly once, for as long as it runs. A plain class, without Ray."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import re
import time
from dataclasses import dataclass
from zoneinfo import ZoneInfo

import psycopg

from reporting import metrics
from reporting.batch import Batch, batch_of
from reporting.config import ReportingConfig
from reporting.joint import JointWriter
from reporting.log_reader import LogReader, make_client
from reporting.store import Offset
from ticketcore.errors import DamagedDataError, InvalidInputError, UnavailableError

log = logging.getLogger(__name__)

COUNT_RANGE = (16, 5_000)
"""Entries asked for at once. One entry may hold 1,000 events."""
READ_EVENTS = 100_000
"""About so many events are in the entries that are asked for at once: some MB. A worker that gets half of it, which is
more than gathers in a rest of four partitions, or all entries that it asked for, is behind, and goes on at once."""
BACKOFF_S = (0.1, 5.0)
PARTITION_NAME = re.compile(r"[a-z][0-9]{1,5}")


@dataclass(frozen=True, slots=True)
class WorkerState:
    """How a worker is. `damage` is empty unless it has stopped for good."""

    partition: str
    sequence: int
    events: int
    damage: str = ""


class PartitionWorker:
    """Reads one partition. `run` goes on until cancelled; `catch_up` until the log's present end."""

    def __init__(self, config: ReportingConfig, partition: str, writer: JointWriter | None = None) -> None:
        """Workers that are given the same `writer`, which is theirs to close who made it, write together."""
        if not PARTITION_NAME.fullmatch(partition):
            raise InvalidInputError(f"partition {partition!r} is not a letter and a number, like p0")
        self._config = config
        self._partition = partition
        self._zone = ZoneInfo(config.time_zone)
        self._client = make_client(config.redis_url)
        self._log = LogReader(self._client, partition)
        self._own_writer = JointWriter(config.postgres_url) if writer is None else None
        self._writer = writer or self._own_writer or JointWriter(config.postgres_url)
        self._begun = False
        self._offset = Offset()
        self._count = COUNT_RANGE[0]
        self._events = 0
        self._damage = ""

    def state(self) -> WorkerState:
        """How the worker is, now."""
        return WorkerState(self._partition, self._offset.sequence, self._events, self._damage)

    async def run(self) -> None:
        """Works until cancelled, waiting out servers that are away.

        Raises:
            DamagedDataError: the ledger has a hole or contradicts itself. Stopped for good; nothing is guessed.
        """
        await self._work(to_sequence=None)

    async def catch_up(self) -> int:
        """Works up to the log's present end; answers its sequence. Raises as `run` does, and waits as it does."""
        while True:
            try:
                last = await self._log.last_sequence()
            except UnavailableError as error:
                await self._wait("redis", error, 1)
                continue
            await self._work(to_sequence=last)
            return last

    async def close(self) -> None:
        """Hangs up."""
        if self._own_writer is not None:
            await self._own_writer.close()
        await self._client.aclose()

    async def _work(self, to_sequence: int | None) -> None:
        failures = 0
        while True:
            _heed_cancellation()
            try:
                if not self._begun:
                    await self._begin()
                if to_sequence is not None and self._offset.sequence >= to_sequence:
                    return
                pause_s = await self._step(at_once=to_sequence is not None)
                failures = 0
                if to_sequence is None:
                    await asyncio.sleep(pause_s)
            except UnavailableError as error:
                failures += 1
                await self._wait("redis", error, failures)
            except (psycopg.OperationalError, psycopg.InterfaceError) as error:
                failures += 1
                self._begun = False
                await self._wait("postgres", error, failures)
            except (DamagedDataError, psycopg.DataError, psycopg.IntegrityError) as error:
                raise self._damaged(error) from error

    async def _begin(self) -> None:
        """Takes the offset that Postgres holds: after a crash or an unknown commit it is the truth."""
        self._offset = await self._writer.read_offset(self._partition)
        last = await self._log.last_sequence()
        if last < self._offset.sequence:
            raise DamagedDataError(
                f"partition {self._partition}: Postgres holds entry {self._offset.sequence}, "
                f"but the ledger ends at {last}: the ledger has lost entries"
            )
        await self._publish()
        self._begun = True

    async def _step(self, *, at_once: bool) -> float:
        """Writes the next entries, once there are any; returns how long to let more of them gather."""
        try:
            entries = await self._log.read_after(self._offset, self._count)
        except DamagedDataError:
            if await self._was_overtaken():
                return 0.0
            raise
        if not entries:
            metrics.LAG_ENTRIES.labels(self._partition).set(0)
            return 0.0
        batch = batch_of(self._partition, entries, self._zone)
        full = len(entries) >= self._count or batch.events > READ_EVENTS / 2
        self._offset, written = await self._writer.write(batch, self._offset, at_once=at_once or full)
        if written:
            self._record(batch)
        await self._publish()
        return 0.0 if full else self._writer.rest_s

    async def _was_overtaken(self) -> bool:
        """Whether another worker has moved the offset: then what seems to be missing was trimmed after it was read."""
        known, self._offset = self._offset, await self._writer.read_offset(self._partition)
        return self._offset != known

    def _record(self, batch: Batch) -> None:
        self._events += batch.events
        wanted = READ_EVENTS * batch.entries // max(batch.events, 1)
        self._count = min(max(wanted, COUNT_RANGE[0]), COUNT_RANGE[1])
        metrics.EVENTS.labels(self._partition).inc(batch.events)
        metrics.ENTRIES.labels(self._partition).inc(batch.entries)
        now = time.time()
        metrics.LAG_SECONDS.labels(self._partition).set(max(0.0, now - batch.last_time_ms / 1000))
        metrics.DELAY_SECONDS.labels(self._partition).observe(max(0.0, now - batch.first_time_ms / 1000))

    async def _publish(self) -> None:
        with contextlib.suppress(UnavailableError):
            await self._log.publish(self._offset.sequence)
            last = await self._log.last_sequence()
            metrics.LAG_ENTRIES.labels(self._partition).set(max(0, last - self._offset.sequence))

    async def _wait(self, server: str, error: Exception, failures: int) -> None:
        metrics.OUTAGES.labels(self._partition, server).inc()
        log.warning("partition %s waits for %s: %s", self._partition, server, str(error).strip())
        first_s, longest_s = BACKOFF_S
        await asyncio.sleep(min(longest_s, first_s * (1 << min(failures, 8))) * random.uniform(0.5, 1.0))  # noqa: S311

    def _damaged(self, error: Exception) -> DamagedDataError:
        metrics.HOLES.labels(self._partition).inc()
        self._damage = str(error)
        log.critical("partition %s is stopped: %s", self._partition, error)
        return error if isinstance(error, DamagedDataError) else DamagedDataError(f"{self._partition}: {error}")


def _heed_cancellation() -> None:
    """redis-py sometimes swallows a cancellation that meets it inside a command; the task still knows of it."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
