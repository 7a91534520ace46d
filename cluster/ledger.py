"""The ledger in Redis or Valkey: epochs, fenced logs, snapshots, control records. The only file that knows keys.

Keys are documented in `protos/parkgate/events/v1/events.proto`; those of one partition share a hash tag. The server
must run with `appendonly yes`, `appendfsync always` and `maxmemory-policy noeviction`, so that an answer comes after
the fsync.

redis-py's own retries are off: what an unknown outcome means is decided here. `append` may be repeated with the same
arguments until it answers; it never appends twice.
"""

from __future__ import annotations

import importlib.resources
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Generator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import redis.asyncio
from google.protobuf.message import DecodeError
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry

from cluster.held_script import HeldScript
from parkgate.events.v1 import events_pb2
from ticketcore.errors import DamagedDataError, FencedError, UnavailableError, UnknownOutcomeError
from ticketcore.seal import seal, unseal

CALL_TIMEOUT_S = 2.0
"""A call to the ledger that takes longer has an unknown outcome; a healthy fsync takes about a millisecond."""
READ_PAGE = 200
"""Log entries read at a time in recovery: up to 200 batches, some megabytes."""
SNAPSHOT_CHUNK = 256 * 1024
"""Bytes of one snapshot field: small enough that writing one does not hold up an append for more than milliseconds."""

SNAPSHOT_WRITING_S = 3_600
"""What an owner that died has left half written is dropped after this; no snapshot takes minutes."""


@dataclass(frozen=True, slots=True)
class Append:
    """One entry for one partition's log."""

    partition: str
    epoch: int
    sequence: int
    batch_id: bytes
    entry: bytes


class Appended(Enum):
    """What became of an append."""

    DONE = "DONE"
    FENCED = "FENCED"


@dataclass(frozen=True, slots=True)
class Taken:
    """What a new owner finds: its epoch, and the last sequence of the log."""

    epoch: int
    sequence: int


@dataclass(frozen=True, slots=True)
class Head:
    """Where a partition stands, and where its owner listens: nowhere, if it could not read the log; then `damage` says
    why."""

    epoch: int
    sequence: int
    address: str
    owner: str
    damage: str = ""


def _key(partition: str, what: str) -> str:
    return f"pg:{{{partition}}}:{what}"


