"""A ledger whose disk has flipped bits: what is damaged stops with its name, all else goes on (I6)."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
import redis
from structlog.testing import capture_logs

from cluster.config import GatewayConfig
from cluster.control import CATALOGUE, KEYS, MODES, POLL_S
from cluster.ending import end
from cluster.hosting import QuotaHost
from cluster.partition import Partition
from cluster.quota_state import QuotaState
from cluster.quota_state import replay as quota_replay
from cluster.quota_state import restore as quota_restore
from cluster.recovery import SNAPSHOT_FORMAT, replay, restore
from cluster.supervisor import WATCH_EVERY_S, ActorPlan, Supervisor
from cluster.ticket_table import TicketTable
from parkgate.cluster.v1 import control_pb2
from parkgate.events.v1 import events_pb2
from parkgate.gate.v1 import gate_pb2
from tests.cluster import small_park
from tests.cluster.harness import NODE, GateClient, LocalCluster, example_document, scan, ticket_id
from tests.cluster.plain_owner import Desk
from ticketcore.errors import DamagedDataError

ADMIT, RETRY = gate_pb2.DECISION_ADMIT, gate_pb2.DECISION_RETRY


def flip(data: bytes) -> bytes:
    """One bit, in the middle."""
    at = len(data) // 2
    return data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :]


def flip_first_entry(url: str, partition: str) -> None:
    key = f"pg:{{{partition}}}:log"
    with redis.Redis.from_url(url) as client:
        rows: Any = client.xrange(key)
        client.delete(key)
        for number, (row_id, fields) in enumerate(rows):
            client.xadd(key, {"e": flip(fields[b"e"]) if number == 0 else fields[b"e"]}, id=row_id)


def flip_control(url: str, *names: str) -> None:
    with redis.Redis.from_url(url) as client:
        for name in names:
            client.hset(f"pg:{{control}}:{name}", "record", flip(client.hget(f"pg:{{control}}:{name}", "record")))  # type: ignore[arg-type]
        client.incr("pg:{control}:changes")


async def test_an_owner_stops_the_damaged_partition_and_takes_all_others(desk: Desk, valkey_url: str) -> None:
    """I6, I7: tickets of the damaged one are neither admitted nor called bad."""
    even, odd = small_park.token("day", 2), small_park.token("day", 3)
    await desk.register(even, odd)
    flip_first_entry(valkey_url, "p0")
    with capture_logs() as logs:
        await desk.take_over()
    assert [entry["log_level"] for entry in logs if "damaged" in entry["event"]] == ["critical"]
    assert "entry 1 of the log of p0 is damaged" in desk.owner.counters.damaged["p0"]
    verdicts = await desk.send(desk.scan(even), desk.scan(odd))
    assert [verdict.decision for verdict in verdicts] == [RETRY, ADMIT]


def epoch(url: str, partition: str) -> int:
    with redis.Redis.from_url(url) as client:
        return int(client.hget(f"pg:{{{partition}}}:head", "epoch") or 0)  # type: ignore[arg-type]


async def test_a_park_with_a_damaged_partition_starts_and_serves_all_others(
    cluster: LocalCluster, valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I6, I7: also catalogue, keys and modes are put in force, as sales do before they are ready. The status says what
    is stopped; its epoch rises once, not at each look; and what was mended is taken."""
    codes = [cluster.token("day") for _ in range(8)]
    await cluster.register(*codes)
    name = f"p{ticket_id(codes[0]) % 4}"
    key = f"pg:{{{name}}}:log"
    with redis.Redis.from_url(valkey_url) as client:
        good = client.dump(key)
    flip_first_entry(valkey_url, name)
    old = await cluster.replace_owner(0)
    await old.stop()
    raised = epoch(valkey_url, name)
    for _ in range(3):
        await cluster.owners[0].start(range(4))  # as the supervisor asks, again and again
    assert epoch(valkey_url, name) == raised
    await publish_all_again(cluster)
    more = [cluster.token("day") for _ in range(4)]
    with pytest.raises(grpc.aio.AioRpcError, match=f"partition {name} is stopped"):
        await cluster.register(*more)
    others = await cluster.register(*(code for code in more if f"p{ticket_id(code) % 4}" != name))
    assert (others.registered, others.already_registered) == (0, 3), "the call that failed has done all that could be"
    status = await cluster.control().GetStatus(control_pb2.GetStatusRequest())
    assert {one.partition for one in status.partitions} == {"p0", "p1", "p2", "p3", "q0"}
    assert {one.partition: one.epoch for one in status.partitions if one.damage} == {name: raised}
    gate = await cluster.gate("main-1")
    assert {ticket_id(code) % 4: await decided(gate, code) for code in codes[:4]} == {
        ticket_id(code) % 4: RETRY if code is codes[0] else ADMIT for code in codes[:4]
    }
    monkeypatch.setattr("cluster.owner.DAMAGED_AGAIN_S", 0.0)
    cluster.owners[0].owner._look_again.clear()
    for _ in range(3):
        await cluster.owners[0].start(range(4))
    assert epoch(valkey_url, name) == raised, "it was looked at again, and is as it was"
    with redis.Redis.from_url(valkey_url) as client:
        client.restore(key, 0, good, replace=True)  # type: ignore[arg-type]
    await cluster.owners[0].start(range(4))
    assert (epoch(valkey_url, name), cluster.owners[0].owner.counters.damaged) == (raised + 1, {})
    assert await decided(gate, codes[0], until=ADMIT) == ADMIT
    status = await cluster.control().GetStatus(control_pb2.GetStatusRequest())
    assert not [one for one in status.partitions if one.damage]


