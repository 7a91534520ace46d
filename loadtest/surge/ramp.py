"""After the day: more and more guests a second, until the limit is passed. How much an installation holds is measured.

Each step lasts the same time; its guests come by chance (a Poisson process of even intensity) with tickets that were
never used, over all devices. A step is held if all were admitted and 99 of 100 within the limit, counted from when they
should have been served. The first step that is not held is tried again, and then one between it and the last that was.
If not even the first is held, slower ones are tried. Here: which steps, and when one is held; `shots` fires them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from loadtest.surge.scenario import Ramp

LIMIT_MS = 100.0
SHORTEST_S = 1.0
HALVINGS = 4
"""Slower steps that are tried where not even the first is held: down to a sixteenth."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step. Times in ms; `late_p99_ms` is the generator's own part of the latency. `cpu` is the share of a core
    that its busiest process used, `busy` that of the whole machine."""

    per_s: float
    seconds: float
    sent: int
    admitted: int
    p50_ms: float
    p99_ms: float
    late_p99_ms: float
    cpu: float
    busy: float

    @property
    def held(self) -> bool:
        """Whether everybody was admitted, and in time."""
        return self.sent > 0 and self.admitted == self.sent and self.p99_ms <= LIMIT_MS


def step_seconds(ramp: Ramp, per_s: float, room: float) -> float:
    """How long a step lasts: as the ramp says, or until there is no room for more guests, who leave when it is over; a
    full park refuses, however quick it is. 0: it would be too short to say anything."""
    seconds = min(ramp.seconds, room / per_s)
    return seconds if seconds >= min(SHORTEST_S, ramp.seconds) else 0.0


async def climb(ramp: Ramp, held: Callable[[float], Awaitable[bool]]) -> None:
    """All steps, until one is not held twice; then one between it and the last that was. If the first one is not held,
    slower ones, until one is. `held` makes a step of so many guests a second, and answers whether it was held."""
    last = 0.0
    for rate in ramp.rates:
        if await held(rate) or await held(rate):
            last = rate
            continue
        if last:
            await held((last * rate) ** 0.5)
        else:
            await _slower(rate, held)
        return


async def _slower(rate: float, held: Callable[[float], Awaitable[bool]]) -> None:
    for _ in range(HALVINGS):
        rate /= 2
        if await held(rate):
            return
