"""A small certificate authority for tests: folders as a gate's enrolment leaves them, and a server's credentials."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID


class TestAuthority:
    """Signs certificates that are good for an hour."""

    __test__ = False

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        self.ca = self._sign(self._name, self._key, [], is_ca=True)

    def issue(self, uri: str = "", host: str = "localhost") -> tuple[bytes, bytes]:
        """A certificate and key in PEM, for a URI or, without one, for a server on `host` and 127.0.0.1."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
        address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        sans: list[x509.GeneralName] = (
            [x509.UniformResourceIdentifier(uri)] if uri else [x509.DNSName(host), *([address] * (host == "localhost"))]
        )
        return self._sign(name, key, sans, is_ca=False), key.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        )

    def folder(self, path: Path, uri: str = "parkgate://gate/north-1") -> Path:
        """Writes a gate's certificate folder."""
        path.mkdir(parents=True)
        cert, key = self.issue(uri)
        for name, data in (("ca.pem", self.ca), ("device.pem", cert), ("device.key", key)):
            (path / name).write_bytes(data)
        return path

    def server_credentials(self, host: str = "localhost") -> grpc.ServerCredentials:
        """For a server that asks its clients for a certificate of this authority."""
        cert, key = self.issue(host=host)
        return grpc.ssl_server_credentials([(key, cert)], self.ca, require_client_auth=True)

    def _sign(
        self, name: x509.Name, key: ec.EllipticCurvePrivateKey, sans: list[x509.GeneralName], *, is_ca: bool
    ) -> bytes:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=5))
            .not_valid_after(now + timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        )
        if sans:
            builder = builder.add_extension(x509.SubjectAlternativeName(sans), critical=False)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)
