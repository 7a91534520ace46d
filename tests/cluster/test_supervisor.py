"""How long the supervisor waits for an actor, and what ends it. That it replaces one that stands still or is lost is
tried by `make chaos`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cluster.config import ClusterConfig, GatewayConfig, TlsFiles
from cluster.ending import end
from cluster.supervisor import SILENT_S, START_TIMEOUT_S, Supervisor, Watched

NOWHERE = Path("/nowhere")


def test_an_actor_owes_the_next_answer_soon_only_after_it_has_answered() -> None:
    """I10: while it starts, or comes back from a failure, it may take a minute to recover its partitions."""
    item = Watched("owner-0", object, lambda: None)
    assert item.patience_s == START_TIMEOUT_S
    item.pid = 4_711
    assert item.patience_s == SILENT_S
    item.failures = 1
    assert item.patience_s == START_TIMEOUT_S


def supervisor(monkeypatch: pytest.MonkeyPatch, create: Any) -> Supervisor:
    config = GatewayConfig("127.0.0.1", 0, TlsFiles(NOWHERE, NOWHERE, NOWHERE))
    monkeypatch.setattr("cluster.supervisor._find_or_make", create)
    return Supervisor(ClusterConfig("", NOWHERE), config, [], lambda name: None)


class Served:
    """An actor that answers at once, but for one call after it was told to break."""

    def __init__(self) -> None:
        self.broken = False
        self.start = self

    async def remote(self, *_: object) -> int:
        if self.broken:
            self.broken = False
            raise RuntimeError("Ray is not what it was")
        return 4_711


@pytest.mark.parametrize("at_start", [True, False])
async def test_a_watcher_that_ends_by_what_it_cannot_handle_ends_the_supervisor(
    monkeypatch: pytest.MonkeyPatch, at_start: bool
) -> None:
    """I10: an actor that nobody watches would never come back."""
    actor = Served()
    actor.broken = at_start
    watching = supervisor(monkeypatch, lambda *_: actor)
    if not at_start:
        await watching.start()
    actor.broken = True
    with pytest.raises(RuntimeError, match="not what it was"):
        await (watching.start() if at_start else watching.ended())
    await end(watching._tasks)
