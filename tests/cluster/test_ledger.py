"""The ledger adapter against a real Valkey: fenced, gapless, idempotent; snapshots in chunks; a server that dies."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import redis

from cluster import ledger as ledger_module
from cluster.ledger import SNAPSHOT_CHUNK, Append, Appended, Ledger, at_once
from ops.embedded import EmbeddedValkey
from parkgate.events.v1 import events_pb2
from ticketcore.errors import DamagedDataError, FencedError, UnavailableError, UnknownOutcomeError
from ticketcore.seal import seal

DONE, FENCED = Appended.DONE, Appended.FENCED


@pytest.fixture
async def ledger(valkey_url: str) -> AsyncIterator[Ledger]:
    ledger = Ledger(valkey_url)
    yield ledger
    await ledger.close()


def append(sequence: int, epoch: int = 1, batch_id: bytes = b"", partition: str = "p0") -> Append:
    """An append whose batch id is its sequence unless it is given."""
    batch_id = batch_id or b"batch%03d" % sequence
    entry = events_pb2.LogEntry(partition=partition, sequence=sequence, epoch=epoch, batch_id=batch_id)
    return Append(partition, epoch, sequence, batch_id, entry.SerializeToString())


async def sequences(ledger: Ledger, until: int, after: int = 0) -> list[int]:
    return [entry.sequence async for entry in ledger.entries("p0", after, until)]


async def test_an_append_that_is_repeated_is_done_once(ledger: Ledger) -> None:
    """I1, I6"""
    await ledger.take("p0", "a")
    for _ in range(3):
        assert await ledger.append([append(1)]) == [DONE]
    assert await ledger.append([append(2)]) == [DONE]
    assert await sequences(ledger, 2) == [1, 2]


async def test_an_append_of_an_earlier_epoch_is_fenced_before_at_and_after_the_take_over(ledger: Ledger) -> None:
    """I1"""
    first = await ledger.take("p0", "a")
    assert await ledger.append([append(1, first.epoch)]) == [DONE]
    second = await ledger.take("p0", "b")
    assert (second.epoch, second.sequence) == (first.epoch + 1, 1)
    assert await ledger.append([append(2, first.epoch)]) == [FENCED]
    assert await ledger.append([append(1, first.epoch)]) == [FENCED], "nor is an old one confirmed any more"
    assert await ledger.append([append(2, second.epoch)]) == [DONE]
    assert await ledger.append([append(3, second.epoch + 1)]) == [FENCED], "an epoch that was never taken"
    assert await sequences(ledger, 2) == [1, 2]


async def test_one_call_appends_to_each_partition_on_its_own(ledger: Ledger) -> None:
    await ledger.take("p0", "a")
    await ledger.take("p1", "a")
    await ledger.take("p1", "b")
    assert await ledger.append([append(1), append(1, 1, partition="p1")]) == [DONE, FENCED]
    assert (await ledger.heads(["p0", "p1", "p2"])).keys() == {"p0", "p1"}


@pytest.mark.parametrize("sequence", [1, 3, 4])
async def test_a_sequence_that_does_not_follow_and_a_foreign_batch_are_damage(ledger: Ledger, sequence: int) -> None:
    """I6: the log has no gap and no second entry of one sequence."""
    await ledger.take("p0", "a")
    await ledger.append([append(1)])
    with pytest.raises(DamagedDataError, match="cannot take sequence"):
        await ledger.append([append(sequence, batch_id=b"foreign!")])


async def test_a_hole_in_the_log_is_damage_and_never_skipped(ledger: Ledger, valkey_url: str) -> None:
    """I6"""
    await ledger.take("p0", "a")
    for sequence in (1, 2, 3, 4):
        await ledger.append([append(sequence)])
    with redis.Redis.from_url(valkey_url) as client:
        client.xdel("pg:{p0}:log", "2-0")
    with pytest.raises(DamagedDataError, match="sequence 3 where 2"):
        await sequences(ledger, 4)
    assert await sequences(ledger, 4, after=2) == [3, 4]
    with pytest.raises(DamagedDataError, match="ends before sequence 5"):
        await sequences(ledger, 5, after=2)


def flipped(data: bytes, bit: int) -> bytes:
    at = bit % (8 * len(data))
    return data[: at // 8] + bytes((data[at // 8] ^ 1 << at % 8,)) + data[at // 8 + 1 :]


@pytest.mark.parametrize("bit", [0, 9, 77, 130, 211, -1])
async def test_an_entry_with_one_bit_flipped_is_damage_though_it_may_still_be_read(
    ledger: Ledger, valkey_url: str, bit: int
) -> None:
    """I6: a bit of a ticket's id makes another ticket of it."""
    await ledger.take("p0", "a")
    await ledger.append([append(1)])
    with redis.Redis.from_url(valkey_url) as client:
        ((_, fields),) = client.xrange("pg:{p0}:log")  # type: ignore[misc]
        client.delete("pg:{p0}:log")
        client.xadd("pg:{p0}:log", {"e": flipped(fields[b"e"], bit)}, id="1-0")
    with pytest.raises(DamagedDataError, match="entry 1 of the log of p0 is damaged"):
        await sequences(ledger, 1)


