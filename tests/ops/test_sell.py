"""What the newcomer's commands say when nothing runs, and how amounts and refusals read."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from own_stack import CommandLine

from ops import enrolment
from ops.devices import gate_folder, window_folder
from ops.errors import BadInput
from ops.pki import Kind
from ops.window import money


@pytest.mark.parametrize(
    "arguments",
    [
        ["sell", "--product", "day"],
        ["refund", "1"],
        ["catalogue", "show"],
        ["gate", "run", "--gate", "main-1"],
    ],
)
def test_without_a_stack_a_command_says_how_to_start_one(data_dir: Path, arguments: list[str]) -> None:
    done = CommandLine(data_dir).run(*arguments)
    assert done.returncode == 1
    assert f"Nothing runs on {data_dir}. Start it with `parkgate up --detach --data-dir {data_dir}`." in done.stderr


def test_a_catalogue_folder_is_checked_without_a_stack(data_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "park.toml").write_text("format = 1\n[venue]\nname = 3\n")
    done = CommandLine(data_dir).run("catalogue", "check", str(tmp_path))
    assert done.returncode == 2
    assert "venue.name" in done.stderr
    assert "is in order" in CommandLine(data_dir).ok("catalogue", "check", str(Path(__file__).parents[2] / "catalogue"))


@pytest.mark.parametrize(
    ("minor", "digits", "text"),
    [(0, 2, "0.00"), (5, 2, "0.05"), (123_456, 2, "1,234.56"), (-5, 2, "-0.05"), (1_234, 0, "1,234"), (1, 3, "0.001")],
)
def test_amounts_are_written_with_the_digits_of_their_currency(minor: int, digits: int, text: str) -> None:
    assert money(minor, digits) == text


def test_a_device_s_certificate_is_made_once_and_kept(data_dir: Path) -> None:
    folder = gate_folder(data_dir, ("main-1", "main-2"))
    key = next(folder.glob("*.key")).read_bytes()
    assert gate_folder(data_dir, ("main-1", "main-2")) == folder
    assert next(folder.glob("*.key")).read_bytes() == key
    assert gate_folder(data_dir, ("main-1",)) != folder
    assert next(one.uris for one in enrolment.issued(data_dir))[1:] == (
        "parkgate://gate/main-1",
        "parkgate://gate/main-2",
    )


def test_many_gates_of_one_device_still_have_a_name(data_dir: Path) -> None:
    gates = [f"a-long-name-of-a-gate-{number}" for number in range(12)]
    assert next(gate_folder(data_dir, gates).glob("*.key")).name.startswith("local-")


def test_a_window_that_was_enrolled_elsewhere_is_not_taken_over(data_dir: Path) -> None:
    enrolment.enroll(data_dir, Kind.WINDOW, "w1", (), datetime.now(UTC))
    with pytest.raises(BadInput, match="was enrolled before"):
        window_folder(data_dir, "w1")


def test_a_revoked_window_is_enrolled_anew(data_dir: Path) -> None:
    folder = window_folder(data_dir, "w1")
    before = (folder / "w1.pem").read_bytes()
    enrolment.revoke(data_dir, "w1", datetime.now(UTC))
    assert (window_folder(data_dir, "w1") / "w1.pem").read_bytes() != before
