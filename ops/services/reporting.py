"""Reporting in the stack: the service that answers reports, and the configuration of its workers on Ray."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import TYPE_CHECKING

from ops.readiness import mark_ready
from ops.services.catalogue import ensure_catalogue, read_catalogue
from ops.services.identities import revocations, server_identity
from ops.settings import Settings
from ops.stack import Endpoints

if TYPE_CHECKING:
    from reporting.config import ReportingConfig


def run(settings: Settings) -> None:
    """Serves until SIGTERM."""
    asyncio.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    from prometheus_client import start_http_server

    from reporting.service import serve

    start_http_server(settings.reporting_metrics_port, "127.0.0.1")
    serving = asyncio.create_task(
        serve(configuration(settings), lambda _port: mark_ready(settings.data_dir, "reporting"))
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, serving.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await serving


def configuration(settings: Settings) -> ReportingConfig:
    """Reporting's configuration from the settings and the park's catalogue."""
    from cluster.config import QUOTA_PARTITION
    from reporting.config import ReportingConfig

    ensure_catalogue(settings)
    venue = read_catalogue(settings.catalogue_dir)[1].venue
    files = server_identity(settings.data_dir, "reporting", settings.server_names)
    return ReportingConfig(
        postgres_url=Endpoints(settings).postgres_url,
        redis_url=Endpoints(settings).ledger_url,
        partitions=(*(f"p{index}" for index in range(settings.partitions)), QUOTA_PARTITION),
        time_zone=str(venue.time_zone),
        currency_digits=venue.currency_digits,
        host=settings.reporting_host,
        port=settings.reporting_port,
        ca=files.ca.read_bytes(),
        cert=files.certificate.read_bytes(),
        key=files.key.read_bytes(),
        is_revoked=revocations(settings.data_dir).holds,
    )
