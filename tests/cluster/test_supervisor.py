"""How long the supervisor waits for an actor. That it replaces one that stands still is tried by `make chaos`."""

from __future__ import annotations

from cluster.supervisor import SILENT_S, START_TIMEOUT_S, Watched


def test_an_actor_owes_the_next_answer_soon_only_after_it_has_answered() -> None:
    """I10: while it starts, or comes back from a failure, it may take a minute to recover its partitions."""
    item = Watched("owner-0", object, lambda: None)
    assert item.patience_s == START_TIMEOUT_S
    item.pid = 4_711
    assert item.patience_s == SILENT_S
    item.failures = 1
    assert item.patience_s == START_TIMEOUT_S
