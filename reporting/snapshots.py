"""Reads what an owner's snapshot says of a partition's trimmed past: for the recount, and for nothing else.

A reader of its own of the format in events.proto, so that the recount depends on no code of the owners.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, NamedTuple, cast

import redis.asyncio as redis
from google.protobuf.message import DecodeError

from parkgate.events.v1 import events_pb2 as pb
from ticketcore.errors import DamagedDataError, TransientError
from ticketcore.seal import unseal

ROW = struct.Struct(">H6x12xBBIHI")
"""Product number, lifecycle, origin, use, price in two parts; see TicketChunk. Rows of layout 2 have no use."""
PRICE_LOW_BITS = 32
CHUNK_ROWS = 256
FORMATS = (2, 3)
FIRST_SHARED = 2
"""The least number of a use that is shared."""
REGISTERED = 1
ATTEMPTS = 3
"""How often a snapshot is read again that was replaced meanwhile; the next is minutes away."""


class Ticket(NamedTuple):
    """A ticket as the snapshot has it."""

    ticket_id: int
    product_number: int
    lifecycle: int
    is_registered: bool
    price_minor: int


async def read_snapshot(client: redis.Redis, partition: str) -> pb.PartitionSnapshot | None:
    """The newest snapshot of a partition, or None if it has none.

    Raises:
        DamagedDataError: it is not whole.
        TransientError: it was replaced again and again while it was read.
    """
    key = f"pg:{{{partition}}}:snapshot"
    for _ in range(ATTEMPTS):
        before = await _head(client, key)
        if before[0] is None:
            return None
        # A chunk at a time: owners append meanwhile, and one answer of many megabytes would hold them up.
        parts = [await cast(Any, client.hget(key, f"chunk:{number}")) for number in range(int(before[1]))]
        if await _head(client, key) == before:
            chunks = [unseal(part or b"", f"chunk {n} of the snapshot of {partition}") for n, part in enumerate(parts)]
            return _parse(partition, b"".join(chunks), int(before[2]))
    raise TransientError(f"the snapshot of {partition} is being replaced; ask again shortly")


async def _head(client: redis.Redis, key: str) -> list[Any]:
    return cast("list[Any]", await cast(Any, client.hmget(key, ["sequence", "chunks", "length"])))


def _parse(partition: str, data: bytes, length: int) -> pb.PartitionSnapshot:
    if len(data) != length:
        raise DamagedDataError(f"the snapshot of {partition} has {len(data)} bytes, not {length}")
    try:
        snapshot = pb.PartitionSnapshot.FromString(data)
    except DecodeError as error:
        raise DamagedDataError(f"the snapshot of {partition} cannot be read: {error}") from error
    if snapshot.partition != partition:
        raise DamagedDataError(f"the snapshot of {partition} says that it is of {snapshot.partition!r}")
    if snapshot.format not in FORMATS:
        raise DamagedDataError(
            f"the snapshot of {partition} has layout {snapshot.format}, this version reads "
            f"{' and '.join(map(str, FORMATS))}: what it stands for cannot be counted again"
        )
    return snapshot


def tickets_of(snapshot: pb.PartitionSnapshot) -> Iterator[Ticket]:
    """The tickets that it holds."""
    for ticket_id, (product, lifecycle, origin, _, high, low) in _rows(snapshot):
        if origin:
            yield Ticket(ticket_id, product, lifecycle, origin == REGISTERED, high << PRICE_LOW_BITS | low)


def _rows(snapshot: pb.PartitionSnapshot) -> Iterator[tuple[int, tuple[int, ...]]]:
    index = int(snapshot.partition[1:])
    for chunk in snapshot.chunks:
        first = chunk.number * CHUNK_ROWS
        for row, fields in enumerate(ROW.iter_unpack(chunk.rows)):
            yield (first + row) * snapshot.partitions + index, fields


def admitted_of(snapshot: pb.PartitionSnapshot) -> set[int]:
    """Tickets with an admission that was not given back."""
    own = {(visit.zone_number, ticket_id) for visit in snapshot.visits for ticket_id in visit.ticket_ids}
    admitted = {ticket_id for visit in snapshot.visits if visit.counters[0] for ticket_id in visit.ticket_ids}
    shared = {number: use for number, use in enumerate(snapshot.uses) if use.counters}
    for ticket_id, (_, _, _, use, *_) in _rows(snapshot):
        if use < FIRST_SHARED:
            continue
        if use not in shared:
            raise DamagedDataError(
                f"in the snapshot of {snapshot.partition} ticket {ticket_id} has use {use}, which is none"
            )
        if shared[use].counters[0] and (shared[use].zone_number, ticket_id) not in own:
            admitted.add(ticket_id)
    return admitted
