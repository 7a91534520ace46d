"""The park's own certificate authority: pure functions. Files are `ops.enrolment`'s.

    park CA (P-256, 10 years, signs no further authority)
    ├── server certificates: gateway, sales, reporting      names and addresses in the SAN; 397 days, renews itself
    └── client certificates: gate, window, service, finance  identity as URIs in the SAN; 2 years, `enroll renew`
        └ of these the service `cluster`'s is a server certificate too: both ends of a link between nodes show it

An identity is a URI, so that one certificate can carry several and none can be mistaken for a host name:
`parkgate://device/<device>` with `parkgate://gate/<gate-id>` for each gate the device may speak for,
`parkgate://window/<id>`, `parkgate://service/<name>`, `parkgate://finance/<name>`.

P-256 and not Ed25519: gRPC's TLS library accepts no Ed25519 certificates by default.
"""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ops.errors import BadInput

CA_VALID = timedelta(days=3653)
SERVER_VALID = timedelta(days=397)
CLIENT_VALID = timedelta(days=730)
RENEW_BEFORE = timedelta(days=30)
BACKDATE = timedelta(minutes=10)
"""A gate whose clock is a little behind must not find its new certificate in the future."""
LINK_SERVICE = "cluster"
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


class Kind(StrEnum):
    """Who holds a client certificate."""

    GATE = "gate"
    WINDOW = "window"
    SERVICE = "service"
    FINANCE = "finance"


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its private key, both PEM."""

    certificate: bytes
    key: bytes


@dataclass(frozen=True, slots=True)
class Issued:
    """What the registry keeps of a certificate: never the key. `serial` is hexadecimal."""

    serial: str
    kind: str
    name: str
    uris: tuple[str, ...]
    not_before: datetime
    not_after: datetime


def create_authority(now: datetime) -> Pair:
    """A new park CA."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("Parkgate park CA")
    builder = _builder(name, name, key, (now, CA_VALID))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_key_usage(signs_certificates=True), critical=True)
    return _pair(builder.sign(key, hashes.SHA256()), key)


def issue_server(authority: Pair, service: str, names: Sequence[str], now: datetime) -> Pair:
    """A certificate for a server under these host names and addresses."""
    key, builder = _leaf(authority, service, (now, SERVER_VALID))
    builder = builder.add_extension(x509.SubjectAlternativeName([_host(name) for name in names]), critical=False)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    return _sign(authority, builder, key)


def issue_client(authority: Pair, kind: Kind, name: str, uris: Sequence[str], now: datetime) -> tuple[Pair, Issued]:
    """A certificate that proves these identities."""
    key, builder = _leaf(authority, f"{kind}:{name}", (now, CLIENT_VALID))
    sans = [x509.UniformResourceIdentifier(uri) for uri in uris]
    builder = builder.add_extension(x509.SubjectAlternativeName(sans), critical=False)
    builder = builder.add_extension(x509.ExtendedKeyUsage(_usages(kind, name)), critical=False)
    pair = _sign(authority, builder, key)
    certificate = x509.load_pem_x509_certificate(pair.certificate)
    issued = Issued(
        serial=f"{certificate.serial_number:x}",
        kind=kind,
        name=name,
        uris=tuple(uris),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
    )
    return pair, issued


def _usages(kind: Kind, name: str) -> list[x509.ObjectIdentifier]:
    if (kind, name) == (Kind.SERVICE, LINK_SERVICE):
        return [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
    return [ExtendedKeyUsageOID.CLIENT_AUTH]


def identities(kind: Kind, name: str, gates: Sequence[str] = ()) -> tuple[str, ...]:
    """The URIs of a client. Raises: BadInput for a name that is no name, or a gate device without gates."""
    _check_name(name, f"{kind} name")
    for gate in gates:
        _check_name(gate, "gate id")
    if kind is not Kind.GATE:
        return (f"parkgate://{kind}/{name}",)
    if not gates:
        raise BadInput(f"The device {name} would speak for no gate.", "Name its gates: --gates main-1,main-2.")
    return (f"parkgate://device/{name}", *(f"parkgate://gate/{gate}" for gate in dict.fromkeys(gates)))


def needs_renewal(certificate: bytes, names: Sequence[str], authority: Pair, now: datetime) -> bool:
    """Whether a server certificate ends soon, lacks a name, or is another authority's."""
    found = x509.load_pem_x509_certificate(certificate)
    sans = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    has_all = {_host(name) for name in names} <= set(sans)
    issuer = x509.load_pem_x509_certificate(authority.certificate)
    try:
        found.verify_directly_issued_by(issuer)
    except Exception:  # noqa: BLE001 - the library names several; each means "not ours"
        return True
    return now > found.not_valid_after_utc - RENEW_BEFORE or not has_all


def _leaf(
    authority: Pair, name: str, validity: tuple[datetime, timedelta]
) -> tuple[ec.EllipticCurvePrivateKey, x509.CertificateBuilder]:
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = x509.load_pem_x509_certificate(authority.certificate)
    builder = _builder(_name(name), issuer.subject, key, validity)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_key_usage(signs_certificates=False), critical=True)
    issuer_key = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    identifier = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_key)
    return key, builder.add_extension(identifier, critical=False)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, validity: tuple[datetime, timedelta]
) -> x509.CertificateBuilder:
    now, valid = validity
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + valid)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _sign(authority: Pair, builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey) -> Pair:
    signer = serialization.load_pem_private_key(authority.key, password=None)
    if not isinstance(signer, ec.EllipticCurvePrivateKey):
        raise BadInput("The park CA's key is not a P-256 key.", "Restore pki/ca.key from the backup.")
    return _pair(builder.sign(signer, hashes.SHA256()), key)


def _pair(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Pair:
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Pair(certificate.public_bytes(pem), private)


def _key_usage(signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common: str) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Parkgate")]
    return x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, common[:64])])


def _host(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _check_name(name: str, what: str) -> None:
    if not NAME.fullmatch(name):
        raise BadInput(
            f"{name!r} cannot be a {what}.",
            "Use 1 to 63 lower-case letters, digits, dots, dashes or underscores, beginning with a letter or digit.",
        )
