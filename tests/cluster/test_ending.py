"""Tasks end for certain, also one inside of which a cancellation was lost."""

from __future__ import annotations

import asyncio

from cluster.ending import end


async def test_a_task_in_which_a_cancellation_was_lost_is_ended_all_the_same() -> None:
    lost = 0

    async def deaf() -> None:
        nonlocal lost
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                lost += 1
                if lost > 1:
                    raise

    tasks = [asyncio.create_task(deaf()), asyncio.create_task(asyncio.sleep(60))]
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await end(tasks)
    assert all(task.done() for task in tasks)
    assert lost == 2


async def test_to_end_nothing_is_no_error() -> None:
    await end([])
