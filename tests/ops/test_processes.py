"""How the end of a process is heard of."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator

import pytest

from ops.processes import Identity, first_ended, identity


@pytest.fixture
def sleepers() -> Iterator[list[subprocess.Popen[bytes]]]:
    started = [subprocess.Popen(["sleep", "60"]) for _ in range(2)]
    yield started
    for process in started:
        process.kill()
        process.wait()


def named(sleepers: list[subprocess.Popen[bytes]]) -> dict[str, Identity]:
    found = {name: identity(process.pid) for name, process in zip(("one", "other"), sleepers, strict=True)}
    return {name: who for name, who in found.items() if who is not None}


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


async def test_the_end_of_a_process_is_told_before_anybody_has_waited_for_it(
    sleepers: list[subprocess.Popen[bytes]],
) -> None:
    """As of a server that Ray has started and does not look after."""
    before = descriptors()
    call = asyncio.create_task(first_ended(named(sleepers)))
    done, _ = await asyncio.wait([call], timeout=0.05)
    assert not done
    sleepers[1].kill()
    async with asyncio.timeout(5):
        assert await call == "other"
    assert descriptors() == before


async def test_a_process_that_has_ended_before_is_told_of_at_once(sleepers: list[subprocess.Popen[bytes]]) -> None:
    whos = named(sleepers)
    sleepers[1].kill()
    sleepers[1].wait()
    async with asyncio.timeout(5):
        assert await first_ended(whos) == "other"


async def test_a_process_that_has_the_pid_of_one_that_has_ended_is_not_taken_for_it(
    sleepers: list[subprocess.Popen[bytes]],
) -> None:
    whos = named(sleepers) | {"older": Identity(sleepers[0].pid, "another boot")}
    async with asyncio.timeout(5):
        assert await first_ended(whos) == "older"


async def test_a_wait_that_is_given_up_leaves_nothing_open(sleepers: list[subprocess.Popen[bytes]]) -> None:
    before = descriptors()
    call = asyncio.create_task(first_ended(named(sleepers)))
    await asyncio.sleep(0)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    assert descriptors() == before
