"""A newcomer's evening: up, sell, admit, down, up again. What was used stays used, with the first gate and time."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pypdfium2
import pytest
import zxingcpp
from own_stack import CommandLine

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    command = CommandLine(tmp_path_factory.mktemp("park") / "data")
    command.ok("up", "--detach")
    yield command
    command.ok("down")


def test_a_ticket_that_was_admitted_is_already_used_also_after_a_restart(stack: CommandLine, tmp_path: Path) -> None:
    """I2"""
    sold = json.loads(
        stack.ok("sell", "--product", "day", "--count", "2", "--tendered", "200", "--out", str(tmp_path), "--json")
    )
    assert sold["state"] == "ISSUED"
    assert sold["change_minor"] == 20_000 - sold["total_minor"]
    assert [Path(ticket["image"]).exists() for ticket in sold["tickets"]] == [True, True]
    catalogue = stack.ok("catalogue", "show", "--json")

    first = stack.verdicts("main-1", tmp_path)
    assert [verdict["decision"] for verdict in first] == ["ADMIT", "ADMIT"]
    again = stack.verdicts("main-2", tmp_path)
    assert [verdict["reason"] for verdict in again] == ["ALREADY_USED", "ALREADY_USED"]
    assert {verdict["first_use"]["gate_number"] for verdict in again} == {11}

    stack.ok("down")
    refused = stack.run("up", "--detach", partitions="8")
    assert refused.returncode == 1, "I1: the tickets would be unknown in their new partitions"
    assert "Set PARKGATE_PARTITIONS=4" in refused.stderr
    assert "Traceback" not in refused.stderr
    stack.ok("up", "--detach")
    later = stack.verdicts("main-2", tmp_path)
    assert [verdict["reason"] for verdict in later] == ["ALREADY_USED", "ALREADY_USED"]
    assert [verdict["first_use"] for verdict in later] == [verdict["first_use"] for verdict in again]
    assert stack.ok("catalogue", "show", "--json") == catalogue


def test_reports_are_asked_as_the_installation_itself_and_name_what_was_sold(stack: CommandLine) -> None:
    """No certificate is enrolled for it, and no server is named."""
    shown = stack.ok("report", "sales", "--by", "product", "--data-dir", str(stack.data_dir))
    assert "Day ticket" in shown
    kept = stack.data_dir.with_name("elsewhere")
    done = stack.run("report", "sales", "--cert", str(kept))
    assert (done.returncode, "certificate folder" in done.stderr) == (2, True)


def test_a_refund_is_quoted_first_and_never_paid_for_a_used_ticket(stack: CommandLine, tmp_path: Path) -> None:
    """I5"""
    images = {name: tmp_path / name for name in ("used", "unused")}
    ids = {name: sell(stack, folder)["ticket_id"] for name, folder in images.items()}
    assert stack.verdicts("lake-1", images["used"])[0]["decision"] == "ADMIT"

    quoted = stack.run("refund", *ids.values())
    assert (quoted.returncode, "it was used once" in quoted.stdout) == (1, True), "said before anything is asked for"
    assert "Confirm with --yes" in stack.ok("refund", ids["unused"])
    done = stack.run("refund", *ids.values(), "--yes", "--json")
    assert done.returncode == 1
    outcomes = {one["ticket_id"]: one for one in json.loads(done.stdout)}
    assert outcomes[ids["used"]]["outcome"] == "ALREADY_USED"
    paid = outcomes[ids["unused"]]
    assert paid["outcome"] == "REFUNDED"
    assert paid["fee_minor"] + paid["refund_minor"] == paid["price_minor"]
    assert stack.verdicts("lake-1", images["unused"])[0]["reason"] == "REFUNDED"


def sell(stack: CommandLine, out: Path) -> dict[str, str]:
    answer = json.loads(stack.ok("sell", "--product", "day", "--pay", "provider", "--out", str(out), "--json"))
    ticket: dict[str, str] = answer["tickets"][0]
    return ticket


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--product", "dy"], 2, "product: 'dy' does not exist; known are annual, day"),
        (["--product", "day", "--concession", "elf"], 2, "known are"),
        (["--product", "day", "--date", "2026-13-01"], 2, "date: is '2026-13-01', expected a date"),
        (["--product", "day", "--date", "2020-01-01"], 2, "date: 2020-01-01 is not within"),
        (["--product", "night-show"], 2, "slot: 0 does not exist for 'night-show'; known are 1, 2, 3"),
        (["--product", "night-show", "--slot", "3", "--count", "801"], 1, "slot 3 has 800 places left"),
        (["--product", "day", "--concession", "group"], 2, "sold to 10 persons or more"),
        (["--product", "day", "--tendered", "1"], 2, "--tendered 1 is less than the price"),
        (["--product", "day", "--tendered", "much"], 2, "--tendered: 'much' is no amount"),
        (["--product", "day", "--tendered", "90", "--pay", "provider"], 2, "goes with --pay cash only"),
        (["--product", "day", "--window", "W 1"], 2, "cannot be a window name"),
        (["--product", "day", "--count", "0"], 2, "--count"),
        (["--product", "day", "--out", "/dev/null/x"], 1, "Nothing was sold"),
    ],
)
def test_what_cannot_be_sold_gets_one_clear_error(
    stack: CommandLine, tmp_path: Path, arguments: list[str], code: int, says: str
) -> None:
    done = stack.run("sell", "--out", str(tmp_path / "tickets"), *arguments)
    assert says in done.stderr
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("*.png"))


def test_a_group_is_issued_as_one_pdf_whose_codes_are_those_of_its_tickets(stack: CommandLine, tmp_path: Path) -> None:
    pdf = tmp_path / "group.pdf"
    told = stack.ok("sell", "--product", "day", "--concession", "group", "--count", "25", "--pdf", str(pdf), "--json")
    sheets = [page.render(scale=300 / 72).to_pil() for page in pypdfium2.PdfDocument(pdf)]
    read = [found.text for sheet in sheets for found in zxingcpp.read_barcodes(sheet)]
    assert sorted(read) == sorted(ticket["code"] for ticket in json.loads(told)["tickets"])
    assert (len(sheets), len(read)) == (3, 25)
    assert not list(tmp_path.rglob("*.png"))
    words = stack.ok("sell", "--product", "day", "--count", "2", "--pdf", str(pdf))
    assert "2 tickets to print and cut" in words


def test_tickets_that_could_not_be_written_are_kept_and_written_elsewhere_without_paying(
    stack: CommandLine, tmp_path: Path
) -> None:
    """A disk that is full only once the money is taken: the order is named, and the command that helps."""
    done = stack.run("sell", "--product", "day", "--count", "2", "--pdf", "/dev/full")
    assert (done.returncode, "No space left" in done.stderr, "Traceback" in done.stderr) == (1, True, False)
    found = re.search(r"Order (\d+) is paid.*`parkgate (tickets \1 --pdf) FILE`", done.stderr)
    assert found, done.stderr
    sold = stack.ok("report", "sales", "--data-dir", str(stack.data_dir))

    pdf = tmp_path / "again.pdf"
    told = json.loads(stack.ok(*found[2].split(), str(pdf), "--json"))
    read = zxingcpp.read_barcodes(pypdfium2.PdfDocument(pdf)[0].render(scale=300 / 72).to_pil())
    assert sorted(one.text for one in read) == sorted(ticket["code"] for ticket in told["tickets"])
    assert len(read) == 2
    assert stack.ok("report", "sales", "--data-dir", str(stack.data_dir)) == sold

    stack.ok("refund", told["tickets"][0]["ticket_id"], "--yes")
    shown = stack.ok("tickets", found[1], "--out", str(tmp_path / "left"))
    assert told["tickets"][1]["ticket_id"] in shown
    assert [path.stem for path in (tmp_path / "left").iterdir()] == [told["tickets"][1]["ticket_id"]]
    assert stack.verdicts("main-1", tmp_path / "left")[0]["decision"] == "ADMIT"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["999999"], 2, "order 999999 does not exist"),
        (["0"], 2, "ORDER_ID"),
        (["1", "--window", "w9"], 2, "order 1 does not exist at this window"),
    ],
)
def test_an_order_that_is_not_there_has_no_tickets(
    stack: CommandLine, tmp_path: Path, arguments: list[str], code: int, says: str
) -> None:
    stack.ok("sell", "--product", "day", "--out", str(tmp_path / "first"))
    done = stack.run("tickets", "--out", str(tmp_path / "again"), *arguments)
    assert says in done.stderr
    assert done.returncode == code
    assert not (tmp_path / "again").exists()


def test_a_catalogue_is_checked_before_it_is_in_force(stack: CommandLine, tmp_path: Path) -> None:
    folder = tmp_path / "catalogue"
    folder.mkdir()
    for path in (stack.data_dir / "catalogue").glob("*.toml"):
        (folder / path.name).write_text(path.read_text("utf-8").replace('name = "Day ticket"', 'name = "Day pass"'))
    assert "is in order" in stack.ok("catalogue", "check", str(folder))
    assert "is in force" in stack.ok("catalogue", "publish", str(folder))
    assert "Day pass" in stack.ok("catalogue", "show")
    assert "Nothing changed" in stack.ok("catalogue", "publish", str(folder))
    (folder / "park.toml").write_text((folder / "park.toml").read_text("utf-8").replace('"CHF"', '"francs"'))
    refused = stack.run("catalogue", "publish", str(folder))
    assert refused.returncode == 2
    assert "currency" in refused.stderr
    assert "Day pass" in stack.ok("catalogue", "show")


def test_an_unknown_gate_is_named_with_the_nearest_that_there_are(stack: CommandLine, tmp_path: Path) -> None:
    done = stack.run("gate", "run", "--gate", "main-9", "--source", f"file:{tmp_path}")
    assert done.returncode == 2
    assert "There is no gate main-9 in the catalogue. Nearest: main-" in done.stderr


def test_a_bundle_is_refunded_whole_or_not_at_all_by_the_real_owners(stack: CommandLine, tmp_path: Path) -> None:
    """I5: of three tickets with owners that know nothing of each other, one is used."""
    bundles = []
    for name in ("used", "unused"):
        sold = stack.ok("sell", "--product", "splash-and-spin", "--out", str(tmp_path / name), "--json")
        bundles.append([ticket["ticket_id"] for ticket in json.loads(sold)["tickets"]])
    assert [len(bundle) for bundle in bundles] == [3, 3]
    decisions = {verdict["decision"] for verdict in stack.verdicts("water-1", tmp_path / "used")}
    assert decisions == {"ADMIT", "REJECT"}, "the water park's ticket is good there, those of the wheel are not"
    done = stack.run("refund", *bundles[0], *bundles[1], "--yes", "--json")
    outcomes = {one["ticket_id"]: one["outcome"] for one in json.loads(done.stdout)}
    assert [outcomes[ticket] for ticket in bundles[0]] == ["ALREADY_USED"] * 3
    assert [outcomes[ticket] for ticket in bundles[1]] == ["REFUNDED"] * 3
    wheel = [verdict["decision"] for verdict in stack.verdicts("wheel-1", tmp_path / "used")]
    assert wheel.count("ADMIT") == 2, "its other tickets were let free"
    after = {verdict["reason"] for verdict in stack.verdicts("wheel-1", tmp_path / "unused")}
    assert "REFUNDED" in after
