"""The cluster service: an embedded Ray node (or a Ray cluster that exists) and the supervisor of the actors on it."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from ops import enrolment
from ops.embedded import ray_node
from ops.embedded.ray_node import EmbeddedRay
from ops.errors import EXIT_FAILURE, OpsError
from ops.logs import configure as configure_logs
from ops.readiness import mark_ready
from ops.services import ray_head
from ops.services.identities import link_identity, server_identity
from ops.settings import Settings
from ops.stack import Endpoints
from ticketcore.errors import ParkgateError, TransientError

if TYPE_CHECKING:
    from cluster.config import ClusterConfig, GatewayConfig

FURTHER = ("reporting-0",)
"""Actors of other packages that run beside the cluster's."""
LEDGER_RETRY_S = 1.0
log = structlog.get_logger("ops.cluster")


def run(settings: Settings) -> None:
    """Serves until SIGTERM; an embedded Ray and its actors end with this process.

    Raises:
        OpsError: the ledger is not one that the cluster may work on, or Ray does not start.
    """
    asyncio.run(_check_ledger(settings))
    folder = socket_folder(settings.data_dir)
    try:
        if settings.embedded_ray:
            with EmbeddedRay(settings.data_dir) as node:
                asyncio.run(_serve(settings, node.ended_server))
        else:
            _serve_on(settings)
    finally:
        _clear_sockets(folder)


@contextlib.contextmanager
def joined(settings: Settings) -> Iterator[None]:
    """This process as a guest of the Ray that the installation uses. Raises: OpsError when it does not run."""
    if settings.embedded_ray:
        ray_node.connect(ray_node.address(settings.data_dir), settings.data_dir, hear_logs=False)
    else:
        ray_node.connect(settings.ray_address, hear_logs=False)
    try:
        yield
    finally:
        ray_node.disconnect()


def _serve_on(settings: Settings) -> None:
    """Serves on a Ray cluster that exists, whose head may be lost and started again."""
    ray_node.connect(settings.ray_address)
    looking = ray_head.when_back(settings.ray_address, _start_anew)
    try:
        asyncio.run(_serve(settings, _never))
    finally:
        looking.set()
        ray_node.disconnect()


def _start_anew() -> None:
    """At once and without Ray's own shutdown, which would wait for the head that was lost. The stack's supervisor
    starts the next, which finds or makes its actors on the head that is there now."""
    print("Ray's head was away and is back; the cluster service is started again.", file=sys.stderr, flush=True)
    os._exit(EXIT_FAILURE)


async def _serve(settings: Settings, ended_server: Callable[[], Awaitable[str]]) -> None:
    from cluster.supervisor import ActorPlan, Supervisor
    from ops.services import reporting
    from reporting.actors import ReportingActor

    config = reporting.configuration(settings)
    workers = ActorPlan(FURTHER[0], ReportingActor, (config, config.partitions))
    cluster, gateway = configuration(settings)
    _clear_sockets(cluster.run_dir)
    supervisor = Supervisor(cluster, gateway, [workers], partial(configure_logs, settings=settings))
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    watching = asyncio.create_task(_watch(ended_server))
    await _first_of(supervisor.start(), stop.wait())
    if not stop.is_set():
        mark_ready(settings.data_dir, "cluster")
        await _first_of(supervisor.ended(), stop.wait())
    watching.cancel()
    await supervisor.stop()


async def _check_ledger(settings: Settings) -> None:
    """Waits for the ledger, and looks at it before anybody works on it.

    Raises:
        OpsError: nobody may.
    """
    from cluster.ledger import Ledger
    from cluster.ledger_check import check_ledger

    ledger = Ledger(Endpoints(settings).ledger_url)
    try:
        while True:
            try:
                return await check_ledger(ledger, settings.partitions)
            except TransientError as error:
                log.warning("the cluster waits for the ledger", error=str(error))
                await asyncio.sleep(LEDGER_RETRY_S)
            except ParkgateError as error:
                raise OpsError(f"The cluster does not start: {error}") from error
    finally:
        await ledger.close()


async def _first_of(*works: Coroutine[Any, Any, object]) -> None:
    tasks = [asyncio.ensure_future(work) for work in works]
    done, others = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    for task in done:
        task.result()


async def _watch(ended_server: Callable[[], Awaitable[str]]) -> None:
    """Ends this process when a server of the embedded Ray has ended; the stack's supervisor starts both anew.

    At once and without Ray's own shutdown: that would wait for the dead server. Ray itself would go on for a minute,
    with actors that nobody places any more. The guard (`ops.embedded.ray_guard`) ends what is left of it.
    """
    name = await ended_server()
    log.error("a server of Ray has ended; the cluster is started again", server=name)
    print(f"Ray's {name} has ended; the cluster is started again.", file=sys.stderr, flush=True)
    os._exit(EXIT_FAILURE)


async def _never() -> str:
    """The servers of a Ray that others run are theirs to watch."""
    ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    return await ended


def configuration(settings: Settings) -> tuple[ClusterConfig, GatewayConfig]:
    """The cluster's configuration from the settings: its certificates are made here when they are missing."""
    from cluster.config import ClusterConfig, GatewayConfig, TlsFiles

    files = server_identity(settings.data_dir, "gateway", settings.server_names)
    link = None if settings.embedded_ray else link_identity(settings.data_dir)
    cluster = ClusterConfig(
        ledger_url=Endpoints(settings).ledger_url,
        run_dir=socket_folder(settings.data_dir),
        partitions=settings.partitions,
        owners=settings.owners,
        gateways=settings.gateways,
        link_tls=TlsFiles(link.ca, link.certificate, link.key) if link is not None else None,
    )
    gateway = GatewayConfig(
        host=settings.gate_host,
        port=settings.gate_port,
        tls=TlsFiles(ca=files.ca, certificate=files.certificate, key=files.key),
        revoked_file=enrolment.revoked_path(settings.data_dir),
        metrics_port=settings.cluster_metrics_port,
        log_limit_bytes=settings.log_limit_mb << 20,
    )
    return cluster, gateway


def socket_folder(data_dir: Path) -> Path:
    """A short private folder for sockets: in the data folder, or in /tmp where that would be too long for a socket."""
    own = data_dir / "run" / "links"
    if len(str(own)) <= 60:
        return own
    return Path("/tmp") / f"pg-{hashlib.blake2b(str(data_dir).encode(), digest_size=6).hexdigest()}"  # noqa: S108 - mode 0700


def _clear_sockets(folder: Path) -> None:
    """Removes the sockets of owners that are gone, and the folder when none is left in it."""
    for path in folder.glob("*.sock"):
        pid = path.name.split(".")[-2]
        if not Path(f"/proc/{pid}").exists():
            path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()
