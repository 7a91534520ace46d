"""The demo: its stories as data, its park at every hour, and the whole day on a real stack."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from ops.demo import images
from ops.demo.books import Books, Check, compare
from ops.demo.day import MARK, Options, make_out, run_demo
from ops.demo.park import SLOT_QUOTA, WATER_CAPACITY, write_catalogue
from ops.demo.runner import shorten
from ops.demo.scene import Scene
from ops.demo.screen import fill
from ops.demo.steps import Buy, Cut, Forge, LostReply, Move, Race, Refund, Scan, Story, Together
from ops.demo.stories import STORIES
from ops.errors import BadInput
from ops.example_park import evening_zone
from ops.services.catalogue import read_catalogue
from ops.settings import load
from parkgate.reporting.v1 import reporting_pb2
from parkgate.sales.v1 import sales_pb2
from sales.qr import qr_png
from ticketcore.reasons import Reason
from ticketcore.token import TOKEN_LENGTH, TokenFault, from_qr_text

FEW = "40"


@pytest.mark.parametrize("hour", range(24))
@pytest.mark.parametrize("minute", [0, 19, 20, 59])
def test_it_is_evening_in_the_park_at_every_hour(hour: int, minute: int) -> None:
    now = datetime(2026, 12, 31, hour, minute, 30, tzinfo=UTC)
    local = now.astimezone(ZoneInfo(evening_zone(now)))
    assert timedelta(hours=18, minutes=20) <= timedelta(hours=local.hour, minutes=local.minute)
    assert timedelta(hours=local.hour, minutes=local.minute) < timedelta(hours=19, minutes=20)


def test_the_demo_s_catalogue_differs_from_the_shipped_one_only_where_it_says_so(tmp_path: Path) -> None:
    shipped = read_catalogue(Path(__file__).parents[2] / "catalogue")[1]
    told = write_catalogue(tmp_path / "catalogue", datetime(2026, 5, 1, 6, 0, tzinfo=UTC))
    made = read_catalogue(tmp_path / "catalogue")[1]
    assert len(told) == 4
    assert str(made.venue.time_zone) == "Etc/GMT-13"
    assert made.zones["water-park"].capacity == WATER_CAPACITY
    assert [slot.quota for slot in made.schedules["night-show"].slots] == [1200, SLOT_QUOTA, 800]
    assert made.zones["park"] == shipped.zones["park"]
    assert made.gates == shipped.gates
    assert {key: item for key, item in made.products.items() if key != "annual"} == {
        key: item for key, item in shipped.products.items() if key != "annual"
    }


def test_every_ticket_of_a_story_was_bought_before_and_every_gate_and_reason_is_real() -> None:
    catalogue = read_catalogue(Path(__file__).parents[2] / "catalogue")[1]
    expected = {"ADMIT"} | {reason.name for reason in Reason}
    known: set[str] = set()
    for step in (step for story in STORIES for step in story.steps):
        assert {name for name in used(step) if name not in known} == set(), step
        known |= made(step)
        if isinstance(step, Scan | Together):
            assert step.gate in catalogue.gates
            assert step.expect in expected


def used(step: object) -> set[str]:
    match step:
        case Together(names):
            return set(names)
        case Forge(_, of) | Cut(_, of):
            return {of}
        case Scan(name) | Race(name) | LostReply(name) | Refund(name) | Move(name):
            return {name}
    return set()


def made(step: object) -> set[str]:
    match step:
        case Buy(name, count=1):
            return {name}
        case Buy(name, count=count):
            return {f"{name}-{number}" for number in range(1, count + 1)}
        case Forge(name) | Cut(name) | Move(to=name):
            return {name}
    return set()


def test_stories_have_titles_of_their_own_that_fit_on_the_screen() -> None:
    titles = [story.title for story in STORIES]
    assert len(set(titles)) == len(titles)
    assert max(map(len, titles)) <= 40


def test_forged_and_cut_images_can_be_read_and_are_no_tickets(tmp_path: Path) -> None:
    token = bytes([33]) + os.urandom(TOKEN_LENGTH - 1)
    original = images.write(tmp_path, "original.png", qr_png(token))
    forged = from_qr_text(images.read(images.forge(original, tmp_path / "forged.png")))
    assert forged[:17] == token[:17]
    assert forged[17:] != token[17:]
    half = images.read(images.cut(original, tmp_path / "half.png", 60))
    assert images.read(original).startswith(half)
    with pytest.raises(TokenFault):
        from_qr_text(half)


def test_a_check_fails_only_when_the_counts_differ() -> None:
    assert Check("tickets", "3", "3").failure == ""
    assert Check("tickets", "3", "4").failure == "tickets: expected 3, got 4"


def test_books_that_agree_have_no_failure_and_each_difference_is_named(tmp_path: Path) -> None:
    scene = Scene(
        load(environ={"PARKGATE_DATA_DIR": str(tmp_path)}),
        read_catalogue(Path(__file__).parents[2] / "catalogue")[1],
        tmp_path,
    )
    scene.heard.verdicts["REJECT", "WRONG_GATE"] = 2
    scene.heard.inside[1] = 5
    scene.takings.sold_minor = 7900
    scene.takings.tickets_sold = 1
    assert failures(scene, agreeing()) == []

    scene.heard.verdicts["REJECT", "WRONG_GATE"] = 3
    scene.heard.inside[1] = 4
    scene.takings.sold_minor = 7901
    books = agreeing()
    books.finance["product"].rows[0].deferred_minor -= 1
    books.counts.differences.append("registered product=1: sales 1, ledger 2")
    assert failures(scene, books) == [
        "scans answered WRONG_GATE: expected 3, got 2",
        "persons inside Park: expected 4, got 5",
        "finance by product foots, Day ticket: expected 79.00 CHF, got 78.99 CHF",
        "money sold by product: expected 79.01 CHF, got 79.00 CHF",
        "deferred rows by product add up: expected 78.99 CHF, got 79.00 CHF",
        "reconciliation: expected no difference, got registered product=1: sales 1, ledger 2",
    ]


def agreeing() -> Books:
    row = reporting_pb2.FinanceRow(sold_minor=7900, deferred_minor=7900, tickets_sold=1)
    row.group.product_name = "Day ticket"
    one = [reporting_pb2.Count(name="registered product=1", units=1, amount_minor=7900)]
    return Books(
        verdicts={("REJECT", "WRONG_GATE"): 2},
        occupancy=[reporting_pb2.OccupancyRow(zone_number=1, persons_in=5, persons_inside=5)],
        finance={"product": reporting_pb2.QueryFinanceResponse(rows=[row], totals=[row])},
        counts=reporting_pb2.GetCountsResponse(sales=one, ledger=one, postgres=one),
        sales=sales_pb2.ReconcileResponse(),
    )


@pytest.mark.parametrize(
    ("by", "group", "said"),
    [
        ("product", {"product_number": 1, "product_name": "Day ticket"}, "Day ticket"),
        ("product", {"product_number": 9}, "product 9"),
        ("channel", {"channel": "web"}, "web"),
        ("window", {"window_id": "north-1"}, "north-1"),
        ("window", {}, "no window"),
    ],
)
def test_each_row_that_foots_is_named(by: str, group: dict[str, Any], said: str, tmp_path: Path) -> None:
    row = reporting_pb2.FinanceRow(group=reporting_pb2.Group(**group))
    books = agreeing()
    books.finance.clear()
    books.finance[by] = reporting_pb2.QueryFinanceResponse(rows=[row], totals=[row])
    settings = load(environ={"PARKGATE_DATA_DIR": str(tmp_path)})
    scene = Scene(settings, read_catalogue(Path(__file__).parents[2] / "catalogue")[1], tmp_path)
    named = [check.what for check in compare(scene, books) if " foots" in check.what]
    assert named == [f"finance by {by} foots, {said}", f"finance by {by} foots, in total"]


def failures(scene: Scene, books: Books) -> list[str]:
    return [check.failure for check in compare(scene, books) if check.failure]


def test_repeats_are_counted_and_lines_break_between_pieces() -> None:
    assert shorten(["a", "b", "b", "a"]) == ["a", "b ×2", "a"]
    assert fill(["abc", "def", "ghi"], 9) == ["abc · def", "ghi"]
    assert fill(["a long piece"], 4) == ["a long piece"]
    assert fill([], 4) == []


def test_a_folder_that_is_not_the_demo_s_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(BadInput, match="holds other files"):
        make_out(tmp_path)
    assert (tmp_path / "thesis.txt").exists()


def test_the_demo_s_own_folder_is_made_anew(tmp_path: Path) -> None:
    out = tmp_path / "demo-out"
    make_out(out)
    (out / "old.png").touch()
    make_out(out)
    assert [path.name for path in out.iterdir()] == [MARK]


# The whole day.


def left_running(out: Path) -> list[int]:
    """Processes that have that folder in their command line or environment."""
    needle, found = os.fsencode(out), []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                text = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            except OSError:
                continue
            if needle in text:
                found.append(int(entry.name))
    return found


@pytest.fixture
def out(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "demo-out"
    deadline = time.monotonic() + 20
    while (left := left_running(tmp_path)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == []


def demo(out: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-u", "-m", "ops.cli", "demo", "--out", str(out), "--tickets", FEW, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PARKGATE_POSTGRES_URL": "postgresql://another@installation.example/park"},
    )


@pytest.mark.system
@pytest.mark.timeout(200)
def test_the_demo_holds_every_promise_and_leaves_images_and_reports_and_nothing_running(out: Path) -> None:
    """I1 to I9, as a newcomer sees them."""
    with demo(out) as running:
        shown = running.communicate(timeout=180)[0]
    assert running.returncode == 0, shown
    assert "All promises held" in shown
    for story in STORIES:
        assert f"✓ {story.title}" in shown
    assert max(map(len, shown.splitlines())) <= 100
    assert {path.name for path in out.iterdir()} == {MARK, "tickets", "reports"}
    assert len(list((out / "tickets").glob("*.png"))) > 60
    assert (out / "reports" / "finance-by-product.xlsx").read_bytes().startswith(b"PK")
    assert left_running(out) == []


@pytest.mark.system
@pytest.mark.timeout(200)
def test_a_broken_promise_is_named_and_is_a_failure(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = (
        Story("A story that expects the impossible", (Buy("eve", "day"), Scan("eve", "main-1", "ALREADY_USED"))),
        Story("A price that is not right", (Buy("adam", "day", free=1),)),
        Story("All is well", (Scan("eve", "main-2", "ALREADY_USED", first_gate="main-1"),)),
    )
    result = run_demo(Options(out, tickets=0, stories=wrong))
    assert result.failures == [
        "A story that expects the impossible: eve at main-1: expected ALREADY_USED, got ADMIT",
        "A price that is not right: tickets free: expected 1, got 0",
    ]
    shown = capsys.readouterr().out
    assert "2 promises broken" in shown
    assert (out / "logs").is_dir()


@pytest.mark.system
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.timeout(120)
def test_whatever_ends_the_demo_early_nothing_is_left_running(out: Path, number: signal.Signals) -> None:
    with demo(out) as running:
        assert running.stdout is not None
        for line in running.stdout:
            if "postgres" in line and "ready" in line:
                running.send_signal(number)
                break
        rest = running.communicate(timeout=60)[0]
    if number is signal.SIGKILL:
        assert running.returncode == -signal.SIGKILL
    else:
        assert running.returncode == 1
        assert "The demo was interrupted" in rest
        assert left_running(out) == []
