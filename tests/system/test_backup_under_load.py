"""A backup that is made while gates admit and windows sell, restored beside it and put before the checker.

Proves I2, I6 and I9 of the restored park: what a gate had heard before the backup began is in it, its books are a
recount of its ledger, exactly, and its postings balance.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from cluster.config import QUOTA_PARTITION
from ops.settings import load
from ops.stack import Endpoints
from parkgate.events.v1 import events_pb2
from parkgate.gate.v1 import gate_pb2
from sales.catalogue_folder import load_folder
from tests.checker import StoredEntry, check_books, read_ledger
from tests.checker.sources import books_of, ledger_of
from tests.cluster.elementary import elementary
from tests.ops.own_stack import CommandLine
from tests.system import traffic as day
from tests.system.stack import Stack, tell

pytestmark = [pytest.mark.system, pytest.mark.ray, pytest.mark.timeout(240)]

BUSY_S = 3.0


def admitted_in(entries: list[StoredEntry]) -> set[bytes]:
    """Scans that a ledger has admitted."""
    decided = (event.scan_decided for one in entries for event in elementary(events_pb2.LogEntry.FromString(one.data)))
    return {scan.scan_id for scan in decided if scan.decision == gate_pb2.DECISION_ADMIT}


async def test_a_backup_made_under_load_is_a_park_that_passes_the_checker(stack: Stack, tmp_path: Path) -> None:
    tickets = [ticket for _ in range(3) for ticket in await day.sell(stack, "day", 200, day.today(stack))]
    archive, other = tmp_path / "busy.backup", CommandLine(tmp_path / "elsewhere" / "data")
    async with day.Traffic(stack, [ticket.token for ticket in tickets], day.today(stack, 397)) as traffic:
        await traffic.wait_admitted(time.monotonic(), 10)
        await asyncio.sleep(BUSY_S)
        before, began = traffic.admitted(), time.monotonic()
        said = await asyncio.to_thread(stack.output, "backup", "--out", str(archive))
        took_s, pause_s = time.monotonic() - began, traffic.longest_pause(began)
        during = len(traffic.admitted()) - len(before)
    assert archive.exists(), said.decode()
    tell(f"backup of a busy park in {took_s:.1f} s: {during} admitted meanwhile, the longest pause {pause_s:.2f} s")
    assert during > 0
    assert pause_s < 2.0
    heard = {told.scan.scan_id for told in before}
    await asyncio.to_thread(check_restored, other, archive, heard)


def check_restored(other: CommandLine, archive: Path, heard: set[bytes]) -> None:
    """Restores, starts, lets reporting catch up, and compares everything with everything."""
    settings_file = other.data_dir / "parkgate.toml"
    ports = settings_file.read_text()
    settings_file.unlink()
    other.ok("restore", str(archive))
    settings_file.write_text(_with_ports(settings_file.read_text(), ports))
    other.ok("up", "--detach")
    try:
        settings = load(environ={"PARKGATE_DATA_DIR": str(other.data_dir)})
        endpoints = Endpoints(settings)
        names = [*(f"p{index}" for index in range(settings.partitions)), QUOTA_PARTITION]
        zone = ZoneInfo(str(load_folder(settings.catalogue_dir)[1].venue.time_zone))
        deadline = time.monotonic() + 60
        while broken := _broken(endpoints, names, zone):
            assert time.monotonic() < deadline, broken[:5]
            time.sleep(0.5)  # reporting reads what it had not read when the backup was made
        lost = heard - admitted_in(ledger_of(endpoints.ledger_url, names))
        assert not lost, f"{len(lost)} of {len(heard)} admissions that gates had heard are not in the backup"
    finally:
        other.ok("down")


def _with_ports(restored: str, own: str) -> str:
    """The restored settings, with the ports of this place: those of the park that goes on are taken."""
    kept = [line for line in restored.splitlines() if "_port" not in line]
    return "\n".join([*kept, *(line for line in own.splitlines() if "_port" in line)]) + "\n"


def _broken(endpoints: Endpoints, names: list[str], zone: ZoneInfo) -> list[str]:
    ledger = read_ledger(ledger_of(endpoints.ledger_url, names))
    books = books_of(endpoints.postgres_url, sales=True)
    assert books.postings
    return [*map(str, ledger.violations), *map(str, check_books(books, ledger, zone))]
