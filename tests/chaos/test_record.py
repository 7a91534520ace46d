"""What a run of `make chaos` leaves, however it ends."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.processes import tools
from tests.chaos.processes.rows import left_out_row
from tests.chaos.record import Record
from tests.chaos.rows import PlantedBug, Row

GOOD = Row("layer", "fault", "says", 1, 2, 0, 2, (), 1_500)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def record(tmp_path: Path, said: list[str]) -> Record:
    return Record(tmp_path / "build" / "chaos.json", said.append, lambda: 7.0)


def on_disk(record: Record) -> dict[str, Any]:
    return dict(json.loads(record.path.read_text()))


def test_a_row_is_said_and_on_disk_as_soon_as_it_is_there(record: Record, said: list[str]) -> None:
    assert on_disk(record)["faults"] == []
    record.put(GOOD)
    assert said == ["0 s: layer: fault: 1 run, 2 operations, 0 unknown, 2 admitted, recovery 1.5 s, 0 violations"]
    assert [row["fault"] for row in on_disk(record)["faults"]] == ["fault"]
    assert on_disk(record)["complete"] is False
    record.finish()
    assert on_disk(record)["complete"] is True
    assert [path.name for path in record.path.parent.iterdir()] == ["chaos.json"]


def test_what_failed_says_with_which_seeds_it_ran(tmp_path: Path, said: list[str]) -> None:
    record = Record(tmp_path / "build" / "chaos.json", said.append, lambda: 7.0, "SEED=3")
    record.put(GOOD)
    record.put(replace(GOOD, violations=("I1: twice",)))
    record.put_bug(PlantedBug("a bug", "says", 4, "I1, seed 5 of calm"))
    record.put_bug(PlantedBug("another", "says", 40, ""))
    assert [line.endswith(", with SEED=3") for line in said] == [False, True, False, True]
    assert on_disk(record)["run"] == "SEED=3"


def test_a_row_that_goes_on_replaces_what_it_was(record: Record) -> None:
    record.put(GOOD)
    record.put(Row("layer", "other", "says", 1, 1, 0, 1, ()))
    record.put(Row("layer", "fault", "says", 2, 4, 0, 4, ()))
    assert [(row["fault"], row["runs"]) for row in on_disk(record)["faults"]] == [("fault", 2), ("other", 1)]


def test_a_stage_that_breaks_is_a_violation_with_its_name_and_the_others_go_on(record: Record) -> None:
    with record.stage("first"):
        record.put(GOOD)
        raise OSError("no loop device")
    with record.stage("second"):
        record.put(Row("layer", "later", "says", 1, 1, 0, 1, ()))
    assert record.failed
    (broken,) = [row for row in on_disk(record)["faults"] if row["violations"]]
    assert "first: did not come to its end: OSError: no loop device" in broken["violations"][0]
    assert "test_record.py" in broken["traceback"]
    assert [row.fault for row in record.rows] == ["fault", "first", "later"]


def test_a_run_that_is_told_to_end_ends_and_leaves_what_it_had(record: Record) -> None:
    record.put(GOOD)
    with pytest.raises(KeyboardInterrupt), record.stage("first"):
        raise KeyboardInterrupt
    assert [row["fault"] for row in on_disk(record)["faults"]] == ["fault"]
    assert on_disk(record)["complete"] is False


def test_a_planted_bug_that_was_missed_fails_the_run(record: Record, said: list[str]) -> None:
    record.put_bug(PlantedBug("fence", "ignored", 3, "I1, seed 3 of zombies"))
    assert not record.failed
    record.put_bug(PlantedBug("lease", "lapses", 9, ""))
    assert record.failed
    assert said[-1] == "0 s: planted bug lease: MISSED"
    assert on_disk(record)["missed_bugs"] == ["lease"]


def test_a_machine_without_a_tool_fails_the_run_and_hears_which_package(
    record: Record, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in set(tools.NEEDED) - {"nft"}:
        (tmp_path / name).touch(mode=0o755)
    monkeypatch.setattr(tools, "PATH", str(tmp_path))
    row = left_out_row()
    assert row is not None
    assert "nft (install the package nftables)" in row.violations[0]
    assert "iproute2" not in row.violations[0]
    record.put(row)
    assert record.failed
    (tmp_path / "nft").touch(mode=0o755)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert left_out_row() is None
    monkeypatch.setattr("os.geteuid", lambda: 1_000)
    row = left_out_row()
    assert row is not None
    assert "root" in row.violations[0]
