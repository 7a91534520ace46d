"""What the sales service is told at its start: one frozen object. It reads nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ticketcore.errors import InvalidInputsError
from ticketcore.token import MAX_ISSUER, MAX_KEY_ID

MIN_SECRET_BYTES = 16
MAX_HOLD_MS = 3_600_000
"""What the cluster accepts."""
MIN_ASK_MS = 1_000
LOOPBACK = ("127.0.0.1:", "localhost:", "[::1]:", "unix:")


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """A PEM certificate with its key, and the authority that the other side's certificate must come from."""

    certificate: Path
    private_key: Path
    authority: Path


@dataclass(frozen=True, slots=True)
class SalesConfig:
    """Settings of one sales service.

    Without `tls` the service listens on loopback only and trusts every caller as a service; for tests. Port 0 takes a
    free one (see `Server.port`). `metrics_port` 0 serves no metrics.
    """

    postgres_url: str = field(repr=False)
    bind_address: str
    tls: TlsFiles | None
    cluster_targets: tuple[str, ...]
    cluster_tls: TlsFiles | None
    signing_key_id: int
    signing_key: Ed25519PrivateKey = field(repr=False)
    issuer_id: int
    webhook_secret: bytes = field(repr=False)
    webhook_bind_address: str = "127.0.0.1:0"
    provider_url: str = "http://127.0.0.1:7470"
    """Where the payment provider takes intents; the sandbox's address, in this release."""
    cluster_server_name: str = ""
    """Name in the cluster's certificate, if it is not the target's."""
    hold_time_to_live_ms: int = 900_000
    ask_payment_after_ms: int = 60_000
    """After so long without a word of the provider a pending payment is asked for; then less and less often."""
    metrics_port: int = 0
    is_revoked: Callable[[int], bool] = field(default=lambda _serial: False, repr=False)
    """Whether the client certificate of a serial number was revoked; asked with every call."""

    def __post_init__(self) -> None:
        problems = [
            message
            for holds, message in (
                (self.postgres_url.startswith(("postgresql", "postgres")), "postgres_url: expected postgresql://..."),
                (self.tls is not None or self.bind_address.startswith(LOOPBACK), "tls: needed off loopback"),
                (bool(self.cluster_targets), "cluster_targets: expected at least one host:port"),
                (0 <= self.signing_key_id <= MAX_KEY_ID, f"signing_key_id: expected 0 to {MAX_KEY_ID}"),
                (1 <= self.issuer_id <= MAX_ISSUER, f"issuer_id: expected 1 to {MAX_ISSUER}"),
                (
                    len(self.webhook_secret) >= MIN_SECRET_BYTES,
                    f"webhook_secret: expected at least {MIN_SECRET_BYTES} bytes",
                ),
                (
                    self.ask_payment_after_ms >= MIN_ASK_MS,
                    f"ask_payment_after_ms: expected at least {MIN_ASK_MS}",
                ),
                (
                    1_000 <= self.hold_time_to_live_ms <= MAX_HOLD_MS,
                    f"hold_time_to_live_ms: expected 1000 to {MAX_HOLD_MS}",
                ),
            )
            if not holds
        ]
        if problems:
            raise InvalidInputsError("sales settings", problems)
