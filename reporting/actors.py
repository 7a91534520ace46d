"""Wraps the workers for Ray; nothing else here, and nowhere else in this package is Ray known."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from reporting.config import ReportingConfig
from reporting.worker import PartitionWorker, WorkerState
from ticketcore.errors import DamagedDataError


class ReportingActor:
    """Workers of some partitions in one process. Start it with `ray.remote(ReportingActor).remote(config, names)` and
    call `run` without waiting for it: it ends only when the actor does, or when every partition is damaged."""

    def __init__(self, config: ReportingConfig, partitions: Sequence[str]) -> None:
        self._workers = [PartitionWorker(config, partition) for partition in partitions]

    async def run(self) -> None:
        """Works. A damaged partition stops alone; the others go on."""
        await asyncio.gather(*(self._run_one(worker) for worker in self._workers))

    async def state(self) -> list[WorkerState]:
        """How each worker is."""
        return [worker.state() for worker in self._workers]

    async def close(self) -> None:
        """Hangs up."""
        await asyncio.gather(*(worker.close() for worker in self._workers))

    async def _run_one(self, worker: PartitionWorker) -> None:
        try:
            await worker.run()
        except DamagedDataError:
            return  # told by log and metric, and kept in its state; it must not take the others down
