"""What gates hear, over real gRPC with client certificates, from a real owner over a real Valkey."""

from __future__ import annotations

import asyncio
import os
from datetime import timedelta

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ops import enrolment
from ops.pki import Kind
from parkgate.cluster.v1 import control_pb2
from parkgate.events.v1 import events_pb2
from parkgate.gate.v1 import gate_pb2
from tests.cluster.harness import GateClient, LocalCluster, now_ms, scan, ticket_id
from ticketcore import token as tokens

ADMIT = gate_pb2.DECISION_ADMIT
EXIT = gate_pb2.DIRECTION_EXIT


def reason(verdict: gate_pb2.Verdict) -> str:
    return gate_pb2.Reason.Name(verdict.reason).removeprefix("REASON_")


async def test_a_day_ticket_is_admitted_once_and_then_tells_where_and_when_it_was_used(cluster: LocalCluster) -> None:
    """I1"""
    token = cluster.token("day")
    await cluster.register(token)
    first, second = await cluster.gate("main-1"), await cluster.gate("main-2")
    before = now_ms()
    (admitted,) = await first.send(scan(token))
    (refused,) = await second.send(scan(token))
    assert (admitted.decision, admitted.persons_admitted, reason(admitted)) == (ADMIT, 1, "UNSPECIFIED")
    assert admitted.verification == gate_pb2.VERIFICATION_DIGEST
    assert reason(refused) == "ALREADY_USED"
    assert refused.first_use.gate_number == 11
    assert before <= refused.first_use.admit_time_ms <= now_ms()


async def test_one_ticket_at_many_gates_at_once_is_admitted_by_exactly_one(cluster: LocalCluster) -> None:
    """I1"""
    token = cluster.token("day")
    await cluster.register(token)
    gates = [await cluster.gate(name) for name in ("main-1", "main-2", "main-3", "lake-1", "lake-2")]
    answers = await asyncio.gather(*(gate.send(scan(token), scan(token)) for gate in gates))
    assert [verdict.decision for verdicts in answers for verdict in verdicts].count(ADMIT) == 1


async def test_the_same_scan_id_gets_the_same_answer(cluster: LocalCluster) -> None:
    """I3"""
    token = cluster.token("day")
    await cluster.register(token)
    gate = await cluster.gate("main-1")
    attempt, refused = scan(token), scan(token)
    (first,) = await gate.send(attempt)
    (no,) = await gate.send(refused)
    other = await cluster.gate("main-2")
    assert await other.send(attempt, refused) == [first, no]


async def test_the_same_scan_id_gets_the_same_answer_after_a_fail_over(cluster: LocalCluster) -> None:
    """I2, I3"""
    token, late = cluster.token("day"), cluster.token("day", entries=1)
    await cluster.register(token, late)
    gate = await cluster.gate("main-1")
    attempts = [scan(token), scan(token), scan(os.urandom(81)), scan(b"", qr_text="x"), scan(token, direction=EXIT)]
    before = await gate.send(*attempts)
    old = await cluster.replace_owner(0)
    await old.stop()
    assert await send_until_decided(gate, attempts) == before
    (once,) = await send_until_decided(gate, [scan(late)])
    assert once.decision == ADMIT


async def test_two_live_owners_never_both_admit(cluster: LocalCluster) -> None:
    """I1: the earlier owner is fenced by the later one's epoch, and answers nothing."""
    codes = [cluster.token("day") for _ in range(40)]
    await cluster.register(*codes)
    gate, other = await cluster.gate("main-1"), await cluster.gate("main-2")
    before = await gate.send(*(scan(code) for code in codes[:20]))
    zombie = await cluster.replace_owner(0)
    # The gateway still talks to the zombie until it looks its routes up.
    raced = await asyncio.gather(
        send_until_decided(gate, [scan(code) for code in codes]),
        send_until_decided(other, [scan(code) for code in codes]),
    )
    admitted = [verdict.ticket_id for verdicts in (before, *raced) for verdict in verdicts if verdict.decision == ADMIT]
    assert sorted(admitted) == sorted(ticket_id(code) for code in codes)
    assert zombie.owner.counters.fenced
    await zombie.stop()


