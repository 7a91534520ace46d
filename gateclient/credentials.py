"""Reads a gate's certificate folder and opens TLS channels with it.

A folder is what enrolment leaves: `ca.pem` (who signed the park's servers), `<device>.pem` (this device, naming its
gates) and `<device>.key` (its private key). Nothing here is ever logged.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from ticketcore.errors import InvalidInputsError

CA_FILE = "ca.pem"

KEEPALIVE_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.enable_retries", 0),
    ("grpc.use_local_subchannel_pool", 1),
)
"""Pings find a dead network in 15 s. Retries are the session's, with the same ids. A pool of its own for each channel
makes a new channel a new connection, without the back-off of the one that failed."""


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """The three PEM files of a certificate folder."""

    ca: bytes
    cert: bytes
    key: bytes

    def channel(self, address: str, server_name: str = "") -> grpc.aio.Channel:
        """A channel to `host:port`; `server_name` is the name in the server's certificate when it is not the host."""
        options: list[tuple[str, str | int]] = list(KEEPALIVE_OPTIONS)
        if server_name:
            options.append(("grpc.ssl_target_name_override", server_name))
        return grpc.aio.secure_channel(
            address, grpc.ssl_channel_credentials(self.ca, self.key, self.cert), options=options
        )


def load_credentials(folder: Path) -> Credentials:
    """Reads and checks a certificate folder.

    Raises:
        InvalidInputsError: a file is missing, unreadable or no PEM, or the key is not the certificate's.
    """
    problems: list[str] = []
    if not folder.is_dir():
        raise InvalidInputsError(f"certificate folder {folder}", ["there is no such folder; enrol this gate first"])
    keys = sorted(folder.glob("*.key"))
    if len(keys) != 1:
        fault = f"it holds {len(keys)} files *.key; it must hold the one of this device, beside its .pem"
        raise InvalidInputsError(f"certificate folder {folder}", [fault])
    paths = (folder / CA_FILE, keys[0].with_suffix(".pem"), keys[0])
    ca, cert, key = (_read(path, problems) for path in paths)
    if not problems:
        problems += _faults_of((ca, cert, key), [path.name for path in paths])
    if problems:
        raise InvalidInputsError(f"certificate folder {folder}", problems)
    return Credentials(ca, cert, key)


def _read(path: Path, problems: list[str]) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        problems.append(f"{path.name} cannot be read: {error.strerror}")
        return b""


def _faults_of(files: tuple[bytes, bytes, bytes], names: list[str]) -> list[str]:
    _, cert, key = files
    problems: list[str] = []
    for name, data in zip(names[:2], files[:2], strict=True):
        try:
            x509.load_pem_x509_certificates(data)
        except ValueError:
            problems.append(f"{name} holds no PEM certificate")
    try:
        private_key = load_pem_private_key(key, password=None)
    except (ValueError, TypeError):
        problems.append(f"{names[2]} holds no PEM private key without a password")
        return problems
    if not problems:
        own = x509.load_pem_x509_certificate(cert).public_key()
        form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        if own.public_bytes(*form) != private_key.public_key().public_bytes(*form):
            problems.append(f"{names[2]} is not the key of {names[1]}; enrol the device again")
    return problems
