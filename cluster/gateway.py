"""A gateway: one gRPC server for gates and services. A plain class; `cluster.actors` wraps it for Ray."""

from __future__ import annotations

import asyncio
import contextlib

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from cluster.backlog import LOOK_EVERY_S, Backlog
from cluster.config import QUOTA_PARTITION, ClusterConfig, GatewayConfig
from cluster.control import DAMAGED_CONTROL, POLL_S, Control
from cluster.control_service import ControlService
from cluster.ending import end
from cluster.gate_service import SERVICE, GateService
from cluster.identity import Revoked
from cluster.ledger import Ledger
from cluster.routes import Routes
from cluster.tls import client_context, server_credentials
from parkgate.cluster.v1 import control_pb2, control_pb2_grpc
from ticketcore.errors import ParkgateError, TransientError, UnavailableError

EXPIRE_EVERY_S = 0.1
STOP_GRACE_S = 2.0
MAX_MESSAGE = 4 * 1024 * 1024
"""Bytes of one gRPC message: 1,000 scans are 0.2 MB, 10,000 registrations 1 MB."""
CONTROL_SERVICE = control_pb2.DESCRIPTOR.services_by_name["ControlService"].full_name
OPTIONS = (
    # Gates ping every 10 s, also when silent; without these two the server answers too_many_pings.
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.max_receive_message_length", MAX_MESSAGE),
    ("grpc.so_reuseport", 1),
    # A device has one stream, and a connection that never says who it is has nothing to wait for.
    ("grpc.max_concurrent_streams", 1_000),
    ("grpc.server_handshake_timeout_ms", 10_000),
)
log = structlog.get_logger("cluster.gateway")


class Gateway:
    """Serves gates on `config`'s address; finds owners in the ledger."""

    def __init__(self, name: str, cluster: ClusterConfig, config: GatewayConfig, node: str) -> None:
        self.name = name
        self.port = 0
        self._config = config
        self._ledger = Ledger(cluster.ledger_url)
        self._control = Control(self._ledger)
        tls = client_context(cluster.link_tls) if cluster.link_tls is not None else None
        self._routes = Routes(self._ledger, cluster.partition_names, node, tls)
        revoked = Revoked(config.revoked_file)
        self.gates = GateService(name, self._control, self._routes, revoked)
        self.control_service = ControlService(cluster, self._ledger, self._control, self._routes, self.gates)
        self.control_service.revoked = revoked
        partitions = (*cluster.partition_names, QUOTA_PARTITION)
        self.backlog = Backlog(self._ledger, partitions, config.log_limit_bytes)
        self.control_service.backlog = self.backlog
        self._server: grpc.aio.Server | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._health = health.aio.HealthServicer()

    async def start(self) -> int:
        """Starts serving and returns the port.

        Raises:
            UnavailableError: the port is taken.
        """
        await self._control.refresh()
        await self._routes.look_up()
        server = grpc.aio.server(options=OPTIONS)
        server.add_generic_rpc_handlers((self.gates.handler(),))
        control_pb2_grpc.add_ControlServiceServicer_to_server(self.control_service, server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = (SERVICE, CONTROL_SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)
        address = f"{self._config.host}:{self._config.port}"
        try:
            self.port = server.add_secure_port(address, server_credentials(self._config.tls))
        except RuntimeError as error:
            raise UnavailableError(f"gateway {self.name} cannot listen on {address}: is the port taken?") from error
        await server.start()
        for service in ("", SERVICE, CONTROL_SERVICE):
            await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)
        self._server = server
        self._tasks = [asyncio.create_task(work) for work in (self._expire(), self._poll(), self._watch_backlog())]
        log.info("gateway serves", gateway=self.name, port=self.port)
        return self.port

    @property
    def failure(self) -> BaseException | None:
        """What has ended a loop that never ends: without it streams would stay open and frames unanswered."""
        ended = (task for task in self._tasks if task.done() and not task.cancelled())
        return next((task.exception() or RuntimeError("a loop has ended") for task in ended), None)

    async def stop(self) -> None:
        """Stops: streams end with UNAVAILABLE, and gates connect elsewhere."""
        await end(self._tasks)
        if self._server is not None:
            await self._health.enter_graceful_shutdown()
            await self._server.stop(STOP_GRACE_S)
        self._routes.close()
        await self._ledger.close()

    async def _expire(self) -> None:
        while True:
            await asyncio.sleep(EXPIRE_EVERY_S)
            self.gates.expire()

    async def _watch_backlog(self) -> None:
        while True:
            with contextlib.suppress(TransientError):  # its absence has alarms of its own
                await self.backlog.look()
            await asyncio.sleep(LOOK_EVERY_S)

    async def _poll(self) -> None:
        while True:
            try:
                if await self._control.refresh():
                    self.gates.announce()
            except TransientError:
                pass  # tried again at the next poll; nothing waits for it
            except ParkgateError as error:
                log.critical(DAMAGED_CONTROL, gateway=self.name, error=str(error))
            self.gates.end_revoked()
            await asyncio.sleep(POLL_S)
