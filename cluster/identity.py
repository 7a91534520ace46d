"""Who is calling, by the URI names of the client certificate: `parkgate://device/...`, `gate/...`, `service/...`.

TLS has checked that the park's CA signed it; here its names are read and revoked serial numbers refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog
from cryptography import x509

from ticketcore.errors import DamagedDataError, NotPermittedError

SCHEME = "parkgate://"
log = structlog.get_logger("cluster.identity")


@dataclass(frozen=True, slots=True)
class Identity:
    """What a certificate says: the names of each kind, and its serial number."""

    names: Mapping[str, frozenset[str]]
    serial: int

    def of(self, kind: str) -> frozenset[str]:
        """Names of a kind, such as "gate"; empty if there are none."""
        return self.names.get(kind, frozenset())

    @property
    def label(self) -> str:
        """For logs: the first name that says who it is."""
        for kind in ("device", "service", "window", "finance"):
            for name in sorted(self.of(kind)):
                return f"{kind} {name}"
        return f"certificate {self.serial:x}"


def identity_of(auth_context: Mapping[str, Iterable[bytes]]) -> Identity:
    """Reads the identity from gRPC's authentication context.

    Raises:
        NotPermittedError: there is no client certificate.
    """
    pem = next(iter(auth_context.get("x509_pem_cert", ())), None)
    if pem is None:
        raise NotPermittedError("a client certificate is needed: enrol the device with `parkgate enroll`")
    certificate = x509.load_pem_x509_certificate(bytes(pem))
    names: dict[str, set[str]] = {}
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        uris = extension.value.get_values_for_type(x509.UniformResourceIdentifier)
    except x509.ExtensionNotFound:
        uris = []
    for uri in uris:
        kind, _, name = uri.removeprefix(SCHEME).partition("/")
        if uri.startswith(SCHEME) and name:
            names.setdefault(kind, set()).add(name)
    return Identity({kind: frozenset(values) for kind, values in names.items()}, certificate.serial_number)


def refused(identity: Identity) -> NotPermittedError:
    """What the holder of a revoked certificate is told."""
    return NotPermittedError(f"the certificate of {identity.label} was revoked: enrol it again")


class Revoked:
    """Serial numbers of revoked certificates, read again when the file changes.

    The file is the JSON object that `parkgate enroll revoke` writes: serial number (hexadecimal) -> who and when. One
    that is damaged is told loudly, and what was read before goes on to hold; with nothing read before nobody is let in.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._stamp: tuple[int, int] = (0, 0)
        self._serials: frozenset[int] | None = None

    def check(self, identity: Identity) -> None:
        """Refuses a revoked certificate.

        Raises:
            NotPermittedError: it is revoked.
            DamagedDataError: the list cannot be read, and never could.
        """
        if self.holds(identity.serial):
            raise refused(identity)

    def holds(self, serial: int) -> bool:
        """Whether the certificate of that serial number is revoked. Raises: DamagedDataError, as `check`."""
        return serial in self.serials()

    def serials(self) -> frozenset[int]:
        """All that are revoked now; one look at the file, which is not for each of thousands of streams. Raises:
        DamagedDataError, as `check`."""
        if self._path is None:
            return frozenset()
        self._look(self._path)
        if self._serials is None:
            raise DamagedDataError(f"the list of revoked certificates is damaged: restore {self._path.name}")
        return self._serials

    def _look(self, path: Path) -> None:
        """Reads the list if it is another than it was. A list that never was revokes nobody."""
        try:
            stat = path.stat()
            stamp = (stat.st_mtime_ns, stat.st_size)
            if stamp != self._stamp:
                self._read(path.read_bytes())
                self._stamp = stamp
        except FileNotFoundError:
            self._serials = self._serials or frozenset()
        except OSError as error:
            # Of the disk or of too many open files, not of the list: it is read again with the next look.
            self._keep(error)

    def _read(self, raw: bytes) -> None:
        try:
            self._serials = frozenset(int(serial, 16) for serial in dict(json.loads(raw)))
        except (ValueError, TypeError, RecursionError) as error:
            self._keep(error)

    def _keep(self, error: Exception) -> None:
        log.critical("the list of revoked certificates is damaged: the last one holds", error=str(error))
