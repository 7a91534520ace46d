"""Which steps the ramp makes, against an installation that holds so much and no more."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from loadtest.surge.ramp import climb, step_seconds
from loadtest.surge.scenario import Ramp

RAMP = Ramp(product="day", first_per_s=100, factor=2, steps=4)


async def steps(held: Callable[[list[float]], bool], ramp: Ramp = RAMP) -> list[float]:
    """The steps that are made; `held` sees all up to the one that it judges."""
    made: list[float] = []

    async def hold(per_s: float) -> bool:
        made.append(round(per_s, 1))
        return held(made)

    await climb(ramp, hold)
    return made


@pytest.mark.parametrize(
    ("most", "made"),
    [
        (10_000, [100, 200, 400, 800]),
        (400, [100, 200, 400, 800, 800, 565.7]),
        (60, [100, 100, 50]),
        (7, [100, 100, 50, 25, 12.5, 6.2]),
        (0, [100, 100, 50, 25, 12.5, 6.2]),
    ],
)
async def test_it_climbs_until_a_step_is_not_held_twice_and_then_looks_between(most: float, made: list[float]) -> None:
    assert await steps(lambda so_far: so_far[-1] <= most) == made


async def test_a_step_that_is_held_at_its_second_try_is_held() -> None:
    assert await steps(lambda so_far: len(so_far) != 2) == [100, 200, 200, 400, 800]


async def test_a_ramp_without_steps_makes_none() -> None:
    assert await steps(lambda _: True, RAMP.model_copy(update={"steps": 0})) == []


@pytest.mark.parametrize(
    ("per_s", "room", "seconds"),
    [(1_000, math.inf, 3.0), (1_000, 8_000, 3.0), (4_000, 8_000, 2.0), (8_000, 8_000, 1.0), (8_001, 8_000, 0.0)],
)
def test_a_step_ends_before_the_park_is_full(per_s: float, room: float, seconds: float) -> None:
    """Else its capacity would be taken for what the system holds."""
    assert step_seconds(Ramp(product="day", seconds=3), per_s, room) == seconds


def test_a_short_step_stays_as_short_as_the_ramp_says() -> None:
    assert step_seconds(Ramp(product="day", seconds=0.2), 300, math.inf) == 0.2
