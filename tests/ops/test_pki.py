"""The park's authority: who is let in by real TLS, what certificates say, and that taking back is never forgotten."""

import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from cryptography import x509

from ops import enrolment, pki
from ops.errors import BadInput, OpsError
from ops.pki import Kind, Pair

NOW = datetime.now(UTC).replace(microsecond=0)


def uris(pair: Pair) -> list[str]:
    certificate = x509.load_pem_x509_certificate(pair.certificate)
    sans = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return sans.get_values_for_type(x509.UniformResourceIdentifier)


class WhoAmI(grpc.GenericRpcHandler):
    """Answers any call with the URIs of the caller's certificate."""

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        def answer(_request: bytes, context: grpc.ServicerContext) -> bytes:
            return b"\n".join(context.auth_context().get("x509_subject_alternative_name", []))

        return grpc.unary_unary_rpc_method_handler(answer)


@pytest.fixture
def server_port(data_dir: Path) -> Iterator[int]:
    from concurrent.futures import ThreadPoolExecutor

    pair, ca = enrolment.server_pair(data_dir, "gateway", (), NOW)
    server = grpc.server(ThreadPoolExecutor(2), handlers=[WhoAmI()])
    credentials = grpc.ssl_server_credentials([(pair.key, pair.certificate)], ca, require_client_auth=True)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    yield port
    server.stop(None).wait()


def ask(port: int, host: str, ca: bytes, client: Pair) -> str:
    credentials = grpc.ssl_channel_credentials(ca, client.key, client.certificate)
    with grpc.secure_channel(f"{host}:{port}", credentials) as channel:
        answer: bytes = channel.unary_unary("/who/am")(b"", timeout=5)
    return answer.decode()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_an_enrolled_gate_is_let_in_and_known_by_its_uris(data_dir: Path, server_port: int, host: str) -> None:
    pair, _ = enrolment.enroll(data_dir, Kind.GATE, "north-1", ["main-1", "main-2"], NOW)
    answer = ask(server_port, host, enrolment.authority(data_dir, NOW).certificate, pair)
    assert answer.split("\n") == ["parkgate://device/north-1", "parkgate://gate/main-1", "parkgate://gate/main-2"]


def test_a_certificate_of_a_foreign_park_is_refused(data_dir: Path, server_port: int, tmp_path: Path) -> None:
    pair, _ = enrolment.enroll(tmp_path / "other", Kind.GATE, "north-1", ["main-1"], NOW)
    with pytest.raises(grpc.RpcError) as caught:
        ask(server_port, "127.0.0.1", enrolment.authority(data_dir, NOW).certificate, pair)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_client_certificate_cannot_serve_and_a_server_certificate_is_no_client(data_dir: Path) -> None:
    client, _ = enrolment.enroll(data_dir, Kind.WINDOW, "w1", [], NOW)
    server, _ = enrolment.server_pair(data_dir, "sales", (), NOW)
    usages = [
        x509.load_pem_x509_certificate(pair.certificate).extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        for pair in (client, server)
    ]
    assert [usage.dotted_string for usage in usages[0]] == ["1.3.6.1.5.5.7.3.2"]
    assert [usage.dotted_string for usage in usages[1]] == ["1.3.6.1.5.5.7.3.1"]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (Kind.WINDOW, "parkgate://window/x"),
        (Kind.SERVICE, "parkgate://service/x"),
        (Kind.FINANCE, "parkgate://finance/x"),
    ],
)
def test_each_kind_has_its_identity(data_dir: Path, kind: Kind, expected: str) -> None:
    pair, record = enrolment.enroll(data_dir, kind, "x", [], NOW)
    assert uris(pair) == [expected]
    assert record.uris == (expected,)


@pytest.mark.parametrize("name", ["", "Näme", "a/b", "../x", "a b", "-a", "A", "x" * 64, "gate\n"])
def test_what_is_no_name_is_refused(data_dir: Path, name: str) -> None:
    with pytest.raises(BadInput, match="cannot be a"):
        enrolment.enroll(data_dir, Kind.WINDOW, name, [], NOW)
    with pytest.raises(BadInput, match="cannot be a"):
        enrolment.enroll(data_dir, Kind.GATE, "ok", [name], NOW)
    assert enrolment.issued(data_dir) == []


def test_a_device_for_no_gate_is_refused(data_dir: Path) -> None:
    with pytest.raises(BadInput, match="would speak for no gate"):
        enrolment.enroll(data_dir, Kind.GATE, "north-1", [], NOW)


