"""The composition of the stack: which processes there are, in terms of settings. THE place to add one.

A service is a line in `processes` here and a line in `ops.run.SERVICES`.
"""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from signal import SIGKILL

from ops import ports
from ops.embedded import EmbeddedPostgres, EmbeddedValkey, ray_node
from ops.embedded.base import Command, dying_with_parent, own_module, tool
from ops.readiness import is_ready
from ops.settings import Settings
from ops.supervise import Process

POSTGRES_NICENESS = 10
"""Where gates, Postgres and reporting share cores, gates go first: a guest stands and waits, a report does not."""
SERVICE_READY_TIMEOUT_S = 150.0
"""Ray starts a dozen Python processes: 10 s on an idle machine of two cores, a minute on one that is overloaded."""


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where the parts are, embedded or not. Looked up when asked: an embedded server's port is chosen at its start.

    The URLs carry passwords: hand them to clients, print them never.
    """

    settings: Settings

    @property
    def postgres_url(self) -> str:
        given = self.settings.postgres_url.get_secret_value()
        return given or EmbeddedPostgres(self.settings.data_dir).url

    @property
    def ledger_url(self) -> str:
        given = self.settings.ledger_url.get_secret_value()
        return given or EmbeddedValkey(self.settings.data_dir).url

    @property
    def ray_address(self) -> str:
        """Raises: OpsError while the embedded Ray is down."""
        return ray_node.address(self.settings.data_dir) if self.settings.embedded_ray else self.settings.ray_address


def processes(settings: Settings) -> list[Process]:
    """Everything that `parkgate up` keeps alive. Services are added here, with `service`."""
    servers: list[Process] = []
    if settings.embedded_postgres:
        servers.append(embedded(EmbeddedPostgres(settings.data_dir), POSTGRES_NICENESS))
    if settings.embedded_ledger:
        servers.append(embedded(EmbeddedValkey(settings.data_dir)))
    names = tuple(server.name for server in servers)
    ledger = tuple(name for name in names if name == EmbeddedValkey.name)
    database = tuple(name for name in names if name == EmbeddedPostgres.name)
    return [
        *servers,
        # On a Ray cluster that exists gateways outlive this service and keep their port; the next finds them there.
        service("cluster", settings, ("gate_port",), ledger, may_hold="" if settings.embedded_ray else "ray::"),
        service("reporting", settings, ("reporting_port", "reporting_metrics_port"), (*database, *ledger)),
        # Beside the cluster, not after it: it is ready once what it publishes is in force there.
        service("sales", settings, ("sales_port", "sales_metrics_port"), database),
    ]


def embedded(server: EmbeddedPostgres | EmbeddedValkey, niceness: int = 0) -> Process:
    """An embedded server as a process of the stack."""

    def command() -> Command:
        prepared = server.prepare()
        return replace(prepared, argv=[tool("nice"), "-n", str(niceness), *prepared.argv])

    return Process(
        name=server.name,
        command=command,
        ready=server.ready,
        ports=lambda: {server.name: server.port},
        stop_signal=server.stop_signal,
        stop_timeout_s=server.stop_timeout_s,
    )


def service(
    name: str,
    settings: Settings,
    listens: tuple[str, ...],
    depends_on: tuple[str, ...] = (),
    *,
    may_hold: str = "",
) -> Process:
    """A service of ours as a process of the stack: `python -m ops.run NAME`. It says itself when it is ready.

    `listens`: the settings of the ports that it opens, for example ("sales_port", "sales_metrics_port").
    `may_hold`: programs whose names begin so may hold these ports: what the service before it has started.
    """
    wanted = {setting: int(getattr(settings, setting)) for setting in listens}

    def command() -> Command:
        for setting, port in wanted.items():
            ports.require_free(port, setting, may_hold)
        return service_command(name, settings.data_dir)

    return Process(
        name=name,
        command=command,
        ready=lambda: is_ready(settings.data_dir, name),
        ready_timeout_s=SERVICE_READY_TIMEOUT_S,
        depends_on=depends_on,
        ports=lambda: wanted,
    )


def service_command(name: str, data_dir: Path) -> Command:
    """Settings travel by the environment and the data folder; no secret is on a command line.

    When the supervisor is killed its services go at once, without an ordered stop that a new supervisor would wait for:
    what was acknowledged is durable, and callers ask again with the same ids.
    """
    argv = [*dying_with_parent(SIGKILL), *own_module("ops.run", name)]
    return Command(argv=argv, env={**os.environ, "PARKGATE_DATA_DIR": str(data_dir), "PARKGATE_SUPERVISED": "1"})


__all__ = ["Endpoints", "embedded", "processes", "service", "service_command"]
