"""What a gate's stream bears: frames that are none, too much at once, clients that vanish, stall, or ask twice."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.gate_session import MAX_ANSWER_BYTES, MAX_FRAMES_IN_FLIGHT, Outbox
from ops.pki import Kind
from parkgate.cluster.v1 import control_pb2
from parkgate.gate.v1 import gate_pb2
from tests.cluster.harness import LocalCluster, channel, now_ms, scan, ticket_id

ADMIT, RETRY = gate_pb2.DECISION_ADMIT, gate_pb2.DECISION_RETRY
METHOD = "/parkgate.gate.v1.GateService/Stream"


class RawStream:
    """A stream of bytes, whatever they are."""

    def __init__(self, cluster: LocalCluster, *gates: str) -> None:
        files = cluster.pki.client(Kind.GATE, "device-" + "-".join(gates), list(gates))
        self.channel = channel(files, cluster.gateway.port)
        self.call = self.channel.stream_stream(METHOD)()
        self.gates = gates

    async def __aenter__(self) -> RawStream:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.call.cancel()
        await self.channel.close()

    async def hello(self) -> gate_pb2.Welcome:
        await self.send(gate_pb2.ClientFrame(hello=gate_pb2.Hello(gate_ids=self.gates, device_time_ms=now_ms())))
        return (await self.read()).welcome

    async def send(self, frame: gate_pb2.ClientFrame) -> None:
        await self.call.write(frame.SerializeToString())

    async def read(self) -> gate_pb2.ServerFrame:
        async with asyncio.timeout(10):
            while True:
                raw = await self.call.read()
                if raw is grpc.aio.EOF:
                    raise ConnectionError("the stream ended")
                frame = gate_pb2.ServerFrame.FromString(raw)
                if not frame.HasField("command"):
                    return frame

    async def verdicts(self, count: int) -> list[gate_pb2.Verdict]:
        """At least so many, in however many frames."""
        found: list[gate_pb2.Verdict] = []
        while len(found) < count:
            found += (await self.read()).verdicts
        return found

    async def ended_with(self) -> tuple[grpc.StatusCode, str]:
        async with asyncio.timeout(10):
            return await self.call.code(), await self.call.details()


@pytest.fixture
async def stream(cluster: LocalCluster) -> AsyncIterator[RawStream]:
    async with RawStream(cluster, "main-1") as stream:
        yield stream


async def still_serves(cluster: LocalCluster) -> None:
    gate = await cluster.gate("main-2")
    token = cluster.token("day")
    await cluster.register(token)
    (verdict,) = await gate.send(scan(token))
    assert verdict.decision == ADMIT


ODD = [b"\xff", b"\x0a", b"hello", b"\x12\x05\x1a\x03\xff\xfe\xfd", bytes(range(200, 240)) + b"\xff"]


@pytest.mark.parametrize("raw", ODD)
async def test_a_frame_that_is_no_protobuf_ends_the_stream_and_says_so(
    cluster: LocalCluster, stream: RawStream, raw: bytes
) -> None:
    """I8"""
    await stream.hello()
    await stream.call.write(raw)
    code, details = await stream.ended_with()
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "ClientFrame" in details
    await still_serves(cluster)


@pytest.mark.parametrize(("count", "accepted"), [(1_000, True), (1_001, False)])
async def test_a_frame_holds_a_thousand_scans_and_no_more(stream: RawStream, count: int, accepted: bool) -> None:
    await stream.hello()
    await stream.send(gate_pb2.ClientFrame(scans=[scan(b"") for _ in range(count)]))
    if accepted:
        assert len((await stream.read()).verdicts) == count
    else:
        code, details = await stream.ended_with()
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert "1001" in details


async def test_a_frame_of_more_bytes_than_any_gate_needs_ends_its_stream_only(
    cluster: LocalCluster, stream: RawStream
) -> None:
    """I8: on the link, frames of many streams travel together; a few huge ones would break it for all."""
    await stream.hello()
    await stream.send(gate_pb2.ClientFrame(scans=[scan(b"", qr_text="x" * 3_000_000)]))
    code, details = await stream.ended_with()
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "bytes" in details
    await still_serves(cluster)


async def test_a_stream_must_begin_with_a_hello(stream: RawStream) -> None:
    await stream.send(gate_pb2.ClientFrame(scans=[scan(b"x")]))
    code, details = await stream.ended_with()
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "hello" in details


async def test_a_stream_has_one_hello_only(stream: RawStream) -> None:
    """A second one with other gates would have its lanes taken for those of the first."""
    await stream.hello()
    await stream.send(gate_pb2.ClientFrame(hello=gate_pb2.Hello(gate_ids=["main-1"])))
    code, details = await stream.ended_with()
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "hello" in details


@pytest.mark.parametrize("gates", [[], ["main-1"] * 65])
async def test_a_hello_names_one_to_64_gates(stream: RawStream, gates: list[str]) -> None:
    await stream.send(gate_pb2.ClientFrame(hello=gate_pb2.Hello(gate_ids=gates)))
    code, details = await stream.ended_with()
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert str(len(gates)) in details


async def test_a_lane_that_the_hello_did_not_name_is_a_wrong_gate(cluster: LocalCluster, stream: RawStream) -> None:
    token = cluster.token("day")
    await stream.hello()
    await stream.send(gate_pb2.ClientFrame(scans=[scan(token, lane=1), scan(token, lane=2**32 - 1)]))
    assert {verdict.reason for verdict in (await stream.read()).verdicts} == {gate_pb2.REASON_WRONG_GATE}


async def test_a_heartbeat_is_answered_alone_and_beside_scans(stream: RawStream) -> None:
    await stream.hello()
    heartbeat = gate_pb2.Heartbeat(device_time_ms=5, count=1)
    await stream.send(gate_pb2.ClientFrame(heartbeat=heartbeat))
    assert await stream.read() == gate_pb2.ServerFrame(heartbeat=heartbeat)
    await stream.send(gate_pb2.ClientFrame(heartbeat=heartbeat, scans=[scan(b"x")]))
    answers = [await stream.read(), await stream.read()]
    assert sorted((len(frame.verdicts), frame.HasField("heartbeat")) for frame in answers) == [(0, True), (1, False)]


async def test_whatever_was_sent_before_the_client_finished_is_answered(cluster: LocalCluster) -> None:
    """I3: a client that hangs up politely hears everything it asked."""
    for _ in range(10):
        async with RawStream(cluster, "main-1") as stream:
            await stream.hello()
            for _ in range(30):
                await stream.send(gate_pb2.ClientFrame(scans=[scan(b"x")]))
            await stream.call.done_writing()
            assert len(await stream.verdicts(30)) == 30
            assert (await stream.ended_with())[0] is grpc.StatusCode.OK


async def test_a_client_that_vanishes_leaves_nothing_behind(cluster: LocalCluster) -> None:
    code = cluster.token("day")
    await cluster.register(code)
    attempt = scan(code)
    for _ in range(5):
        stream = RawStream(cluster, "main-1")
        await stream.hello()
        await stream.send(gate_pb2.ClientFrame(scans=[attempt, *(scan(b"x") for _ in range(200))]))
        stream.call.cancel()
        await stream.channel.close()
    async with asyncio.timeout(5):
        while cluster.gateway.gates.streams:  # noqa: ASYNC110 - the gateway has no event for it
            await asyncio.sleep(0.01)
    assert not cluster.gateway.gates._outboxes
    gate = await cluster.gate("main-1")
    (verdict,) = await gate.send(attempt)
    assert verdict.decision == ADMIT, "the same scan_id tells what became of it, or is decided now"


async def test_a_slow_reader_is_not_read_and_holds_nobody_up(cluster: LocalCluster) -> None:
    """I8: a client that sends and never reads must fill neither the server's memory nor the others' time."""
    async with RawStream(cluster, "main-1") as stream:
        await stream.hello()
        frame = gate_pb2.ClientFrame(scans=[scan(os.urandom(30)) for _ in range(1_000)], heartbeat={"count": 1})

        async def flood() -> None:
            while True:
                await stream.send(frame)

        flooding = asyncio.create_task(flood())
        await asyncio.sleep(0.5)
        gate, token = await cluster.gate("main-2"), cluster.token("day")
        await cluster.register(token)
        for _ in range(20):
            (verdict,) = await gate.send(scan(token))
        assert verdict.decision == gate_pb2.DECISION_REJECT
        outbox = next(box for box, gates in cluster.gateway.gates._outboxes.items() if gates[0].id == "main-1")
        assert len(outbox._frames) + outbox.in_flight <= MAX_FRAMES_IN_FLIGHT + 1
        flooding.cancel()
        await asyncio.gather(flooding, return_exceptions=True)


async def test_an_outbox_has_room_only_for_so_many_frames_asked_or_waiting_to_be_read() -> None:
    outbox = Outbox()
    for _ in range(MAX_FRAMES_IN_FLIGHT):
        await outbox.room()
        outbox.asked(1)(b"answer")
    waiting = asyncio.create_task(outbox.room())
    await asyncio.sleep(0)
    assert not waiting.done(), "answers that nobody reads take room as well"
    await outbox.next()
    async with asyncio.timeout(1):
        await waiting


async def test_answers_that_wait_together_are_written_together_and_what_is_unasked_keeps_its_place() -> None:
    """Each write costs gRPC as much as deciding the scan; a command that came between is heard between."""
    outbox = Outbox()
    answers = [gate_pb2.ServerFrame(verdicts=[gate_pb2.Verdict(scan_id=bytes([n]) * 16)]) for n in range(4)]
    command = gate_pb2.ServerFrame(command=gate_pb2.Command(catalogue_version=7))
    for answer in answers[:3]:
        outbox.asked(1)(answer.SerializeToString())
    outbox.put(command.SerializeToString())
    outbox.asked(1)(answers[3].SerializeToString())
    outbox.close()
    written = [gate_pb2.ServerFrame.FromString(raw) async for raw in _everything(outbox)]
    assert [[verdict.scan_id[0] for verdict in frame.verdicts] for frame in written] == [[0, 1, 2], [], [3]]
    assert [frame.HasField("command") for frame in written] == [False, True, False]


async def test_answers_are_joined_up_to_a_size_and_a_larger_one_goes_alone() -> None:
    outbox = Outbox()
    sizes = [MAX_ANSWER_BYTES - 10, 10, 1, MAX_ANSWER_BYTES + 1, 5]
    for size in sizes:
        outbox.asked(1)(bytes(size))
    outbox.close()
    assert [len(raw) async for raw in _everything(outbox)] == [MAX_ANSWER_BYTES, 1, MAX_ANSWER_BYTES + 1, 5]


async def _everything(outbox: Outbox) -> AsyncIterator[bytes]:
    while (raw := await outbox.next()) is not None:
        yield raw


async def test_a_frame_whose_time_is_over_is_answered_retry_and_its_scans_tell_the_truth_later(
    cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I3, I7: the outcome is unknown to the gateway; the ledger knows it."""
    codes = [cluster.token("day") for _ in range(3)]
    await cluster.register(*codes)
    gate = await cluster.gate("main-1")
    owner, held = cluster.owners[0].owner, asyncio.Event()
    append = owner.ledger.append

    async def slow(appends: object) -> object:
        done = await append(appends)  # type: ignore[arg-type]
        await held.wait()
        return done

    monkeypatch.setattr(owner.ledger, "append", slow)
    monkeypatch.setattr(cluster.gateway.gates._dispatcher, "_timeout_s", 0.2)
    attempts = [scan(code) for code in codes]
    early = await gate.send(*attempts)
    assert [(verdict.decision, verdict.reason) for verdict in early] == [(RETRY, gate_pb2.REASON_TIMEOUT)] * 3
    assert all(verdict.retry_after_ms for verdict in early)
    held.set()
    monkeypatch.setattr(cluster.gateway.gates._dispatcher, "_timeout_s", 5.0)
    late = await gate.send(*attempts)
    assert [verdict.decision for verdict in late] == [ADMIT] * 3
    again = await gate.send(*(scan(code) for code in codes))
    assert {verdict.reason for verdict in again} == {gate_pb2.REASON_ALREADY_USED}


