"""Clients that are not who they must be, and clients that misbehave, at a gateway with real TLS. Proves I8.

Each hears what is wrong, and nobody else notices.
"""

from __future__ import annotations

import asyncio
import resource
import socket
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from cluster import gate_service, gateway, quota_owner, scan_memory
from cluster import owner as owner_module
from cluster.config import TlsFiles
from cluster.gate_service import MAX_UNREAD
from cluster.gate_session import MAX_SCANS_IN_FLIGHT, Outbox
from cluster.identity import Revoked
from cluster.scan_memory import SCAN_MEMORY_MS
from ops import enrolment, pki
from ops.pki import CLIENT_VALID, Kind
from parkgate.cluster.v1 import control_pb2, control_pb2_grpc
from parkgate.gate.v1 import gate_pb2, gate_pb2_grpc
from tests.cluster import small_park
from tests.cluster.harness import LocalCluster, channel, now_ms, scan
from tests.cluster.plain_owner import Desk
from tests.cluster.plain_quota import QuotaDesk
from ticketcore.errors import DamagedDataError

ADMIT = gate_pb2.DECISION_ADMIT
NOW = datetime.now(UTC)
Heard = tuple[grpc.StatusCode, str]
SECONDS = 8
"""Half of one is usual. On a busy machine everything takes longer; what does not happen, never does."""


async def still_serves(cluster: LocalCluster) -> None:
    gate, token = await cluster.gate("main-2"), cluster.token("day")
    await cluster.register(token)
    assert (await gate.send(scan(token)))[0].decision == ADMIT


async def heard(port: int, files: TlsFiles | None, ca: bytes, gates: list[str]) -> Heard:
    """What a client that says Hello with a certificate, or none, is told."""
    if files is None:
        credentials = grpc.ssl_channel_credentials(ca)
        link = grpc.aio.secure_channel(f"localhost:{port}", credentials)
    else:
        link = channel(files, port)
    async with link, asyncio.timeout(10):
        call = gate_pb2_grpc.GateServiceStub(link).Stream()
        try:
            await call.write(gate_pb2.ClientFrame(hello=gate_pb2.Hello(gate_ids=gates)))
            while await call.read() is not grpc.aio.EOF:
                pass
        except grpc.aio.AioRpcError as error:
            return error.code(), str(error.details())
        return await call.code(), str(await call.details())


def certificate(cluster: LocalCluster, folder: Path, **how: Any) -> TlsFiles:
    """A certificate made for the test: of a CA, for gates, from a day on."""
    own = enrolment.authority(cluster.pki.folder, NOW)
    authority = how.get("authority", own)
    uris = pki.identities(how.get("kind", Kind.GATE), "stranger", how.get("gates", ("main-1",)))
    pair, _ = pki.issue_client(authority, how.get("kind", Kind.GATE), "stranger", uris, how.get("since", NOW))
    certificate, key, ca = enrolment.save(pair, own.certificate, "stranger", folder)
    return TlsFiles(ca, certificate, key)


async def test_a_gate_without_a_certificate_gets_no_stream(cluster: LocalCluster) -> None:
    code, _ = await heard(
        cluster.gateway.port, None, enrolment.authority(cluster.pki.folder, NOW).certificate, ["main-1"]
    )
    assert code is grpc.StatusCode.UNAVAILABLE
    await still_serves(cluster)


