"""The processes that share the gates, to the conductor as one part: told together, their numbers put together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loadtest.surge import merge
from loadtest.surge.part import Part, result_of
from loadtest.surge.parts import Order, Phase
from loadtest.surge.ramp import Step, step_seconds
from loadtest.surge.scenario import Ramp

PAUSE_S = 0.3
"""Before a step: the system has come to rest, and every process has heard of it."""


class GateParts:
    """`stopping`: no further step of the ramp is ordered. `climbing`: it has begun."""

    def __init__(self, parts: Sequence[Part], orders: Sequence[Order]) -> None:
        self.steps: list[Step] = []
        self.stopping = False
        self.climbing = False
        self._parts = parts
        self._orders = orders
        self._left: list[float] = []
        """Tickets of the ramp that each has."""

    @classmethod
    async def start(cls, orders: Sequence[Order]) -> GateParts:
        """A process for each order; its log is beside its result."""
        parts = [await Part.start("gates", order, Path(order.result).with_suffix(".log")) for order in orders]
        return cls(parts, orders)

    @property
    def pids(self) -> list[int]:
        """Their processes."""
        return [part.pid for part in self._parts]

    @property
    def values(self) -> dict[str, float]:
        """The live line, once each has said something."""
        found = [part.values for part in self._parts]
        return merge.progress(found) if all(found) else {}

    @property
    def phase(self) -> Phase:
        """Evening once the day of each is over."""
        if self.climbing:
            return Phase.RAMP
        return Phase.EVENING if all(part.evening for part in self._parts) else Phase.DAY

    async def ready(self) -> int:
        """How many devices are connected, once all are. Raises: OpsError."""
        return int(sum(one["devices"] for one in await self._say("ready")))

    def tell(self, line: str) -> None:
        """Tells each the same."""
        self.stopping = self.stopping or line == "stop"
        for part in self._parts:
            part.tell(line)

    async def settled(self) -> None:
        """Waits until each has every answer of its day. Raises: OpsError."""
        self._left = [one["left"] for one in await self._say("settled")]

    async def held(self, per_s: float, ramp: Ramp, room: float) -> bool:
        """Makes a step of the ramp, if there are tickets and room for its guests; answers whether it was held."""
        count, seconds = len(self._parts), step_seconds(ramp, per_s, room)
        if self.stopping or not seconds or min(self._left) < per_s / count * seconds:
            return False
        self.tell(f"step {per_s / count} {seconds} {time.monotonic() + PAUSE_S}")
        self._left = [one["left"] for one in await self._say("stepped")]
        found = [await asyncio.to_thread(result_of, Path(order.step)) for order in self._orders]
        self.steps.append(merge.step(per_s, found))
        return self.steps[-1].held

    async def done(self) -> None:
        """Waits for the end of all. Raises: OpsError when one fails."""
        await asyncio.gather(*(part.done() for part in self._parts))

    async def end(self) -> None:
        """Ends those that are still there."""
        for part in self._parts:
            await part.end()

    def result(self) -> dict[str, Any]:
        """What they measured, as if one had."""
        return merge.results([result_of(Path(order.result)) for order in self._orders])

    async def _say(self, kind: str) -> list[dict[str, float]]:
        return [progress.values for progress in await asyncio.gather(*(part.says(kind) for part in self._parts))]
