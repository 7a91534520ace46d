"""Micro-batches: what is asked while the last batch is in flight goes together in the next. Knows nothing of sales.

A lone caller waits for nobody and pays no fixed delay; a crowd shares one round trip, one transaction, one fsync. It is
the pattern of the partition owner's turns, as a mechanism that use cases do not see: each awaits its own answer.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Q = TypeVar("Q")
A = TypeVar("A")


class Batcher(Generic[Q, A]):
    """Asks `work` for many at once, one batch at a time and at most `most` items a batch.

    `work` answers in the order of its items; an answer that is an exception is raised to the one who asked. What `work`
    itself raises is raised to all of the batch.
    """

    def __init__(self, work: Callable[[Sequence[Q]], Awaitable[Sequence[A | Exception]]], most: int) -> None:
        self._work = work
        self._most = most
        self._waiting: deque[tuple[Q, asyncio.Future[A]]] = deque()
        self._worker: asyncio.Task[None] | None = None

    async def ask(self, item: Q) -> A:
        """The answer to `item`."""
        future: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._worker is None:
            self._worker = asyncio.create_task(self._run())
        return await future

    async def _run(self) -> None:
        try:
            while self._waiting:
                await asyncio.sleep(0)  # what arrives in this turn of the loop goes along; nobody waits for the next
                taken = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._most))]
                _settle(taken, await self._answers([item for item, _ in taken]))
        finally:
            self._worker = None

    async def _answers(self, items: Sequence[Q]) -> Sequence[A | Exception]:
        try:
            return await self._work(items)
        except Exception as error:  # noqa: BLE001 - not handled here: raised to everyone who waits for this batch
            return [error] * len(items)


def _settle(asked: Sequence[tuple[Q, asyncio.Future[A]]], answers: Sequence[A | Exception]) -> None:
    for (_, future), answer in zip(asked, answers, strict=True):
        if future.done():  # whoever asked has gone away
            continue
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)
