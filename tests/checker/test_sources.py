"""The checker over a real Valkey and a real Postgres that real workers have filled, and then over spoiled ones."""

from __future__ import annotations

import random
from zoneinfo import ZoneInfo

import psycopg
import pytest
import redis

from cluster.ledger import Ledger, at_once
from reporting.config import ReportingConfig
from reporting.database import migrate
from reporting.worker import PartitionWorker
from tests.checker import check_books, read_ledger
from tests.checker.sources import books_of, ledger_of, trims_of, with_what_was_trimmed
from tests.checker.trims import Trimmed, check_trims
from tests.reporting.ledger_writer import BusyDay, PartitionLog

ZONE = "Europe/Paris"
PARTITIONS = ("p0", "p1")


@pytest.fixture
async def filled(postgres_url: str, valkey_url: str) -> tuple[str, str]:
    """Two partitions of a busy day, carried into Postgres."""
    await migrate(postgres_url)
    config = ReportingConfig(postgres_url, valkey_url, PARTITIONS, ZONE)
    with redis.Redis.from_url(valkey_url) as client:
        for number, name in enumerate(PARTITIONS):
            BusyDay(PartitionLog(client, name), random.Random(number), 1_000 * (number + 1)).write(80)
    for name in PARTITIONS:
        worker = PartitionWorker(config, name)
        await worker.catch_up()
        await worker.close()
    return postgres_url, valkey_url


def found(postgres_url: str, valkey_url: str) -> list[str]:
    ledger = read_ledger(ledger_of(valkey_url, PARTITIONS))
    assert not ledger.violations
    return [str(item) for item in check_books(books_of(postgres_url), ledger, ZoneInfo(ZONE))]


async def test_books_that_real_workers_kept_are_a_recount_of_the_real_ledger(filled: tuple[str, str]) -> None:
    """I2, I6"""
    books = books_of(filled[0])
    assert min(map(len, (books.scans, books.passages, books.tickets, books.first))) > 20
    assert found(*filled) == []


async def test_what_was_trimmed_after_it_was_read_is_still_known(filled: tuple[str, str]) -> None:
    """A snapshot stands for it; an installation that lives long enough is trimmed."""
    before = ledger_of(filled[1], PARTITIONS)
    with redis.Redis.from_url(filled[1]) as client:
        client.xtrim(f"pg:{{{PARTITIONS[0]}}}:log", minid="41-0", approximate=False)
    now = ledger_of(filled[1], PARTITIONS)
    assert [item.what for item in read_ledger(now).violations] == ["follows entry 0: the log has a gap or a repeat"]
    whole = with_what_was_trimmed(before, now)
    assert (len(whole), read_ledger(whole).violations) == (len(before), [])
    assert with_what_was_trimmed(whole, now) == whole


async def test_what_a_log_has_no_more_is_compared_with_its_snapshot_and_the_books(filled: tuple[str, str]) -> None:
    """I2, I6"""
    ledger = Ledger(filled[1])
    try:
        for name, snapshot in zip(PARTITIONS, (40, 38), strict=True):
            taken = await ledger.take(name, "owner")
            await ledger.write_snapshot(name, taken.epoch, snapshot, at_once(b"all of it"))
            await ledger.trim(name, 40)
    finally:
        await ledger.close()
    trims = trims_of(filled[1], (*PARTITIONS, "p9"))
    assert trims == [Trimmed("p0", 39, 40), Trimmed("p1", 39, 38)]
    offsets = books_of(filled[0]).offsets
    assert [item.subject for item in check_trims(trims, offsets)] == ["partition p1"]
    assert [item.promise for item in check_trims(trims[:1], offsets | {"p0": 38})] == ["I6"]


@pytest.mark.parametrize("lost", ["40-0", "80-0"])
async def test_what_is_lost_is_not_taken_for_trimmed(filled: tuple[str, str], lost: str) -> None:
    """In the middle of a log, and at its end."""
    before = ledger_of(filled[1], PARTITIONS)
    with redis.Redis.from_url(filled[1]) as client:
        client.xdel(f"pg:{{{PARTITIONS[0]}}}:log", lost)
    whole = with_what_was_trimmed(before, ledger_of(filled[1], PARTITIONS))
    assert len(whole) == len(before) - 1


async def test_bits_are_set_for_the_tickets_that_are_recognised(filled: tuple[str, str]) -> None:
    """I6: else a ticket can be recognised twice, or not again."""
    bits = (
        "SELECT partition, block << 11 | place FROM reporting.recognised_tickets, generate_series(0, 2047) AS place"
        " WHERE get_bit(tickets, place) = 1 ORDER BY 1, 2"
    )
    rows = "SELECT partition, ticket_id FROM reporting.first_admissions ORDER BY 1, 2"
    with psycopg.connect(filled[0]) as connection:
        assert connection.execute(bits.encode()).fetchall() == connection.execute(rows.encode()).fetchall()


SPOILS = {
    "INSERT INTO reporting.scan_runs SELECT * FROM reporting.scan_runs LIMIT 1": "is 2 times in Postgres",
    "DELETE FROM reporting.passage_runs WHERE sequence = 9": "is 0 times in Postgres",
    "UPDATE reporting.scan_minutes SET scans = scans + 1 WHERE gate_number = 2": "scan_sums",
    "UPDATE reporting.passage_minutes SET persons_given_back = 9": "passage_sums",
    "UPDATE reporting.ticket_days SET price_minor = price_minor + 1": "ticket_sums",
    "INSERT INTO reporting.first_admission_runs SELECT * FROM reporting.first_admission_runs": "is recognised by",
    "DELETE FROM reporting.first_admission_runs WHERE partition = 'p1'": "recognised in the ledger only",
    "DELETE FROM reporting.undone_first_admissions WHERE partition = 'p0'": "recognised in Postgres only",
    "UPDATE reporting.offsets SET sequence = 79 WHERE partition = 'p0'": "was read up to entry 79 of 80",
}


async def test_spoiled_books_are_found(filled: tuple[str, str]) -> None:
    """I2, I6"""
    for statement, said in SPOILS.items():
        assert not any(said in item for item in found(*filled)), "not yet"
        with psycopg.connect(filled[0]) as connection:
            assert connection.execute(statement.encode()).rowcount > 0
        assert any(said in item for item in found(*filled)), statement
