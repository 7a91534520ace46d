"""The loop on virtual time: it waits for nothing, and its processes die and stand still as real ones do."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from time import monotonic

import pytest

from tests.simulation.loop import Process, VirtualLoop
from tests.simulation.network import Network
from tests.simulation.trace import Trace


@pytest.fixture
def loop() -> VirtualLoop:
    loop = VirtualLoop()
    loop.network = Network(loop, random.Random(1), Trace())
    return loop


async def _tick(said: list[float]) -> None:
    while True:
        await asyncio.sleep(1)
        said.append(asyncio.get_running_loop().time())


def _story(loop: VirtualLoop, act: Callable[[Process], Awaitable[None]]) -> list[float]:
    """A process that ticks once a second, and what is done to it."""
    said: list[float] = []
    process = Process("ticker")

    async def main() -> None:
        loop.start(process, _tick(said))
        await act(process)

    loop.run(main())
    return said


def test_an_hour_of_waiting_takes_no_time(loop: VirtualLoop) -> None:
    began = monotonic()
    loop.run(asyncio.sleep(3_600))
    assert loop.time() == 3_600
    assert monotonic() - began < 1


def test_a_killed_process_never_runs_again(loop: VirtualLoop) -> None:
    async def act(process: Process) -> None:
        await asyncio.sleep(2.5)
        loop.kill(process)
        await asyncio.sleep(10)

    assert _story(loop, act) == [1, 2]


def test_a_stopped_process_does_what_came_due_when_it_is_continued(loop: VirtualLoop) -> None:
    async def act(process: Process) -> None:
        await asyncio.sleep(1.5)
        loop.stop_process(process)
        await asyncio.sleep(5)
        loop.continue_process(process)
        await asyncio.sleep(2)

    assert _story(loop, act) == [1, 6.5, 7.5]


def test_time_outs_and_cancellation_work_on_virtual_time(loop: VirtualLoop) -> None:
    async def main() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(7):
                await asyncio.Event().wait()
        return loop.time()

    assert loop.run(main()) == 7


def test_a_callback_that_raises_is_kept_as_a_crash(loop: VirtualLoop) -> None:
    async def main() -> None:
        loop.call_soon(lambda: 1 // 0)
        await asyncio.sleep(1)

    loop.run(main())
    assert [type(error) for error in loop.crashes] == [ZeroDivisionError]


def test_a_loop_that_spins_is_ended(loop: VirtualLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.simulation.loop.MAX_STEPS", 1_000)

    async def spin() -> None:
        while True:  # noqa: ASYNC110 - it is the spinning that is tried
            await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="does not end"):
        loop.run(spin())
