"""What `parkgate status` says of a ledger that grows because reporting does not read it (I10)."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.commands import status
from ops.settings import Settings, load


@pytest.mark.parametrize(("used", "shown"), [(49, False), (50, True), (130, True)])
def test_a_backlog_is_shown_from_half_of_its_limit_on(
    data_dir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, used: int, shown: bool
) -> None:
    async def told(_: Settings) -> tuple[int, int]:
        return used << 20, 100 << 20

    monkeypatch.setattr(status, "_backlog", told)
    status._print_backlog(load(environ={"PARKGATE_DATA_DIR": str(data_dir)}))
    said = capsys.readouterr().out
    assert (f"{used} % of the limit" in " ".join(said.split())) is shown


def test_a_cluster_that_does_not_answer_adds_nothing(
    data_dir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(_: Settings) -> tuple[int, int]:
        raise ConnectionError

    monkeypatch.setattr(status, "_backlog", away)
    status._print_backlog(load(environ={"PARKGATE_DATA_DIR": str(data_dir)}))
    assert capsys.readouterr().out == ""
