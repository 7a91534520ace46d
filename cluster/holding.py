"""Holds the supervisor's call to an actor that serves until there is something to do or to say.

Each call through Ray costs the supervisor and the actor a millisecond of CPU. A look from within costs next to nothing:
so the actor is looked at as often as ever, and called a fraction as often.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from ticketcore.errors import UnavailableError

LOOK_EVERY_S = 0.25


class Hold:
    """Of one actor's calls, all of which end when the actor stops."""

    def __init__(self) -> None:
        self._released = asyncio.Event()

    async def until(self, end: float, is_work: Callable[[], Awaitable[bool]]) -> None:
        """Returns at `end`, by the loop's clock, or as soon as there is work or the hold is released. Raises what the
        look for work raises."""
        loop = asyncio.get_running_loop()
        while (left_s := end - loop.time()) > 0:
            if await self._is_released(min(LOOK_EVERY_S, left_s)) or await self._is_over(is_work):
                return

    async def _is_over(self, is_work: Callable[[], Awaitable[bool]]) -> bool:
        try:
            return await is_work()
        except UnavailableError:
            if self._released.is_set():
                return True  # the actor, as it stops, closes its connections under the look
            raise

    async def _is_released(self, within_s: float) -> bool:
        try:
            async with asyncio.timeout(within_s):
                return await self._released.wait()
        except TimeoutError:
            return False

    def release(self) -> None:
        """Ends the calls that are held, and holds none from now on."""
        self._released.set()