async def test_frames_in_flight_are_each_answered_in_their_own_order(two_owners: LocalCluster) -> None:
    cluster = two_owners
    codes = [cluster.token("day") for _ in range(60)]
    await cluster.register(*codes)
    async with RawStream(cluster, "main-1") as stream:
        await stream.hello()
        frames = [
            gate_pb2.ClientFrame(scans=[scan(code) for code in codes[start : start + 5]]) for start in range(0, 60, 5)
        ]
        for frame in frames:
            await stream.send(frame)
        answers = await stream.verdicts(len(codes))
    order = [verdict.scan_id for verdict in answers]
    for frame in frames:
        begin = order.index(frame.scans[0].scan_id)
        verdicts = answers[begin : begin + len(frame.scans)]
        assert [verdict.scan_id for verdict in verdicts] == [item.scan_id for item in frame.scans]
        assert [verdict.ticket_id for verdict in verdicts] == [ticket_id(item.token) for item in frame.scans]
        assert all(verdict.decision == ADMIT for verdict in verdicts)


@pytest.mark.parametrize(
    "request_of",
    [
        lambda gate: control_pb2.SetModesRequest(changes=[control_pb2.ModeChange(gate_id=gate, mode=99)]),  # type: ignore[arg-type]
        lambda _: control_pb2.SetModesRequest(changes=[control_pb2.ModeChange(gate_id="nowhere", mode=1)]),
    ],
)
async def test_a_mode_or_gate_that_does_not_exist_is_refused(cluster: LocalCluster, request_of: object) -> None:
    """I8: it would be stored, and every owner would stop over it."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await cluster.control().SetModes(request_of("main-1"))  # type: ignore[operator]
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    await asyncio.sleep(0.7)  # a poll of the control records
    assert cluster.owners[0].owner.failure is None
    await still_serves(cluster)


async def test_units_of_a_quota_that_was_never_sold_can_be_returned_without_harm(cluster: LocalCluster) -> None:
    """I8"""
    line = {"quota_key": "never", "units": 3}
    await cluster.control().ReturnUnits(control_pb2.ReturnUnitsRequest(request_id=os.urandom(16), lines=[line]))
    quotas = await cluster.control().GetQuotas(control_pb2.GetQuotasRequest())
    assert cluster.quota.owner.failure is None
    assert all(quota.sold == 0 for quota in quotas.quotas)


frames = st.builds(
    gate_pb2.ClientFrame,
    scans=st.lists(
        st.builds(
            gate_pb2.Scan,
            scan_id=st.binary(max_size=20),
            token=st.binary(max_size=90),
            qr_text=st.text(max_size=30),
            scan_time_ms=st.integers(-(2**63), 2**63 - 1),
            direction=st.integers(-5, 5),
            lane=st.integers(0, 2**32 - 1),
            persons=st.integers(0, 2**32 - 1),
        ),
        max_size=4,
    ),
    passages=st.lists(
        st.builds(
            gate_pb2.PassageReport,
            scan_id=st.binary(max_size=20),
            ticket_id=st.integers(0, 2**64 - 1),
            outcome=st.integers(-5, 5),
        ),
        max_size=3,
    ),
)


async def test_no_frame_that_can_be_written_stops_the_server_or_is_admitted(cluster: LocalCluster) -> None:
    """I8"""
    gate = await cluster.gate("main-1")
    loop_frames: list[gate_pb2.ClientFrame] = []

    @settings(max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(frames)
    def collect(frame: gate_pb2.ClientFrame) -> None:
        loop_frames.append(frame)

    collect()
    for frame in loop_frames:
        if frame.scans or frame.passages:
            answer = await gate.exchange(frame)
            assert [verdict.scan_id for verdict in answer.verdicts] == [item.scan_id for item in frame.scans]
            assert all(verdict.decision != ADMIT for verdict in answer.verdicts)
            assert len(answer.receipts) == len(frame.passages)
    assert cluster.owners[0].owner.failure is None
    await still_serves(cluster)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (control_pb2.HoldCommand(), "is empty: expected place, pin, confirm or release"),
        (control_pb2.HoldCommand(pin=control_pb2.HoldRequest(hold_id=b"short")), "hold_id has 5 bytes, must have 16"),
        (
            control_pb2.HoldCommand(place=control_pb2.PlaceHoldRequest(hold_id=b"h" * 16)),
            "quota lines must be 1 to 64",
        ),
    ],
)
async def test_a_malformed_command_refuses_the_whole_call_and_nothing_is_held(
    cluster: LocalCluster, command: control_pb2.HoldCommand, words: str
) -> None:
    good = control_pb2.HoldCommand(place=control_pb2.PlaceHoldRequest(hold_id=os.urandom(16), time_to_live_ms=1_000))
    good.place.lines.add(quota_key="a", units=1, limit=1)
    for commands in ([good, command], [command, good]):
        with pytest.raises(grpc.aio.AioRpcError, match=words):
            await cluster.control().ChangeHolds(control_pb2.ChangeHoldsRequest(commands=commands))
    answer = await cluster.control().ChangeHolds(control_pb2.ChangeHoldsRequest(commands=[good]))
    assert answer.results[0].outcome == control_pb2.HOLD_OUTCOME_DONE


@pytest.mark.parametrize("count", [0, 1_001])
async def test_a_call_with_no_command_or_too_many_is_refused(cluster: LocalCluster, count: int) -> None:
    command = control_pb2.HoldCommand(pin=control_pb2.HoldRequest(hold_id=b"h" * 16))
    with pytest.raises(grpc.aio.AioRpcError, match=f"holds 1 to 1000 commands, this one {count}"):
        await cluster.control().ChangeHolds(control_pb2.ChangeHoldsRequest(commands=[command] * count))


async def test_a_message_beyond_what_grpc_takes_ends_its_stream_only(cluster: LocalCluster, stream: RawStream) -> None:
    """I8: it is refused by its length, before it is in memory."""
    await stream.hello()
    await stream.call.write(b"\x0a" * 5_000_000)
    code, _ = await stream.ended_with()
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    await still_serves(cluster)
