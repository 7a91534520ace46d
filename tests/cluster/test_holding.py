"""How long a call that only watches is held, on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest

from cluster.holding import LOOK_EVERY_S, Hold
from tests.simulation.loop import VirtualLoop
from ticketcore.errors import UnavailableError

HELD_UNTIL = 8 * LOOK_EVERY_S
JUST = 0.01


@dataclass
class Looks:
    """Finds what it is told to find from an instant on, and keeps when it looked."""

    from_s: float
    finds: Callable[[], bool]
    at_s: list[float] = field(default_factory=list)

    async def __call__(self) -> bool:
        now = asyncio.get_running_loop().time()
        self.at_s.append(now)
        return now >= self.from_s and self.finds()


def nothing() -> bool:
    return False


def work() -> bool:
    return True


def away() -> bool:
    raise UnavailableError("the ledger is away")


async def held(hold: Hold, looks: Looks) -> float:
    """When the call returned."""
    await hold.until(HELD_UNTIL, looks)
    return asyncio.get_running_loop().time()


def run(case: Coroutine[Any, Any, float]) -> float:
    return float(VirtualLoop().run(case))


def test_a_call_is_held_until_its_time_and_looked_after_meanwhile() -> None:
    looks = Looks(0.0, nothing)
    assert run(held(Hold(), looks)) == HELD_UNTIL
    assert looks.at_s == [number * LOOK_EVERY_S for number in range(1, 9)]


@pytest.mark.parametrize(
    ("from_s", "seen_s"),
    [
        (2 * LOOK_EVERY_S - JUST, 2 * LOOK_EVERY_S),
        (2 * LOOK_EVERY_S, 2 * LOOK_EVERY_S),
        (2 * LOOK_EVERY_S + JUST, 3 * LOOK_EVERY_S),
    ],
)
def test_a_call_ends_with_the_first_look_that_finds_work(from_s: float, seen_s: float) -> None:
    """I10: no later than if the supervisor asked at each look."""
    assert run(held(Hold(), Looks(from_s, work))) == seen_s


def test_what_a_look_raises_is_the_answer() -> None:
    with pytest.raises(UnavailableError):
        run(held(Hold(), Looks(LOOK_EVERY_S, away)))


def test_a_call_ends_when_its_actor_stops_and_the_next_is_not_held() -> None:
    hold, looks = Hold(), Looks(0.0, nothing)

    async def stopped() -> float:
        asyncio.get_running_loop().call_at(JUST, hold.release)
        first_s = await held(hold, looks)
        assert await held(hold, looks) == first_s
        return first_s

    assert run(stopped()) == JUST
    assert looks.at_s == []


def test_a_look_that_fails_since_its_actor_stops_ends_the_call_in_order() -> None:
    hold = Hold()

    def closed() -> bool:
        hold.release()
        return away()

    assert run(held(hold, Looks(0.0, closed))) == LOOK_EVERY_S


def test_a_call_that_has_taken_its_time_is_not_held() -> None:
    looks = Looks(0.0, work)

    async def late() -> float:
        await asyncio.sleep(HELD_UNTIL)
        return await held(Hold(), looks)

    assert run(late()) == HELD_UNTIL
    assert looks.at_s == []