async def send_until_decided(gate: GateClient, scans: list[gate_pb2.Scan]) -> list[gate_pb2.Verdict]:
    decided: dict[bytes, gate_pb2.Verdict] = {}
    for _ in range(200):
        missing = [item for item in scans if item.scan_id not in decided]
        if not missing:
            break
        for verdict in await gate.send(*missing):
            if verdict.decision != gate_pb2.DECISION_RETRY:
                decided[verdict.scan_id] = verdict
        await asyncio.sleep(0.02)
    return [decided[item.scan_id] for item in scans]


async def test_forged_altered_truncated_and_foreign_codes_never_admit(cluster: LocalCluster) -> None:
    """I8"""
    token = cluster.token("day")
    await cluster.register(token)
    gate = await cluster.gate("main-1")
    foreign = tokens.sign(tokens.decode_claims(cluster.token("day")[:17]), Ed25519PrivateKey.generate())
    altered = bytearray(token)
    altered[14] ^= 1
    unknown_key = bytearray(token)
    unknown_key[0] ^= 4
    later = bytes((token[0] & 31 | 2 << 5,)) + token[1:]
    verdicts = await gate.send(
        scan(foreign),
        scan(bytes(altered)),
        scan(token[:50]),
        scan(b"", qr_text="HELLO"),
        scan(bytes(unknown_key)),
        scan(later),
        scan(token + b"x"),
    )
    assert [reason(verdict) for verdict in verdicts] == [
        "BAD_SIGNATURE",
        "BAD_SIGNATURE",
        "MALFORMED_CODE",
        "MALFORMED_CODE",
        "UNKNOWN_KEY",
        "UNSUPPORTED_VERSION",
        "MALFORMED_CODE",
    ]
    (good,) = await gate.send(scan(token))
    assert good.decision == ADMIT


async def test_a_ticket_that_was_never_registered_is_admitted_on_its_signature_where_the_product_allows_it(
    cluster: LocalCluster,
) -> None:
    allowed, refused = cluster.token("day"), cluster.token("annual")
    gate = await cluster.gate("main-1")
    first, second = await gate.send(scan(allowed), scan(refused, proof_seen=True))
    assert (first.decision, first.verification) == (ADMIT, gate_pb2.VERIFICATION_SIGNATURE)
    assert reason(second) == "UNKNOWN_TICKET"
    registered = await cluster.register(allowed)
    assert registered.registered == 1
    (again,) = await gate.send(scan(allowed))
    assert reason(again) == "ALREADY_USED"


async def test_wrong_date_and_wrong_gate_are_told_apart(cluster: LocalCluster) -> None:
    codes = [
        cluster.token("day", cluster.today(-1)),
        cluster.token("day", cluster.today(1)),
        cluster.token("wheel-ten"),
    ]
    await cluster.register(*codes)
    gate = await cluster.gate("main-1")
    verdicts = await gate.send(*(scan(code) for code in codes))
    assert [reason(verdict) for verdict in verdicts] == ["EXPIRED", "NOT_YET_VALID", "WRONG_GATE"]


async def test_a_family_enters_in_two_parts_and_no_more(cluster: LocalCluster) -> None:
    token = cluster.token("family")
    await cluster.register(token)
    gate = await cluster.gate("main-4")
    two, rest, more = await gate.send(scan(token, persons=3), scan(token), scan(token))
    assert (two.persons_admitted, two.persons_remaining) == (3, 1)
    assert (rest.persons_admitted, rest.persons_remaining) == (1, 0)
    assert reason(more) in {"ALREADY_USED", "ALREADY_INSIDE"}


