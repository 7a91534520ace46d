"""Only the cluster's own certificate opens a link between nodes, on either end. Proves part of I8."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from cluster.config import TlsFiles
from cluster.link import Address, Connection, LinkClient, LinkServer
from cluster.tls import client_context, server_context
from ops import enrolment
from ops.pki import Kind
from ops.services.identities import link_identity
from parkgate.cluster.v1 import link_pb2
from ticketcore.errors import UnavailableError, UnknownOutcomeError

NODE, OTHER = "node-1", "node-2"


@pytest.fixture
def own(data_dir: Path) -> TlsFiles:
    files = link_identity(data_dir)
    return TlsFiles(files.ca, files.certificate, files.key)


def enrolled(data_dir: Path, kind: Kind, name: str) -> TlsFiles:
    now = datetime.now(UTC)
    pair, _ = enrolment.enroll(data_dir, kind, name, ("main-1",) if kind is Kind.GATE else (), now)
    certificate, key, ca = enrolment.save(pair, enrolment.authority(data_dir, now).certificate, name, data_dir / name)
    return TlsFiles(ca, certificate, key)


def answer(connection: Connection, request: link_pb2.LinkRequest) -> None:
    connection.send(link_pb2.LinkResponse(call_id=request.call_id, refresh=link_pb2.RefreshResponse()))


@pytest.fixture
async def address(own: TlsFiles) -> AsyncIterator[Address]:
    server = LinkServer(answer)
    port = await server.listen("", "127.0.0.1", server_context(own))
    yield Address(NODE, "", "127.0.0.1", port)
    await server.close()


def refresh() -> link_pb2.LinkRequest:
    return link_pb2.LinkRequest(refresh=link_pb2.RefreshRequest())


async def test_the_clusters_own_certificate_is_good_for_both_ends(own: TlsFiles, address: Address) -> None:
    link = await LinkClient.connect(address, OTHER, client_context(own))
    assert (await link.call(refresh(), 5)).HasField("refresh")
    link.close()
    certificate = x509.load_pem_x509_certificate(own.certificate.read_bytes())
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(usage) == {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH}


@pytest.mark.parametrize(
    ("kind", "name"), [(Kind.GATE, "north-1"), (Kind.WINDOW, "w1"), (Kind.SERVICE, "sales"), (Kind.FINANCE, "cluster")]
)
async def test_an_owner_refuses_whoever_is_not_the_cluster(
    data_dir: Path, address: Address, kind: Kind, name: str
) -> None:
    link = await LinkClient.connect(address, OTHER, client_context(enrolled(data_dir, kind, name)))
    with pytest.raises(UnknownOutcomeError, match="link to the owner"):
        await link.call(refresh(), 5)
    assert link.broken


@pytest.mark.parametrize(("kind", "name"), [(Kind.GATE, "north-1"), (Kind.SERVICE, "sales")])
async def test_a_gateway_refuses_an_owner_that_is_not_the_cluster(
    data_dir: Path, own: TlsFiles, kind: Kind, name: str
) -> None:
    server = LinkServer(answer)
    port = await server.listen("", "127.0.0.1", server_context(enrolled(data_dir, kind, name)))
    with pytest.raises(UnavailableError, match="does not answer"):
        await LinkClient.connect(Address(NODE, "", "127.0.0.1", port), OTHER, client_context(own))
    await server.close()


async def test_the_cluster_refuses_a_server_certificate_of_the_same_authority(data_dir: Path, own: TlsFiles) -> None:
    """A web server's certificate is good for servers, and names no service."""
    enrolment.server_pair(data_dir, "sales", (), datetime.now(UTC))
    folder = data_dir / "pki" / "server"
    server = LinkServer(answer)
    files = TlsFiles(own.ca, folder / "sales.pem", folder / "sales.key")
    port = await server.listen("", "127.0.0.1", server_context(files))
    link = await LinkClient.connect(Address(NODE, "", "127.0.0.1", port), OTHER, client_context(own))
    with pytest.raises(UnknownOutcomeError, match="link to the owner"):
        await link.call(refresh(), 5)
    await server.close()
