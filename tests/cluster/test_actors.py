"""What an actor says when it ends: a state that cannot be is an alarm, being replaced is not."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from cluster import actors
from ticketcore.errors import FencedError


@pytest.mark.parametrize(
    ("failure", "level"), [(FencedError("a later owner"), "warning"), (AssertionError("impossible"), "error")]
)
def test_an_actor_that_was_replaced_ends_without_an_alarm(
    failure: BaseException, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[int] = []
    monkeypatch.setattr(actors.os, "_exit", ended.append)
    with capture_logs() as said:
        actors._die_if_broken(failure)
        actors._die_if_broken(None)
    assert ended == [actors.EXIT_BROKEN]
    assert [line["log_level"] for line in said] == [level]
    assert ("rebuilt from the ledger" in said[0]["event"]) == (level == "error")
