"""How fast the machine is just now: a fixed piece of work, timed, so that two rehearsals can be compared."""

from __future__ import annotations

import time

STEPS = 20_000
"""Some 1 ms: once a second it is a thousandth of a core."""


def pace_ms() -> float:
    """What it takes by the wall's clock, and so longer when others are in the way."""
    began = time.perf_counter()
    value = 1
    for step in range(STEPS):
        value = (value * 31 + step) & 0xFFFF
    return (time.perf_counter() - began) * 1e3
