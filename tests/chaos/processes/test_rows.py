"""What becomes of a trial that breaks: a row that says how to see it again, and the trials after it go on."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tests.chaos.processes.faults import ONE_NODE
from tests.chaos.processes.rows import as_row
from tests.chaos.processes.trial import Rehearsal
from tests.checker import History


async def test_a_trial_that_breaks_is_a_violation_with_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("umount: target is busy")

    monkeypatch.setattr(Rehearsal, "_whole_day", broken)
    park: Any = SimpleNamespace(trials=0, history=History())
    row = as_row([await Rehearsal(park).run(ONE_NODE[0], seed) for seed in (3, 4)])
    assert (row.fault, row.runs, len(row.violations)) == (ONE_NODE[0].name, 2, 2)
    assert row.violations[1].startswith(f"--hosts 1 --fault {ONE_NODE[0].name} --seed 4: I10")
    assert "RuntimeError: umount: target is busy" in row.violations[1]
    assert row.traceback.count("Traceback") == 2
