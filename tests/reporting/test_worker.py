"""The workers: real Valkey, real Postgres, real SIGKILL. Proves I6 and I10."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest
import redis
from ledger_writer import BusyDay, PartitionLog, admitted, changed, columns_of, passage, refused, registered

from ops.embedded import EmbeddedPostgres
from parkgate.events.v1 import events_pb2 as pb
from parkgate.gate.v1 import gate_pb2 as gate
from reporting.config import ReportingConfig
from reporting.database import connect, migrate
from reporting.joint import REST_RANGE_S
from reporting.log_reader import make_client
from reporting.queries.counts import postgres_book
from reporting.reconcile import Count, compare
from reporting.recount import recount
from reporting.worker import COUNT_RANGE, PartitionWorker
from ticketcore.errors import DamagedDataError
from ticketcore.seal import seal


@pytest.fixture
async def config(postgres_url: str, valkey_url: str) -> ReportingConfig:
    await migrate(postgres_url)
    return ReportingConfig(postgres_url, valkey_url, ("p0", "p1", "q0"), "Europe/Paris")


@pytest.fixture
def ledger(valkey_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(valkey_url) as client:
        yield client


@pytest.fixture
async def worker(config: ReportingConfig) -> AsyncIterator[PartitionWorker]:
    worker = PartitionWorker(config, "p0")
    yield worker
    await worker.close()


async def differences(config: ReportingConfig, partitions: tuple[str, ...] = ("p0",)) -> list[str]:
    client, connection = make_client(config.redis_url), await connect(config.postgres_url)
    books = [await recount(client, partitions), await postgres_book(connection)]
    await client.aclose()
    await connection.close()
    assert books[0].counts
    return [str(difference) for difference in compare(books)]


def sql(config: ReportingConfig, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(config.postgres_url) as connection:
        return connection.execute(statement.encode()).fetchall()


async def test_a_busy_day_is_counted_as_the_recount_counts_it(
    config: ReportingConfig, ledger: redis.Redis, worker: PartitionWorker
) -> None:
    """I6."""
    BusyDay(PartitionLog(ledger, "p0"), random.Random(1), 1_000).write(400)
    assert await worker.catch_up() == 400
    assert await differences(config) == []
    assert ledger.get("pg:{p0}:reported") == b"400"


async def test_an_event_that_is_counted_differently_is_found(
    config: ReportingConfig, ledger: redis.Redis, worker: PartitionWorker
) -> None:
    """I6: the comparison can fail."""
    BusyDay(PartitionLog(ledger, "p0"), random.Random(1), 1_000).write(50)
    await worker.catch_up()
    with psycopg.connect(config.postgres_url) as connection:
        connection.execute("UPDATE reporting.ticket_days SET price_minor = price_minor + 1 WHERE product_number = 2")
    assert any("registered product=2" in difference for difference in await differences(config))


async def test_catching_up_again_counts_nothing_twice(
    config: ReportingConfig, ledger: redis.Redis, worker: PartitionWorker
) -> None:
    """I6."""
    day = BusyDay(PartitionLog(ledger, "p0"), random.Random(2), 1_000)
    for _ in range(3):
        day.write(40)
        await worker.catch_up()
        again = PartitionWorker(config, "p0")
        await again.catch_up()
        await again.close()
    assert await differences(config) == []


async def test_two_workers_on_one_partition_count_each_event_once(config: ReportingConfig, ledger: redis.Redis) -> None:
    """I6: the second waits for the lock, finds the offset moved, and writes nothing of what the first wrote."""
    BusyDay(PartitionLog(ledger, "p0"), random.Random(3), 1_000).write(600)
    workers = [PartitionWorker(config, "p0") for _ in range(3)]
    await asyncio.gather(*(worker.catch_up() for worker in workers))
    assert await differences(config) == []
    assert sum(worker.state().events for worker in workers) == sum(
        int(str(row[0]))
        for table in ("scan_events", "passage_events", "ticket_events")
        for row in sql(config, f"SELECT count(*) FROM reporting.{table}")
    )
    for worker in workers:
        await worker.close()


async def test_a_first_admission_that_is_undone_is_no_longer_recognised(
    config: ReportingConfig, ledger: redis.Redis, worker: PartitionWorker
) -> None:
    log = PartitionLog(ledger, "p0")
    first, second = admitted(7, 1), admitted(7, 2)
    log.append([registered(7), registered(8), first])
    await worker.catch_up()
    assert sql(config, "SELECT ticket_id FROM reporting.first_admissions") == [(7,)]
    log.append([passage(first, gate.PASSAGE_OUTCOME_NOT_PASSED, undone=True)])
    await worker.catch_up()
    assert sql(config, "SELECT ticket_id FROM reporting.first_admissions") == []
    log.append([second, passage(second, gate.PASSAGE_OUTCOME_NOT_PASSED, undone=True), admitted(7, 3)])
    await worker.catch_up()
    assert sql(config, "SELECT ticket_id, gate_number FROM reporting.first_admissions") == [(7, 4)]


async def test_a_ledger_that_recognises_a_ticket_twice_stops_its_partition(
    config: ReportingConfig, ledger: redis.Redis, worker: PartitionWorker
) -> None:
    """Of all tickets of the block the one is named; nothing of the entry is kept."""
    log = PartitionLog(ledger, "p0")
    log.append([admitted(7, 1), admitted(9, 2), admitted(11, 3)])
    await worker.catch_up()
    log.append([admitted(8, 4), admitted(9, 5), admitted(7_000, 6)])
    with pytest.raises(DamagedDataError, match=r"p0 up to 2 has a second first admission of tickets 9$"):
        await worker.catch_up()
    assert sql(config, "SELECT ticket_id FROM reporting.first_admissions ORDER BY 1") == [(7,), (9,), (11,)]
    assert sql(config, "SELECT sequence FROM reporting.offsets") == [(1,)]


async def test_a_second_first_admission_stops_its_partition_though_it_is_undone_at_once(
    config: ReportingConfig, ledger: redis.Redis, worker: PartitionWorker
) -> None:
    """Else what is found depends on where a batch ends, and undoing the second takes back the first."""
    log, second = PartitionLog(ledger, "p0"), admitted(9, 5)
    log.append([admitted(9, 2)])
    await worker.catch_up()
    log.append([second, passage(second, gate.PASSAGE_OUTCOME_NOT_PASSED, undone=True)])
    with pytest.raises(DamagedDataError, match=r"p0 up to 2 has a second first admission of tickets 9$"):
        await worker.catch_up()
    assert sql(config, "SELECT ticket_id FROM reporting.first_admissions") == [(9,)]


async def test_tickets_that_are_recognised_and_undone_again_and_again_may_be_recognised(
    config: ReportingConfig, ledger: redis.Redis, worker: PartitionWorker
) -> None:
    """Within an entry and from one to the next; the bits say at each end what the rows say."""
    log = PartitionLog(ledger, "p0")
    for scan in range(1, 20, 3):
        one, two, three = (admitted(9, scan + nth) for nth in range(3))
        undo_one, undo_two, undo_three = (
            passage(event, gate.PASSAGE_OUTCOME_NOT_PASSED, undone=True) for event in (one, two, three)
        )
        for events, kept in (
            ([one, undo_one], []),
            ([one, undo_one, two], [(9,)]),
            ([undo_two, three, undo_three], []),
            ([one], [(9,)]),
            ([undo_one, two, undo_two, three], [(9,)]),
            ([undo_three], []),
        ):
            log.append(events)
            await worker.catch_up()
            assert sql(config, "SELECT ticket_id FROM reporting.first_admissions") == kept
            assert sql(config, "SELECT coalesce(sum(bit_count(tickets)), 0) FROM reporting.recognised_tickets") == [
                (len(kept),)
            ]


@pytest.mark.parametrize("together", [True, False])
async def test_an_entry_that_recognises_a_ticket_twice_stops_its_partition(
    config: ReportingConfig, ledger: redis.Redis, worker: PartitionWorker, *, together: bool
) -> None:
    """As members of one run, or one by one."""
    twice = [admitted(7, 1), admitted(8, 2), admitted(7, 3)]
    PartitionLog(ledger, "p0").append([columns_of(twice)] if together else twice)
    with pytest.raises(DamagedDataError, match=r"p0 up to 1 has a second first admission of tickets 7$"):
        await worker.catch_up()
    assert sql(config, "SELECT count(*) FROM reporting.first_admissions") == [(0,)]


async def test_what_is_recognised_stays_when_the_events_of_its_day_are_dropped(
    config: ReportingConfig, ledger: redis.Redis, worker: PartitionWorker
) -> None:
    first, second = admitted(7, 1), admitted(8, 2)
    PartitionLog(ledger, "p0").append([first, second, passage(first, gate.PASSAGE_OUTCOME_NOT_PASSED, undone=True)])
    await worker.catch_up()
    for table in ("scan_runs", "passage_runs"):
        with psycopg.connect(config.postgres_url) as connection:
            connection.execute(f"DROP TABLE reporting.{table}_20260501".encode())
    assert sql(config, "SELECT ticket_id FROM reporting.first_admissions") == [(8,)]


async def test_a_refund_that_overtakes_its_registration_is_counted_for_its_product(
    config: ReportingConfig, ledger: redis.Redis, worker: PartitionWorker
) -> None:
    """I6: the owner does not know the ticket yet when it voids it."""
    log = PartitionLog(ledger, "p0")
    log.append([changed(7, pb.LIFECYCLE_REFUNDED, product=0, price=0), registered(8, product=2, price=90)])
    log.append([registered(7, product=2, price=40), changed(8, pb.LIFECYCLE_REFUNDED, product=2, price=90)])
    await worker.catch_up()
    assert await differences(config) == []
    connection = await connect(config.postgres_url)
    assert (await postgres_book(connection)).counts["refunded product=2"] == Count(2, 130)
    await connection.close()


async def test_events_belong_to_the_civil_day_of_the_park(
    config: ReportingConfig, ledger: redis.Redis, worker: PartitionWorker
) -> None:
    log = PartitionLog(ledger, "p0")
    for scan, time_ms in enumerate((1_777_672_799_999, 1_777_672_800_000, 1_777_672_800_001)):
        log.time_ms = time_ms
        log.append([refused(7, scan, gate.REASON_EXPIRED)])
    await worker.catch_up()
    rows = sql(config, "SELECT park_date::text, sum(scans)::int FROM reporting.scan_minutes GROUP BY 1 ORDER BY 1")
    assert rows == [("2026-05-01", 1), ("2026-05-02", 2)]
    assert sql(config, "SELECT count(*) FROM reporting.scan_runs_20260502") == [(2,)]


async def test_a_worker_that_gets_all_that_it_asked_for_goes_on_at_once(
    ledger: redis.Redis, worker: PartitionWorker
) -> None:
    """More waits, however little each entry says: turnstiles' entries hold one or two events."""
    BusyDay(PartitionLog(ledger, "p0"), random.Random(1), 1_000).write(COUNT_RANGE[0] + 5)
    await worker._begin()
    assert await worker._step(at_once=False) == 0.0
    assert worker.state().sequence == COUNT_RANGE[0]
    assert await worker._step(at_once=False) >= REST_RANGE_S[0]
    assert worker.state().sequence == COUNT_RANGE[0] + 5