@pytest.mark.parametrize(
    ("how", "code", "words"),
    [
        ({"authority": pki.create_authority(NOW)}, grpc.StatusCode.UNAVAILABLE, ""),
        ({"since": NOW - CLIENT_VALID - timedelta(minutes=1)}, grpc.StatusCode.UNAVAILABLE, ""),
        ({"since": NOW + timedelta(hours=1)}, grpc.StatusCode.UNAVAILABLE, ""),
        (
            {"gates": ("main-2",)},
            grpc.StatusCode.PERMISSION_DENIED,
            "does not speak for gate 'main-1', only for main-2",
        ),
        ({"kind": Kind.WINDOW}, grpc.StatusCode.PERMISSION_DENIED, "does not speak for gate 'main-1', only for none"),
        ({"kind": Kind.FINANCE}, grpc.StatusCode.PERMISSION_DENIED, "does not speak for gate"),
        ({"kind": Kind.SERVICE}, grpc.StatusCode.PERMISSION_DENIED, "does not speak for gate"),
    ],
    ids=["foreign CA", "expired", "not yet valid", "another gate's", "a window's", "finance's", "a service's"],
)
async def test_a_certificate_that_is_none_for_this_gate_gets_no_stream(
    cluster: LocalCluster, tmp_path: Path, how: dict[str, Any], code: grpc.StatusCode, words: str
) -> None:
    """Whom TLS does not let in hears no more than that the connection failed; whom it does is told what is missing."""
    files = certificate(cluster, tmp_path / "stranger", **how)
    told, details = await heard(cluster.gateway.port, files, b"", ["main-1"])
    assert told is code
    assert words in details
    await still_serves(cluster)


@pytest.mark.parametrize("kind", [Kind.GATE, Kind.WINDOW, Kind.FINANCE])
async def test_only_services_may_call_the_control_service(cluster: LocalCluster, tmp_path: Path, kind: Kind) -> None:
    files = certificate(cluster, tmp_path / "stranger", kind=kind)
    async with channel(files, cluster.gateway.port) as link:
        stub = control_pb2_grpc.ControlServiceStub(link)
        with pytest.raises(grpc.aio.AioRpcError, match="is no service") as refused:
            await stub.SetModes(control_pb2.SetModesRequest())
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_a_revoked_certificate_gets_no_stream(cluster: LocalCluster) -> None:
    files = cluster.pki.client(Kind.GATE, "lost", ["main-1"])
    enrolment.revoke(cluster.pki.folder, "lost", NOW)
    code, details = await heard(cluster.gateway.port, files, b"", ["main-1"])
    assert (code, "was revoked: enrol it again" in details) == (grpc.StatusCode.PERMISSION_DENIED, True)


async def test_revoking_a_certificate_ends_its_open_streams_within_seconds_and_no_other(cluster: LocalCluster) -> None:
    """A client that writes just as its stream ends may hear its own library's fault in place of the reason; one that
    listens hears the reason."""
    stolen, other = await cluster.gate("main-1"), await cluster.gate("main-2")
    listening = await cluster.connect(stolen.files, "main-1")
    tokens = [cluster.token("day") for _ in range(3)]
    await cluster.register(*tokens)
    assert (await stolen.send(scan(tokens[0])))[0].decision == ADMIT
    began = time.monotonic()
    enrolment.revoke(cluster.pki.folder, "device-main-1", NOW)
    with pytest.raises((grpc.aio.AioRpcError, ConnectionError, asyncio.InvalidStateError)):
        await _scan_for_ever(stolen, tokens[1])
    assert await stolen._call.code() in (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.INTERNAL)
    assert await listening._call.code() is grpc.StatusCode.PERMISSION_DENIED
    assert "was revoked" in await listening._call.details()
    assert time.monotonic() - began < SECONDS
    assert (await other.send(scan(tokens[2])))[0].decision == ADMIT
    assert len(cluster.gateway.gates._callers) == len(cluster.gateway.gates._outboxes) == 1


