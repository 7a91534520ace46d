"""The folder of a report: what was there stays until something whole takes its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtest.surge.folder import MARK, ReportFolder
from ops.errors import BadInput, OpsError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def reported(out: Path, text: str) -> None:
    """A whole rehearsal that wrote this."""
    folder = ReportFolder(out)
    (folder.begin() / "report.html").write_text(text)
    folder.finish()


def test_a_report_takes_the_place_of_the_last_one_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    reported(out, "first")
    (out / "logs").mkdir()
    reported(out, "second")
    assert names(tmp_path / "new") == ["out"]
    assert names(out) == [MARK, "report.html"]
    assert (out / "report.html").read_text() == "second"


def test_what_was_begun_and_not_finished_leaves_the_last_report_and_is_cleared_the_next_time(tmp_path: Path) -> None:
    out = tmp_path / "out"
    reported(out, "first")
    broken = ReportFolder(out)
    (broken.begin() / "gates.log").write_text("why")
    (broken.unfinished / "work").mkdir()
    broken.end()
    assert (out / "report.html").read_text() == "first"
    assert names(broken.unfinished) == [MARK, "gates.log", "work"]
    again = ReportFolder(out)
    assert names(again.begin()) == [MARK]
    again.end()


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    for name in ("out", "out.unfinished", "out.replaced"):
        theirs = tmp_path / name
        theirs.mkdir()
        (theirs / "thesis.txt").touch()
        with pytest.raises(BadInput, match="holds other files"):
            ReportFolder(tmp_path / "out").begin()
        assert names(theirs) == ["thesis.txt"]
        (theirs / "thesis.txt").unlink()


def test_a_folder_that_cannot_be_made_is_told_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "out"):
        with pytest.raises(BadInput, match=r"Cannot make the folder .*Not a directory"):
            ReportFolder(place).begin()


def test_two_rehearsals_do_not_write_the_same_report(tmp_path: Path) -> None:
    first = ReportFolder(tmp_path / "out")
    (first.begin() / "record.json").touch()
    with pytest.raises(OpsError, match="Another rehearsal writes its report"):
        ReportFolder(tmp_path / "out").begin()
    assert names(first.unfinished) == [MARK, "record.json"]
    first.end()
    second = ReportFolder(tmp_path / "out")
    second.begin()
    second.end()


def test_a_report_that_cannot_take_its_place_says_where_it_is(tmp_path: Path) -> None:
    folder = ReportFolder(tmp_path / "out")
    (folder.begin() / "report.html").touch()
    for name in ("out", "out.replaced"):  # somebody made them meanwhile
        (tmp_path / name).touch()
    with pytest.raises(OpsError, match=r"It is in .*out\.unfinished"):
        folder.finish()
    assert (folder.unfinished / "report.html").exists()


def test_a_link_to_a_folder_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk", target_is_directory=True)
    reported(tmp_path / "out", "first")
    assert (tmp_path / "out").is_symlink()
    assert names(tmp_path / "disk") == [MARK, "report.html"]