async def test_a_hole_in_the_ledger_stops_the_partition_and_is_never_stepped_over(
    config: ReportingConfig, ledger: redis.Redis, worker: PartitionWorker
) -> None:
    log = PartitionLog(ledger, "p0")
    log.append([registered(1)])
    log.sequence += 1
    log.append([registered(2)])
    with pytest.raises(DamagedDataError, match="partition p0, entry 2 is missing"):
        await worker.catch_up()
    assert "entry 2 is missing" in worker.state().damage
    assert sql(config, "SELECT sequence FROM reporting.offsets") == [(0,)]


async def test_an_epoch_that_falls_stops_the_partition(ledger: redis.Redis, worker: PartitionWorker) -> None:
    log = PartitionLog(ledger, "p0", epoch=5)
    log.append([registered(1)])
    await worker.catch_up()
    log.epoch = 4
    log.append([registered(2)])
    with pytest.raises(DamagedDataError, match="epoch 4, after epoch 5"):
        await worker.catch_up()


async def test_a_ledger_that_has_lost_entries_stops_the_partition(
    config: ReportingConfig, ledger: redis.Redis, worker: PartitionWorker
) -> None:
    log = PartitionLog(ledger, "p0")
    log.append([registered(1)])
    log.append([registered(2)])
    await worker.catch_up()
    ledger.xdel("pg:{p0}:log", "2-0")
    again = PartitionWorker(config, "p0")
    with pytest.raises(DamagedDataError, match="lost entries"):
        await again.catch_up()
    await again.close()


