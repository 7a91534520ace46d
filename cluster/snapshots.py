"""When a partition is snapshotted, and how far its log may be trimmed after it.

A snapshot is due when the log has grown by `snapshot_after_events`, or by as many bytes as the last snapshot has if
these are more: so what snapshots cost stays in proportion to what is logged, also in a park of millions of tickets, and
what a recovery replays in proportion to what it loads.

A partition's state is taken in one go between two turns (milliseconds), serialized in small parts while scans go on,
and written as it comes. The log is trimmed only below both the snapshot and what reporting has committed to Postgres
(I6, I10).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator
from typing import Any

import structlog

from cluster.config import ClusterConfig
from cluster.ledger import Append, Ledger
from cluster.partition import Partition
from cluster.snapshot_parts import Still
from ticketcore.errors import TransientError

KEPT_ENTRIES = 1_000
"""Log entries that are kept below the snapshot all the same, for people who look what happened just now."""
BYTES_PER_EVENT = 100
"""About what one event takes in the log; the appends' bytes stand for events."""
WAITED = 0.9
"""Of what the log may grow by, after a snapshot that failed: the next try comes soon, but not with every turn."""
REST = 3.0
"""After each part of a snapshot: so many times as long as it took."""
log = structlog.get_logger("cluster.snapshots")


class Snapshots:
    """Snapshots of one owner's partitions."""

    def __init__(self, config: ClusterConfig, ledger: Ledger) -> None:
        self._config = config
        self._ledger = ledger
        self._bytes_since: dict[str, int] = {}
        self._grown: set[str] = set()
        """Partitions whose log has grown enough."""
        self._size: dict[str, int] = {}
        """Bytes of the last snapshot of each partition that was written here."""
        self._writing: set[str] = set()

    def count(self, appended: Iterable[tuple[Partition, Append]]) -> None:
        """Counts what was appended."""
        for partition, append in appended:
            self._count(partition.name, len(append.entry))

    def _count(self, name: str, grown: int) -> None:
        self._bytes_since[name] = self._bytes_since.get(name, 0) + grown
        if self._bytes_since[name] > self._limit(name):
            self._grown.add(name)

    def due(self, owned: Iterable[Partition]) -> Iterator[Partition]:
        """At most one partition whose log has grown enough: one at a time keeps turns short."""
        if not self._grown or self._writing:
            return  # of nearly every turn
        for partition in owned:
            name = partition.name  # the limit may have risen since, with the last snapshot's size
            if name in self._grown and self._bytes_since[name] > self._limit(name):
                yield partition
                return

    def _limit(self, name: str) -> int:
        """Bytes that the log may grow by."""
        return max(self._config.snapshot_after_events * BYTES_PER_EVENT, self._size.get(name, 0))

    def is_due(self, owned: Iterable[Partition]) -> bool:
        """Whether a partition should be snapshotted as soon as nothing is in flight."""
        return any(True for _ in self.due(owned))

    def begin(self, partition: Partition) -> Coroutine[Any, Any, None]:
        """Takes a partition's state now, which must be between two turns: during an append it holds what the ledger may
        not. Awaiting what is returned writes it and trims the log. A failure is tried again a tenth of the way later.
        """
        self._writing.add(partition.name)
        self._bytes_since[partition.name] = 0
        self._grown.discard(partition.name)
        return self._write(partition, Still(partition, self._config.partitions))

    async def _write(self, partition: Partition, still: Still) -> None:
        name, sequence = partition.name, still.sequence
        try:
            parts = _gently(still.parts())
            self._size[name] = await self._ledger.write_snapshot(name, partition.epoch, sequence, parts)
            partition.snapshot_sequence = sequence
            below = await trim_after(self._ledger, name, sequence)
            log.info("snapshot written", partition=name, sequence=sequence, trimmed_below=below)
        except TransientError as error:
            log.warning("snapshot not written", partition=name, error=str(error))
            self._count(name, int(self._limit(name) * WAITED))
        finally:
            still.release()
            self._writing.discard(name)


async def trim_after(ledger: Ledger, name: str, sequence: int) -> int:
    """Trims a log after its snapshot of `sequence`; answers below which entry, 0 for not at all."""
    below = max(min(sequence, await ledger.reported_sequence(name)) - KEPT_ENTRIES, 0)
    if below:
        await ledger.trim(name, below)
    return below


async def _gently(parts: Iterator[bytes]) -> AsyncIterator[bytes]:
    """The parts, with a rest after each that leaves most of the owner's time to scans."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    for part in parts:
        took_s = loop.time() - began
        if part:
            yield part
        await asyncio.sleep(took_s * REST)
        began = loop.time()
