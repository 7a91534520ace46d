"""Ids that rise, from Postgres sequences taken a block at a time, so that most orders ask for none.

A block that is lost with its process leaves a gap; an id is never given twice.
"""

from __future__ import annotations

import asyncio

import sqlalchemy as sa

from sales.database import Database

BLOCK = 1_000
"""Ids a block: a round trip in a thousand tickets, and gaps that nobody minds."""


class BlockSequence:
    """Rising numbers from 1, unique over all processes that share the Postgres sequence."""

    def __init__(self, database: Database, name: str) -> None:
        self._database = database
        self._statement = sa.text("SELECT nextval(CAST(:name AS regclass))").bindparams(name=f"sales.{name}")
        self._next = self._end = 0
        self._lock = asyncio.Lock()

    async def take(self, count: int) -> list[int]:
        """`count` numbers, rising."""
        async with self._lock:
            taken: list[int] = []
            while len(taken) < count:
                if self._next == self._end:
                    await self._refill()
                end = min(self._end, self._next + count - len(taken))
                taken.extend(range(self._next, end))
                self._next = end
            return taken

    async def _refill(self) -> None:
        async with self._database.reading() as connection:
            block = (await connection.execute(self._statement)).scalar_one()
        self._next = (block - 1) * BLOCK + 1
        self._end = self._next + BLOCK