async def test_one_look_at_the_list_of_revoked_certificates_serves_all_streams(
    cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gateway looks twice a second, and may have thousands."""
    for gate in ("main-1", "main-2"):
        await cluster.gate(gate)
    looks: list[Path] = []
    monkeypatch.setattr(Revoked, "_look", lambda _, path: looks.append(path))
    assert cluster.gateway.gates.streams == 2
    cluster.gateway.gates.end_revoked()
    assert looks == [enrolment.revoked_path(cluster.pki.folder)]


async def _scan_for_ever(client: Any, token: bytes) -> None:
    while True:
        await client.send(scan(token))
        await asyncio.sleep(0.05)


async def test_a_damaged_list_of_revoked_certificates_lets_none_of_them_in_again(cluster: LocalCluster) -> None:
    """What was read before goes on to hold."""
    files = cluster.pki.client(Kind.GATE, "lost", ["main-1"])
    cluster.pki.client(Kind.GATE, "device-main-2", ["main-2"])
    enrolment.revoke(cluster.pki.folder, "lost", NOW)
    path = enrolment.revoked_path(cluster.pki.folder)
    assert (await heard(cluster.gateway.port, files, b"", ["main-1"]))[0] is grpc.StatusCode.PERMISSION_DENIED
    path.write_bytes(path.read_bytes()[:-3])
    assert (await heard(cluster.gateway.port, files, b"", ["main-1"]))[0] is grpc.StatusCode.PERMISSION_DENIED
    await still_serves(cluster)


def test_a_list_of_revoked_certificates_is_read_again_when_it_could_not_be_opened(tmp_path: Path) -> None:
    """A flood of connections takes all files that a process may open, at the moment at which a device is revoked."""
    path = tmp_path / "revoked.json"
    path.write_text('{"a": {}}')
    revoked = Revoked(path)
    assert (revoked.holds(0xA), revoked.holds(0xB)) == (True, False)
    path.write_text('{"a": {}, "b": {}}')
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
    try:
        assert (revoked.holds(0xA), revoked.holds(0xB)) == (True, False), "what was read before holds"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert revoked.holds(0xB)


def test_a_list_of_revoked_certificates_that_the_disk_does_not_give_lets_in_nobody_new(tmp_path: Path) -> None:
    path = tmp_path / "revoked.json"
    path.symlink_to(path)
    with pytest.raises(DamagedDataError, match=r"restore revoked\.json"):
        Revoked(path).holds(0xA)


async def test_a_silent_client_is_told_that_no_hello_came(
    cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate_service, "HELLO_TIMEOUT_S", 0.2)
    async with channel(cluster.pki.client(Kind.GATE, "quiet", ["main-1"]), cluster.gateway.port) as link:
        call = gate_pb2_grpc.GateServiceStub(link).Stream()
        async with asyncio.timeout(5):
            assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "no hello came" in await call.details()


@asynccontextmanager
async def impatient(url: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[LocalCluster]:
    """A cluster whose gateway gives handshakes half a second."""
    kept = [item for item in gateway.OPTIONS if item[0] != "grpc.server_handshake_timeout_ms"]
    monkeypatch.setattr(gateway, "OPTIONS", (*kept, ("grpc.server_handshake_timeout_ms", 500)))
    cluster = LocalCluster(url, folder)
    await cluster.start()
    yield cluster
    await cluster.stop()


async def test_connections_that_never_say_who_they_are_are_closed(
    valkey_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with impatient(valkey_url, tmp_path, monkeypatch) as cluster:
        halves = [socket.create_connection(("127.0.0.1", cluster.gateway.port)) for _ in range(50)]
        for half in halves[:25]:
            half.sendall(b"\x16\x03\x01\x02\x00\x01")  # the beginning of a TLS greeting
        await still_serves(cluster)
        for half in halves:
            half.settimeout(20)
            assert await asyncio.to_thread(half.recv, 1) == b"", "it was closed by the gateway"
            half.close()


async def test_a_clock_is_false_beyond_two_minutes_ahead_and_three_behind(cluster: LocalCluster) -> None:
    """The same code with a true clock, and another scan id, is admitted."""
    gate, token = await cluster.gate("main-1"), cluster.token("day")
    await cluster.register(token)
    for offset_ms in (121_500, -181_500, 2**62, -(2**62)):
        attempt = scan(token)
        attempt.scan_time_ms = max(min(now_ms() + offset_ms, 2**63 - 1), -(2**63))
        (verdict,) = await gate.send(attempt)
        assert verdict.reason == gate_pb2.REASON_CLOCK_SKEW
    attempt = scan(token)
    attempt.scan_time_ms = now_ms() + 118_000
    assert (await gate.send(attempt))[0].decision == ADMIT


async def test_a_stream_has_only_so_many_scans_in_flight() -> None:
    """A device that floods must not fill an owner's inbox."""
    outbox, answers = Outbox(), []
    while outbox.scans_in_flight < MAX_SCANS_IN_FLIGHT:
        await outbox.room()
        answers.append(outbox.asked(1_000))
    assert len(answers) == MAX_SCANS_IN_FLIGHT // 1_000
    waiting = asyncio.create_task(outbox.room())
    await asyncio.sleep(0)
    assert not waiting.done()
    answers[0](b"")
    async with asyncio.timeout(1):
        await waiting


async def test_a_flood_of_many_devices_leaves_a_lone_turnstile_its_answer_in_time(cluster: LocalCluster) -> None:
    """Four lane controllers send as fast as they can, of codes that are none; nobody else is shed or waits."""
    names = ("main-2", "main-3", "water-1", "side-1")
    gates = [name for name in names if name in cluster.catalogue.gates] or ["main-2"]
    floods = [await cluster.gate(gates[number % len(gates)]) for number in range(4)]
    frame = gate_pb2.ClientFrame(scans=[scan(b"x" * 81) for _ in range(1_000)])

    async def flood(client: Any) -> None:
        reading = asyncio.create_task(_drain(client))
        try:
            while True:
                await client._call.write(frame)
        finally:
            reading.cancel()

    tasks = [asyncio.create_task(flood(client)) for client in floods]
    await asyncio.sleep(0.5)
    lone, tokens = await cluster.gate("main-1"), [cluster.token("day") for _ in range(10)]
    await cluster.register(*tokens)
    waits = []
    for token in tokens:
        asked, began = scan(token), time.monotonic()
        # On a machine that is busy otherwise an answer may take longer than its time-out: then it is asked for again.
        while (verdict := (await lone.send(asked))[0]).decision == gate_pb2.DECISION_RETRY:
            assert verdict.reason == gate_pb2.REASON_TIMEOUT
        assert verdict.decision == ADMIT
        waits.append(time.monotonic() - began)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert statistics.median(waits) < 2.0
    assert cluster.owners[0].owner.counters.shed == 0


async def _drain(client: Any) -> None:
    while await client._call.read() is not grpc.aio.EOF:
        pass


async def test_a_client_that_reads_no_commands_is_sent_away(cluster: LocalCluster) -> None:
    """I8: they are the one thing that is written without having been asked for."""
    gate = await cluster.gate("main-1")
    gates = cluster.gateway.gates
    (outbox,) = gates._outboxes
    for _ in range(MAX_UNREAD + 1):
        gates.announce()  # within one turn of the loop: nothing is written meanwhile
    assert outbox.unread <= MAX_UNREAD
    with pytest.raises(grpc.aio.AioRpcError, match="were not read") as told:
        await _drain(gate)
    assert told.value.code() is grpc.StatusCode.UNAVAILABLE
    await still_serves(cluster)


async def test_a_stream_that_is_stuck_is_ended_all_the_same(cluster: LocalCluster) -> None:
    """It never reads, so that it cannot be told; what it takes up is free again."""
    stuck = await cluster.gate("main-1")
    flooding = asyncio.create_task(_flood_unread(stuck))
    await asyncio.sleep(0.5)
    enrolment.revoke(cluster.pki.folder, "device-main-1", NOW)
    async with asyncio.timeout(20):
        while cluster.gateway.gates.streams:  # noqa: ASYNC110 - the gateway has no event for it
            await asyncio.sleep(0.05)
    flooding.cancel()
    await asyncio.gather(flooding, return_exceptions=True)
    await still_serves(cluster)


async def _flood_unread(client: Any) -> None:
    frame = gate_pb2.ClientFrame(scans=[scan(b"x" * 30) for _ in range(1_000)])
    while True:
        await client._call.write(frame)


async def test_a_gateway_that_serves_as_many_streams_as_it_can_sends_to_another(
    cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate_service, "MAX_STREAMS", 1)
    await cluster.gate("main-1")
    files = cluster.pki.client(Kind.GATE, "more", ["main-2"])
    code, details = await heard(cluster.gateway.port, files, b"", ["main-2"])
    assert (code, "try another" in details) == (grpc.StatusCode.UNAVAILABLE, True)


async def test_a_flood_of_refusals_fills_neither_memory_nor_log_and_guests_are_admitted_meanwhile(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I3, I7: what is beyond is told RETRY, never a refusal that would be forgotten; and is decided in the end."""
    monkeypatch.setattr(scan_memory, "MAX_SINGLE_VERDICTS", 50)
    good, bad = small_park.token("day", 2), b"x" * 10
    await desk.register(good)
    flood = [desk.scan(bad) for _ in range(300)]
    first = await desk.send(*flood)
    told = Counter(small_park.reason(verdict) for verdict in first)
    assert told["BACKPRESSURE"] == 300 - told["MALFORMED_CODE"]
    assert told["MALFORMED_CODE"] == 50 * desk.partitions
    assert all(verdict.retry_after_ms for verdict in first if verdict.decision == gate_pb2.DECISION_RETRY)
    logged = [len(entry.events) for name in ("p0", "p1") for entry in await desk.log(name)]
    assert sum(logged) == 50 * desk.partitions + 1
    assert (await desk.send(desk.scan(good)))[0].decision == ADMIT
    assert [v.reason for v in await desk.send(*flood[:5])] == [v.reason for v in first[:5]], "the same answers again"
    desk.clock.now_ms += 2 * SCAN_MEMORY_MS
    await desk.send(desk.scan(bad))
    desk.clock.now_ms += SCAN_MEMORY_MS
    later = await desk.send(desk.scan(bad))
    assert small_park.reason(later[0]) == "MALFORMED_CODE"


async def test_a_device_that_sends_one_guest_in_and_out_fills_no_memory_and_first_entries_go_on(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I3: exits and re-entries are remembered one by one; what cannot be remembered is not decided."""
    monkeypatch.setattr(scan_memory, "MAX_SINGLE_VERDICTS", 50)
    restless, newcomer = small_park.token("day", 2), small_park.token("day", 4)
    await desk.register(restless, newcomer)
    ways = (gate_pb2.DIRECTION_ENTRY, gate_pb2.DIRECTION_EXIT)
    flood = [desk.scan(restless, direction=ways[number % 2]) for number in range(200)]
    told = await desk.send(*flood)
    beyond = [verdict for verdict in told if verdict.decision == gate_pb2.DECISION_RETRY]
    assert {small_park.reason(verdict) for verdict in beyond} == {"BACKPRESSURE"}
    assert len(told) - len(beyond) <= 50 + 1, "the first entry is one of a run"
    assert [v.decision for v in await desk.send(*flood[:5])] == [v.decision for v in told[:5]], "the same answers again"
    assert (await desk.send(desk.scan(newcomer)))[0].decision == ADMIT


async def test_an_owner_with_too_many_commands_waiting_says_ask_again_and_does_nothing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I8: registrations of 10,000 tickets each must not pile up in its memory."""
    monkeypatch.setattr(owner_module, "MAX_COMMANDS_WAITING", 3)
    codes = [small_park.token("day", 10 + number) for number in range(5)]
    asked = [
        desk.ask(register=control_pb2.RegisterTicketsRequest(tickets=[control_pb2.IssuedTicket(token=code)]))
        for code in codes
    ]
    answers = await asyncio.gather(*asked)
    assert [answer.register.registered for answer in answers] == [1, 1, 1, 0, 0]
    assert ["ask again" in answer.fault for answer in answers] == [False] * 3 + [True] * 2
    assert (await desk.register(codes[4])).registered == 1, "and when it has room again it does it"


async def test_a_quota_owner_with_too_many_calls_under_way_says_ask_again(
    valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = await QuotaDesk(valkey_url).start()
    monkeypatch.setattr(quota_owner, "MAX_CALLS", len(desk.owner._tasks))
    fault = (await desk.ask(get_quotas=control_pb2.GetQuotasRequest())).fault
    assert "ask again" in fault
    await desk.stop()
