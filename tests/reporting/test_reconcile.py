"""The comparison of books, and the checks of a log's order, on values alone. Proves I6."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC
from zoneinfo import ZoneInfo

import pytest
import redis
from ledger_writer import START_MS, PartitionLog, admitted, registered

from parkgate.events.v1 import events_pb2 as pb
from reporting.access import allowed_of, caller_of
from reporting.actors import ReportingActor
from reporting.batch import batch_of, utc_text
from reporting.config import ReportingConfig
from reporting.database import migrate
from reporting.log_reader import check_entries
from reporting.reconcile import Count, CountBook, compare
from reporting.recount import Recount
from reporting.store import Offset
from ticketcore.errors import DamagedDataError
from ticketcore.seal import seal


def book(name: str, units: int, amount: int, keeps: tuple[str, ...] = ()) -> CountBook:
    return CountBook(name, {"registered product=1": Count(units, amount)}, keeps)


def test_books_that_say_the_same_have_no_differences() -> None:
    assert compare([book("a", 3, 100), book("b", 3, 100), book("c", 3, 100)]) == []


@pytest.mark.parametrize(("units", "amount"), [(2, 100), (4, 100), (3, 99), (3, 101), (0, 0)])
def test_a_unit_or_a_cent_more_or_less_is_a_difference(units: int, amount: int) -> None:
    """I6."""
    (difference,) = compare([book("a", 3, 100), book("b", 3, 100), book("c", units, amount)])
    assert difference.item == "registered product=1"
    assert f"c {units} ({amount} minor)" in str(difference)


def test_an_item_that_a_book_does_not_have_counts_as_nothing_if_it_keeps_that_kind() -> None:
    scans = CountBook("ledger", {"scans entry": Count(5)})
    assert compare([scans, CountBook("sales", {}, ("registered",))]) == []
    assert len(compare([scans, CountBook("postgres", {})])) == 1


def rows(*entries: pb.LogEntry) -> list[tuple[bytes, dict[bytes, bytes]]]:
    return [(b"%d-0" % entry.sequence, {b"e": seal(entry.SerializeToString())}) for entry in entries]


def entry(sequence: int, epoch: int = 1) -> pb.LogEntry:
    return pb.LogEntry(partition="p0", sequence=sequence, epoch=epoch, time_ms=START_MS)


def test_entries_that_follow_are_taken() -> None:
    taken = check_entries("p0", Offset(4, 2), rows(entry(5, 2), entry(6, 3)))
    assert [one.sequence for one in taken] == [5, 6]


@pytest.mark.parametrize(
    "bad",
    [rows(entry(6)), rows(entry(5), entry(7)), rows(entry(4)), rows(entry(5, 0)), [(b"5-0", {b"x": b""})]],
)
def test_entries_that_do_not_follow_are_damage(bad: list[tuple[bytes, dict[bytes, bytes]]]) -> None:
    with pytest.raises(DamagedDataError):
        check_entries("p0", Offset(4, 1), bad)


def test_a_clock_that_is_mad_becomes_an_end_of_the_calendar() -> None:
    assert utc_text(-(2**63)) == "1970-01-01 00:00:00.000+00"
    assert utc_text(2**63 - 1).startswith("9999-12-31 23:59:59")
    assert utc_text(START_MS + 7) == "2026-05-01 08:00:00.007+00"


def test_ids_that_a_forged_token_claims_fit_the_books() -> None:
    event = admitted(2**64 - 1, 1, first=False)
    batch = batch_of("p0", [pb.LogEntry(partition="p0", sequence=1, time_ms=START_MS, events=[event])], UTC)
    assert bytes(batch.scans).count(b"\0\0\0\x08" + b"\xff" * 8) == 1  # bigint -1


def test_the_recount_refuses_a_second_first_admission() -> None:
    counter = Recount()
    counter.take(admitted(7, 1))
    with pytest.raises(DamagedDataError, match="ticket 7"):
        counter.take(admitted(7, 2))


async def test_a_damaged_partition_stops_alone_and_the_others_go_on(postgres_url: str, valkey_url: str) -> None:
    await migrate(postgres_url)
    await migrate(postgres_url)
    with redis.Redis.from_url(valkey_url) as client:
        good, bad = PartitionLog(client, "p1"), PartitionLog(client, "p0", sequence=1)
        bad.append([registered(1)])
        good.append([registered(2)])
        actor = ReportingActor(
            ReportingConfig(postgres_url, valkey_url, ("p0", "p1"), "Europe/Paris"), ["p0", "p1"], niceness=0
        )
        assert await actor.start() == await actor.start() == os.getpid()
        try:
            async with asyncio.timeout(20):
                while True:
                    damaged, healthy = await actor.state()
                    if damaged.damage and healthy.sequence == 1:
                        break
                    await asyncio.sleep(0.01)
            good.append([registered(3)])
            async with asyncio.timeout(20):
                while (await actor.state())[1].sequence < 2:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            assert "entry 1 is missing" in (await actor.state())[0].damage
        finally:
            await actor.stop()


async def test_reporting_whose_worker_meets_what_it_cannot_handle_ends_and_is_made_anew(
    postgres_url: str, valkey_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """I6, I10: a worker that is dead in a process that answers would never catch up."""
    ended: list[int] = []
    monkeypatch.setattr("reporting.actors.os._exit", ended.append)

    async def broken(_: object) -> None:
        raise ValueError("nobody expects this")

    monkeypatch.setattr("reporting.worker.PartitionWorker.run", broken)
    config = ReportingConfig(postgres_url, valkey_url, ("p0", "p1"), "Europe/Paris")
    actor = ReportingActor(config, ["p0", "p1"], niceness=0)
    try:
        async with asyncio.timeout(20):
            while not ended:
                assert await actor.start() == os.getpid()
                await asyncio.sleep(0.01)
    finally:
        await actor.stop()
    assert [record.levelname for record in caplog.records if "nobody expects this" in record.message] == ["CRITICAL"]


@pytest.mark.parametrize("fails", [True, False])
async def test_a_call_to_reporting_is_held_until_its_work_ends(
    postgres_url: str, valkey_url: str, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    """I10: what it cannot handle ends it at once, and so does its stop the call."""
    ended: list[int] = []
    monkeypatch.setattr("reporting.actors.os._exit", ended.append)
    breaks = asyncio.Event()

    async def works(_: object) -> None:
        await breaks.wait()
        raise ValueError("nobody expects this")

    monkeypatch.setattr("reporting.worker.PartitionWorker.run", works)
    actor = ReportingActor(ReportingConfig(postgres_url, valkey_url, ("p0",), "Europe/Paris"), ["p0"], niceness=0)
    async with asyncio.timeout(20):
        assert await actor.start(60.0) == os.getpid(), "the first call starts it, and is not held"
        call = asyncio.create_task(actor.start(60.0))
        done, _ = await asyncio.wait([call], timeout=0.05)
        assert not done
        assert await actor.start() == os.getpid(), "others do not wait for it"
        if fails:
            breaks.set()
            await call
        await actor.stop()
        assert await call == os.getpid()
    assert bool(ended) == fails


@pytest.mark.parametrize(
    ("uris", "allowed"),
    [
        (["parkgate://finance/ann"], "parkgate://finance/ann"),
        (["parkgate://gate/g1", "parkgate://service/demo"], "parkgate://service/demo"),
        (["parkgate://finance/"], ""),
        (["parkgate://gate/finance"], ""),
        (["https://finance/ann"], ""),
        ([], ""),
    ],
)
def test_only_a_finance_or_service_identity_with_a_name_may_ask(uris: list[str], allowed: str) -> None:
    assert allowed_of(uris) == allowed
    assert caller_of(b"no certificate") == ""


def test_the_parks_midnight_is_where_its_zone_says() -> None:
    one = pb.LogEntry(partition="p0", sequence=1, time_ms=1_777_672_800_000, events=[registered(1)])
    assert batch_of("p0", [one], ZoneInfo("Europe/Paris")).last_day == "2026-05-02"
    assert batch_of("p0", [one], UTC).last_day == "2026-05-01"
