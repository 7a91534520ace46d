"""The cluster's actors: the one file of this package where plain classes meet Ray.

Each actor is started by its supervisor with `start`, which may be called again at any time and only does what is
missing: after Ray has restarted an actor, the supervisor's next call brings it back. Where nothing is missing the call
is held for as long as the caller says, and looks again by itself meanwhile. An actor that has met a state that cannot
be, or whose background work has ended, ends its process and is rebuilt from the ledger: half alive it would be taken
for well.
"""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import ray
import structlog

from cluster.config import ClusterConfig, GatewayConfig
from cluster.gateway import Gateway
from cluster.holding import Hold
from cluster.hosting import OwnerHost, QuotaHost
from cluster.metrics import serve_metrics
from cluster.owner import Owner
from cluster.quota_owner import QuotaOwner
from ticketcore.errors import FencedError, UnavailableError

EXIT_BROKEN = 70
FREEZE_EVERY_S = 1.0
YOUNG_OBJECTS = 50_000
"""New objects after which Python looks for cycles. A turn of an owner and a burst of frames make some thousands that
are gone by the end of it; looked through every 700 they cost a gateway 8 % and an owner 15 % of its CPU (measured)."""
Prepare = Callable[[str], None]
"""Called with the actor's name, in its process, before anything else: the composition root sets logging up with it."""
log = structlog.get_logger("cluster.actors")


def _node() -> str:
    return str(ray.get_runtime_context().get_node_id())


def _here(config: ClusterConfig) -> ClusterConfig:
    """The configuration as this node needs it: its own address for links, its own folder for sockets."""
    config.run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    if config.link_tls is None:
        return config
    return replace(config, link_host=str(ray.util.get_node_ip_address()))  # type: ignore[no-untyped-call]


def _serve_metrics(port: int, source: Owner | QuotaOwner | Gateway) -> None:
    """Metrics are not worth an outage: where the port is taken there are none."""
    try:
        serve_metrics(port, source)
    except OSError as error:
        log.error("no metrics: the port is taken", port=port, error=str(error))


def _begin(prepare: Prepare, name: str) -> None:
    gc.set_threshold(YOUNG_OBJECTS)
    prepare(name)


async def _freeze_garbage() -> None:
    """Keeps Python's cycle collector off the tickets: walking millions of them, none in a cycle, would stop the owner
    for seconds. What lives is set aside every second; reference counts free it as before."""
    while True:
        gc.collect(1)
        gc.freeze()
        await asyncio.sleep(FREEZE_EVERY_S)


def _held_until(hold_s: float) -> float:
    """By the loop's clock, and from a call's beginning: one that had much to do is not held as well."""
    return asyncio.get_running_loop().time() + hold_s


def _die_if_broken(failure: BaseException | None) -> None:
    if failure is None:
        return
    if isinstance(failure, FencedError):
        log.warning("actor ends: another has taken its place", error=str(failure))
    else:
        log.critical("actor ends and is rebuilt from the ledger", error=repr(failure))
    os._exit(EXIT_BROKEN)


class OwnerActor:
    """A partition owner as an actor."""

    def __init__(self, name: str, config: ClusterConfig, metrics_port: int, prepare: Prepare) -> None:
        _begin(prepare, name)
        self._host = OwnerHost(name, _here(config), _node())
        self._metrics_port = metrics_port
        self._lock = asyncio.Lock()
        self._hold = Hold()
        self._started = False
        self._freezing: asyncio.Task[None] | None = None

    async def start(self, indexes: Sequence[int], hold_s: float = 0.0) -> int:
        """Starts, or takes over what is missing; returns the process id once all is owned that can be. Held for at most
        `hold_s` from its beginning, while nothing is missing."""
        end = _held_until(hold_s)
        async with self._lock:
            _die_if_broken(self._host.failure)
            await self._host.start(indexes)
            if not self._started:
                _serve_metrics(self._metrics_port, self._host.owner)
                self._started = True
                self._freezing = asyncio.create_task(_freeze_garbage())
        await self._hold.until(end, partial(self._is_work, indexes))
        return os.getpid()

    async def _is_work(self, indexes: Sequence[int]) -> bool:
        async with self._lock:  # a partition that another call is taking would seem lost
            _die_if_broken(self._host.failure)
            return await self._host.is_work(indexes)

    async def node(self) -> str:
        """The id of Ray's node that it runs on."""
        return _node()

    async def stop(self) -> None:
        """Stops in order."""
        self._hold.release()
        await self._host.stop()


class QuotaActor:
    """The quota and capacity owner as an actor."""

    def __init__(self, config: ClusterConfig, metrics_port: int, prepare: Prepare) -> None:
        _begin(prepare, "quota-0")
        self._host = QuotaHost(_here(config), _node())
        self._metrics_port = metrics_port
        self._lock = asyncio.Lock()
        self._hold = Hold()
        self._started = False

    async def start(self, hold_s: float = 0.0) -> int:
        """Starts unless it has; returns the process id. Held for at most `hold_s` from its beginning, while nothing is
        missing."""
        end = _held_until(hold_s)
        async with self._lock:
            _die_if_broken(self._host.owner.failure)
            await self._host.start()
            if not self._started:
                _serve_metrics(self._metrics_port, self._host.owner)
                self._started = True
        await self._hold.until(end, self._is_work)
        return os.getpid()

    async def _is_work(self) -> bool:
        _die_if_broken(self._host.owner.failure)
        return self._host.is_work

    async def node(self) -> str:
        """The id of Ray's node that it runs on."""
        return _node()

    async def stop(self) -> None:
        """Stops in order."""
        self._hold.release()
        await self._host.stop()


class GatewayActor:
    """A gateway as an actor."""

    def __init__(
        self, name: str, cluster: ClusterConfig, config: GatewayConfig, metrics_port: int, prepare: Prepare
    ) -> None:
        _begin(prepare, name)
        self._gateway = Gateway(name, _here(cluster), config, _node())
        self._metrics_port = metrics_port
        self._lock = asyncio.Lock()
        self._hold = Hold()
        self._port = 0

    async def start(self, hold_s: float = 0.0) -> int:
        """Serves, unless it does; returns the process id. Held for at most `hold_s` from its beginning."""
        end = _held_until(hold_s)
        async with self._lock:
            _die_if_broken(self._gateway.failure)
            if not self._port:
                self._port = await self._gateway.start()
                _serve_metrics(self._metrics_port, self._gateway)
        if not self._port:
            raise UnavailableError("the gateway did not start")
        await self._hold.until(end, self._is_work)
        return os.getpid()

    async def _is_work(self) -> bool:
        """Never: a gateway that cannot go on as it is ends."""
        _die_if_broken(self._gateway.failure)
        return False

    async def node(self) -> str:
        """The id of Ray's node that it runs on."""
        return _node()

    async def stop(self) -> None:
        """Stops serving."""
        self._hold.release()
        await self._gateway.stop()