async def test_exit_and_reentry_do_not_use_another_entry(cluster: LocalCluster) -> None:
    token = cluster.token("day")
    await cluster.register(token)
    gate = await cluster.gate("main-1")
    verdicts = []
    for direction in (EXIT, 0, EXIT, 0, 0):
        verdicts += await gate.send(scan(token, direction=direction))
    kinds = [gate_pb2.AdmissionKind.Name(verdict.kind).removeprefix("ADMISSION_KIND_") for verdict in verdicts]
    assert kinds == ["UNSPECIFIED", "ENTRY", "EXIT", "REENTRY", "UNSPECIFIED"]
    assert reason(verdicts[0]) == "NOT_INSIDE"


async def test_a_passage_that_did_not_happen_gives_the_entry_back_once(cluster: LocalCluster) -> None:
    token = cluster.token("day")
    await cluster.register(token)
    gate = await cluster.gate("main-1")
    (first,) = await gate.send(scan(token))
    receipt = await gate.passage(first, gate_pb2.PASSAGE_OUTCOME_NOT_PASSED)
    assert receipt.recorded == gate_pb2.PASSAGE_OUTCOME_NOT_PASSED
    (second,) = await gate.send(scan(token))
    assert second.decision == ADMIT
    assert not second.HasField("first_use")
    await gate.passage(second, gate_pb2.PASSAGE_OUTCOME_PASSED)
    late = await gate.passage(second, gate_pb2.PASSAGE_OUTCOME_NOT_PASSED)
    doubled = await gate.passage(first, gate_pb2.PASSAGE_OUTCOME_NOT_PASSED)
    assert late.recorded == gate_pb2.PASSAGE_OUTCOME_PASSED
    assert doubled.recorded == gate_pb2.PASSAGE_OUTCOME_NOT_PASSED
    (third,) = await gate.send(scan(token))
    assert reason(third) == "ALREADY_USED"


async def change(cluster: LocalCluster, token: bytes, to: int, request_id: bytes) -> control_pb2.ChangeResult:
    item = control_pb2.TicketChange(ticket_id=ticket_id(token), to=to, request_id=request_id)  # type: ignore[arg-type]
    return (await cluster.control().ChangeTickets(control_pb2.ChangeTicketsRequest(changes=[item]))).results[0]


async def test_a_refunded_ticket_is_refused_and_a_used_one_is_not_refunded(cluster: LocalCluster) -> None:
    """I5"""
    refunded, used = cluster.token("day"), cluster.token("day")
    await cluster.register(refunded, used)
    gate = await cluster.gate("main-1")
    request_id = os.urandom(16)
    for _ in range(2):
        result = await change(cluster, refunded, events_pb2.LIFECYCLE_REFUNDED, request_id)
        assert result.outcome == control_pb2.CHANGE_OUTCOME_DONE
    other = await change(cluster, refunded, events_pb2.LIFECYCLE_REFUNDED, os.urandom(16))
    assert other.outcome == control_pb2.CHANGE_OUTCOME_NOT_ALLOWED
    no, yes = await gate.send(scan(refunded), scan(used))
    assert (reason(no), yes.decision) == ("REFUNDED", ADMIT)
    late = await change(cluster, used, events_pb2.LIFECYCLE_REFUNDED, os.urandom(16))
    assert late.outcome == control_pb2.CHANGE_OUTCOME_ALREADY_USED
    assert late.state.first_use.gate_number == 11


async def test_a_refund_and_an_admission_never_both_succeed(two_owners: LocalCluster) -> None:
    """I5, raced: every ticket is asked to be refunded and scanned at the same time."""
    cluster = two_owners
    codes = [cluster.token("day") for _ in range(30)]
    await cluster.register(*codes)
    gate = await cluster.gate("main-1")
    refunds = [change(cluster, code, events_pb2.LIFECYCLE_REFUNDED, os.urandom(16)) for code in codes]
    verdicts, *results = await asyncio.gather(gate.send(*(scan(code) for code in codes)), *refunds)
    for verdict, result in zip(verdicts, results, strict=True):
        admitted = verdict.decision == ADMIT
        assert admitted != (result.outcome == control_pb2.CHANGE_OUTCOME_DONE)


