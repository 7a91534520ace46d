"""A script over a connection of its own, against a real Valkey: each caller hears what became of its own call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import redis
from redis.exceptions import RedisError

from cluster.held_script import HeldScript

ECHO = "redis.call('INCR', KEYS[1]) return ARGV[1]"
SLOW = "local n = 0 for i = 1, tonumber(ARGV[2]) do n = n + i end redis.call('INCR', KEYS[1]) return ARGV[1]"
TURNS = str(30_000_000)
"""Of a loop in Lua: some tenths of a second in which the server does nothing else."""


@pytest.fixture
async def echo(valkey_url: str) -> AsyncIterator[HeldScript]:
    script = HeldScript(valkey_url, ECHO, 2.0)
    yield script
    await script.close()


def calls_done(valkey_url: str) -> int:
    with redis.Redis.from_url(valkey_url) as client:
        return int(client.get("calls") or 0)


async def test_callers_that_come_together_each_hear_their_own_answer(echo: HeldScript, valkey_url: str) -> None:
    answers = await asyncio.gather(*(echo(keys=["calls"], args=[str(number)]) for number in range(200)))
    assert answers == [str(number).encode() for number in range(200)]
    assert calls_done(valkey_url) == 200


async def test_a_server_that_has_forgotten_the_script_is_told_it_again(echo: HeldScript, valkey_url: str) -> None:
    await echo(keys=["calls"], args=["1"])
    with redis.Redis.from_url(valkey_url) as client:
        client.script_flush()
    assert await echo(keys=["calls"], args=["2"]) == b"2"
    assert calls_done(valkey_url) == 2


async def test_a_broken_connection_is_told_once_and_made_again(echo: HeldScript, valkey_url: str) -> None:
    await echo(keys=["calls"], args=["1"])
    with redis.Redis.from_url(valkey_url) as client:
        client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    with pytest.raises((RedisError, OSError)):
        await echo(keys=["calls"], args=["2"])
    assert await echo(keys=["calls"], args=["3"]) == b"3"


@pytest.mark.parametrize("how", ["time-out", "cancelled"])
async def test_the_answer_to_a_call_that_was_given_up_is_never_that_to_the_next(valkey_url: str, how: str) -> None:
    """I2: an append that is done would else be taken for another one that is not."""
    script = HeldScript(valkey_url, SLOW, 2.0)
    await script(keys=["calls"], args=["1", "1"])
    if how == "time-out":
        script._timeout_s = 0.05  # for this call only: on a busy machine an ordinary one may take as long
        with pytest.raises(TimeoutError):
            await script(keys=["calls"], args=["2", TURNS])
        script._timeout_s = 2.0
    else:
        call = asyncio.create_task(script(keys=["calls"], args=["2", TURNS]))
        await asyncio.sleep(0.05)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    with redis.Redis.from_url(valkey_url) as client:
        client.ping()  # the server is free again
    assert await script(keys=["calls"], args=["3", "1"]) == b"3"
    assert calls_done(valkey_url) == 3, "it was done all the same"
    await script.close()
