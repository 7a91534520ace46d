"""Starts, places and watches the cluster's actors on whatever Ray this process is connected to.

Actors are named and detached: a supervisor that comes back finds them and goes on watching. Partitions are dealt to
owners in turn; owners are spread over nodes. Each actor has a watcher that calls its idempotent `start`: that is how an
actor that Ray has restarted, on this node or another, takes its partitions again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import ray
import structlog

from cluster import actors
from cluster.config import ClusterConfig, GatewayConfig

WATCH_EVERY_S = 0.25
START_TIMEOUT_S = 60.0
"""Recovering a partition owner with millions of tickets takes seconds, not a minute."""
STOP_TIMEOUT_S = 5.0
log = structlog.get_logger("cluster.supervisor")


@dataclass(slots=True)
class Watched:
    """An actor and how it was when last called."""

    name: str
    handle: Any
    start: Callable[[], Awaitable[int]]
    pid: int = 0
    restarts: int = 0
    ready: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True, slots=True)
class Further:
    """An actor of another package that runs beside the cluster's: a plain class with `start` and `stop` like theirs.

    Its metrics port is passed last.
    """

    name: str
    plain: type
    arguments: tuple[Any, ...]


class Supervisor:
    """Keeps owners, the quota owner, gateways and further actors alive."""

    def __init__(self, cluster: ClusterConfig, gateway: GatewayConfig, further: Sequence[Further] = ()) -> None:
        self._cluster = cluster
        self._gateway = gateway
        self._further = further
        self._watched: list[Watched] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Starts what is missing and returns when everything serves."""
        self._watched = [self._quota(), *map(self._owner, range(self._cluster.owners))]
        self._watched += [self._gateway_actor(number) for number in range(self._cluster.gateways)]
        self._watched += [self._further_actor(number, item) for number, item in enumerate(self._further)]
        self._tasks = [asyncio.create_task(self._watch(item)) for item in self._watched]
        await asyncio.gather(*(item.ready.wait() for item in self._watched))

    def processes(self) -> dict[str, int]:
        """Process ids by actor name, as last seen."""
        return {item.name: item.pid for item in self._watched}

    async def stop(self) -> None:
        """Stops every actor in order, and kills what does not stop in time."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for item in reversed(self._watched):
            try:
                async with asyncio.timeout(STOP_TIMEOUT_S):
                    await item.handle.stop.remote()
            except (ray.exceptions.RayError, TimeoutError) as error:
                log.warning("actor did not stop in order", actor=item.name, error=str(error))
            ray.kill(item.handle, no_restart=True)

    async def _watch(self, item: Watched) -> None:
        while True:
            try:
                async with asyncio.timeout(START_TIMEOUT_S):
                    pid = await item.start()
            except (ray.exceptions.RayError, TimeoutError) as error:
                # Dead, restarting, or its ledger is away: called again until it is back.
                log.warning("actor is away", actor=item.name, error=str(error).splitlines()[0])
                await asyncio.sleep(WATCH_EVERY_S)
                continue
            if item.pid not in (0, pid):
                item.restarts += 1
                log.warning("actor came back", actor=item.name, pid=pid, restarts=item.restarts)
            item.pid = pid
            item.ready.set()
            await asyncio.sleep(WATCH_EVERY_S)

    def _owner(self, number: int) -> Watched:
        name = f"owner-{number}"
        indexes = list(range(number, self._cluster.partitions, self._cluster.owners))
        handle = self._actor(actors.OwnerActor, name, name, self._cluster, self._metrics_port(1 + number))
        return Watched(name, handle, lambda: handle.start.remote(indexes))

    def _quota(self) -> Watched:
        handle = self._actor(actors.QuotaActor, "quota-0", self._cluster, self._metrics_port(0))
        return Watched("quota-0", handle, handle.start.remote)

    def _gateway_actor(self, number: int) -> Watched:
        name = f"gateway-{number}"
        config = replace(self._gateway, metrics_port=self._metrics_port(1 + self._cluster.owners + number))
        handle = self._actor(actors.GatewayActor, name, name, self._cluster, config)
        return Watched(name, handle, handle.start.remote)

    def _further_actor(self, number: int, item: Further) -> Watched:
        port = self._metrics_port(1 + self._cluster.owners + self._cluster.gateways + number)
        handle = self._actor(item.plain, item.name, *item.arguments, port)
        return Watched(item.name, handle, handle.start.remote)

    def _metrics_port(self, offset: int) -> int:
        return self._gateway.metrics_port + offset if self._gateway.metrics_port else 0

    def _actor(self, plain: type, name: str, *arguments: Any) -> Any:
        wrapped: Any = ray.remote(plain)
        return wrapped.options(
            name=name,
            lifetime="detached",
            get_if_exists=True,
            max_restarts=-1,
            max_task_retries=0,  # retries are the gateway's, with the same ids
            num_cpus=0,
            scheduling_strategy="SPREAD",
        ).remote(*arguments)
