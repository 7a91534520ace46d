"""A seeded crowd: codes drawn from a list, some shown twice, cut off, smudged or foreign, with guests' own pauses."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from gateclient.readers.base import ReadCode
from ticketcore import base45
from ticketcore.token import TOKEN_LENGTH, VERSION


@dataclass(frozen=True, slots=True)
class Crowd:
    """How guests behave. Shares are of all guests; `pause_s` is the mean time from one guest to the next."""

    guests: int
    seed: int = 1
    pause_s: float = 0.05
    again_share: float = 0.05
    cut_share: float = 0.02
    foreign_share: float = 0.03


class SimulatedReader:
    """`crowd.guests` codes: with a list each of its codes once, in a seeded order, then foreign ones; mishaps added."""

    def __init__(self, crowd: Crowd, codes: Sequence[str] = ()) -> None:
        self._crowd = crowd
        self._codes = list(codes)

    async def codes(self) -> AsyncIterator[ReadCode]:
        """See Reader."""
        chance = random.Random(self._crowd.seed)  # noqa: S311
        stock = self._codes.copy()
        chance.shuffle(stock)
        shown: list[str] = []
        for guest in range(1, self._crowd.guests + 1):
            await asyncio.sleep(chance.expovariate(1 / self._crowd.pause_s) if self._crowd.pause_s else 0)
            yield ReadCode(self._next(chance, stock, shown), f"guest {guest}")

    def _next(self, chance: random.Random, stock: list[str], shown: list[str]) -> str:
        roll = chance.random()
        if shown and roll < self._crowd.again_share:
            return chance.choice(shown)
        roll -= self._crowd.again_share
        if not stock or 0 <= roll < self._crowd.foreign_share:
            return foreign_code(chance)
        code = stock.pop()
        if 0 <= roll - self._crowd.foreign_share < self._crowd.cut_share:
            return code[: chance.randint(1, len(code) - 1)] if len(code) > 1 else code
        shown.append(code)
        return code


def foreign_code(chance: random.Random) -> str:
    """Text with a token's form and a signature by nobody."""
    body = chance.randbytes(TOKEN_LENGTH - 1)
    return base45.encode(bytes((VERSION << 5,)) + body)
