"""What a cluster asks of its ledger before it starts, against a real Valkey."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import redis

from cluster.ledger import Append, Ledger
from cluster.ledger_check import check_ledger
from ticketcore.errors import ConflictError, DamagedDataError, UnavailableError


@pytest.fixture
async def ledger(valkey_url: str) -> AsyncIterator[Ledger]:
    ledger = Ledger(valkey_url)
    yield ledger
    await ledger.close()


async def used_without_a_note(ledger: Ledger, partitions: int) -> None:
    """As a version that noted nothing has left it."""
    for index in range(partitions):
        await ledger.take(f"p{index}", "owner")
    await ledger.append([Append("p1", 1, 1, b"12345678", b"entry")])


@pytest.mark.parametrize("partitions", [4, 16])
async def test_the_number_of_partitions_is_fixed_when_a_ledger_is_first_used(ledger: Ledger, partitions: int) -> None:
    """I1: a used ticket would be unknown in another partition."""
    await check_ledger(ledger, 8)
    await check_ledger(ledger, 8)
    with pytest.raises(ConflictError, match=f"into 8 partitions for good.*say {partitions}.*PARKGATE_PARTITIONS=8"):
        await check_ledger(ledger, partitions)


@pytest.mark.parametrize("partitions", [4, 16])
async def test_a_ledger_that_is_older_than_the_note_is_recognised_by_its_logs(ledger: Ledger, partitions: int) -> None:
    await used_without_a_note(ledger, 8)
    with pytest.raises(ConflictError, match="PARKGATE_PARTITIONS=8"):
        await check_ledger(ledger, partitions)
    await check_ledger(ledger, 8)
    assert await ledger.read_control("partitions") == (0, b"8")


async def test_a_first_start_that_was_broken_off_fixes_nothing(ledger: Ledger) -> None:
    for index in range(3):
        await ledger.take(f"p{index}", "owner")
    await check_ledger(ledger, 2)


async def test_of_two_that_start_at_once_with_different_numbers_one_is_refused(ledger: Ledger) -> None:
    outcomes = await asyncio.gather(check_ledger(ledger, 8), check_ledger(ledger, 4), return_exceptions=True)
    refused = [outcome for outcome in outcomes if outcome is not None]
    assert len(refused) == 1
    assert isinstance(refused[0], ConflictError)


@pytest.mark.parametrize(
    ("name", "value"), [("appendfsync", "everysec"), ("appendonly", "no"), ("maxmemory-policy", "allkeys-lru")]
)
async def test_nothing_starts_on_a_ledger_that_may_forget(
    ledger: Ledger, valkey_url: str, name: str, value: str
) -> None:
    """I2"""
    with redis.Redis.from_url(valkey_url) as client:
        before = client.config_get(name)[name]
        client.config_set(name, value)
        try:
            with pytest.raises(ConflictError, match=f"{name} is '{value}', must be '{before}'"):
                await check_ledger(ledger, 8)
        finally:
            client.config_set(name, before)
    assert await ledger.read_control("partitions") is None


async def test_a_server_that_does_not_show_its_configuration_is_trusted(valkey_url: str) -> None:
    with redis.Redis.from_url(valkey_url) as client:
        client.acl_setuser("managed", enabled=True, nopass=True, keys=["*"], commands=["+@all", "-config"])
        ledger = Ledger(valkey_url.replace("redis://", "redis://managed:any@"))
        try:
            assert await ledger.check_durability() is None
            await check_ledger(ledger, 8)
        finally:
            await ledger.close()
            client.acl_deluser("managed")


async def test_a_damaged_note_is_told_and_not_guessed(ledger: Ledger, valkey_url: str) -> None:
    await check_ledger(ledger, 8)
    with redis.Redis.from_url(valkey_url) as client:
        client.hset("pg:{control}:partitions", "record", b"9")
    with pytest.raises(DamagedDataError, match="the control record partitions"):
        await check_ledger(ledger, 8)


async def test_a_ledger_that_is_away_is_waited_for(unused_tcp_port: int) -> None:
    ledger = Ledger(f"redis://127.0.0.1:{unused_tcp_port}/0")
    with pytest.raises(UnavailableError):
        await check_ledger(ledger, 8)
    await ledger.close()
