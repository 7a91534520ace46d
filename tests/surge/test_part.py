"""The parts of the generator as processes: where they are started, and what a line means that is none of theirs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from loadtest.surge.part import Part
from loadtest.surge.parts import Certificate, Order
from ops.errors import OpsError


def order(folder: Path) -> Order:
    """One that the gates refuse at once, by themselves: there is no file of sold tickets."""
    files = (str(folder / "sold"), str(folder / "result"))
    return Order("small", {}, [], Certificate("", "", ""), *files, "2026-05-01", [(1, True)])


async def what_it_says(folder: Path) -> OpsError:
    part = await Part.start("gates", order(folder), folder / "gates.log")
    try:
        with pytest.raises(OpsError) as raised:
            await part.says("ready")
    finally:
        await part.end()
    return raised.value


async def test_a_part_runs_no_code_of_the_folder_that_the_user_is_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "parkgate").mkdir()  # as a clone is, seen from the folder above it
    (tmp_path / "secrets.py").write_text("raise SystemExit('the code of a stranger')\n")
    monkeypatch.chdir(tmp_path)
    said = await what_it_says(tmp_path)
    assert "failed: [Errno 2] No such file or directory" in said.message, (tmp_path / "gates.log").read_text()


async def test_a_line_that_is_no_message_is_told_with_the_part_and_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tmp_path / "before"
    before.mkdir()
    (before / "sitecustomize.py").write_text("print('a library says hello', flush=True)\n")
    monkeypatch.setenv("PYTHONPATH", str(before), prepend=os.pathsep)
    said = await what_it_says(tmp_path)
    assert "generator's gates" in said.message
    assert "a library says hello" in said.message
    assert str(tmp_path / "gates.log") in said.mend
