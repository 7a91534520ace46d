"""The gate's client over real gRPC with mTLS, against a tiny gateway. Proves I3 and I7 at the edge."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from gate_certs import TestAuthority
from gate_server import TinyGateway
from test_session import scan_of

from gateclient.client import GateClient, LinkConfig
from gateclient.credentials import load_credentials
from gateclient.link_events import SessionLimits
from parkgate.gate.v1 import gate_pb2 as pb
from ticketcore.errors import InvalidInputsError, NotPermittedError, UnavailableError

LIMITS = SessionLimits(answer_ms=3_000, reply_ms=150, receipt_ms=150, rescan_ms=2_000)


@pytest.fixture(scope="module")
def authority() -> TestAuthority:
    return TestAuthority()


@pytest.fixture
async def gateway(authority: TestAuthority) -> AsyncIterator[TinyGateway]:
    gateway = await TinyGateway("one").start(authority)
    yield gateway
    await gateway.stop()


def client_for(folder: Path, *ports: int, limits: SessionLimits = LIMITS) -> GateClient:
    config = LinkConfig(
        gate_ids=("north-1",),
        addresses=tuple(f"127.0.0.1:{port}" for port in ports),
        credentials=load_credentials(folder),
        limits=limits,
    )
    return GateClient(config)


async def test_a_scan_over_tls_gets_the_clusters_verdict(
    authority: TestAuthority, gateway: TinyGateway, tmp_path: Path
) -> None:
    client = client_for(authority.folder(tmp_path / "c"), gateway.port)
    assert (await client.start()).gateway == "one"
    first, second = await client.check(scan_of(5, 1)), await client.check(scan_of(5, 2))
    assert (first.decision, second.reason) == (pb.DECISION_ADMIT, pb.REASON_ALREADY_USED)
    assert await client.close() == 0


async def test_a_lost_reply_is_retried_with_the_same_scan_id_and_admits_once(
    authority: TestAuthority, gateway: TinyGateway, tmp_path: Path
) -> None:
    """I3."""
    client = client_for(authority.folder(tmp_path / "c"), gateway.port)
    await client.start()
    gateway.swallow = 1
    assert (await client.check(scan_of(5, 1))).decision == pb.DECISION_ADMIT
    sent = [scan.scan_id for frame in gateway.frames for scan in frame.scans]
    assert len(sent) >= 2
    assert set(sent) == {scan_of(5, 1).scan_id}
    await client.close()


async def test_when_a_gateway_goes_down_the_other_answers_the_same_scan(
    authority: TestAuthority, gateway: TinyGateway, tmp_path: Path
) -> None:
    """I3: the second gateway stands on the same cluster."""
    other = await TinyGateway("two", gateway.cluster).start(authority)
    client = client_for(authority.folder(tmp_path / "c"), gateway.port, other.port)
    assert (await client.start()).gateway == "one"
    gateway.end_after = 0
    verdict = await client.check(scan_of(5, 1))
    assert verdict.decision == pb.DECISION_ADMIT
    assert client.welcome.gateway == "two"
    assert gateway.cluster.used == {5: 1}
    await client.close()
    await other.stop()


async def test_while_no_gateway_is_there_guests_are_told_retry_and_then_scans_go_on_by_themselves(
    authority: TestAuthority, gateway: TinyGateway, tmp_path: Path
) -> None:
    """I7."""
    client = client_for(authority.folder(tmp_path / "c"), gateway.port, limits=SessionLimits(300, 100, 100, 2_000))
    await client.start()
    await gateway.stop()
    told = await client.check(scan_of(5, 1))
    assert (told.decision, told.decided_by) == (pb.DECISION_RETRY, pb.DECIDED_BY_GATE)
    back = await TinyGateway("back").start(authority, port=gateway.port)
    async with asyncio.timeout(20):
        while (await client.check(scan_of(5, 2))).decision != pb.DECISION_ADMIT:
            pass
    assert client.welcome.gateway == "back"
    await client.close()
    await back.stop()


async def test_passage_reports_survive_a_broken_link_and_are_receipted(
    authority: TestAuthority, gateway: TinyGateway, tmp_path: Path
) -> None:
    client = client_for(authority.folder(tmp_path / "c"), gateway.port)
    await client.start()
    verdict = await client.check(scan_of(5, 1))
    gateway.end_after = 0
    report = pb.PassageReport(scan_id=verdict.scan_id, ticket_id=5, outcome=pb.PASSAGE_OUTCOME_NOT_PASSED)
    client.report_passage(report)
    async with asyncio.timeout(5):
        while not gateway.cluster.passages:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert client.session.unreceipted == 1
    gateway.end_after = -1
    assert await client.close() == 0


async def test_many_scans_at_once_share_frames(authority: TestAuthority, gateway: TinyGateway, tmp_path: Path) -> None:
    client = client_for(authority.folder(tmp_path / "c"), gateway.port)
    await client.start()
    verdicts = await asyncio.gather(*(client.check(scan_of(ticket, 1)) for ticket in range(1, 501)))
    assert {verdict.decision for verdict in verdicts} == {pb.DECISION_ADMIT}
    assert sum(bool(frame.scans) for frame in gateway.frames) < 20
    await client.close()


async def test_a_refused_gate_is_told_so_at_once(
    authority: TestAuthority, gateway: TinyGateway, tmp_path: Path
) -> None:
    gateway.refuse = (grpc.StatusCode.PERMISSION_DENIED, "the certificate is not for gate north-1")
    client = client_for(authority.folder(tmp_path / "c"), gateway.port)
    with pytest.raises(NotPermittedError, match="not for gate north-1"):
        await client.start()
    await client.close()


async def test_a_port_where_nothing_listens_is_named(authority: TestAuthority, tmp_path: Path) -> None:
    client = client_for(authority.folder(tmp_path / "c"), 1)
    with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:1: nothing listens there"):
        await client.start(patience_s=0.5)
    await client.close()


async def test_a_server_of_another_authority_is_not_trusted(
    authority: TestAuthority, gateway: TinyGateway, tmp_path: Path
) -> None:
    client = client_for(TestAuthority().folder(tmp_path / "c"), gateway.port)
    with pytest.raises(UnavailableError, match="not signed by the CA"):
        await client.start(patience_s=1)
    await client.close()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda folder: (folder / "device.pem").unlink(), "device.pem cannot be read"),
        (lambda folder: (folder / "ca.pem").write_text("junk"), "ca.pem holds no PEM certificate"),
        (lambda folder: (folder / "device.key").write_bytes(TestAuthority().issue("x://y")[1]), "is not the key of"),
    ],
)
def test_a_bad_certificate_folder_is_named_file_by_file(
    authority: TestAuthority, tmp_path: Path, spoil: object, says: str
) -> None:
    folder = authority.folder(tmp_path / "c")
    spoil(folder)  # type: ignore[operator]
    with pytest.raises(InvalidInputsError, match=says):
        load_credentials(folder)
