"""Starts, places and watches the cluster's actors on whatever Ray this process is connected to.

Actors are named and detached: a supervisor that comes back finds them and goes on watching. Partitions are dealt to
owners in turn, owners and gateways to nodes; what was on a lost node comes back on another. Each actor has a watcher
that calls its idempotent `start`: that is how an actor that Ray has restarted takes its partitions again. One that
serves holds the call, and looks after itself meanwhile: it answers when there is something to do, and a call to one
that dies fails at once. One that Ray has given up is made anew, and one that does not answer is killed: its epoch
fences whatever it might still do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import ray
import structlog
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster import actors
from cluster.config import ClusterConfig, GatewayConfig
from cluster.ending import end
from cluster.placing import QUOTA_ACTOR, node_in_turn, turns

WATCH_EVERY_S = 0.25
"""From the beginning of one call to that of the next, at least."""
HOLD_S = 2.0
"""For how long an actor that serves may keep a call. It is held, not repeated, because calls through Ray cost: four a
second to each of four actors took 5 % of a core, a third of all that an installation at rest took (measured)."""
START_TIMEOUT_S = 60.0
"""Recovering a partition owner with millions of tickets takes seconds, not a minute."""
SILENT_S = 8.0
"""An actor that answered the last call and says nothing to this one for so long stands still: it is replaced. It may
hold the call, so that is 6 to 8 s after it stopped. Not while it starts, which takes a minute on a machine that is
overloaded; the first calls of one that starts fail."""
STOP_TIMEOUT_S = 8.0
"""A gateway gives its streams two seconds; an owner has nothing to finish, for what is not appended is not answered."""
AWAY_CAP_S = 5.0
"""The longest wait between two attempts at an actor that keeps failing: each may cost the start of a process."""
GIVEN_UP = (ray.exceptions.ActorDiedError, ray.exceptions.ActorUnschedulableError)
"""By Ray, for good: its node is lost, or its constructor failed."""
log = structlog.get_logger("cluster.supervisor")


@dataclass(slots=True)
class Watched:
    """An actor and how it was when last called. `create` finds it or makes it."""

    name: str
    plain: type
    create: Callable[[], Any]
    start: Callable[[Any, float], Awaitable[int]] = field(default_factory=lambda: _start)
    handle: Any = None
    pid: int = 0
    restarts: int = 0
    failures: int = 0
    said: str = ""
    ready: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def is_well(self) -> bool:
        """Whether it answered the last call."""
        return bool(self.pid) and not self.failures

    @property
    def hold_s(self) -> float:
        """How long it may hold the next call. Whether it serves at all is asked without delay."""
        return HOLD_S if self.is_well else 0.0

    @property
    def patience_s(self) -> float:
        """How long its next answer may take."""
        return SILENT_S if self.is_well else START_TIMEOUT_S


@dataclass(frozen=True, slots=True)
class ActorPlan:
    """An actor, the cluster's or another package's that runs beside it: a plain class with `start` and `stop`. `start`
    takes for how many seconds it may be held while there is nothing to do or to say.

    Its metrics port and what prepares its process are passed last.
    """

    name: str
    plain: type
    arguments: tuple[Any, ...]


class Supervisor:
    """Keeps owners, the quota owner, gateways and further actors alive."""

    def __init__(
        self,
        cluster: ClusterConfig,
        gateway: GatewayConfig,
        further: Sequence[ActorPlan],
        prepare: actors.Prepare,
    ) -> None:
        self._prepare = prepare
        self._cluster = cluster
        self._gateway = gateway
        self._further = further
        self._turns = turns(cluster, [plan.name for plan in further])
        self._watched: list[Watched] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Starts what is missing and returns when everything serves. Raises what a watcher ends with."""
        self._watched = [self._quota(), *map(self._owner, range(self._cluster.owners))]
        self._watched += [self._gateway_actor(number) for number in range(self._cluster.gateways)]
        self._watched += [self._further_actor(number, item) for number, item in enumerate(self._further)]
        self._tasks = [asyncio.create_task(self._watch(item)) for item in self._watched]
        ready = asyncio.create_task(self._all_ready())
        try:
            await _first(ready, *self._tasks)
        finally:
            ready.cancel()

    async def _all_ready(self) -> None:
        for item in self._watched:
            await item.ready.wait()

    async def ended(self) -> None:
        """Returns when a watcher has ended, which none should: an actor that nobody watches never comes back, so the
        caller must start anew. Raises what ended it."""
        await _first(*self._tasks)

    def processes(self) -> dict[str, int]:
        """Process ids by actor name, as last seen."""
        return {item.name: item.pid for item in self._watched}

    async def stop(self) -> None:
        """Stops every actor in order, those that ask before those that are asked; kills what does not stop in time."""
        await end(self._tasks)
        asked = [item for item in self._watched if item.plain in (actors.OwnerActor, actors.QuotaActor)]
        for group in ([item for item in self._watched if item not in asked], asked):
            await asyncio.gather(*map(self._stop, group))

    async def _stop(self, item: Watched) -> None:
        if item.handle is None:
            return
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await item.handle.stop.remote()
        except (ray.exceptions.RayError, TimeoutError) as error:
            why = str(error).splitlines()[0] if str(error) else f"no answer within {STOP_TIMEOUT_S:.0f} s"
            log.warning("actor did not stop in order", actor=item.name, error=why)
        ray.kill(item.handle, no_restart=True)

    async def _watch(self, item: Watched) -> None:
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                if item.handle is None:
                    item.handle = item.create()
                async with asyncio.timeout(item.patience_s):
                    pid = await item.start(item.handle, item.hold_s)
            except (ray.exceptions.RayError, ValueError, TimeoutError) as error:
                # Dead, restarting, or its ledger is away: called again until it is back. ValueError is Ray's word for a
                # name that cannot be had yet: the end of the actor that has it is not settled.
                self._tell_away(item, error)
                await asyncio.sleep(min(AWAY_CAP_S, WATCH_EVERY_S * 2 ** min(item.failures // 4, 5)))
                self._bring_back(item, error)
                continue
            if item.pid not in (0, pid):
                item.restarts += 1
                log.warning("actor came back", actor=item.name, pid=pid, restarts=item.restarts)
            item.pid, item.failures, item.said = pid, 0, ""
            item.ready.set()
            await asyncio.sleep(began + WATCH_EVERY_S - loop.time())

    @staticmethod
    def _tell_away(item: Watched, error: Exception) -> None:
        lines = str(error).strip().splitlines() or [f"no answer within {item.patience_s:.0f} s"]
        item.failures += 1
        # The cause of an error in an actor is its last line, after the stack; said once, not at each attempt.
        why = lines[-1] if isinstance(error, ray.exceptions.RayTaskError) else lines[0]
        if why != item.said:
            item.said = why
            log.warning("actor is away", actor=item.name, error=why)

    @staticmethod
    def _bring_back(item: Watched, error: Exception) -> None:
        if isinstance(error, GIVEN_UP):
            item.handle = None
        elif isinstance(error, TimeoutError):
            ray.kill(item.handle, no_restart=False)

    def _owner(self, number: int) -> Watched:
        indexes = list(range(number, self._cluster.partitions, self._cluster.owners))
        plan = ActorPlan(f"owner-{number}", actors.OwnerActor, (f"owner-{number}", self._cluster))
        item = self._item(plan, self._metrics_port(1 + number))
        item.start = lambda handle, hold_s: handle.start.remote(indexes, hold_s)
        return item

    def _quota(self) -> Watched:
        plan = ActorPlan(QUOTA_ACTOR, actors.QuotaActor, (self._cluster,))
        return self._item(plan, self._metrics_port(0))

    def _gateway_actor(self, number: int) -> Watched:
        name = f"gateway-{number}"
        plan = ActorPlan(name, actors.GatewayActor, (name, self._cluster, self._gateway))
        return self._item(plan, self._metrics_port(1 + self._cluster.owners + number))

    def _further_actor(self, number: int, item: ActorPlan) -> Watched:
        offset = 1 + self._cluster.owners + self._cluster.gateways + number
        return self._item(item, self._metrics_port(offset))

    def _item(self, plan: ActorPlan, metrics_port: int) -> Watched:
        turn = self._turns[plan.name]
        whole = replace(plan, arguments=(*plan.arguments, metrics_port, self._prepare))
        return Watched(plan.name, plan.plain, lambda: _find_or_make(whole, turn))

    def _metrics_port(self, offset: int) -> int:
        return self._gateway.metrics_port + offset if self._gateway.metrics_port else 0


async def _first(*works: asyncio.Future[Any]) -> None:
    """Returns when one of these has ended. Raises what it raised."""
    done, _ = await asyncio.wait(works, return_when=asyncio.FIRST_COMPLETED)
    for work in done:
        work.result()


def _start(handle: Any, hold_s: float) -> Awaitable[int]:
    started: Awaitable[int] = handle.start.remote(hold_s)
    return started


def _find_or_make(plan: ActorPlan, turn: int) -> Any:
    wrapped: Any = ray.remote(plan.plain)
    return wrapped.options(
        name=plan.name,
        lifetime="detached",
        get_if_exists=True,
        max_restarts=-1,
        max_task_retries=0,  # retries are the gateway's, with the same ids
        num_cpus=0,
        # Dealt here: for an actor that needs no CPU Ray's own spreading, and soft affinity too, take any node. When the
        # node is lost Ray gives the actor up, and the supervisor makes it anew on a live one.
        scheduling_strategy=NodeAffinitySchedulingStrategy(node_in_turn(turn).id, soft=False),
    ).remote(*plan.arguments)