def test_a_name_is_enrolled_once_until_it_is_revoked_or_ends(data_dir: Path) -> None:
    first = enrolment.enroll(data_dir, Kind.WINDOW, "w1", [], NOW)[1]
    with pytest.raises(BadInput, match="enrolled already"):
        enrolment.enroll(data_dir, Kind.WINDOW, "w1", [], NOW)
    enrolment.revoke(data_dir, "w1", NOW)
    second = enrolment.enroll(data_dir, Kind.WINDOW, "w1", [], NOW)[1]
    later = enrolment.enroll(data_dir, Kind.WINDOW, "w1", [], NOW + pki.CLIENT_VALID)[1]
    assert len({first.serial, second.serial, later.serial}) == 3


def test_renewal_keeps_the_identities_and_the_old_certificate(data_dir: Path) -> None:
    old, first = enrolment.enroll(data_dir, Kind.GATE, "north-1", ["main-1"], NOW)
    new, second = enrolment.renew(data_dir, "north-1", NOW + timedelta(days=700))
    assert uris(new) == uris(old)
    assert second.not_after > first.not_after
    assert [one.serial for one in enrolment.valid_of(data_dir, Kind.GATE, "north-1", NOW)] == [
        first.serial,
        second.serial,
    ]
    with pytest.raises(BadInput, match="Nobody named south-1"):
        enrolment.renew(data_dir, "south-1", NOW)


def test_revoking_by_serial_takes_one_and_by_name_takes_all(data_dir: Path) -> None:
    first = enrolment.enroll(data_dir, Kind.WINDOW, "w1", [], NOW)[1]
    second = enrolment.renew(data_dir, "w1", NOW)[1]
    other = enrolment.enroll(data_dir, Kind.WINDOW, "w2", [], NOW)[1]
    assert [one.serial for one in enrolment.revoke(data_dir, f"0x{first.serial.upper()}", NOW)] == [first.serial]
    assert [one.serial for one in enrolment.revoke(data_dir, "w1", NOW)] == [second.serial]
    assert enrolment.revoke(data_dir, "w1", NOW) == []
    assert set(enrolment.revoked(data_dir)) == {first.serial, second.serial}
    assert other.serial not in enrolment.revoked(data_dir)
    with pytest.raises(BadInput, match="No certificate has the serial or name nobody"):
        enrolment.revoke(data_dir, "nobody", NOW)


def test_a_damaged_list_is_never_taken_for_an_empty_one(data_dir: Path) -> None:
    enrolment.enroll(data_dir, Kind.WINDOW, "w1", [], NOW)
    enrolment.revoke(data_dir, "w1", NOW)
    (data_dir / "pki" / "revoked.json").write_text("{")
    with pytest.raises(OpsError, match=r"revoked\.json is damaged"):
        enrolment.revoked(data_dir)
    (data_dir / "pki" / "issued.jsonl").write_text('{"serial": 1}\n')
    with pytest.raises(OpsError, match=r"issued\.jsonl, line 1, is damaged"):
        enrolment.issued(data_dir)


def test_server_certificates_are_kept_until_they_are_due_or_lack_a_name(data_dir: Path) -> None:
    def serial(names: tuple[str, ...], now: datetime) -> int:
        pair, _ = enrolment.server_pair(data_dir, "gateway", names, now)
        return x509.load_pem_x509_certificate(pair.certificate).serial_number

    due = NOW + pki.SERVER_VALID - pki.RENEW_BEFORE
    first = serial((), NOW)
    assert serial((), due) == first
    second = serial(("gates.park.example",), due)
    assert second != first
    third = serial(("gates.park.example",), due + pki.SERVER_VALID - pki.RENEW_BEFORE + timedelta(seconds=1))
    assert third != second


def test_keys_are_private_files(data_dir: Path, tmp_path: Path) -> None:
    pair, _ = enrolment.enroll(data_dir, Kind.WINDOW, "w1", [], NOW)
    enrolment.server_pair(data_dir, "sales", (), NOW)
    enrolment.save(pair, b"ca", "w1", tmp_path / "usb")
    keys = [*data_dir.rglob("*.key"), *tmp_path.joinpath("usb").rglob("*.key")]
    assert len(keys) == 3
    assert {stat.S_IMODE(key.stat().st_mode) for key in keys} == {0o600}