async def test_a_frame_over_two_owners_is_answered_in_its_order(two_owners: LocalCluster) -> None:
    cluster = two_owners
    codes = [cluster.token("day") for _ in range(25)]
    await cluster.register(*codes)
    gate = await cluster.gate("main-1", "main-2")
    verdicts = await gate.send(*(scan(code, lane=number % 2) for number, code in enumerate(codes)))
    assert [verdict.ticket_id for verdict in verdicts] == [ticket_id(code) for code in codes]
    assert all(verdict.decision == ADMIT for verdict in verdicts)


async def test_a_full_zone_refuses_and_lets_in_as_others_leave(two_owners: LocalCluster) -> None:
    """I4: the zone ends exactly full, over all partitions and owners."""
    cluster = two_owners
    document = document_with_capacity(cluster, "park", 20)
    await cluster.publish(document, 2)
    codes = [cluster.token("day") for _ in range(50)]
    await cluster.register(*codes)
    gates = [await cluster.gate(name) for name in ("main-1", "main-2", "lake-1")]
    answers = await asyncio.gather(
        *(gate.send(*(scan(code) for code in codes[number::3])) for number, gate in enumerate(gates))
    )
    verdicts = [verdict for part in answers for verdict in part]
    admitted = [verdict for verdict in verdicts if verdict.decision == ADMIT]
    assert len(admitted) == 20
    assert {reason(verdict) for verdict in verdicts if verdict.decision != ADMIT} == {"CAPACITY_FULL"}
    leaving = {verdict.ticket_id for verdict in admitted[:5]}
    await gates[0].send(*(scan(code, direction=EXIT) for code in codes if ticket_id(code) in leaving))
    waiting = [code for code in codes if ticket_id(code) not in {verdict.ticket_id for verdict in admitted}]
    again = await gates[1].send(*(scan(code) for code in waiting))
    assert [verdict.decision for verdict in again].count(ADMIT) == 5
    occupancy = await cluster.control().GetOccupancy(control_pb2.GetOccupancyRequest())
    park = next(zone for zone in occupancy.zones if zone.zone_number == 1)
    assert (park.inside, park.capacity) == (20, 20)


async def test_a_lowered_capacity_is_that_of_whoever_comes_next(two_owners: LocalCluster) -> None:
    """I4: with units that partitions hold in advance as many would come in as before."""
    cluster = two_owners
    await cluster.publish(document_with_capacity(cluster, "park", 100), 2)
    codes = [cluster.token("day") for _ in range(40)]
    await cluster.register(*codes)
    gate = await cluster.gate("main-1")
    first = await gate.send(*(scan(code) for code in codes[:8]))
    assert {verdict.decision for verdict in first} == {ADMIT}
    await cluster.publish(document_with_capacity(cluster, "park", 11), 3)
    later = await gate.send(*(scan(code) for code in codes[8:]))
    assert sum(verdict.decision == ADMIT for verdict in later) == 3
    assert {reason(verdict) for verdict in later if verdict.decision != ADMIT} == {"CAPACITY_FULL"}


async def test_a_zone_with_guests_that_were_never_counted_gets_no_capacity(cluster: LocalCluster) -> None:
    """I4: they hold no units, and as many again would be let in."""
    await cluster.publish(document_with_capacity(cluster, "park", 0), 2)
    code = cluster.token("day")
    await cluster.register(code)
    gate = await cluster.gate("main-1")
    await gate.send(scan(code))
    limited = document_with_capacity(cluster, "park", 11)
    with pytest.raises(
        grpc.aio.AioRpcError, match=r"1 persons are inside .* Publish it while nobody is inside"
    ) as told:
        await cluster.publish(limited, 3)
    assert told.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    await gate.send(scan(code, direction=EXIT))
    await cluster.publish(limited, 3)


