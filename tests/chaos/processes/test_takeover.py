"""How a take-over is measured."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.chaos.processes import takeover
from tests.chaos.processes.takeover import Watch


async def test_an_answer_that_was_on_its_way_when_the_owner_was_lost_is_no_take_over() -> None:
    park: Any = None
    watch = Watch(park, [], iter(()))
    watch.admitted = [(0, 990, 1_004), (1, 995, 1_006), (0, 1_100, 3_000), (1, 1_200, 3_500), (1, 3_600, 3_700)]
    assert await watch.first_admissions(1_000, 1_020, frozenset({0, 1})) == 2_500


async def test_guests_who_are_not_answered_after_a_take_over_are_told_of_and_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(takeover, "ANSWERED_WITHIN_S", 0.05)
    park: Any = None
    watch = Watch(park, [], iter(()))
    waits = asyncio.create_task(asyncio.Event().wait())
    watch._streams = [waits]  # type: ignore[list-item]
    with pytest.raises(TimeoutError):
        await watch.end()
    assert waits.cancelled()
