"""Workers that write together: one transaction for all, and each partition for itself in it (I6, I10)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from zoneinfo import ZoneInfo

import psycopg
import pytest
from ledger_writer import PartitionLog, admitted
from redis import Redis

from parkgate.events.v1 import events_pb2 as pb
from reporting import joint
from reporting.batch import Batch, batch_of
from reporting.config import ReportingConfig
from reporting.database import Connection, migrate
from reporting.joint import JointWriter
from reporting.store import Offset, write
from reporting.worker import PartitionWorker
from ticketcore.errors import DamagedDataError

NAMES = ("p0", "p1", "p2")
START = Offset()


@pytest.fixture
async def url(postgres_url: str) -> str:
    await migrate(postgres_url)
    return postgres_url


@pytest.fixture
def transactions(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The partitions of each transaction."""
    seen: list[list[str]] = []

    async def write_and_note(
        connection: Connection, batches: Sequence[tuple[Batch, Offset]]
    ) -> dict[str, tuple[Offset, bool]]:
        seen.append(sorted(batch.partition for batch, _ in batches))
        return await write(connection, batches)

    monkeypatch.setattr(joint, "write", write_and_note)
    return seen


@pytest.fixture
async def writer(url: str) -> AsyncIterator[JointWriter]:
    writer = JointWriter(url, len(NAMES))
    for name in NAMES:
        assert await writer.read_offset(name) == START
    yield writer
    await writer.close()


def first_entry(partition: str, *events: pb.Event) -> Batch:
    log = PartitionLog(Redis(), partition, sequence=1)
    return batch_of(partition, [log.entry(events)], ZoneInfo("Europe/Paris"))


