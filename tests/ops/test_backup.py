"""A park is backed up while it works, and restored elsewhere: what was used stays used, and every book foots."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from own_stack import CommandLine

from ops.devices import window_folder
from ops.settings import load
from ops.window import open_window
from parkgate.sales.v1 import sales_pb2

pytestmark = [pytest.mark.system, pytest.mark.timeout(200)]
SECRETS = ("signing", "postgres", "valkey")


def line() -> sales_pb2.OrderLine:
    """A day ticket for three weeks from now."""
    day = datetime.now(UTC).date() + timedelta(days=21)
    return sales_pb2.OrderLine(product_id="day", concession="adult", count=1, visit_date=day.isoformat())


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    command = CommandLine(tmp_path_factory.mktemp("park") / "data")
    command.ok("up", "--detach")
    yield command
    command.ok("down")


@contextmanager
def traffic(stack: CommandLine, sold: list[int]) -> Iterator[None]:
    """Four windows that sell one ticket after the other, and now and then refund it."""
    enough = threading.Event()
    faults: list[BaseException] = []

    async def window(number: int) -> None:
        port = load(environ={"PARKGATE_DATA_DIR": str(stack.data_dir)}).sales_port
        name = f"busy-{number}"
        async with open_window(window_folder(stack.data_dir, name), port, name) as till:
            while not enough.is_set():
                (ticket,) = (await till.sell([line()])).tickets
                sold.append(ticket.ticket_id)
                if len(sold) % 5 == 0:
                    await till.refund([ticket.ticket_id])

    async def windows() -> None:
        await asyncio.gather(*(window(number) for number in range(4)))

    def run() -> None:
        try:
            asyncio.run(windows())
        except Exception as error:  # noqa: BLE001 - it is raised in the test's own thread
            faults.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        enough.set()
        thread.join(30)
        if faults:
            raise faults[0]


def sell(stack: CommandLine, folder: Path) -> list[int]:
    told = json.loads(stack.ok("sell", "--product", "day", "--count", "3", "--out", str(folder), "--json"))
    return [int(ticket["ticket_id"]) for ticket in told["tickets"]]


def foots(stack: CommandLine) -> str:
    """What reconcile says once it agrees; what is under way may take a moment."""
    deadline = time.monotonic() + 30
    while (done := stack.run("report", "reconcile")).returncode != 0:
        assert time.monotonic() < deadline, done.stdout + done.stderr
        time.sleep(0.5)
    return done.stdout


def test_a_passphrase_that_is_gone_makes_no_backup(stack: CommandLine, tmp_path: Path) -> None:
    secret, kept = stack.data_dir / "secrets" / "signing", tmp_path / "kept"
    secret.rename(kept)
    try:
        done = stack.run("backup", "--out", str(tmp_path / "park.backup"))
        assert done.returncode == 1, done.stdout + done.stderr
        assert "signing_passphrase_file" in done.stdout + done.stderr
        assert [path.name for path in tmp_path.iterdir()] == ["kept"]
        assert not secret.exists()
    finally:
        kept.rename(secret)


def test_a_restored_park_knows_who_was_admitted_and_its_books_foot(stack: CommandLine, tmp_path: Path) -> None:
    """I1, I2, I6, I9: backed up under traffic."""
    used, unused, sold = tmp_path / "used", tmp_path / "unused", [0]
    sell(stack, used)
    sell(stack, unused)
    assert {verdict["decision"] for verdict in stack.verdicts("main-1", used)} == {"ADMIT"}
    first = {v["ticket_id"]: v["first_use"] for v in stack.verdicts("main-2", used)}
    archive = tmp_path / "park.backup"
    with traffic(stack, sold):
        deadline = time.monotonic() + 30
        while len(sold) < 40:
            assert time.monotonic() < deadline, "the windows sell nothing"
            time.sleep(0.05)
        before = len(sold)
        stack.ok("backup", "--out", str(archive))
        assert len(sold) > before, "nothing was sold while the backup was made"
        time.sleep(0.5)
    said = stack.ok("restore", str(archive), "--verify")
    assert "all of them whole" in said
    assert "passphrase opens" in said
    last_sold = max(sold)
    stack.ok("down")

    other = CommandLine(tmp_path / "elsewhere" / "data")
    (other.data_dir / "parkgate.toml").unlink()
    other.ok("restore", str(archive))
    check_private(stack, other)
    other.ok("up", "--detach")
    try:
        again = other.verdicts("main-3", used)
        assert {verdict["reason"] for verdict in again} == {"ALREADY_USED"}
        assert {verdict["ticket_id"]: verdict["first_use"] for verdict in again} == first
        assert {verdict["decision"] for verdict in other.verdicts("main-1", unused)} == {"ADMIT"}
        fresh = sell(other, tmp_path / "fresh")
        assert min(fresh) > last_sold, "an id is given twice"
        assert {verdict["decision"] for verdict in other.verdicts("main-1", tmp_path / "fresh")} == {"ADMIT"}
        assert "refunded Day ticket" in foots(other)
    finally:
        other.ok("down")


def check_private(old: CommandLine, new: CommandLine) -> None:
    """Private files stay private, the passphrase came along, the servers' passwords did not."""
    for name in ("signing/key-00.pem", "pki/ca.key", "secrets/signing", "secrets/postgres", "secrets/valkey"):
        assert (new.data_dir / name).stat().st_mode & 0o777 == 0o600, name
    secrets = {name: [(one.data_dir / "secrets" / name).read_text() for one in (old, new)] for name in SECRETS}
    assert [len(set(values)) for values in secrets.values()] == [1, 2, 2]
    assert (new.data_dir / "signing" / "key-00.pem").read_text().startswith("-----BEGIN ENCRYPTED PRIVATE KEY")
