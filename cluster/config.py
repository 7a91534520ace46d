"""Configuration of the cluster's actors: frozen values, made by the composition root. Nothing here reads anything."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

QUOTA_PARTITION = "q0"
"""The log of the quota and capacity owner."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Paths of PEM files: the park's CA, and this process's certificate and key."""

    ca: Path
    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class ClusterConfig:
    """What every actor of the cluster needs. `ledger_url` holds a secret and is left out of repr.

    `run_dir` holds Unix sockets and must be short (107 bytes with the socket's name), private and on each node.
    `link_tls` None means that owners listen on the Unix socket only: one node.
    """

    ledger_url: str
    run_dir: Path
    partitions: int = 4
    owners: int = 1
    gateways: int = 1
    link_tls: TlsFiles | None = None
    link_host: str = ""
    snapshot_after_events: int = 200_000

    def __repr__(self) -> str:
        return f"ClusterConfig(partitions={self.partitions}, owners={self.owners}, gateways={self.gateways})"

    @property
    def partition_names(self) -> list[str]:
        """Names of the ticket partitions, by index."""
        return [f"p{index}" for index in range(self.partitions)]


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """What a gateway serves gates and services with. Port 0 takes any free one.

    `log_limit_bytes`: so much of the ledger's log that reporting has not read raises the alarm of `cluster.backlog`.
    """

    host: str
    port: int
    tls: TlsFiles
    revoked_file: Path | None = None
    metrics_port: int = 0
    log_limit_bytes: int = 1 << 30
