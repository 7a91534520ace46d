"""What reporting is told at its start. Nothing here reads the environment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ReportingConfig:
    """Addresses, the park's time zone and, for the service, its port and certificates.

    `partitions` are the names of ticket, quota and capacity partitions ("p0", "q0"). `time_zone` is the park's IANA
    name. `ca`, `cert` and `key` are PEM.
    """

    postgres_url: str = field(repr=False)
    redis_url: str = field(repr=False)
    partitions: tuple[str, ...]
    time_zone: str
    currency_digits: int = 2
    host: str = "127.0.0.1"
    port: int = 7445
    ca: bytes = field(default=b"", repr=False)
    cert: bytes = field(default=b"", repr=False)
    key: bytes = field(default=b"", repr=False)
    is_revoked: Callable[[int], bool] | None = field(default=None, repr=False)
    """Whether the client certificate of a serial number was revoked; asked with every call. None: never."""