@pytest.mark.parametrize("entry", [b"", b"\xff\xff", seal(b"\xff\xff")])
async def test_an_entry_that_cannot_be_read_is_damage(ledger: Ledger, valkey_url: str, entry: bytes) -> None:
    await ledger.take("p0", "a")
    with redis.Redis.from_url(valkey_url) as client:
        client.xadd("pg:{p0}:log", {"e": entry}, id="1-0")
    with pytest.raises(DamagedDataError, match="entry 1"):
        await sequences(ledger, 1)


async def test_a_snapshot_or_control_record_with_one_bit_flipped_is_damage(ledger: Ledger, valkey_url: str) -> None:
    """I6"""
    taken = await ledger.take("p0", "a")
    await ledger.write_snapshot("p0", taken.epoch, 7, at_once(bytes(2 * SNAPSHOT_CHUNK)))
    await ledger.write_control("keys", 1, b"keys")
    with redis.Redis.from_url(valkey_url) as client:
        for key, field in (("pg:{p0}:snapshot", "chunk:1"), ("pg:{control}:keys", "record")):
            client.hset(key, field, flipped(client.hget(key, field) or b"", 5))  # type: ignore[arg-type]
    with pytest.raises(DamagedDataError, match="chunk 1 of the snapshot of p0 is damaged"):
        await ledger.read_snapshot("p0")
    with pytest.raises(DamagedDataError, match="control record keys is damaged"):
        await ledger.read_control("keys")


async def test_long_logs_are_read_in_pages(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "READ_PAGE", 3)
    await ledger.take("p0", "a")
    for sequence in range(1, 11):
        await ledger.append([append(sequence)])
    assert await sequences(ledger, 10) == list(range(1, 11))
    assert await sequences(ledger, 7, after=5) == [6, 7]


@pytest.mark.parametrize("length", [0, 1, SNAPSHOT_CHUNK - 1, SNAPSHOT_CHUNK, SNAPSHOT_CHUNK + 1, 3 * SNAPSHOT_CHUNK])
async def test_a_snapshot_comes_back_as_it_was_written(ledger: Ledger, length: int) -> None:
    taken = await ledger.take("p0", "a")
    data = os.urandom(length)
    await ledger.write_snapshot("p0", taken.epoch, 7, at_once(data))
    assert await ledger.read_snapshot("p0") == (7, data)
    assert await ledger.snapshot_sequence("p0") == 7
    await ledger.write_snapshot("p0", taken.epoch, 8, at_once(b"less"))
    assert await ledger.read_snapshot("p0") == (8, b"less")


async def test_a_snapshot_with_a_part_missing_is_damage(ledger: Ledger, valkey_url: str) -> None:
    taken = await ledger.take("p0", "a")
    await ledger.write_snapshot("p0", taken.epoch, 7, at_once(bytes(2 * SNAPSHOT_CHUNK)))
    with redis.Redis.from_url(valkey_url) as client:
        client.hdel("pg:{p0}:snapshot", "chunk:1")
    with pytest.raises(DamagedDataError, match="snapshot of p0"):
        await ledger.read_snapshot("p0")