FOREIGN = pb.LogEntry(partition="p1", sequence=1).SerializeToString()
BIT_FLIPPED = seal(pb.LogEntry(partition="p0", sequence=1).SerializeToString()).replace(b"p0", b"p2")


@pytest.mark.parametrize("spoilt", [b"\xff\xff", seal(b"\xff\xff"), FOREIGN, seal(FOREIGN), BIT_FLIPPED])
async def test_an_entry_that_is_not_this_partitions_stops_it(
    ledger: redis.Redis, worker: PartitionWorker, spoilt: bytes
) -> None:
    ledger.xadd("pg:{p0}:log", {"e": spoilt}, id="1-0")
    with pytest.raises(DamagedDataError, match="entry 1"):
        await worker.catch_up()


async def test_new_entries_are_in_postgres_within_a_blink(
    config: ReportingConfig, ledger: redis.Redis, worker: PartitionWorker
) -> None:
    running = asyncio.create_task(worker.run())
    log = PartitionLog(ledger, "p0")
    lags = []
    for ticket in range(1, 21):
        began = time.monotonic()
        await asyncio.to_thread(log.append, [registered(ticket)])
        async with asyncio.timeout(10):
            while worker.state().sequence < ticket:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        lags.append(time.monotonic() - began)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert sorted(lags)[10] < 0.25
    assert await differences(config) == []


