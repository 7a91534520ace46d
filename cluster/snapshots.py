"""When a partition is snapshotted, and how far its log may be trimmed after it.

A partition is serialized in one go between two turns (some 2 µs for each used ticket of one partition) and written in
the background. The log is trimmed only below both the snapshot and what reporting has committed to Postgres (I6, I10).
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterable, Iterator
from typing import Any

import structlog

from cluster.config import ClusterConfig
from cluster.ledger import Append, Ledger
from cluster.partition import Partition
from cluster.recovery import snapshot
from ticketcore.errors import TransientError

KEPT_ENTRIES = 1_000
"""Log entries that are kept below the snapshot all the same, for people who look what happened just now."""
BYTES_PER_EVENT = 100
"""About what one event takes in the log; the appends' bytes stand for events."""
log = structlog.get_logger("cluster.snapshots")


class Snapshots:
    """Snapshots of one owner's partitions."""

    def __init__(self, config: ClusterConfig, ledger: Ledger) -> None:
        self._config = config
        self._ledger = ledger
        self._bytes_since: dict[str, int] = {}
        self._writing: set[str] = set()

    def count(self, appended: Iterable[tuple[Partition, Append]]) -> None:
        """Counts what was appended."""
        for partition, append in appended:
            self._bytes_since[partition.name] = self._bytes_since.get(partition.name, 0) + len(append.entry)

    def due(self, owned: Iterable[Partition]) -> Iterator[Partition]:
        """At most one partition whose log has grown enough: one at a time keeps turns short."""
        limit = self._config.snapshot_after_events * BYTES_PER_EVENT
        for partition in owned:
            if self._bytes_since.get(partition.name, 0) > limit and not self._writing:
                yield partition
                return

    def is_due(self, owned: Iterable[Partition]) -> bool:
        """Whether a partition should be snapshotted as soon as nothing is in flight."""
        return any(True for _ in self.due(owned))

    def begin(self, partition: Partition) -> Coroutine[Any, Any, None]:
        """Serializes a partition now, which must be between two turns: during an append it holds what the ledger may
        not. Awaiting what is returned writes it and trims the log. A failure is tried again when the next one is due.
        """
        self._writing.add(partition.name)
        self._bytes_since[partition.name] = 0
        return self._write(partition, partition.sequence, snapshot(partition, self._config.partitions))

    async def _write(self, partition: Partition, sequence: int, data: bytes) -> None:
        try:
            await self._ledger.write_snapshot(partition.name, partition.epoch, sequence, data)
            partition.snapshot_sequence = sequence
            reported = await self._ledger.reported_sequence(partition.name)
            below = min(sequence, reported) - KEPT_ENTRIES
            if below > 0:
                await self._ledger.trim(partition.name, below)
            log.info("snapshot written", partition=partition.name, sequence=sequence, trimmed_below=max(below, 0))
        except TransientError as error:
            log.warning("snapshot not written", partition=partition.name, error=str(error))
        finally:
            self._writing.discard(partition.name)
