"""Wraps the workers for Ray; nothing else here, and nowhere else in this package is Ray known."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
from collections.abc import Callable, Sequence

import ray
from prometheus_client import start_http_server

from reporting.config import ReportingConfig
from reporting.database import migrate
from reporting.joint import JointWriter
from reporting.worker import PartitionWorker, WorkerState
from ticketcore.errors import DamagedDataError, UnavailableError

MIGRATE_RETRY_S = 1.0
NICENESS = 15
"""Where cores are short, gates go first: a report may lag for a second, a guest may not."""
YOUNG_OBJECTS = 50_000
"""New objects after which Python looks for cycles, of which rows and entries make none."""
EXIT_BROKEN = 70
log = logging.getLogger(__name__)


class ReportingActor:
    """Some partitions' workers in one process. `start` may be called at any time and only does what is missing.

    What a worker cannot handle ends the process, and a new one begins with what was committed.
    """

    def __init__(
        self,
        config: ReportingConfig,
        partitions: Sequence[str],
        metrics_port: int = 0,
        prepare: Callable[[str], None] = lambda _name: None,
        niceness: int = NICENESS,
    ) -> None:
        gc.set_threshold(YOUNG_OBJECTS)
        prepare("reporting-0")
        self._config = config
        self._writer = JointWriter(config.postgres_url, len(partitions))
        self._workers = [PartitionWorker(config, partition, self._writer) for partition in partitions]
        self._metrics_port = metrics_port
        self._niceness = niceness
        self._running: asyncio.Task[None] | None = None

    async def start(self, hold_s: float = 0.0) -> int:
        """Starts working, and returns the process id at once, also while Postgres is away (I10). Where it works already
        it is held for `hold_s`, or until that ends."""
        if self._running is None:
            os.nice(self._niceness)
            if self._metrics_port:
                start_http_server(self._metrics_port, "127.0.0.1")
            self._running = asyncio.create_task(self._run())
            return os.getpid()
        await asyncio.wait({self._running}, timeout=hold_s)
        if self._running.done() and not self._running.cancelled():
            _die_if_broken(self._running.exception())
        return os.getpid()

    async def state(self) -> list[WorkerState]:
        """How each worker is."""
        return [worker.state() for worker in self._workers]

    async def node(self) -> str:
        """The id of Ray's node that it runs on."""
        return str(ray.get_runtime_context().get_node_id())

    async def stop(self) -> None:
        """Ends the work: what was committed is committed, the rest is read again by the next."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
        await self._writer.close()
        await asyncio.gather(*(worker.close() for worker in self._workers))

    async def _run(self) -> None:
        while True:
            try:
                await migrate(self._config.postgres_url)
                break
            except UnavailableError as error:
                log.warning("the workers wait: %s", error)
                await asyncio.sleep(MIGRATE_RETRY_S)
        await asyncio.gather(*(self._run_one(worker) for worker in self._workers))

    async def _run_one(self, worker: PartitionWorker) -> None:
        try:
            await worker.run()
        except DamagedDataError:
            return  # told by log and metric, and kept in its state; it must not take the others down


def _die_if_broken(failure: BaseException | None) -> None:
    """None: all partitions are damaged, which each has told."""
    if failure is not None:
        log.critical("reporting ends and is started again: %r", failure)
        os._exit(EXIT_BROKEN)
