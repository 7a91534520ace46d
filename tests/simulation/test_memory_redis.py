"""The ledger in memory against the real one: the same questions, drawn from a seed, get the same answers."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from cluster import ledger as real
from parkgate.events.v1 import events_pb2
from reporting.log_reader import LogReader, make_client
from reporting.store import Offset
from tests.simulation.memory_redis import MemoryRedis, MemoryServer
from tests.simulation.servers import Ledger
from ticketcore.errors import ParkgateError

PARTITIONS = ("p0", "p1")
QUESTIONS = 400


class Asker:
    """Puts questions to a ledger and its reader; answers are values, errors are their kind and message."""

    def __init__(self, ledger: real.Ledger, client: Any, seed: int) -> None:
        self.ledger, self.client = ledger, client
        self.chance = random.Random(seed)
        self.epochs = dict.fromkeys(PARTITIONS, 0)
        self.sequences = dict.fromkeys(PARTITIONS, 0)

    async def ask(self) -> list[str]:
        answers = []
        for _ in range(QUESTIONS):
            name = self.chance.choice([item for item in dir(self) if item.startswith("ask_")])
            question: Callable[[str], Awaitable[Any]] = getattr(self, name)
            try:
                answer = repr(await question(self.chance.choice(PARTITIONS)))
            except ParkgateError as error:
                answer = f"{type(error).__name__}: {error}"
            answers.append(f"{name}: {answer}")
        return answers

    def append(self, partition: str) -> real.Append:
        """Mostly the next entry of the present epoch; else one that is stale, repeated, foreign or beyond a gap."""
        near = self.chance.choice((0, 0, 0, 0, 0, -1, -2, 1))
        epoch = max(self.epochs[partition] - self.chance.choice((0, 0, 0, 0, 1)), 0)
        sequence = max(self.sequences[partition] + 1 + near, 1)
        batch_id = b"%07d%d" % (sequence, self.chance.choice((0, 0, 0, 1)))
        entry = events_pb2.LogEntry(partition=partition, sequence=sequence, epoch=epoch, batch_id=batch_id)
        return real.Append(partition, epoch, sequence, batch_id, entry.SerializeToString())

    async def ask_take(self, partition: str) -> Any:
        taken = await self.ledger.take(partition, f"owner-{self.chance.randint(1, 3)}")
        self.epochs[partition], self.sequences[partition] = taken.epoch, taken.sequence
        return taken

    async def ask_append(self, partition: str) -> Any:
        appends = [self.append(name) for name in PARTITIONS[: self.chance.randint(1, 2)]]
        answers = await self.ledger.append(appends)
        for item, answer in zip(appends, answers, strict=True):
            if answer is real.Appended.DONE:
                self.sequences[item.partition] = item.sequence
        return answers

    ask_append_again = ask_append
    ask_append_more = ask_append

    async def ask_publish(self, partition: str) -> Any:
        epoch = self.epochs[partition] - self.chance.choice((0, 0, 1))
        return await self.ledger.publish_address(partition, epoch, f"here-{epoch}")

    async def ask_publish_damage(self, partition: str) -> Any:
        return await self.ledger.publish_damage(partition, self.epochs[partition] - self.chance.choice((0, 1)), "bad")

    async def ask_heads(self, _partition: str) -> Any:
        return await self.ledger.heads([*PARTITIONS, "p9"])

    async def ask_entries(self, partition: str) -> Any:
        after = self.chance.randint(0, max(self.sequences[partition], 1))
        until = self.sequences[partition] + self.chance.choice((0, 0, 1))
        return [entry.sequence async for entry in self.ledger.entries(partition, after, until)]

    async def ask_write_snapshot(self, partition: str) -> Any:
        epoch, data = self.epochs[partition] - self.chance.choice((0, 0, 1)), self.chance.randbytes(20)
        return await self.ledger.write_snapshot(partition, epoch, self.sequences[partition], real.at_once(data))

    async def ask_read_snapshot(self, partition: str) -> Any:
        return await self.ledger.read_snapshot(partition), await self.ledger.snapshot_sequence(partition)

    async def ask_trim(self, partition: str) -> Any:
        return await self.ledger.trim(partition, self.chance.randint(1, max(self.sequences[partition] - 2, 1)))

    async def ask_control(self, _partition: str) -> Any:
        written = await self.ledger.write_control("keys", self.chance.randint(0, 5), self.chance.randbytes(4))
        return written, await self.ledger.read_control("keys"), await self.ledger.control_changes()

    async def ask_replace_control(self, _partition: str) -> Any:
        version = await self.ledger.control_version("modes") - self.chance.choice((0, 0, 1))
        replaced = await self.ledger.replace_control("modes", version, self.chance.randbytes(4))
        return version, replaced, await self.ledger.read_control("modes"), await self.ledger.control_changes()

    async def ask_reader(self, partition: str) -> Any:
        """As a reporting worker reads."""
        reader = LogReader(self.client, partition)
        offset = Offset(self.chance.randint(0, max(self.sequences[partition], 1)))
        last = await reader.last_sequence()
        await reader.publish(min(offset.sequence, last))
        entries = await reader.read_after(offset, 5, block_ms=1)
        return last, [entry.sequence for entry in entries], await self.ledger.reported_sequence(partition)


@pytest.mark.parametrize("seed", range(1, 6))
async def test_the_ledger_in_memory_answers_as_the_real_one_does(valkey_url: str, seed: int) -> None:
    """I1, I2, I6: fences, sequences, batches, snapshots, trimming and control records."""
    ledger, client = real.Ledger(valkey_url), make_client(valkey_url)
    try:
        expected = await Asker(ledger, client, seed).ask()
    finally:
        await ledger.close()
        await client.aclose()
    memory = MemoryRedis(MemoryServer())
    answers = await Asker(Ledger(memory), memory, seed).ask()
    for number, (answer, real_answer) in enumerate(zip(answers, expected, strict=True)):
        assert answer == real_answer, f"question {number} of seed {seed}"
    kinds = {answer.split(":")[0] + answer.split(": ")[1][:12] for answer in expected}
    assert len(kinds) > 20, "too few different answers for a comparison to mean anything"


def test_a_script_that_is_not_known_is_refused() -> None:
    with pytest.raises(NotImplementedError, match="not known here"):
        MemoryServer().script("return redis.call('PING')", [], [])
