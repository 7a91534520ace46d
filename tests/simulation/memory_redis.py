"""A Redis in memory with what the ledger needs, so that the real `cluster.ledger` and `reporting.log_reader` run on it.

`MemoryServer` holds the data and does one command, pipeline or script at a time, like the server. `MemoryRedis` stands
for the client library: every call is one round trip by a `Trip`, which may delay, lose or double it.
`tests/simulation/test_memory_redis.py` puts the same questions to it and to a real Valkey.

Scripts cannot be run here; each is recognised by its text and done in Python. A script that is not known is refused, so
a change of the ledger's scripts is noticed.
"""

from __future__ import annotations

import asyncio
import importlib.resources
from collections.abc import Awaitable, Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

from redis.exceptions import ResponseError

Operation = Callable[[], Any]
Trip = Callable[[Operation], Awaitable[Any]]
Watch = Callable[[str, int, bytes], None]
WatchTrims = Callable[[str, int], None]
APPEND = importlib.resources.files("cluster").joinpath("append.lua").read_text()
MARKS = {
    "ARGV[2], ARGV[3])": "publish",
    "'RENAME'": "finish_snapshot",
    "if v ~= ": "replace_control",
    "if v > ": "write_control",
}
"""What tells the ledger's short scripts apart."""
LOOK_AGAIN_S = 0.5


async def direct(operation: Operation) -> Any:
    """A trip without a network."""
    return operation()


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


