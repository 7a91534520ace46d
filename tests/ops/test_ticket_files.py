"""The place of tickets is tried before anything is paid, and left as it was."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ops.commands.sell import sell
from ops.errors import OpsError
from ops.ticket_files import TicketFiles


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """As on a disk that is nearly full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(
    ("pdf", "said"),
    [
        ("file/group.pdf", "cannot be made: "),
        ("x" * 300, "cannot be written: File name too long"),
        ("loop", "cannot be written: Too many levels of symbolic links"),
        ("folder", "names a file, and .*folder is a folder. Nothing was sold. Name a file in it: .*folder/tickets.pdf"),
    ],
)
def test_a_place_that_cannot_be_written_is_told_before_anything_is_sold(tmp_path: Path, pdf: str, said: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(OpsError, match=f"{said}.*") as error:
        sell(product="day", pdf=tmp_path / pdf, data_dir=tmp_path / "no-park")
    assert "Nothing was sold." in str(error.value)


def test_a_disk_without_room_is_told_before_anything_is_sold(tmp_path: Path) -> None:
    with files_of_at_most(100_000):
        for files in (TicketFiles(tmp_path, tmp_path / "group.pdf"), TicketFiles(tmp_path)):
            files.try_out(20)
            with pytest.raises(OpsError, match="cannot be written: File too large"):
                files.try_out(500)
    assert list(tmp_path.iterdir()) == []


def test_trying_leaves_what_is_there(tmp_path: Path) -> None:
    pdf = tmp_path / "group.pdf"
    pdf.write_bytes(b"an earlier group's")
    TicketFiles(tmp_path, pdf).try_out(10)
    assert pdf.read_bytes() == b"an earlier group's"
    assert list(tmp_path.iterdir()) == [pdf]


def test_half_a_pdf_is_never_left(tmp_path: Path) -> None:
    pdf = tmp_path / "group.pdf"
    pdf.write_bytes(b"an earlier group's")
    with files_of_at_most(200), pytest.raises(OSError, match="File too large"):
        TicketFiles(tmp_path, pdf).write(None, 7, ())  # type: ignore[arg-type]
    assert pdf.read_bytes() == b"an earlier group's"
    assert list(tmp_path.iterdir()) == [pdf]


def test_a_folder_that_vanished_meanwhile_is_made_again(tmp_path: Path) -> None:
    pdf = tmp_path / "new" / "group.pdf"
    files = TicketFiles(tmp_path, pdf)
    files.try_out(1)
    pdf.parent.rmdir()
    files.write(None, 7, ())  # type: ignore[arg-type]
    assert pdf.read_bytes().startswith(b"%PDF")
