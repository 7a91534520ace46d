"""The sales service of the stack, with the sandbox payment provider beside it.

Once it answers, the keys of its signatures and the catalogue of the park's folder are put in force; only then is it
ready. Both are repeated until the cluster has them, and change nothing if they are in force already.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import structlog

from ops import signing_keys
from ops.files import secret
from ops.memory import not_dumpable
from ops.readiness import mark_ready
from ops.services.catalogue import ensure_catalogue, read_catalogue
from ops.services.identities import Files, revocations, server_identity, service_identity
from ops.settings import Settings
from ops.stack import Endpoints

if TYPE_CHECKING:
    from sales.config import SalesConfig, TlsFiles
    from sales.server import Server

PUBLISH_RETRY_S = 0.5
ISSUER_ID = 1
log = structlog.get_logger("ops.sales")


def run(settings: Settings) -> None:
    """Serves until SIGTERM."""
    not_dumpable()  # the signing key is in its memory
    ensure_catalogue(settings)
    read_catalogue(settings.catalogue_dir)
    import uvloop

    uvloop.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    from sales.sandbox import SandboxProvider
    from sales.server import serve

    provider = SandboxProvider(secret(settings.data_dir, "webhook").encode())
    await provider.start("127.0.0.1:0")
    tasks: list[asyncio.Task[None]] = []

    def started(server: Server) -> None:
        provider.webhook_url = server.webhook_url
        tasks.append(asyncio.create_task(_put_in_force(settings)))

    try:
        await serve(configuration(settings, provider.url), started)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await provider.stop()


def configuration(settings: Settings, provider_url: str) -> SalesConfig:
    """The sales service's configuration from the settings."""
    from sales.config import SalesConfig

    keys = signing_keys.load_or_create(settings.data_dir, signing_keys.passphrase_of(settings))
    return SalesConfig(
        postgres_url=Endpoints(settings).postgres_url,
        bind_address=f"{settings.sales_host}:{settings.sales_port}",
        tls=_tls(server_identity(settings.data_dir, "sales", settings.server_names)),
        cluster_targets=(f"localhost:{settings.gate_port}",),
        cluster_tls=_tls(service_identity(settings.data_dir, "sales")),
        signing_key_id=keys.active_key_id,
        signing_key=keys.private_key,
        issuer_id=ISSUER_ID,
        webhook_secret=secret(settings.data_dir, "webhook").encode(),
        provider_url=provider_url,
        metrics_port=settings.sales_metrics_port,
        is_revoked=revocations(settings.data_dir).holds,
    )


def _tls(files: Files) -> TlsFiles:
    from sales.config import TlsFiles

    return TlsFiles(certificate=files.certificate, private_key=files.key, authority=files.ca)


async def _put_in_force(settings: Settings) -> None:
    import grpc

    said = ""
    while True:
        try:
            await _publish_keys(settings)
            await _publish_catalogue(settings)
            mark_ready(settings.data_dir, "sales")
            return
        except grpc.aio.AioRpcError as error:
            if error.details() != said:  # at a start the cluster is not there yet: said once
                said = error.details() or ""
                log.info("keys and catalogue wait for the cluster", error=said)
            await asyncio.sleep(PUBLISH_RETRY_S)


async def _publish_keys(settings: Settings) -> None:
    from ops.clients import control
    from parkgate.cluster.v1 import control_pb2

    _, keys = signing_keys.load_public(settings.data_dir)
    ring = [
        control_pb2.PublicKey(key_id=key_id, public_key=key.public_bytes_raw()) for key_id, key in sorted(keys.items())
    ]
    async with control(settings) as stub:
        await stub.PublishKeys(control_pb2.PublishKeysRequest(keys=ring))


async def _publish_catalogue(settings: Settings) -> None:
    from ops.clients import sales
    from parkgate.sales.v1 import sales_pb2
    from ticketcore.catalogue_document import canonical_json

    document = canonical_json(read_catalogue(settings.catalogue_dir)[0])
    # A request of its own each time: sales keep the version when the document in force is this one.
    request_id = os.urandom(16)
    async with sales(settings) as stub:
        await stub.PublishCatalogue(sales_pb2.PublishCatalogueRequest(request_id=request_id, document=document))
