"""Who may ask: a client certificate that names `parkgate://finance/<name>` or `parkgate://service/<name>`."""

from __future__ import annotations

from collections.abc import Iterable

from cryptography import x509

ALLOWED = ("parkgate://finance/", "parkgate://service/")


def caller_of(certificate: bytes) -> str:
    """The first allowed identity in a client's PEM certificate; empty if there is none."""
    try:
        names = x509.load_pem_x509_certificate(certificate).extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        )
    except (ValueError, x509.ExtensionNotFound):
        return ""
    return allowed_of(names.value.get_values_for_type(x509.UniformResourceIdentifier))


def serial_of(certificate: bytes) -> int:
    """The serial number of a client's PEM certificate, by which it can be revoked."""
    return x509.load_pem_x509_certificate(certificate).serial_number


def allowed_of(uris: Iterable[str]) -> str:
    """The first identity that may ask for reports; a prefix without a name is none."""
    return next((uri for uri in uris for prefix in ALLOWED if uri.startswith(prefix) and len(uri) > len(prefix)), "")