def document_with_capacity(cluster: LocalCluster, zone: str, capacity: int) -> dict:
    from tests.cluster.harness import example_document

    document = example_document()
    for item in document["zones"]:
        if item["id"] == zone:
            item["capacity"] = capacity
    return document


async def test_a_scan_from_a_wrong_clock_is_refused_before_it_can_be_forgotten(cluster: LocalCluster) -> None:
    token = cluster.token("day")
    await cluster.register(token)
    gate = await cluster.gate("main-1")
    old, ahead = scan(token), scan(token)
    old.scan_time_ms -= 181_000
    ahead.scan_time_ms += 130_000
    verdicts = await gate.send(old, ahead)
    assert [reason(verdict) for verdict in verdicts] == ["CLOCK_SKEW", "CLOCK_SKEW"]


async def test_a_gate_may_only_speak_for_the_gates_of_its_certificate(cluster: LocalCluster) -> None:
    files = cluster.pki.client(Kind.GATE, "device-x", ["main-1"])
    client = GateClient(files, cluster.gateway.port, ["main-2"])
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await client.open()
    assert refused.value.code() == grpc.StatusCode.PERMISSION_DENIED
    assert "main-2" in str(refused.value.details())
    await client.close()


async def test_a_revoked_certificate_gets_no_stream(cluster: LocalCluster) -> None:
    from datetime import UTC, datetime

    files = cluster.pki.client(Kind.GATE, "device-lost", ["main-1"])
    enrolment.revoke(cluster.pki.folder, "device-lost", datetime.now(UTC) + timedelta(seconds=1))
    client = GateClient(files, cluster.gateway.port, ["main-1"])
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await client.open()
    assert refused.value.code() == grpc.StatusCode.PERMISSION_DENIED
    await client.close()


async def test_a_gate_may_not_call_the_control_service(cluster: LocalCluster) -> None:
    from parkgate.cluster.v1 import control_pb2_grpc
    from tests.cluster.harness import channel

    async with channel(cluster.pki.client(Kind.GATE, "device-y", ["main-1"]), cluster.gateway.port) as own:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await control_pb2_grpc.ControlServiceStub(own).GetStatus(control_pb2.GetStatusRequest())
    assert refused.value.code() == grpc.StatusCode.PERMISSION_DENIED


async def test_a_dry_run_tells_and_changes_nothing(cluster: LocalCluster) -> None:
    from parkgate.gate.v1 import gate_pb2_grpc
    from tests.cluster.harness import channel

    token = cluster.token("day")
    await cluster.register(token)
    gate = await cluster.gate("main-1")
    async with channel(cluster.pki.client(Kind.GATE, "device-main-1", ["main-1"]), cluster.gateway.port) as own:
        stub = gate_pb2_grpc.GateServiceStub(own)
        for _ in range(2):
            answer = await stub.DryRun(gate_pb2.DryRunRequest(gate_id="main-1", scan=scan(token)))
            assert answer.verdict.decision == ADMIT
        (admitted,) = await gate.send(scan(token))
        assert admitted.decision == ADMIT
        answer = await stub.DryRun(gate_pb2.DryRunRequest(gate_id="main-1", scan=scan(token)))
    assert reason(answer.verdict) == "ALREADY_USED"
    assert answer.display.guest_text


async def test_a_closed_gate_admits_nobody_and_an_emergency_lets_people_out(cluster: LocalCluster) -> None:
    token = cluster.token("day")
    await cluster.register(token)
    gate = await cluster.gate("main-1")
    (entered,) = await gate.send(scan(token))
    assert entered.decision == ADMIT
    modes = [control_pb2.ModeChange(mode=gate_pb2.GATE_MODE_EMERGENCY)]
    await cluster.control().SetModes(control_pb2.SetModesRequest(changes=modes))
    other = cluster.token("day")
    stop, out = await gate.send(scan(other), scan(token, direction=EXIT))
    assert (reason(stop), out.decision) == ("EMERGENCY_MODE", ADMIT)
