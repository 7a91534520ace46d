"""Reads a partition's log from Redis, and believes nothing: sequences must have no gap, epochs must not fall."""

from __future__ import annotations

from typing import Any, cast

import redis.asyncio as redis
from google.protobuf.message import DecodeError
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from parkgate.events.v1 import events_pb2 as pb
from reporting.store import Offset
from ticketcore.errors import DamagedDataError, UnavailableError
from ticketcore.seal import unseal

SOCKET_TIMEOUT_S = 10.0
BLOCK_MS = 2_000
"""A blocking read returns at once when an entry arrives; this is only how often an idle worker looks up."""


def log_key(partition: str) -> str:
    """The stream of a partition."""
    return f"pg:{{{partition}}}:log"


def reported_key(partition: str) -> str:
    """Where reporting says how far it has committed."""
    return f"pg:{{{partition}}}:reported"


def make_client(url: str) -> redis.Redis:
    """A client that never retries by itself: the worker knows what a failure means, the client does not."""
    return redis.Redis.from_url(
        url, retry=Retry(NoBackoff(), 0), socket_timeout=SOCKET_TIMEOUT_S, socket_connect_timeout=3.0
    )


class LogReader:
    """Entries of one partition, in order, from an offset."""

    def __init__(self, client: redis.Redis, partition: str) -> None:
        self._client = client
        self._partition = partition

    async def last_sequence(self) -> int:
        """The last sequence in the ledger; 0 when there is none.

        Raises:
            UnavailableError: Redis is away.
        """
        try:
            newest = cast(Any, await self._client.xrevrange(log_key(self._partition), count=1))
        except (redis.RedisError, OSError) as error:
            raise UnavailableError(f"the ledger of {self._partition} cannot be read: {error}") from error
        return int(newest[0][0].split(b"-")[0]) if newest else 0

    async def read_after(self, offset: Offset, count: int, block_ms: int = BLOCK_MS) -> list[pb.LogEntry]:
        """Up to `count` entries after an offset; waits for the first one at most `block_ms`.

        Raises:
            UnavailableError: Redis is away; nothing was changed.
            DamagedDataError: an entry is missing, repeated, unreadable or from an earlier epoch.
        """
        key = log_key(self._partition)
        try:
            answer = cast(Any, await self._client.xread({key: f"{offset.sequence}-0"}, count=count, block=block_ms))
        except (redis.RedisError, OSError) as error:
            raise UnavailableError(f"the ledger of {self._partition} cannot be read: {error}") from error
        if not answer:
            return []
        return check_entries(self._partition, offset, answer[0][1])

    async def publish(self, sequence: int) -> None:
        """Tells the ledger how far reporting has committed, so that it may trim.

        Raises:
            UnavailableError: Redis is away; the next batch tells again.
        """
        try:
            await self._client.set(reported_key(self._partition), str(sequence))
        except (redis.RedisError, OSError) as error:
            raise UnavailableError(f"the ledger of {self._partition} cannot be told: {error}") from error


def check_entries(partition: str, offset: Offset, rows: list[tuple[bytes, dict[bytes, bytes]]]) -> list[pb.LogEntry]:
    """Decodes rows of a stream and checks that they follow the offset without a gap.

    Raises:
        DamagedDataError: they do not; the message says where.
    """
    entries: list[pb.LogEntry] = []
    sequence, epoch = offset.sequence, offset.epoch
    for row_id, fields in rows:
        sequence += 1
        where = f"partition {partition}, entry {sequence}"
        if row_id != b"%d-0" % sequence:
            raise DamagedDataError(f"{where} is missing from the ledger: {row_id.decode()} comes instead")
        try:
            entry = pb.LogEntry.FromString(unseal(fields.get(b"e", b""), where))
        except DecodeError as error:
            raise DamagedDataError(f"{where} cannot be read: {error}") from error
        if entry.sequence != sequence or entry.partition != partition:
            raise DamagedDataError(f"{where} says that it is entry {entry.sequence} of {entry.partition!r}")
        if entry.epoch < epoch:
            raise DamagedDataError(f"{where} is of epoch {entry.epoch}, after epoch {epoch}")
        epoch = entry.epoch
        entries.append(entry)
    return entries
