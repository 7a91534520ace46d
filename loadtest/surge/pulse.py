"""What this process costs and how late its loop is: a generator says itself whether it was the limit."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

BEAT_S = 0.02
WINDOW_S = 0.5


@dataclass(slots=True)
class Pulse:
    """Of each half second: when it ended (monotonic), the share of a core, and the worst lateness of the loop in ms."""

    times: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    lag_ms: list[float] = field(default_factory=list)

    async def run(self) -> None:
        """Measures until it is cancelled."""
        worst = 0.0
        began, cpu = time.monotonic(), time.process_time()
        while True:
            before = time.monotonic()
            await asyncio.sleep(BEAT_S)
            now = time.monotonic()
            worst = max(worst, now - before - BEAT_S)
            if now - began >= WINDOW_S:
                spent = time.process_time()
                self.times.append(now)
                self.cpu.append((spent - cpu) / (now - began))
                self.lag_ms.append(worst * 1e3)
                worst, began, cpu = 0.0, now, spent
