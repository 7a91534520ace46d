"""The cluster service: an embedded Ray node (or a Ray cluster that exists) and the supervisor of the actors on it."""

from __future__ import annotations

import asyncio
import hashlib
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from ops.embedded import ray_node
from ops.embedded.ray_node import EmbeddedRay
from ops.readiness import mark_ready
from ops.services.identities import server_identity
from ops.settings import Settings
from ops.stack import Endpoints

if TYPE_CHECKING:
    pass


def run(settings: Settings) -> None:
    """Serves until SIGTERM; Ray and its actors end with this process."""
    if not settings.embedded_ray:
        ray_node.connect(settings.ray_address)
        try:
            asyncio.run(_serve(settings))
        finally:
            ray_node.disconnect()
        return
    with EmbeddedRay(settings.data_dir):
        asyncio.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    from cluster.supervisor import Further, Supervisor
    from ops.services import reporting
    from reporting.actors import ReportingActor

    config = reporting.configuration(settings)
    workers = Further("reporting-0", ReportingActor, (config, config.partitions))
    cluster, gateway = configuration(settings)
    supervisor = Supervisor(cluster, gateway, [workers])
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await supervisor.start()
    mark_ready(settings.data_dir, "cluster")
    await stop.wait()
    await supervisor.stop()


def configuration(settings: Settings):  # type: ignore[no-untyped-def]
    """The cluster's configuration from the settings: its certificates are made here when they are missing."""
    from cluster.config import ClusterConfig, GatewayConfig, TlsFiles

    files = server_identity(settings.data_dir, "gateway", settings.server_names)
    cluster = ClusterConfig(
        ledger_url=Endpoints(settings).ledger_url,
        run_dir=socket_folder(settings.data_dir),
        partitions=settings.partitions,
        owners=settings.owners,
        gateways=settings.gateways,
    )
    gateway = GatewayConfig(
        host=settings.gate_host,
        port=settings.gate_port,
        tls=TlsFiles(ca=files.ca, certificate=files.certificate, key=files.key),
        revoked_file=settings.data_dir / "pki" / "revoked.json",
        metrics_port=settings.cluster_metrics_port,
    )
    return cluster, gateway


def socket_folder(data_dir: Path) -> Path:
    """A short private folder for sockets: in the data folder, or in /tmp where that would be too long for a socket."""
    own = data_dir / "run" / "links"
    if len(str(own)) <= 60:
        return own
    return Path("/tmp") / f"pg-{hashlib.blake2b(str(data_dir).encode(), digest_size=6).hexdigest()}"  # noqa: S108 - mode 0700