@dataclass(slots=True)
class MemoryServer:
    """Data and commands. `watch` hears of each entry as it becomes durable, `watch_trims` of the last one that a trim
    removes."""

    watch: Watch = lambda _key, _number, _data: None
    watch_trims: WatchTrims = lambda _key, _last: None
    hashes: dict[str, dict[str, bytes]] = field(default_factory=dict)
    strings: dict[str, bytes] = field(default_factory=dict)
    streams: dict[str, dict[int, bytes]] = field(default_factory=dict)
    last_ids: dict[str, int] = field(default_factory=dict)

    # Hashes and strings

    def hget(self, key: str, name: str) -> bytes | None:
        return self.hashes.get(key, {}).get(name)

    def hmget(self, key: str, *names: str) -> list[bytes | None]:
        return [self.hget(key, name) for name in names]

    def hset(self, key: str, name: str | None = None, value: Any = None, mapping: Any = None) -> int:
        pairs = {**(mapping or {}), **({name: value} if name is not None else {})}
        self.hashes.setdefault(key, {}).update({str(item): _bytes(given) for item, given in pairs.items()})
        return len(pairs)

    def hdel(self, key: str, name: str) -> int:
        return int(self.hashes.get(key, {}).pop(name, None) is not None)

    def hincrby(self, key: str, name: str, by: int) -> int:
        value = int(self.hget(key, name) or 0) + by
        self.hset(key, name, value)
        return value

    def delete(self, key: str) -> int:
        return int(self.hashes.pop(key, None) is not None)

    def expire(self, key: str, _seconds: int) -> int:
        """A day is shorter than any time to live."""
        return int(key in self.hashes)

    def get(self, key: str) -> bytes | None:
        return self.strings.get(key)

    def set(self, key: str, value: Any) -> bool:
        self.strings[key] = _bytes(value)
        return True

    # Streams

    def xadd(self, key: str, number: int, data: bytes) -> None:
        if number <= self.last_ids.get(key, 0):
            raise ResponseError("The ID specified in XADD is equal or smaller than the target stream top item")
        self.streams.setdefault(key, {})[number] = data
        self.last_ids[key] = number
        self.watch(key, number, data)

    def xrange(self, key: str, low: str, high: str, count: int) -> list[tuple[bytes, dict[bytes, bytes]]]:
        first, last = int(low.split("-", maxsplit=1)[0]), int(high.split("-", maxsplit=1)[0])
        numbers = [number for number in self.streams.get(key, {}) if first <= number <= last]
        return self._rows(key, numbers[:count])

    def xrevrange(self, key: str, count: int) -> list[tuple[bytes, dict[bytes, bytes]]]:
        return self._rows(key, list(self.streams.get(key, {}))[::-1][:count])

    def xread(self, key: str, after: str, count: int) -> list[Any]:
        start = int(after.split("-", maxsplit=1)[0])
        rows = self._rows(key, [number for number in self.streams.get(key, {}) if number > start][:count])
        return [[key.encode(), rows]] if rows else []

    def xtrim(self, key: str, minid: str) -> int:
        below = int(minid.split("-", maxsplit=1)[0])
        stream = self.streams.get(key, {})
        old = [number for number in stream if number < below]
        for number in old:
            del stream[number]
        if old:
            self.watch_trims(key, old[-1])
        return len(old)

    def _rows(self, key: str, numbers: Sequence[int]) -> list[tuple[bytes, dict[bytes, bytes]]]:
        return [(b"%d-0" % number, {b"e": self.streams[key][number]}) for number in numbers]

    # Scripts

    def append(self, keys: Sequence[str], arguments: Sequence[Any]) -> list[bytes]:
        """`cluster/append.lua`, line by line."""
        return [
            self._append_one(keys[2 * item], keys[2 * item + 1], *arguments[4 * item : 4 * item + 4])
            for item in range(len(keys) // 2)
        ]

    def _append_one(self, head: str, log: str, epoch: str, sequence: str, batch_id: bytes, entry: bytes) -> bytes:
        known_epoch, known_sequence, known_batch = self.hmget(head, "epoch", "sequence", "batch_id")
        last = known_sequence or b"0"
        if known_epoch != _bytes(epoch):
            return b"FENCED"
        if last == _bytes(sequence) and known_batch == batch_id:
            return b"DONE"
        if int(last) + 1 != int(sequence):
            return b"GAP " + last
        self.xadd(log, int(sequence), entry)
        self.hset(head, mapping={"sequence": sequence, "batch_id": batch_id})
        return b"DONE"

    def script(self, text: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """One of the ledger's scripts."""
        name = next((name for mark, name in MARKS.items() if mark in text), None)
        if name is None:
            raise NotImplementedError(f"this script of the ledger is not known here; teach it: {text[:80]}...")
        return getattr(self, f"_{name}")(keys, [_bytes(item) for item in arguments])

    def _publish(self, keys: Sequence[str], arguments: Sequence[bytes]) -> int:
        if self.hget(keys[0], "epoch") != arguments[0]:
            return 0
        self.hset(keys[0], arguments[1].decode(), arguments[2])
        return 1

    def _finish_snapshot(self, keys: Sequence[str], arguments: Sequence[bytes]) -> bytes:
        head, new, snapshot = keys
        if self.hget(head, "epoch") != arguments[0]:
            self.delete(new)
            return b"FENCED"
        if self.hget(new, "sequence") != arguments[1] or len(self.hashes[new]) != int(arguments[2]):
            self.delete(new)
            return b"PARTIAL"
        self.hashes[snapshot] = self.hashes.pop(new)
        return b"DONE"

    def _write_control(self, keys: Sequence[str], arguments: Sequence[bytes]) -> int:
        stored = int(self.hget(keys[0], "version") or -1)
        if stored > int(arguments[0]):
            return stored
        self.hset(keys[0], mapping={"version": arguments[0], "record": arguments[1]})
        self.set(keys[1], int(self.get(keys[1]) or 0) + 1)
        return int(arguments[0])

    def _replace_control(self, keys: Sequence[str], arguments: Sequence[bytes]) -> int:
        version = int(self.hget(keys[0], "version") or -1)
        if version != int(arguments[0]):
            return 0
        self.hset(keys[0], mapping={"version": version + 1, "record": arguments[1]})
        self.set(keys[1], int(self.get(keys[1]) or 0) + 1)
        return 1


class MemoryRedis:
    """Stands for `redis.asyncio.Redis`, as far as the ledger and reporting use it."""

    def __init__(self, server: MemoryServer, trip: Trip = direct) -> None:
        self.server, self.trip = server, trip

    def __getattr__(self, name: str) -> Any:
        """Commands that are one round trip with the server's own arguments."""
        command = getattr(self.server, name)
        return lambda *args, **options: self.trip(lambda: command(*args, **options))

    async def aclose(self) -> None:
        """Nothing is open."""

    def pipeline(self, transaction: bool) -> _Pipeline:
        """Commands that are done together."""
        return _Pipeline(self)

    def register_script(self, text: str) -> Any:
        """The append script, which is called with keys and arguments."""
        if text != APPEND:
            raise NotImplementedError("only cluster/append.lua is registered")
        return lambda keys, args: _Asked(self, keys, args)

    async def eval(self, text: str, number_of_keys: int, *rest: Any) -> Any:
        keys, arguments = rest[:number_of_keys], rest[number_of_keys:]
        return await self.trip(lambda: self.server.script(text, keys, arguments))

    async def xrange(self, key: str, low: str, high: str, count: int) -> Any:
        return await self.trip(lambda: self.server.xrange(key, low, high, count))

    async def xtrim(self, key: str, minid: str, approximate: bool) -> Any:
        return await self.trip(lambda: self.server.xtrim(key, minid))

    async def xread(self, streams: dict[str, str], count: int, block: int) -> Any:
        """Where the server would block, this looks once more after a while."""
        ((key, after),) = streams.items()
        found = await self.trip(lambda: self.server.xread(key, after, count))
        if found or not block:
            return found
        await asyncio.sleep(min(block / 1_000, LOOK_AGAIN_S))
        return await self.trip(lambda: self.server.xread(key, after, count))


@dataclass(frozen=True, slots=True)
class _Asked:
    """A call of the script, which is made when it is awaited: a process may die before."""

    client: MemoryRedis
    keys: Sequence[str]
    arguments: Sequence[Any]

    def __await__(self) -> Generator[Any, None, Any]:
        return self.client.trip(lambda: self.client.server.append(self.keys, self.arguments)).__await__()


class _Pipeline:
    """Collects commands; `execute` does them in one trip."""

    def __init__(self, client: MemoryRedis) -> None:
        self._client = client
        self._commands: list[Operation] = []

    async def __aenter__(self) -> _Pipeline:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    def __getattr__(self, name: str) -> Any:
        command = getattr(self._client.server, name)
        return lambda *args, **options: self._commands.append(lambda: command(*args, **options))

    async def execute(self) -> list[Any]:
        commands = self._commands
        return list(await self._client.trip(lambda: [command() for command in commands]))
