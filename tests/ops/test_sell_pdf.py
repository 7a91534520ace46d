"""Selling to a PDF: what is wrong with its place is told before anything is sold."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.commands.sell import sell
from ops.errors import BadInput


def test_a_folder_instead_of_a_file_is_refused_before_anything_is_sold(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="names a file") as error:
        sell(product="day", pdf=tmp_path, data_dir=tmp_path / "no-park")
    assert "tickets.pdf" in error.value.mend
