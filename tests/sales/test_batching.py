"""Micro-batches: nobody waits for a crowd, a crowd goes together, and each gets its own answer."""

import asyncio
from collections.abc import Sequence

import pytest

from sales.batching import Batcher


class Counter:
    """Doubles numbers, a batch at a time, when it is let; odd tens are refused."""

    def __init__(self, most: int = 100) -> None:
        self.batches: list[list[int]] = []
        self.begun = asyncio.Event()
        self.go = asyncio.Event()
        self.batcher: Batcher[int, int] = Batcher(self.work, most)

    async def work(self, items: Sequence[int]) -> list[int | Exception]:
        self.batches.append(list(items))
        self.begun.set()
        await self.go.wait()
        if 99 in items:
            raise ConnectionError("away")
        return [ValueError(f"{item}") if item % 20 == 10 else 2 * item for item in items]


async def test_what_is_asked_while_a_batch_is_in_flight_goes_together_in_the_next() -> None:
    counter = Counter()
    first = asyncio.ensure_future(counter.batcher.ask(1))
    await counter.begun.wait()
    rest = [asyncio.ensure_future(counter.batcher.ask(number)) for number in (2, 3, 4)]
    await asyncio.sleep(0)
    counter.go.set()
    assert await asyncio.gather(first, *rest) == [2, 4, 6, 8]
    assert counter.batches == [[1], [2, 3, 4]]


@pytest.mark.parametrize(("asked", "sizes"), [(2, [2]), (3, [3]), (4, [3, 1])])
async def test_a_batch_holds_no_more_than_its_bound(asked: int, sizes: list[int]) -> None:
    counter = Counter(most=3)
    counter.go.set()
    await asyncio.gather(*(counter.batcher.ask(number) for number in range(asked)))
    assert [len(batch) for batch in counter.batches] == sizes


async def test_a_refusal_is_raised_to_the_one_who_asked_only() -> None:
    counter = Counter()
    counter.go.set()
    answers = await asyncio.gather(*(counter.batcher.ask(number) for number in (9, 10, 11)), return_exceptions=True)
    assert (answers[0], repr(answers[1]), answers[2]) == (18, "ValueError('10')", 22)


async def test_a_batch_that_fails_fails_for_all_of_it_and_the_next_goes_on() -> None:
    counter = Counter(most=2)
    counter.go.set()
    answers = await asyncio.gather(*(counter.batcher.ask(number) for number in (1, 99, 3)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [ConnectionError, ConnectionError, int]
    assert await counter.batcher.ask(4) == 8


async def test_whoever_goes_away_takes_no_answer_from_the_others() -> None:
    counter = Counter()
    gone, stays = (asyncio.ensure_future(counter.batcher.ask(number)) for number in (1, 2))
    await counter.begun.wait()
    gone.cancel()
    counter.go.set()
    assert await stays == 4