class Handle:
    """An actor's handle as its supervisor sees it; the actor is a plain object in this process."""

    def __init__(self, actor: Any) -> None:
        self.actor = actor
        self.start = self

    def remote(self, *arguments: object) -> Any:
        return self.actor.start(*arguments)


async def test_the_supervisor_of_a_park_with_a_damaged_partition_says_that_it_is_ready(
    cluster: LocalCluster, valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I6: otherwise the stack ends the cluster service after two minutes, and in the end itself."""
    codes = [cluster.token("day") for _ in range(8)]
    await cluster.register(*codes)
    flip_first_entry(valkey_url, "p0")
    for host in (*cluster.owners, cluster.quota):
        await host.stop()
    made: list[Handle] = []

    def make(plan: ActorPlan, _turn: int) -> Handle:
        made.append(Handle(plan.plain(*plan.arguments)))
        return made[-1]

    monkeypatch.setattr("cluster.supervisor._find_or_make", make)
    monkeypatch.setattr("cluster.actors._node", lambda: NODE)
    gateway = GatewayConfig("127.0.0.1", 0, cluster.pki.server())
    supervisor = Supervisor(cluster.config, gateway, [], lambda _name: None)
    try:
        async with asyncio.timeout(20):
            await supervisor.start()
        assert made[1].actor._host.owner.counters.damaged.keys() == {"p0"}
        await asyncio.sleep(3 * WATCH_EVERY_S)
        assert epoch(valkey_url, "p0") == 2, "taken once, not at each call"
    finally:
        await end(supervisor._tasks)
        for handle in made:
            await handle.actor.stop()


async def decided(gate: GateClient, code: bytes, until: int | None = None) -> int:
    """The decision; with `until`, as soon as it is that one."""
    async with asyncio.timeout(5):
        while True:
            verdict = (await gate.send(scan(code)))[0]
            if until in (None, verdict.decision):
                return verdict.decision
            await asyncio.sleep(0.05)


async def test_a_damaged_log_of_the_quota_owner_stops_quotas_alone(
    cluster: LocalCluster, valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I6: gates go on, and what is in force may be changed."""
    hold = control_pb2.PlaceHoldRequest(hold_id=bytes(16), time_to_live_ms=60_000)
    hold.lines.add(quota_key="evening", units=1, limit=6)
    await cluster.control().PlaceHold(hold)
    with redis.Redis.from_url(valkey_url) as client:
        good = client.dump("pg:{q0}:log")
    flip_first_entry(valkey_url, "q0")
    await cluster.quota.stop()
    cluster.quota = QuotaHost(cluster.config, NODE)
    with capture_logs() as logs:
        for _ in range(3):
            await cluster.quota.start()
    assert [entry["log_level"] for entry in logs if "damaged" in entry["event"]] == ["critical"]
    raised = epoch(valkey_url, "q0")
    await publish_all_again(cluster)
    status = await cluster.control().GetStatus(control_pb2.GetStatusRequest())
    assert {one.partition for one in status.partitions if one.damage} == {"q0"}
    with pytest.raises(grpc.aio.AioRpcError, match="partition q0 is stopped"):
        await cluster.control().PlaceHold(hold)
    monkeypatch.setattr("cluster.hosting.DAMAGED_AGAIN_S", 0.0)
    cluster.quota._look_again = 0.0
    await cluster.quota.start()
    assert epoch(valkey_url, "q0") == raised
    with redis.Redis.from_url(valkey_url) as client:
        client.restore("pg:{q0}:log", 0, good, replace=True)  # type: ignore[arg-type]
    await cluster.quota.start()
    assert (epoch(valkey_url, "q0"), cluster.quota.owner.serves) == (raised + 1, True)


async def test_damaged_control_records_leave_in_force_what_was_until_they_are_published_again(
    cluster: LocalCluster, valkey_url: str
) -> None:
    """I7"""
    gate, codes = await cluster.gate("main-1"), [cluster.token("day") for _ in range(3)]
    closed = control_pb2.ModeChange(gate_id="main-2", mode=gate_pb2.GATE_MODE_CLOSED)
    await cluster.control().SetModes(control_pb2.SetModesRequest(changes=[closed]))
    await cluster.register(*codes)
    with capture_logs() as logs:
        flip_control(valkey_url, CATALOGUE, KEYS, MODES)
        await asyncio.sleep(2 * POLL_S)
    loud = {entry["event"] for entry in logs if entry["log_level"] == "critical"}
    assert [said for said in loud if "stays in force" in said]
    assert (await gate.send(scan(codes[0])))[0].decision == ADMIT
    await publish_all_again(cluster)
    await asyncio.sleep(2 * POLL_S)
    shut = await cluster.gate("main-2")
    assert (await shut.send(scan(codes[1])))[0].reason == gate_pb2.REASON_GATE_CLOSED
    assert (await gate.send(scan(codes[2])))[0].decision == ADMIT


async def publish_all_again(cluster: LocalCluster) -> None:
    """In any order, though each call has every record read again: the others are still damaged."""
    keys = [control_pb2.PublicKey(key_id=1, public_key=cluster.key.public_key().public_bytes_raw())]
    opened = control_pb2.ModeChange(gate_id="main-1", mode=gate_pb2.GATE_MODE_OPEN)
    for call in (
        cluster.control().SetModes(control_pb2.SetModesRequest(changes=[opened])),
        cluster.control().PublishKeys(control_pb2.PublishKeysRequest(keys=keys)),
        cluster.publish(example_document(), 2),
    ):
        try:
            await call
        except Exception as error:  # noqa: BLE001 - told that others are still damaged
            assert "damaged" in str(error)  # noqa: PT017


def entry(partition: str, *events: events_pb2.Event, time_ms: int = small_park.NOON_MS) -> events_pb2.LogEntry:
    return events_pb2.LogEntry(partition=partition, sequence=1, epoch=1, time_ms=time_ms, events=events)


REASON_99 = events_pb2.Event(scan_decided={"reason": 99, "decision": 2})
KIND_0 = events_pb2.Event(scan_decided={"decision": 1, "ticket_id": 4})
NO_CLAIMS = events_pb2.Event(ticket_registered={"claims": b"short"})
REFUSED_AS_DONE = events_pb2.Event(ticket_change_refused={"request_id": b"1" * 16, "refusal": 1})
REFUSAL_17 = events_pb2.Event(ticket_change_refused={"request_id": b"1" * 16, "refusal": 17})
SHORT_ID = events_pb2.Event(ticket_change_refused={"request_id": b"1" * 15, "refusal": 2})


@pytest.mark.parametrize(
    "written",
    [
        entry("p0", REASON_99),
        entry("p0", KIND_0),
        entry("p0", NO_CLAIMS),
        entry("p0", REFUSED_AS_DONE),
        entry("p0", REFUSAL_17),
        entry("p0", SHORT_ID),
        entry("p0", time_ms=2**62),
    ],
)
def test_an_entry_that_says_what_cannot_be_stops_its_owner_with_its_name(written: events_pb2.LogEntry) -> None:
    """I6: whole, but of another version or a bug's: it is not guessed what it may have meant."""
    with pytest.raises(DamagedDataError, match="entry 1 of the log of p0 says what cannot be"):
        replay(Partition("p0", 4), written, small_park.RULES)


@pytest.mark.parametrize(
    "event",
    [
        events_pb2.Event(hold_changed={"hold_id": b"h", "state": 17}),
        events_pb2.Event(hold_changed={"hold_id": b"never placed", "state": 3}),
    ],
)
def test_an_entry_that_says_what_cannot_be_stops_the_quota_owner_with_its_name(event: events_pb2.Event) -> None:
    with pytest.raises(DamagedDataError, match="entry 1 of the log of q0 says what cannot be"):
        quota_replay(QuotaState("q0"), entry("q0", event))


def test_a_snapshot_that_says_what_cannot_be_stops_its_owner_with_its_name() -> None:
    good = {"partition": "p0", "partitions": 4, "format": SNAPSHOT_FORMAT}
    odd = events_pb2.PartitionSnapshot(**good, visits=[{"counters": range(11)}])  # type: ignore[arg-type]
    nowhere = TicketTable(4)
    nowhere.set_use(8, 2)
    chunks = [{"number": number, "rows": bytes(rows)} for number, rows in nowhere.chunks.items()]
    for use in ({}, {"zone_number": 1, "counters": range(11)}):  # an admission that nobody could find again (I1)
        uses = [{}, {}, use]
        unfounded = events_pb2.PartitionSnapshot(**good, chunks=chunks, uses=uses)  # type: ignore[arg-type]
        with pytest.raises(DamagedDataError, match="snapshot of p0 says what cannot be"):
            restore(Partition("p0", 4), unfounded.SerializeToString(), 4)
    short = events_pb2.PartitionSnapshot(**good, chunks=[{"number": 0, "rows": bytes(32 * 255)}])  # type: ignore[arg-type]
    for data in (b"\xff\xff", odd.SerializeToString(), short.SerializeToString()):
        with pytest.raises(DamagedDataError, match="snapshot of p0 says what cannot be"):
            restore(Partition("p0", 4), data, 4)
    with pytest.raises(DamagedDataError, match="snapshot of q0 says what cannot be"):
        quota_restore(QuotaState("q0"), b"\xff\xff")