class Ledger:
    """One connection pool to the ledger. All methods raise UnavailableError when it is away and nothing was written,
    UnknownOutcomeError when a write may have happened."""

    def __init__(self, url: str) -> None:
        self._redis: Any = redis.asyncio.Redis.from_url(
            url,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=CALL_TIMEOUT_S,
            socket_connect_timeout=CALL_TIMEOUT_S,
            max_connections=32,
        )
        script = importlib.resources.files("cluster").joinpath("append.lua").read_text()
        self._append = HeldScript(url, script, CALL_TIMEOUT_S)

    async def close(self) -> None:
        """Closes all connections."""
        await self._append.close()
        await self._redis.aclose()

    async def take(self, partition: str, owner: str) -> Taken:
        """Raises the partition's epoch: from now on every append of an earlier owner is fenced."""
        head = _key(partition, "head")
        async with self._errors(f"taking partition {partition}"), self._redis.pipeline(transaction=True) as pipe:
            pipe.hincrby(head, "epoch", 1)
            pipe.hget(head, "sequence")
            pipe.hset(head, "owner", owner)
            pipe.hdel(head, "address")
            pipe.hdel(head, "damage")
            epoch, sequence, *_ = await pipe.execute()
        return Taken(int(epoch), int(sequence or 0))

    async def publish_address(self, partition: str, epoch: int, address: str) -> None:
        """Says where the owner of that epoch listens.

        Raises:
            FencedError: a later owner has taken over.
        """
        await self._publish(partition, epoch, "address", address)

    async def publish_damage(self, partition: str, epoch: int, damage: str) -> None:
        """Says why the owner of that epoch does not serve the partition; until it is taken again.

        Raises:
            FencedError: a later owner has taken over.
        """
        await self._publish(partition, epoch, "damage", damage)

    async def _publish(self, partition: str, epoch: int, field: str, value: str) -> None:
        script = (
            "if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[1] then return 0 end "
            "redis.call('HSET', KEYS[1], ARGV[2], ARGV[3]) return 1"
        )
        async with self._errors(f"publishing the {field} of {partition}"):
            done = await self._redis.eval(script, 1, _key(partition, "head"), str(epoch), field, value)
        if not done:
            raise FencedError(f"partition {partition} has a later owner than epoch {epoch}")

    async def heads(self, partitions: Sequence[str]) -> dict[str, Head]:
        """Heads of partitions; those never owned are left out."""
        async with self._errors("looking owners up"), self._redis.pipeline(transaction=False) as pipe:
            for partition in partitions:
                pipe.hmget(_key(partition, "head"), "epoch", "sequence", "address", "owner", "damage")
            rows = await pipe.execute()
        return {
            partition: Head(int(row[0]), int(row[1] or 0), *((text or b"").decode() for text in row[2:]))
            for partition, row in zip(partitions, rows, strict=True)
            if row[0] is not None
        }

    def append(self, appends: Sequence[Append]) -> Awaitable[list[Appended]]:
        """Appends all entries, each to its partition: at once if the connection is open, else when it is awaited. What
        became of them is awaited; durable when answered.

        Raises:
            UnknownOutcomeError: no answer came. Repeat the very same call.
            DamagedDataError: the log is not where its only writer left it.
        """
        keys: list[str] = []
        arguments: list[bytes | str] = []
        for item in appends:
            keys += (_key(item.partition, "head"), _key(item.partition, "log"))
            arguments += (str(item.epoch), str(item.sequence), item.batch_id, seal(item.entry))
        return _Appending(appends, self._append(keys=keys, args=arguments))

    async def entries(self, partition: str, after: int, until: int) -> AsyncIterator[events_pb2.LogEntry]:
        """Log entries with sequences in (after, until], in order.

        Raises:
            DamagedDataError: a sequence is missing or an entry cannot be read.
            UnavailableError: what is missing was trimmed while it was read, below a later snapshot: begin with that.
        """
        expected = after + 1
        while expected <= until:
            async with self._errors(f"reading the log of {partition}"):
                page = await self._redis.xrange(_key(partition, "log"), f"{expected}-0", f"{until}-0", count=READ_PAGE)
            if not page:
                raise await self._missing(
                    partition, after, f"ends before sequence {expected}, but should reach {until}"
                )
            for stream_id, fields in page:
                entry = _parse_entry(partition, int(stream_id.split(b"-")[0]), fields)
                if entry.sequence != expected:
                    raise await self._missing(
                        partition, after, f"has sequence {entry.sequence} where {expected} must be"
                    )
                expected += 1
                yield entry

    async def _missing(self, partition: str, after: int, what: str) -> DamagedDataError | UnavailableError:
        """What a hole after `after` is. An owner that recovers slowly may have a successor already, which has written a
        snapshot and trimmed the log below it: that is no damage."""
        snapshot = await self.snapshot_sequence(partition)
        if snapshot > after:
            return UnavailableError(f"the log of {partition} was trimmed while it was read: now begin at {snapshot}")
        return DamagedDataError(f"the log of {partition} {what}")

    async def write_snapshot(self, partition: str, epoch: int, sequence: int, parts: AsyncIterable[bytes]) -> int:
        """Replaces the partition's snapshot by one that holds everything up to `sequence`: the parts, joined.
        Answers how many bytes they are.

        Raises:
            FencedError: a later owner has taken over; its snapshot stays, for its log may be trimmed up to it.
            UnavailableError: what was written first is gone, as after a jump of the server's clock beyond
                SNAPSHOT_WRITING_S. The last snapshot stays.
        """
        new = _key(partition, f"snapshot:{epoch}")
        script = (
            "if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[1] then redis.call('DEL', KEYS[2]) return 'FENCED' end "
            "if redis.call('HGET', KEYS[2], 'sequence') ~= ARGV[2] or redis.call('HLEN', KEYS[2]) ~= tonumber(ARGV[3]) "
            "then redis.call('DEL', KEYS[2]) return 'PARTIAL' end "
            "redis.call('PERSIST', KEYS[2]) redis.call('RENAME', KEYS[2], KEYS[3]) return 'DONE'"
        )
        async with self._errors(f"writing a snapshot of {partition}"):
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.delete(new)
                pipe.hset(new, "sequence", sequence)
                pipe.expire(new, SNAPSHOT_WRITING_S)
                await pipe.execute()
            length = chunks = 0
            async for chunk in _in_chunks(parts):
                await self._redis.hset(new, f"chunk:{chunks}", seal(chunk))
                length, chunks = length + len(chunk), chunks + 1
            await self._redis.hset(new, mapping={"chunks": chunks, "length": length})
            keys = (_key(partition, "head"), new, _key(partition, "snapshot"))
            fields = chunks + len(("sequence", "chunks", "length"))
            became = await self._redis.eval(script, 3, *keys, str(epoch), str(sequence), str(fields))
        if became == b"FENCED":
            raise FencedError(f"partition {partition} has a later owner than epoch {epoch}")
        if became != b"DONE":
            raise UnavailableError(f"a part of the new snapshot of {partition} is gone: the last one stays")
        return length

    async def read_snapshot(self, partition: str) -> tuple[int, bytes] | None:
        """The newest snapshot and the sequence it holds, or None if there is none.

        Raises:
            DamagedDataError: a part is missing or damaged.
        """
        key = _key(partition, "snapshot")
        async with self._errors(f"reading the snapshot of {partition}"):
            sequence, chunks, length = await self._redis.hmget(key, "sequence", "chunks", "length")
            if sequence is None:
                return None
            parts = [await self._redis.hget(key, f"chunk:{number}") for number in range(int(chunks))]
        what = f"the snapshot of {partition}"
        data = b"".join(unseal(part or b"", f"chunk {number} of {what}") for number, part in enumerate(parts))
        if len(data) != int(length):
            raise DamagedDataError(f"the snapshot of {partition} has {len(data)} bytes, not {int(length)}")
        return int(sequence), data

    async def snapshot_sequence(self, partition: str) -> int:
        """Up to which sequence the newest snapshot holds; 0 for none."""
        async with self._errors(f"reading the snapshot of {partition}"):
            return int(await self._redis.hget(_key(partition, "snapshot"), "sequence") or 0)

    async def reported_sequence(self, partition: str) -> int:
        """Up to which sequence reporting has committed; 0 for none."""
        async with self._errors(f"reading the reported sequence of {partition}"):
            return int(await self._redis.get(_key(partition, "reported")) or 0)

    async def unreported(self, partition: str) -> tuple[int, int]:
        """Entries of the log that reporting has not committed, and about how many bytes of memory they take."""
        log = _key(partition, "log")
        async with self._errors(f"measuring the log of {partition}"), self._redis.pipeline(transaction=False) as pipe:
            pipe.hget(_key(partition, "head"), "sequence")
            pipe.get(_key(partition, "reported"))
            pipe.xlen(log)
            pipe.memory_usage(log)
            last, reported, length, size = await pipe.execute()
        entries = max(int(last or 0) - int(reported or 0), 0)
        return entries, min(entries, length) * int(size or 0) // max(length, 1)

    async def trim(self, partition: str, below: int) -> None:
        """Drops log entries with sequences under `below`."""
        async with self._errors(f"trimming the log of {partition}"):
            await self._redis.xtrim(_key(partition, "log"), minid=f"{below}-0", approximate=False)

    async def write_control(self, name: str, version: int, record: bytes) -> int:
        """Stores a control record unless a newer version is stored; returns the version in force."""
        script = (
            "local v = tonumber(redis.call('HGET', KEYS[1], 'version') or '-1') "
            "if v > tonumber(ARGV[1]) then return v end "
            "redis.call('HSET', KEYS[1], 'version', ARGV[1], 'record', ARGV[2]) "
            "redis.call('INCR', KEYS[2]) return tonumber(ARGV[1])"
        )
        async with self._errors(f"writing the control record {name}"):
            keys = (f"pg:{{control}}:{name}", "pg:{control}:changes")
            return int(await self._redis.eval(script, 2, *keys, str(version), seal(record)))

    async def replace_control(self, name: str, version: int, record: bytes) -> bool:
        """Stores a control record as the version that follows `version`, which must still be the one that is stored;
        says whether it was. -1: none is."""
        script = (
            "local v = tonumber(redis.call('HGET', KEYS[1], 'version') or '-1') "
            "if v ~= tonumber(ARGV[1]) then return 0 end "
            "redis.call('HSET', KEYS[1], 'version', v + 1, 'record', ARGV[2]) "
            "redis.call('INCR', KEYS[2]) return 1"
        )
        async with self._errors(f"replacing the control record {name}"):
            keys = (f"pg:{{control}}:{name}", "pg:{control}:changes")
            return bool(await self._redis.eval(script, 2, *keys, str(version), seal(record)))

    async def control_version(self, name: str) -> int:
        """The version of a control record, which itself may be damaged; -1 for none."""
        async with self._errors(f"reading the version of the control record {name}"):
            version = await self._redis.hget(f"pg:{{control}}:{name}", "version")
        return -1 if version is None else int(version)

    async def read_control(self, name: str) -> tuple[int, bytes] | None:
        """A control record and its version, or None.

        Raises:
            DamagedDataError: it is not what was written.
        """
        async with self._errors(f"reading the control record {name}"):
            version, record = await self._redis.hmget(f"pg:{{control}}:{name}", "version", "record")
        return None if version is None else (int(version), unseal(bytes(record), f"the control record {name}"))

    async def control_changes(self) -> int:
        """A counter that rises with each change of a control record."""
        async with self._errors("reading the control counter"):
            return int(await self._redis.get("pg:{control}:changes") or 0)

    async def check_durability(self) -> list[str] | None:
        """Settings of the server that would break I2, each with what it must be; empty if all is well, None if the
        server does not tell."""
        wanted = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}
        async with self._errors("reading the ledger's settings"):
            try:
                found = {name: (await self._redis.config_get(name)).get(name) for name in wanted}
            except ResponseError:  # managed servers often have no CONFIG
                return None
        return [
            f"{name} is {found[name]!r}, must be {value!r}" for name, value in wanted.items() if found[name] != value
        ]

    def _errors(self, doing: str) -> _Wrapped:
        return _Wrapped(doing)


