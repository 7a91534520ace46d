"""What of a running system is measured."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from loadtest.bench import meters


class Process:
    """As psutil shows it; it has a megabyte."""

    def __init__(self, *words: str) -> None:
        self.words = list(words)

    def cmdline(self) -> list[str]:
        return self.words

    def memory_full_info(self) -> SimpleNamespace:
        return SimpleNamespace(uss=1_000_000)


def test_owners_are_measured_whether_or_not_they_answer_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    owners = [Process("ray::OwnerActor"), Process("ray::OwnerActor.start")]
    others = [Process("ray::QuotaActor.start"), Process("python", "ray::OwnerActor"), Process()]
    monkeypatch.setattr(meters, "processes_of", lambda _: owners + others)
    assert meters.owner_bytes(Path()) == 2_000_000


def test_owners_of_a_cluster_that_was_there_before_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    processes = {0: Process("ray::OwnerActor"), 7: Process("ray::OwnerActor")}
    monkeypatch.setattr(meters, "processes_of", lambda _, *roots: [processes[root] for root in (0, *roots)])
    assert (meters.owner_bytes(Path()), meters.owner_bytes(Path(), 7)) == (1_000_000, 2_000_000)
