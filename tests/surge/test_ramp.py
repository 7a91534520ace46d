"""Which steps the ramp makes, against an installation that holds so much and no more."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from loadtest.surge.ramp import climb
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