WORKER_PROCESS = """
import asyncio, sys
from reporting.config import ReportingConfig
from reporting.worker import PartitionWorker
config = ReportingConfig(sys.argv[1], sys.argv[2], ("p0",), "Europe/Paris")
print("ready", flush=True)
asyncio.run(PartitionWorker(config, "p0").run())
"""


async def test_a_worker_that_is_killed_again_and_again_counts_every_event_once(
    config: ReportingConfig, ledger: redis.Redis, worker: PartitionWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I6: a real process, SIGKILLed at seeded moments while it catches up and while more is written."""
    chance = random.Random(11)
    day = BusyDay(PartitionLog(ledger, "p0"), random.Random(4), 1_000)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    kills_while_behind = 0
    for _ in range(8):
        day.write(300)
        process = subprocess.Popen(  # noqa: ASYNC220
            [sys.executable, "-c", WORKER_PROCESS, config.postgres_url, config.redis_url],
            env=environment,
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        await asyncio.to_thread(process.stdout.readline)
        await asyncio.sleep(chance.uniform(0.0, 0.12))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        done = int(ledger.get("pg:{p0}:reported") or 0)
        kills_while_behind += done < day.log.sequence
    assert kills_while_behind >= 2
    await worker.catch_up()
    assert await differences(config) == []


async def test_while_postgres_is_away_the_worker_waits_and_then_catches_up(
    tmp_path_factory: pytest.TempPathFactory, valkey_url: str, ledger: redis.Redis
) -> None:
    """I10."""
    server = EmbeddedPostgres(tmp_path_factory.mktemp("away"))
    server.start()
    await migrate(server.url)
    config = ReportingConfig(server.url, valkey_url, ("p0",), "Europe/Paris")
    worker = PartitionWorker(config, "p0")
    running = asyncio.create_task(worker.run())
    day = BusyDay(PartitionLog(ledger, "p0"), random.Random(5), 1_000)
    try:
        day.write(50)
        await reach(worker, 50)
        await asyncio.to_thread(server.stop)
        day.write(150)
        await asyncio.sleep(0.5)
        assert not running.done()
        assert worker.state().sequence == 50
        await asyncio.to_thread(server.start)
        await reach(worker, 200)
        assert await differences(config) == []
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await worker.close()
        await asyncio.to_thread(server.stop)


async def reach(worker: PartitionWorker, sequence: int) -> None:
    async with asyncio.timeout(30):
        while worker.state().sequence < sequence:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
