"""Capacity as a partition owner sees it: asks for units when scans wait, one question at a time for each zone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from cluster.batch import WaitingScan
from cluster.config import QUOTA_PARTITION
from cluster.ending import end
from cluster.partition import Partition
from cluster.routes import Routes
from parkgate.cluster.v1 import link_pb2
from ticketcore.errors import TransientError

ASK_TIMEOUT_S = 1.5
Resume = Callable[[list[WaitingScan], link_pb2.CapacityResponse | None], None]


class Leasing:
    """Asks the capacity owner on behalf of partitions; `resume` gets the scans back with the answer."""

    def __init__(self, owned: Mapping[int, Partition], routes: Routes, resume: Resume) -> None:
        self._owned = owned
        self._routes = routes
        self._resume = resume
        self._queues: dict[tuple[str, int], list[WaitingScan]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.failure: BaseException | None = None
        """What has ended a question that nobody asks again: scans of its zone would wait for ever."""

    def want(self, waiting: list[WaitingScan]) -> None:
        """Queues scans that wait; what comes while a question is under way goes with the next one."""
        for item in waiting:
            key = (item.partition, item.zone_number)
            queue = self._queues.get(key)
            if queue is not None:
                queue.append(item)
                continue
            self._queues[key] = [item]
            task = asyncio.create_task(self._ask(key))
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.failure = task.exception()

    async def _ask(self, key: tuple[str, int]) -> None:
        while True:
            waiting, self._queues[key] = self._queues[key], []
            if not waiting:
                del self._queues[key]
                return
            answer: link_pb2.CapacityResponse | None
            try:
                answer = await self._call(key, sum(item.persons for item in waiting))
            except TransientError:
                answer = None
                self._routes.look_up_soon()  # it may be silent because another has taken over
            self._resume(waiting, answer)

    async def _call(self, key: tuple[str, int], wanted: int) -> link_pb2.CapacityResponse:
        name, zone_number = key
        partition = next((item for item in self._owned.values() if item.name == name), None)
        request = link_pb2.LinkRequest()
        request.capacity.zone_number, request.capacity.partition, request.capacity.wanted = zone_number, name, wanted
        if partition is not None:
            lease = partition.zone_lease(zone_number)
            request.capacity.received_total = lease.received_total
            request.capacity.returned_total = lease.returned_by(partition.sequence)
        link = await self._routes.wait(QUOTA_PARTITION, ASK_TIMEOUT_S)
        return (await link.call(request, ASK_TIMEOUT_S)).capacity

    async def stop(self) -> None:
        """Ends the questions under way."""
        await end(self._tasks)
