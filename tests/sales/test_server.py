"""The running service: gRPC over mTLS, identities, statuses, health, and Postgres going away and coming back."""

import asyncio
import datetime
import ipaddress
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import grpc
import grpc.aio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from ops.embedded import EmbeddedPostgres
from parkgate.sales.v1 import sales_pb2 as pb
from parkgate.sales.v1.sales_pb2_grpc import SalesServiceStub
from sales import servicer
from sales.catalogue_folder import load_folder
from sales.cluster_client import GrpcCluster, connect
from sales.config import SalesConfig, TlsFiles
from sales.context import assemble
from sales.errors import RequestReusedError
from sales.identity import Caller, Role, caller_of
from sales.server import SERVICE, Server, running, serve
from sales.status import status_of
from tests.sales.conftest import CATALOGUE, new_id
from tests.sales.fake_cluster import FakeCluster
from ticketcore import errors
from ticketcore.catalogue_document import canonical_json


class Authority:
    """A certificate authority of a test's own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.revoked: set[int] = set()
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        builder = self._builder(self.name, self.key).add_extension(x509.BasicConstraints(True, None), critical=True)
        self.path = folder / "ca.pem"
        self.path.write_bytes(builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def _builder(self, name: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=1))
            .not_valid_after(now + datetime.timedelta(hours=1))
        )

    def issue(self, label: str, *names: x509.GeneralName) -> TlsFiles:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, label)])
        certificate = (
            self._builder(subject, key)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        files = TlsFiles(self.folder / f"{label}.pem", self.folder / f"{label}.key", self.path)
        files.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        files.private_key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return files


def channel(port: int, files: TlsFiles) -> grpc.aio.Channel:
    credentials = grpc.ssl_channel_credentials(
        files.authority.read_bytes(), files.private_key.read_bytes(), files.certificate.read_bytes()
    )
    return grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
async def server(config: SalesConfig, authority: Authority) -> AsyncIterator[Server]:
    files = authority.issue("server", x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
    secure = replace(config, tls=files, is_revoked=authority.revoked.__contains__)
    parts = assemble(secure, FakeCluster(lambda: datetime.datetime.now(datetime.UTC)))
    async with running(secure, parts) as started:
        yield started


BACKGROUND = ("relay", "lapse_orders", "sweep_voids", "ask_payments")


@pytest.mark.parametrize("work", BACKGROUND)
async def test_sales_whose_relay_or_sweep_has_ended_end_and_leave_the_start_to_their_supervisor(
    config: SalesConfig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, work: str
) -> None:
    """I10: orders would be paid, and their tickets never known to a gate."""

    async def broken(_: object) -> int:
        raise ValueError("nobody expects this")

    async def idle(_: object) -> int:
        return await asyncio.get_running_loop().create_future()

    broken.__name__ = work
    for name in BACKGROUND:
        monkeypatch.setattr(f"sales.server.{name}", broken if name == work else idle)
    answered: list[Server] = []
    with pytest.raises(ValueError, match="nobody expects this"):
        async with asyncio.timeout(20):
            await serve(config, answered.append)
    assert len(answered) == 1
    said = [record.message for record in caplog.records if record.levelname == "CRITICAL"]
    assert said == [f"sales end and are started again: {work}: ValueError('nobody expects this')"]


def uri(text: str) -> x509.UniformResourceIdentifier:
    return x509.UniformResourceIdentifier(text)


async def publish(stub: SalesServiceStub) -> None:
    document, _ = load_folder(CATALOGUE)
    await stub.PublishCatalogue(pb.PublishCatalogueRequest(request_id=new_id(), document=canonical_json(document)))


def order(window_id: str) -> pb.CreateOrderRequest:
    day = datetime.datetime.now(datetime.UTC).date() + datetime.timedelta(days=2)
    lines = [pb.OrderLine(product_id="day", concession="adult", count=1, visit_date=day.isoformat())]
    return pb.CreateOrderRequest(request_id=new_id(), lines=lines, channel="window", window_id=window_id)


async def test_a_window_sells_over_mtls_as_itself_and_not_as_another(server: Server, authority: Authority) -> None:
    service = authority.issue("ops", uri("parkgate://service/ops"))
    window = authority.issue("w1", uri("parkgate://window/w1"))
    gate = authority.issue("g1", uri("parkgate://gate/g1"))
    async with channel(server.port, service) as all_may, channel(server.port, window) as w1:
        await publish(SalesServiceStub(all_may))
        stub = SalesServiceStub(w1)
        made = await stub.CreateOrder(order("w1"))
        answer = await stub.PayOrder(
            pb.PayOrderRequest(
                request_id=new_id(),
                order_id=made.order.order_id,
                method=pb.PAYMENT_METHOD_CASH,
                tendered_minor=made.order.total_minor,
            )
        )
        assert len(answer.tickets) == 1
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.CreateOrder(order("w2"))
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    async with channel(server.port, gate) as stranger:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await SalesServiceStub(stranger).GetCatalogue(pb.GetCatalogueRequest())
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_a_window_whose_certificate_was_revoked_is_refused_from_the_next_call_on(
    server: Server, authority: Authority
) -> None:
    window = authority.issue("w1", uri("parkgate://window/w1"))
    async with channel(server.port, authority.issue("ops", uri("parkgate://service/ops"))) as all_may:
        await publish(SalesServiceStub(all_may))
    async with channel(server.port, window) as w1:
        stub = SalesServiceStub(w1)
        await stub.CreateOrder(order("w1"))
        authority.revoked.add(x509.load_pem_x509_certificate(window.certificate.read_bytes()).serial_number)
        with pytest.raises(grpc.aio.AioRpcError, match="was revoked") as caught:
            await stub.CreateOrder(order("w1"))
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize("field", ["window_id", "channel", "lines.concession"])
async def test_a_text_that_postgres_cannot_keep_is_the_callers_mistake_and_nobody_elses(
    server: Server, authority: Authority, field: str
) -> None:
    """I8: calls that come together share a transaction, and it would have failed for all of them."""
    mad, good = order("w1"), order("w1")
    holder = mad.lines[0] if "." in field else mad
    setattr(holder, field.rpartition(".")[2], "w\0")
    async with channel(server.port, authority.issue("ops", uri("parkgate://service/ops"))) as link:
        stub = SalesServiceStub(link)
        await publish(stub)
        told, made = await asyncio.gather(stub.CreateOrder(mad), stub.CreateOrder(good), return_exceptions=True)
    assert isinstance(told, grpc.aio.AioRpcError)
    assert (told.code(), told.details()) == (grpc.StatusCode.INVALID_ARGUMENT, f"{field}: holds the character NUL")
    assert made.order.order_id


async def test_sales_shed_what_they_cannot_take_and_say_when_to_ask_again(
    server: Server, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servicer, "MAX_CALLS_UNDER_WAY", 0)
    async with channel(server.port, authority.issue("ops", uri("parkgate://service/ops"))) as link:
        with pytest.raises(grpc.aio.AioRpcError, match="nothing was done, ask again") as told:
            await SalesServiceStub(link).GetCatalogue(pb.GetCatalogueRequest())
    assert told.value.code() is grpc.StatusCode.UNAVAILABLE
    assert ("retry-after-ms", "500") in tuple(told.value.trailing_metadata() or ())


async def test_a_caller_without_a_certificate_of_the_park_is_not_connected(
    server: Server, authority: Authority, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    foreign = Authority(tmp_path / "other").issue("ops", uri("parkgate://service/ops"))
    async with channel(server.port, replace(foreign, authority=authority.path)) as refused:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await SalesServiceStub(refused).GetCatalogue(pb.GetCatalogueRequest(), timeout=5)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_health_and_reflection_are_served(server: Server, authority: Authority) -> None:
    async with channel(server.port, authority.issue("ops", uri("parkgate://service/ops"))) as ops:
        health = await health_pb2_grpc.HealthStub(ops).Check(health_pb2.HealthCheckRequest(service=SERVICE))
        assert health.status == health_pb2.HealthCheckResponse.SERVING
        call = reflection_pb2_grpc.ServerReflectionStub(ops).ServerReflectionInfo()
        await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        answer = await call.read()
        assert SERVICE in {service.name for service in answer.list_services_response.service}
        await call.done_writing()


async def test_with_postgres_away_selling_stops_clearly_and_goes_on_by_itself_i10(
    config: SalesConfig, tmp_path: Path
) -> None:
    """I10: UNAVAILABLE, with words for people; and the same request works when Postgres is back."""
    postgres = EmbeddedPostgres(tmp_path / "postgres")
    postgres.start()
    try:
        config = replace(config, postgres_url=postgres.url)
        parts = assemble(config, FakeCluster(lambda: datetime.datetime.now(datetime.UTC)))
        async with running(config, parts) as server, grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as local:
            stub = SalesServiceStub(local)
            await publish(stub)
            request = order("w1")
            await asyncio.to_thread(postgres.stop)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.CreateOrder(request)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            assert "the database is away" in (caught.value.details() or "")
            assert "retry-after-ms" in dict(caught.value.trailing_metadata() or ())
            await asyncio.to_thread(postgres.start)
            assert (await stub.CreateOrder(request, timeout=30)).order.state == pb.ORDER_STATE_HELD
    finally:
        postgres.stop()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.InvalidInputError("x"), grpc.StatusCode.INVALID_ARGUMENT),
        (errors.InvalidInputsError("x", ["y"]), grpc.StatusCode.INVALID_ARGUMENT),
        (errors.NotFoundError("x"), grpc.StatusCode.NOT_FOUND),
        (errors.ConflictError("x"), grpc.StatusCode.FAILED_PRECONDITION),
        (RequestReusedError("x"), grpc.StatusCode.ALREADY_EXISTS),
        (errors.SoldOutError("x"), grpc.StatusCode.RESOURCE_EXHAUSTED),
        (errors.NotPermittedError("x"), grpc.StatusCode.PERMISSION_DENIED),
        (errors.UnavailableError("x"), grpc.StatusCode.UNAVAILABLE),
        (errors.UnknownOutcomeError("x"), grpc.StatusCode.UNAVAILABLE),
        (errors.FencedError("x"), grpc.StatusCode.UNAVAILABLE),
        (errors.DamagedDataError("x"), grpc.StatusCode.DATA_LOSS),
        (RuntimeError("secret"), grpc.StatusCode.INTERNAL),
    ],
)
def test_each_error_has_its_status_and_a_fault_of_ours_shows_nothing_of_itself(
    error: Exception, code: grpc.StatusCode
) -> None:
    status, message, _ = status_of(error)
    assert status is code
    assert "secret" not in message


@pytest.mark.parametrize(
    ("names", "caller"),
    [
        ([b"parkgate://window/w-1"], Caller(Role.WINDOW, "w-1")),
        ([b"127.0.0.1", b"parkgate://finance/audit"], Caller(Role.FINANCE, "audit")),
        ([b"parkgate://window/w1", b"parkgate://service/x"], None),
        ([b"parkgate://window/"], None),
        ([b"parkgate://window/a/b"], None),
        ([b"xparkgate://window/a"], None),
        ([b"\xff\xfe"], None),
        ([], None),
    ],
)
def test_a_caller_is_who_one_name_of_its_certificate_says(names: list[bytes], caller: Caller | None) -> None:
    context = {"x509_subject_alternative_name": names}
    if caller is not None:
        assert caller_of(context) == caller
    else:
        with pytest.raises(errors.NotPermittedError):
            caller_of(context)


async def test_a_cluster_that_does_not_answer_is_an_unknown_outcome(config: SalesConfig) -> None:
    cluster: GrpcCluster = connect(config)
    with pytest.raises(errors.UnknownOutcomeError, match="ask again"):
        await cluster.pin_hold(new_id())
    await cluster.close()


def test_settings_tell_all_their_problems_and_no_secret(config: SalesConfig) -> None:
    with pytest.raises(errors.InvalidInputsError) as caught:
        replace(config, bind_address="0.0.0.0:7444", issuer_id=0, webhook_secret=b"short")
    assert len(caught.value.problems) == 3
    assert "secret of these tests" not in repr(config)
    assert "postgresql://" not in repr(config)