async def at_once(data: bytes) -> AsyncIterator[bytes]:
    """A snapshot of one part."""
    yield data


async def _in_chunks(parts: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """The same bytes in pieces of SNAPSHOT_CHUNK; one, if there are none."""
    waiting = bytearray()
    async for part in parts:
        waiting += part
        while len(waiting) > SNAPSHOT_CHUNK:
            yield bytes(waiting[:SNAPSHOT_CHUNK])
            del waiting[:SNAPSHOT_CHUNK]
    yield bytes(waiting)


class _Wrapped:
    """Wraps errors of the Redis client once, here. Everything under it may be repeated as a whole."""

    def __init__(self, doing: str) -> None:
        self._doing = doing

    async def __aenter__(self) -> None:
        return None

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, (RedisError, OSError, TimeoutError)):
            raise UnavailableError(f"the ledger is away ({self._doing}): {error}") from error


@dataclass(frozen=True, slots=True)
class _Appending:
    """What `Ledger.append` answers."""

    appends: Sequence[Append]
    asked: Awaitable[list[bytes]]

    def __await__(self) -> Generator[Any, None, list[Appended]]:
        return self._answer().__await__()

    async def _answer(self) -> list[Appended]:
        try:
            answers = await self.asked
        except (RedisError, OSError, TimeoutError) as error:
            raise UnknownOutcomeError(f"the ledger did not answer an append: {error}", 50) from error
        return [_appended(item, answer) for item, answer in zip(self.appends, answers, strict=True)]


_ANSWERS = {appended.value.encode(): appended for appended in Appended}


def _appended(item: Append, answer: bytes) -> Appended:
    appended = _ANSWERS.get(answer)
    if appended is not None:
        return appended
    raise DamagedDataError(
        f"the log of {item.partition} cannot take sequence {item.sequence} of epoch {item.epoch}: {answer.decode()}"
    )


def _parse_entry(partition: str, sequence: int, fields: dict[bytes, bytes]) -> events_pb2.LogEntry:
    what = f"entry {sequence} of the log of {partition}"
    try:
        return events_pb2.LogEntry.FromString(unseal(fields.get(b"e", b""), what))
    except DecodeError as error:
        raise DamagedDataError(f"{what} cannot be read: {error}") from error