def rows(url: str, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(statement.encode()).fetchall()


def recognised(url: str) -> list[tuple[object, ...]]:
    return rows(url, "SELECT partition, ticket_id FROM reporting.first_admissions ORDER BY 1")


async def test_workers_that_wait_share_a_transaction(
    url: str, writer: JointWriter, transactions: list[list[str]]
) -> None:
    batches = [first_entry(name, admitted(7 + nth, nth)) for nth, name in enumerate(NAMES)]
    written = await asyncio.gather(*(writer.write(batch, START, at_once=False) for batch in batches))
    assert written == [(Offset(1, 1), True)] * len(NAMES)
    assert transactions == [list(NAMES)]
    assert recognised(url) == [("p0", 7), ("p1", 8), ("p2", 9)]
    assert rows(url, "SELECT partition, sequence FROM reporting.offsets ORDER BY 1") == [(name, 1) for name in NAMES]


async def test_a_partition_that_cannot_be_written_holds_up_no_other(
    url: str, writer: JointWriter, transactions: list[list[str]]
) -> None:
    await writer.write(first_entry("p1", admitted(8, 1)), START, at_once=True)
    again = first_entry("p1", admitted(8, 2))
    again.last_sequence = 2
    batches = [(first_entry("p0", admitted(7, 3)), START), (again, Offset(1, 1)), (first_entry("p2"), START)]
    written = await asyncio.gather(
        *(writer.write(batch, offset, at_once=False) for batch, offset in batches), return_exceptions=True
    )
    assert written[0] == written[2] == (Offset(1, 1), True)
    assert isinstance(written[1], DamagedDataError)
    assert "p1 up to 2 has a second first admission of tickets 8" in str(written[1])
    assert transactions[1:] == [list(NAMES), ["p0"], ["p1"], ["p2"]]
    assert recognised(url) == [("p0", 7), ("p1", 8)]
    assert rows(url, "SELECT sequence FROM reporting.offsets WHERE partition = 'p1'") == [(1,)]


async def test_of_a_partition_that_another_has_moved_nothing_is_written(url: str, writer: JointWriter) -> None:
    moved = "sequence = 5, epoch = 2, entry_time = now(), park_date = '2026-05-01'"
    rows(url, f"UPDATE reporting.offsets SET {moved} WHERE partition = 'p1' RETURNING 1")
    batches = [first_entry(name, admitted(7 + nth, nth)) for nth, name in enumerate(NAMES)]
    written = await asyncio.gather(*(writer.write(batch, START, at_once=False) for batch in batches))
    assert written == [(Offset(1, 1), True), (Offset(5, 2), False), (Offset(1, 1), True)]
    assert recognised(url) == [("p0", 7), ("p2", 9)]


async def test_a_full_transaction_leaves_the_rest_to_the_next(
    writer: JointWriter, transactions: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joint, "TARGET_EVENTS", 2)
    batches = [first_entry(name, admitted(7 + nth, nth)) for nth, name in enumerate(NAMES)]
    await asyncio.gather(*(writer.write(batch, START, at_once=False) for batch in batches))
    assert transactions == [["p0", "p1"], ["p2"]]


@pytest.mark.parametrize(("took_s", "rest_s"), [(0.0, 0.2), (0.05, 0.2), (0.08, 0.32), (0.3, 0.5)])
def test_a_rest_is_as_long_as_its_transaction_was_heavy(took_s: float, rest_s: float) -> None:
    """Where the machine is full, gates go first: fewer transactions, of more events each."""
    assert joint.rest_after(took_s) == pytest.approx(rest_s)


async def test_after_a_heavy_transaction_the_next_waits_for_a_longer_rest(
    writer: JointWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    took_s = 0.1

    async def heavy(_: Connection, batches: Sequence[tuple[Batch, Offset]]) -> dict[str, tuple[Offset, bool]]:
        began.append(asyncio.get_running_loop().time())
        await asyncio.sleep(took_s)
        return {batch.partition: (read_from, True) for batch, read_from in batches}

    began: list[float] = []
    monkeypatch.setattr(joint, "write", heavy)
    for _ in range(2):
        await writer.write(first_entry("p0", admitted(7, 1)), START, at_once=False)
    assert began[1] - began[0] >= took_s + joint.rest_after(took_s)


async def test_a_connection_that_breaks_is_told_to_all_and_made_again(url: str, writer: JointWriter) -> None:
    """The outcome is unknown: each reads its offset again."""
    rows(url, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'reporting'")
    batches = [first_entry(name, admitted(7 + nth, nth)) for nth, name in enumerate(NAMES)]
    for wanted in (psycopg.OperationalError, tuple):
        written = await asyncio.gather(
            *(writer.write(batch, START, at_once=False) for batch in batches), return_exceptions=True
        )
        assert all(isinstance(answer, wanted) for answer in written)
    assert [await writer.read_offset(name) for name in NAMES] == [Offset(1, 1)] * len(NAMES)


async def test_a_question_that_is_broken_off_leaves_its_transaction_to_nobody(
    writer: JointWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def slow(connection: Connection, _partition: str) -> Offset:
        await connection.execute("SELECT pg_sleep(60)")
        return START

    with monkeypatch.context() as patched:
        patched.setattr(joint, "read_offset", slow)
        asking = asyncio.create_task(writer.read_offset("p0"))
        await asyncio.sleep(0.2)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    assert await writer.read_offset("p1") == START


async def test_a_worker_that_is_ended_meanwhile_takes_no_other_with_it(writer: JointWriter) -> None:
    tasks = [
        asyncio.create_task(writer.write(first_entry(name, admitted(7, 1)), START, at_once=False)) for name in NAMES
    ]
    await asyncio.sleep(0)
    tasks[1].cancel()
    written = await asyncio.gather(*tasks, return_exceptions=True)
    assert written[0] == written[2] == (Offset(1, 1), True)
    assert isinstance(written[1], asyncio.CancelledError)


async def test_whoever_waits_hears_of_a_fault_also_if_hanging_up_fails(
    writer: JointWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a worker would wait for ever, and its partition's reports would stand still unnoticed."""

    async def broken(*_: object) -> None:
        raise ValueError("nobody expects this")

    with monkeypatch.context() as patched:
        patched.setattr(joint, "write", broken)
        patched.setattr(writer, "_drop", broken)
        async with asyncio.timeout(10):
            with pytest.raises(ValueError, match="nobody expects this"):
                await writer.write(first_entry("p0", admitted(7, 1)), START, at_once=True)


async def test_whoever_waits_when_a_write_in_pieces_is_broken_off_hears_that_nothing_is_known(
    writer: JointWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch that cannot be has the others tried one by one; the writer is closed at the first of them."""
    alone = asyncio.Event()

    async def refuse_together(_: Connection, batches: Sequence[tuple[Batch, Offset]]) -> dict[str, tuple[Offset, bool]]:
        if len(batches) > 1:
            raise psycopg.IntegrityError("one of them cannot be")
        alone.set()
        return await asyncio.get_running_loop().create_future()

    monkeypatch.setattr(joint, "write", refuse_together)
    tasks = [
        asyncio.create_task(writer.write(first_entry(name, admitted(7, 1)), START, at_once=False)) for name in NAMES
    ]
    async with asyncio.timeout(10):
        await alone.wait()
        await writer.close()
        told = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(answer) for answer in told] == [psycopg.InterfaceError] * len(NAMES)


async def test_whoever_waits_when_the_writer_is_closed_hears_that_nothing_is_known(writer: JointWriter) -> None:
    waiting = asyncio.create_task(writer.write(first_entry("p0", admitted(7, 1)), START, at_once=False))
    await asyncio.sleep(0)
    await writer.close()
    with pytest.raises(psycopg.InterfaceError, match="closed"):
        await waiting


async def test_partitions_that_are_busy_come_to_share_their_transactions(
    url: str, valkey_url: str, transactions: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though each of their first entries comes at another moment."""
    monkeypatch.setattr(joint, "REST_RANGE_S", (0.2, 0.2))  # on a slow machine too there are many
    config = ReportingConfig(url, valkey_url, NAMES, "Europe/Paris")
    writer = JointWriter(url, len(NAMES))
    workers = [PartitionWorker(config, name, writer) for name in NAMES]
    running = [asyncio.create_task(worker.run()) for worker in workers]
    with Redis.from_url(valkey_url) as client:
        logs = [PartitionLog(client, name) for name in NAMES]
        for scan in range(60):
            log = logs[scan % len(NAMES)]
            await asyncio.to_thread(log.append, [admitted(scan + 1, scan)])
            await asyncio.sleep(0.02)
        async with asyncio.timeout(20):
            while any(worker.state().sequence < 20 for worker in workers):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    await writer.close()
    for worker in workers:
        await worker.close()
    together = transactions.count(list(NAMES))
    assert together >= max(1, len(transactions) - 4)
    assert len(recognised(url)) == 60
