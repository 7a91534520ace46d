"""gRPC clients of our own services, for commands and for services that talk to each other on one installation."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from ops.services.identities import service_identity
from ops.settings import Settings

if TYPE_CHECKING:
    import grpc

    from parkgate.cluster.v1.control_pb2_grpc import ControlServiceAsyncStub
    from parkgate.sales.v1.sales_pb2_grpc import SalesServiceAsyncStub


def channel(settings: Settings, port: int) -> grpc.aio.Channel:
    """A channel to one of our servers on this machine, as the service `operations`."""
    import grpc

    files = service_identity(settings.data_dir, "operations")
    credentials = grpc.ssl_channel_credentials(
        files.ca.read_bytes(), files.key.read_bytes(), files.certificate.read_bytes()
    )
    return grpc.aio.secure_channel(f"localhost:{port}", credentials)


@asynccontextmanager
async def control(settings: Settings) -> AsyncIterator[ControlServiceAsyncStub]:
    """The cluster's control service."""
    from parkgate.cluster.v1.control_pb2_grpc import ControlServiceStub

    async with channel(settings, settings.gate_port) as open_channel:
        yield ControlServiceStub(open_channel)


@asynccontextmanager
async def sales(settings: Settings) -> AsyncIterator[SalesServiceAsyncStub]:
    """The sales service."""
    from parkgate.sales.v1.sales_pb2_grpc import SalesServiceStub

    async with channel(settings, settings.sales_port) as open_channel:
        yield SalesServiceStub(open_channel)
