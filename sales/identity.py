"""Who calls: the URI in the client's certificate, and what each kind of caller may do."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from cryptography import x509

from ticketcore.errors import NotPermittedError

_URI = re.compile(r"parkgate://(window|service|finance)/([A-Za-z0-9][A-Za-z0-9._-]{0,63})")


class Role(Enum):
    """Kinds of callers."""

    WINDOW = "window"
    SERVICE = "service"
    FINANCE = "finance"


@dataclass(frozen=True, slots=True)
class Caller:
    """A caller that the certificate proved."""

    role: Role
    name: str

    def __str__(self) -> str:
        return f"{self.role.value}/{self.name}"

    def check_sells_at(self, window_id: str) -> None:
        """Raises NotPermittedError unless the caller may sell, refund and count cash at that window."""
        if self.role is Role.FINANCE:
            raise NotPermittedError(f"{self} may read and reconcile, not sell")
        if self.role is Role.WINDOW and window_id != self.name:
            raise NotPermittedError(f"{self} may act as window {self.name!r} only, not as {window_id!r}")

    def check_is_service(self, what: str) -> None:
        """Raises NotPermittedError unless the caller is a service."""
        if self.role is not Role.SERVICE:
            raise NotPermittedError(f"{self} may not {what}; a service certificate may")

    def check_reads_all(self, what: str) -> None:
        """Raises NotPermittedError for a window: it sees its own only."""
        if self.role is Role.WINDOW:
            raise NotPermittedError(f"{self} may not {what}; a finance or service certificate may")

    @property
    def own_window(self) -> str:
        """The window that it is, or ''."""
        return self.name if self.role is Role.WINDOW else ""


LOCAL = Caller(Role.SERVICE, "local")
"""Who everybody is on a loopback server without TLS."""


def check_not_revoked(auth_context: Mapping[str, Iterable[bytes]], is_revoked: Callable[[int], bool]) -> None:
    """Refuses a certificate that was taken back.

    Raises:
        NotPermittedError: it was, or there is none.
    """
    pem = next(iter(auth_context.get("x509_pem_cert", ())), None)
    if pem is None:
        raise NotPermittedError("a client certificate is needed: enrol with `parkgate enroll`")
    if is_revoked(x509.load_pem_x509_certificate(bytes(pem)).serial_number):
        raise NotPermittedError("this certificate was revoked: enrol again")


def caller_of(auth_context: Mapping[str, Iterable[bytes]]) -> Caller:
    """The caller that a TLS peer is.

    Raises:
        NotPermittedError: its certificate names none of ours, or several.
    """
    names = auth_context.get("x509_subject_alternative_name", ())
    found = [match for match in (_URI.fullmatch(name.decode("ascii", "replace")) for name in names) if match]
    if len(found) != 1:
        raise NotPermittedError("the client certificate must name one parkgate://window, service or finance")
    return Caller(Role(found[0].group(1)), found[0].group(2))
