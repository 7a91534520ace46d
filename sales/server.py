"""Starts sales and stops it: gRPC over mTLS, the webhook endpoint, the relay and the sweeps."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from prometheus_client import start_http_server

from parkgate.sales.v1 import sales_pb2
from parkgate.sales.v1.sales_pb2_grpc import add_SalesServiceServicer_to_server
from sales import http, webhook
from sales.cluster_client import connect
from sales.config import SalesConfig, TlsFiles
from sales.context import Sales, assemble
from sales.database import migrate
from sales.outbox import relay
from sales.servicer import SalesServicer
from sales.usecases.ask_payments import ask_payments
from sales.usecases.cancel_order import lapse_orders
from sales.usecases.settle_voids import sweep_voids
from ticketcore.errors import ParkgateError, UnavailableError

SERVICE = sales_pb2.DESCRIPTOR.services_by_name["SalesService"].full_name
STOP_GRACE_S = 5.0
"""Calls under way are finished; longer ones are cut, and asked again by their callers."""
SWEEP_S = 1.0
START_WAIT_S = 60.0
"""How long a start waits for Postgres, which may be starting too."""
MAX_MESSAGE = 16 * 2**20
OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE),
    ("grpc.max_send_message_length", MAX_MESSAGE),
    ("grpc.so_reuseport", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # A connection that never says who it is has nothing to wait for.
    ("grpc.max_concurrent_streams", 1_000),
    ("grpc.server_handshake_timeout_ms", 10_000),
)
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Server:
    """A running service."""

    sales: Sales
    port: int
    webhook_port: int
    background: tuple[asyncio.Task[None], ...]
    """The relay and the sweeps. None of them ever ends by itself."""

    @property
    def webhook_url(self) -> str:
        """Where the payment provider sends its webhooks."""
        return f"http://127.0.0.1:{self.webhook_port}{webhook.PATH}"


async def serve(config: SalesConfig, started: Callable[[Server], None] | None = None) -> None:
    """Runs the service until SIGTERM, SIGINT or cancellation, then finishes what is under way.

    `started` is called once, when calls are answered. Health says NOT_SERVING while stopping.

    Raises:
        UnavailableError: Postgres did not come within a minute.
        Whatever the relay or a sweep could not handle: without it orders would be paid and their tickets never known.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    signals = (signal.SIGTERM, signal.SIGINT)
    for number in signals:
        loop.add_signal_handler(number, stop.set)
    try:
        async with running(config) as server:
            if started is not None:
                started(server)
            await _stopped(stop, server.background)
    finally:
        for number in signals:
            loop.remove_signal_handler(number)


async def _stopped(stop: asyncio.Event, background: Iterable[asyncio.Task[None]]) -> None:
    asked = asyncio.create_task(stop.wait())
    await asyncio.wait([asked, *background], return_when=asyncio.FIRST_COMPLETED)
    asked.cancel()
    for task in background:
        if task.done():
            log.critical("sales end and are started again: %s: %r", task.get_name(), task.exception())


@asynccontextmanager
async def running(config: SalesConfig, sales: Sales | None = None) -> AsyncIterator[Server]:
    """The service, for as long as the block runs. `sales` replaces the parts; for tests."""
    await _migrate(config.postgres_url)
    async with AsyncExitStack() as stack:
        if sales is None:
            cluster = connect(config)
            stack.push_async_callback(cluster.close)
            sales = assemble(config, cluster)
        stack.push_async_callback(sales.database.close)
        tasks = [asyncio.create_task(relay(sales), name="relay")]
        for sweep in (lapse_orders, sweep_voids, ask_payments):
            tasks.append(asyncio.create_task(_sweep(sales, sweep), name=sweep.__name__))
        stack.push_async_callback(_end, tasks)
        if config.metrics_port:
            metrics_server, _thread = start_http_server(config.metrics_port, "127.0.0.1")
            stack.callback(metrics_server.server_close)
            stack.callback(metrics_server.shutdown)
        hooks = await http.start(webhook.handler(sales), config.webhook_bind_address)
        stack.callback(hooks.close)
        server, port, health_servicer = await _grpc_server(sales)
        stack.push_async_callback(server.stop, STOP_GRACE_S)
        stack.push_async_callback(health_servicer.enter_graceful_shutdown)
        log.info("sales answers on port %d", port)
        yield Server(sales, port, http.port_of(hooks), tuple(tasks))


async def _migrate(url: str) -> None:
    deadline = asyncio.get_running_loop().time() + START_WAIT_S
    while True:
        try:
            return await migrate(url)
        except UnavailableError:
            if asyncio.get_running_loop().time() > deadline:
                raise
            await asyncio.sleep(1)


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, Exception):
            raise result


async def _sweep(sales: Sales, work: Callable[[Sales], Awaitable[int]]) -> None:
    while True:
        try:
            await work(sales)
        except ParkgateError as error:
            log.warning("%s: %s", work.__name__, error)
        await asyncio.sleep(SWEEP_S)


async def _grpc_server(sales: Sales) -> tuple[grpc.aio.Server, int, health.aio.HealthServicer]:
    server = grpc.aio.server(options=OPTIONS)
    add_SalesServiceServicer_to_server(SalesServicer(sales), server)
    health_servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    for name in (SERVICE, ""):
        await health_servicer.set(name, health_pb2.HealthCheckResponse.SERVING)
    reflection.enable_server_reflection((SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    address, tls = sales.config.bind_address, sales.config.tls
    try:
        port = server.add_secure_port(address, _credentials(tls)) if tls else server.add_insecure_port(address)
    except RuntimeError as error:
        raise UnavailableError(f"sales cannot listen on {address}: is the port taken?") from error
    await server.start()
    return server, port, health_servicer


def _credentials(files: TlsFiles) -> grpc.ServerCredentials:
    pair = (files.private_key.read_bytes(), files.certificate.read_bytes())
    return grpc.ssl_server_credentials([pair], files.authority.read_bytes(), require_client_auth=True)