async def test_an_earlier_owner_neither_replaces_a_later_ones_snapshot_nor_mixes_into_it(ledger: Ledger) -> None:
    """I2: the log is trimmed below the newest snapshot; with an older one in its place the partition would be lost."""
    early = await ledger.take("p0", "a")
    late = await ledger.take("p0", "b")
    written, stale = os.urandom(40 * SNAPSHOT_CHUNK), os.urandom(40 * SNAPSHOT_CHUNK)
    results = await asyncio.gather(
        ledger.write_snapshot("p0", late.epoch, 9, at_once(written)),
        ledger.write_snapshot("p0", early.epoch, 5, at_once(stale)),
        return_exceptions=True,
    )
    assert results[0] == len(written)
    assert isinstance(results[1], FencedError)
    assert await ledger.read_snapshot("p0") == (9, written)


async def test_a_snapshot_left_half_written_by_a_killed_owner_does_not_stay(
    ledger: Ledger, valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    early = await ledger.take("p0", "a")
    half, hset = asyncio.Event(), ledger._redis.hset

    async def killed_half_way(key: str, field: str, data: bytes) -> None:
        if field == "chunk:2":
            half.set()
            await asyncio.Event().wait()
        await hset(key, field, data)

    monkeypatch.setattr(ledger._redis, "hset", killed_half_way)
    writing = asyncio.create_task(ledger.write_snapshot("p0", early.epoch, 5, at_once(bytes(4 * SNAPSHOT_CHUNK))))
    await half.wait()
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    monkeypatch.undo()
    assert await ledger.read_snapshot("p0") is None
    with redis.Redis.from_url(valkey_url) as client:
        (left,) = client.keys("pg:{p0}:snapshot*")
        assert 0 < client.ttl(left) <= 3_600
        late = await ledger.take("p0", "b")
        await ledger.write_snapshot("p0", late.epoch, 6, at_once(b"whole"))
        assert client.ttl("pg:{p0}:snapshot") == -1
    assert await ledger.read_snapshot("p0") == (6, b"whole")


async def test_a_snapshot_whose_first_parts_have_run_out_of_time_does_not_replace_the_last_one(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I2: the log is trimmed below it. A server's clock may jump, and a machine sleep, while one is written."""
    taken = await ledger.take("p0", "a")
    await ledger.write_snapshot("p0", taken.epoch, 5, at_once(b"whole"))
    monkeypatch.setattr(ledger_module, "SNAPSHOT_WRITING_S", 1)

    async def parts() -> AsyncIterator[bytes]:
        for part in range(4):
            yield bytes([part]) * 300_000
            await asyncio.sleep(0.5)

    with pytest.raises(UnavailableError, match="the last one stays"):
        await ledger.write_snapshot("p0", taken.epoch, 8, parts())
    assert await ledger.read_snapshot("p0") == (5, b"whole")
    monkeypatch.undo()
    await ledger.write_snapshot("p0", taken.epoch, 8, at_once(b"again"))
    assert await ledger.read_snapshot("p0") == (8, b"again")


async def test_trimming_keeps_the_entry_it_names_and_what_follows(ledger: Ledger) -> None:
    await ledger.take("p0", "a")
    for sequence in range(1, 6):
        await ledger.append([append(sequence)])
    await ledger.trim("p0", 3)
    assert await sequences(ledger, 5, after=2) == [3, 4, 5]
    with pytest.raises(DamagedDataError):
        await sequences(ledger, 5, after=1)
    assert await ledger.append([append(6)]) == [DONE]


async def test_an_address_is_published_only_by_the_owner_of_the_epoch(ledger: Ledger) -> None:
    early = await ledger.take("p0", "a")
    await ledger.publish_address("p0", early.epoch, "here")
    late = await ledger.take("p0", "b")
    assert (await ledger.heads(["p0"]))["p0"].address == "", "nobody is sent to an owner that was replaced"
    with pytest.raises(FencedError):
        await ledger.publish_address("p0", early.epoch, "here")
    await ledger.publish_address("p0", late.epoch, "there")
    assert (await ledger.heads(["p0"]))["p0"].address == "there"


async def test_a_control_record_is_never_replaced_by_an_older_version(ledger: Ledger) -> None:
    assert await ledger.read_control("catalogue") is None
    for version, record, in_force in ((5, b"five", 5), (4, b"four", 5), (6, b"six", 6)):
        assert await ledger.write_control("catalogue", version, record) == in_force
    assert await ledger.read_control("catalogue") == (6, b"six")
    assert await ledger.control_changes() == 2


async def test_a_ledger_that_could_forget_is_named(ledger: Ledger, valkey_url: str) -> None:
    """I2"""
    assert await ledger.check_durability() == []
    with redis.Redis.from_url(valkey_url) as client:
        client.config_set("appendfsync", "everysec")
        try:
            assert await ledger.check_durability() == ["appendfsync is 'everysec', must be 'always'"]
        finally:
            client.config_set("appendfsync", "always")


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[EmbeddedValkey]:
    """A Valkey that a test may kill."""
    with EmbeddedValkey(tmp_path / "valkey") as server:
        yield server


def process_of(server: EmbeddedValkey) -> int:
    with redis.Redis.from_url(server.url) as client:
        return int(client.info("server")["process_id"])


async def test_what_was_appended_is_there_after_the_server_was_killed(own_server: EmbeddedValkey) -> None:
    """I2: durable when answered. Scripts are forgotten by a restarted server and loaded again."""
    ledger = Ledger(own_server.url)
    await ledger.take("p0", "a")
    for sequence in range(1, 51):
        assert await ledger.append([append(sequence)]) == [DONE]
    os.kill(process_of(own_server), signal.SIGKILL)
    with pytest.raises(UnknownOutcomeError):
        await ledger.append([append(51)])
    with pytest.raises(UnavailableError):
        await ledger.heads(["p0"])
    own_server.stop()
    own_server.start()
    assert await sequences(ledger, 50) == list(range(1, 51))
    assert await ledger.append([append(50)]) == [DONE]
    assert await ledger.append([append(51)]) == [DONE]
    assert (await ledger.heads(["p0"]))["p0"].sequence == 51
    await ledger.close()


async def test_an_append_that_was_done_without_an_answer_is_found_by_asking_again(
    own_server: EmbeddedValkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I1, I2: the server stands still with the call in its socket, and does it after the caller has given up."""
    monkeypatch.setattr(ledger_module, "CALL_TIMEOUT_S", 0.3)
    ledger = Ledger(own_server.url)
    await ledger.take("p0", "a")
    await ledger.append([append(1)])
    process = process_of(own_server)
    os.kill(process, signal.SIGSTOP)
    try:
        with pytest.raises(UnknownOutcomeError):
            await ledger.append([append(2)])
    finally:
        os.kill(process, signal.SIGCONT)
    for _ in range(2):
        assert await ledger.append([append(2)]) == [DONE]
    assert await sequences(ledger, 2) == [1, 2]
    await ledger.close()


async def test_a_log_that_is_trimmed_while_it_is_read_is_no_damage_but_a_reason_to_begin_with_the_snapshot(
    ledger: Ledger,
) -> None:
    """I2: an owner that recovers slowly, and whose successor has already recovered, snapshotted and trimmed."""
    taken = await ledger.take("p0", "a")
    for sequence in range(1, 6):
        await ledger.append([append(sequence)])
    await ledger.write_snapshot("p0", taken.epoch, 4, at_once(b"state"))
    await ledger.trim("p0", 4)
    with pytest.raises(UnavailableError, match="begin at 4"):
        await sequences(ledger, 5)
    assert await sequences(ledger, 5, after=4) == [5]
    await ledger.trim("p0", 6)
    with pytest.raises(DamagedDataError, match="ends before sequence 5"):
        await sequences(ledger, 5, after=4)
