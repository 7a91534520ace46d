"""Targets for what is read back from the ledger: damaged, it must stop whoever reads it, with a name.

Sealed records are damaged as a disk does it: then every change must be noticed. Unsealed ones are what a seal cannot
guard against, a record that some other version or a bug has written so: it may be believed or refused, but never end
in an error without a name.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from functools import cache
from zoneinfo import ZoneInfo

from cluster import quota_state
from cluster.ledger import _parse_entry
from cluster.partition import Partition
from cluster.quota_state import QuotaState
from cluster.recovery import replay, restore
from cluster.snapshot_parts import snapshot
from parkgate.events.v1 import events_pb2
from reporting.batch import batch_of
from reporting.log_reader import check_entries
from reporting.recount import Recount
from reporting.store import Offset
from tests.cluster import small_park
from tests.fuzz.gates import HELLO, METHODS, TICKETS, StreamContext, in_frames, stream_seeds
from tests.fuzz.inside import Inside
from tests.fuzz.target import Target, require
from ticketcore.catalogue_document import canonical_json, read_catalogue
from ticketcore.errors import DamagedDataError, InvalidInputError
from ticketcore.seal import seal, unseal

PARTITIONS = 4
UTC = ZoneInfo("UTC")


def sealed_entry(data: bytes) -> str:
    """An entry that differs by one bit from what was written is damaged, to owners and to reporting alike (I6)."""
    for read in (_as_owner, _as_reporting):
        try:
            read(data)
        except DamagedDataError:
            continue
        require(data in written(), f"an entry is believed that nobody wrote: {data.hex()}")
    return "whole" if data in written() else "DamagedDataError"


def _as_owner(data: bytes) -> None:
    _parse_entry("p0", 1, {b"e": data})


def _as_reporting(data: bytes) -> None:
    check_entries("p0", Offset(0, 0), [(b"1-0", {b"e": data})])


def replayed(data: bytes) -> str:
    """Whatever an entry says, an owner takes it over or stops with DamagedDataError."""
    partition = Partition("p0", PARTITIONS)
    try:
        entry = _parse_entry("p0", 1, {b"e": seal(data)})
        replay(partition, entry, small_park.RULES)
    except DamagedDataError:
        return "DamagedDataError"
    return "replayed"


def quota_replayed(data: bytes) -> str:
    """The same at the quota owner."""
    state = QuotaState("q0")
    try:
        quota_state.replay(state, _parse_entry("q0", 1, {b"e": seal(data)}))
    except DamagedDataError:
        return "DamagedDataError"
    return "replayed"


def reported(data: bytes) -> str:
    """The same at a reporting worker, and in the recount."""
    try:
        entries = check_entries("p0", Offset(0, 0), [(b"1-0", {b"e": seal(data)})])
        batch_of("p0", entries, UTC)
        counter = Recount()
        for entry in entries:
            for event in entry.events:
                counter.take(event)
    except DamagedDataError:
        return "DamagedDataError"
    return "reported"


def restored(data: bytes) -> str:
    """A snapshot is taken over, or refused with DamagedDataError. The first byte says whose it is."""
    kind, body = (data[0] % 2 if data else 0), data[1:]
    partition, state = Partition("p0", PARTITIONS), QuotaState("q0")
    try:
        if kind:
            quota_state.restore(state, body)
        else:
            restore(partition, body, PARTITIONS)
    except DamagedDataError:
        return "DamagedDataError"
    return "restored"


def sealed_chunk(data: bytes) -> str:
    """A chunk of a snapshot, or a control record, that differs by one bit is damaged (I6)."""
    try:
        record = unseal(data, "the record")
    except DamagedDataError:
        return "DamagedDataError"
    require(seal(record) in CONTROL, f"a record is believed that nobody wrote: {data.hex()}")
    return "whole"


def catalogue_document(data: bytes) -> str:
    """A catalogue is one, or every fault in it is named; one that is, is written and read again as the same."""
    try:
        catalogue = read_catalogue(data)
    except InvalidInputError as error:
        require(bool(str(error).strip()), "a fault without words")
        return type(error).__name__
    require(read_catalogue(canonical_json(json.loads(data))) == catalogue, "it is read otherwise again")
    return "catalogue"


DOCUMENT = canonical_json(small_park.document())
CONTROL = (seal(DOCUMENT), seal(b"\x0a\x04\x08\x03\x12\x00"))


def _entries() -> list[bytes]:
    """Entries that real owners have written, renamed to be the first of partition p0."""
    inside = Inside(TICKETS[:8], 7)
    try:
        inside.drive(_traffic(inside))
        entries = [events_pb2.LogEntry.FromString(entry.data) for entry in inside.park.ledger.entries]
    finally:
        inside.close()
    for entry in entries:
        entry.ClearField("checksum")
        entry.partition = "q0" if entry.partition == "q0" else "p0"
        entry.sequence = 1
    return [entry.SerializeToString() for entry in entries if entry.events]


async def _traffic(inside: Inside) -> None:
    for seed in stream_seeds()[:8]:
        await inside.gates.stream(None, StreamContext([HELLO.SerializeToString(), *in_frames(seed[1:])]))  # type: ignore[arg-type]
    for name in ("ChangeTickets", "ChangeHolds", "ReturnUnits", "PlaceHold"):
        await inside.ask(name, METHODS[name][0])
    await asyncio.sleep(3)


@cache
def entries_of(owner: str) -> list[bytes]:
    """Entries of real owners ("p"), or of a real quota owner ("q")."""
    return [entry for entry in _entries() if events_pb2.LogEntry.FromString(entry).partition.startswith(owner)]


@cache
def written() -> frozenset[bytes]:
    """All of them, sealed."""
    return frozenset(map(seal, entries_of("p") + entries_of("q")))


def _snapshots() -> list[bytes]:
    partition, state = Partition("p0", PARTITIONS), QuotaState("q0")
    for sequence, raw in enumerate(entries_of("p"), 1):
        entry = events_pb2.LogEntry.FromString(raw)
        entry.sequence, entry.epoch = sequence, 1
        replay(partition, entry, small_park.RULES)
    for sequence, raw in enumerate(entries_of("q"), 1):
        entry = events_pb2.LogEntry.FromString(raw)
        entry.sequence, entry.epoch = sequence, 1
        quota_state.replay(state, entry)
    chunks = events_pb2.PartitionSnapshot.FromString(snapshot(partition, PARTITIONS))
    for chunk in chunks.chunks:
        chunk.rows = chunk.rows[: 8 * 32]
    return [b"\0" + chunks.SerializeToString(), b"\1" + quota_state.snapshot(state)]


MAKERS: dict[str, Callable[[], Target]] = {
    "sealed-entry": lambda: Target(
        "sealed-entry", "log entries that a disk has damaged", sealed_entry, sorted(written())
    ),
    "sealed-record": lambda: Target("sealed-record", "snapshots and control records so damaged", sealed_chunk, CONTROL),
    "replay": lambda: Target("replay", "log entries at an owner that takes over", replayed, entries_of("p")),
    "quota-replay": lambda: Target("quota-replay", "the same at a quota owner", quota_replayed, entries_of("q")),
    "report": lambda: Target("report", "the same at reporting", reported, entries_of("p") + entries_of("q")),
    "restore": lambda: Target("restore", "snapshots at owners that take over", restored, _snapshots()),
    "catalogue": lambda: Target("catalogue", "catalogue documents", catalogue_document, [DOCUMENT]),
}
