"""Rows of the event tables in COPY's binary format, made column by column. Knows that format and nothing of events.

    file      signature 11, flags int32, length of the header's extension int32, rows, int16 -1
    row       int16 number of fields, then each field
    field     int32 number of bytes, then these; integers big-endian
    date      int32, days since 2000-01-01
    instant   int64, microseconds since 2000-01-01 00:00 UTC
    array     int32 dimensions, flags, type; int32 elements, lower bound; then each element as a field

Scans and passages are kept as the log has them, a row a run: what its members share once, and an array for each of
ticket, gate and time (measured over worker and Postgres: 3.3 to 3.8 µs of CPU a scan, instead of 5.2 to 5.7).

Binary because Postgres would parse, and we would print, every number and instant of a text: together that took half of
the time of a row (measured, with the worker's other work: 2.3 µs of its CPU an event as text, 0.9 µs so).
What rows share is packed once.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from datetime import date
from functools import lru_cache

SCAN_ID_LENGTH = 16
HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"
EPOCH_MS = 946_684_800_000
EPOCH_DAY = date(2000, 1, 1).toordinal()
LAST_MS = 253_402_300_799_000
"""The end of the year 9999, where Python's calendar ends."""
SCAN_FIELDS, PASSAGE_FIELDS, FIRST_FIELDS = 18, 14, 9
BIGINT, INTEGER, INSTANT = 20, 23, 1184
"""Postgres' own numbers of the types of arrays' elements."""
_BOOLEAN = struct.Struct(">i?")
_SMALL = struct.Struct(">ih")
_INTEGER = struct.Struct(">ii")
_BIG = struct.Struct(">iq")
_ARRAY = struct.Struct(">iiiiii")


def micros_of(time_ms: int) -> int:
    """An instant as Postgres keeps it. Those beyond the calendar (a mad clock of a device) become its ends."""
    return (min(max(time_ms, 0), LAST_MS) - EPOCH_MS) * 1_000


def integers(*values: int) -> bytes:
    """Fields of the type integer."""
    return b"".join(_INTEGER.pack(4, value) for value in values)


def smalls(*values: int) -> bytes:
    """Fields of the type smallint."""
    return b"".join(_SMALL.pack(2, value) for value in values)


def boolean(value: bool) -> bytes:
    """A field of the type boolean."""
    return _BOOLEAN.pack(1, value)


@lru_cache(maxsize=256)
def _starts(partition: str, park_date: date) -> tuple[bytes, ...]:
    """How rows of scans, passages and first admissions begin: number of fields, day, partition."""
    place = _INTEGER.pack(4, park_date.toordinal() - EPOCH_DAY) + _text(partition)
    return tuple(struct.pack(">h", fields) + place for fields in (SCAN_FIELDS, PASSAGE_FIELDS, FIRST_FIELDS))


def _text(value: str) -> bytes:
    data = value.encode()
    return struct.pack(f">i{len(data)}s", len(data), data)


class EntryRows:
    """Makes the rows of one log entry: its day, partition, sequence and instant are packed once."""

    __slots__ = ("_first", "_instant", "_passage", "_scan")

    def __init__(self, partition: str, sequence: int, park_date: date, time_ms: int) -> None:
        scan, passage, first = _starts(partition, park_date)
        place = _BIG.pack(8, sequence)
        self._scan, self._passage, self._first = scan + place, passage + place, first + place
        self._instant = _BIG.pack(8, micros_of(time_ms))

    def scans(self, first_position: int, alike: bytes, members: bytes, times_ms: Sequence[int]) -> bytes:
        """A row of `scan_runs`. `alike`: what members share; `members`: see `members_of`; and their device times."""
        instants = _array(INSTANT, "q", _micros_column(times_ms))
        return self._run(self._scan, first_position, alike, members) + instants

    def passages(self, first_position: int, alike: bytes, members: bytes) -> bytes:
        """A row of `passage_runs`, from the same as above."""
        return self._run(self._passage, first_position, alike, members)

    def first_admissions(self, first_position: int, product_number: int, members: bytes) -> bytes:
        """A row of `first_admission_runs`."""
        return self._run(self._first, first_position, _INTEGER.pack(4, product_number), members)

    def _run(self, start: bytes, first_position: int, alike: bytes, members: bytes) -> bytes:
        return start + _INTEGER.pack(4, first_position) + self._instant + alike + members


def members_of(joined: bytes, ticket_ids: Sequence[int], gates: Sequence[int]) -> bytes:
    """The fields of what members of a run do not share: their joined scan ids, tickets and gates."""
    # Tickets unsigned: what a forged token claims may not fit bigint and is kept by its bits.
    columns = _array(BIGINT, "Q", ticket_ids) + _array(INTEGER, "i", gates)
    return len(joined).to_bytes(4, "big") + joined + columns


def _micros_column(times_ms: Sequence[int]) -> list[int]:
    if times_ms and min(times_ms) >= 0 and max(times_ms) <= LAST_MS:
        return [(time_ms - EPOCH_MS) * 1_000 for time_ms in times_ms]
    return [micros_of(time_ms) for time_ms in times_ms]


def _array(kind: int, element: str, values: Sequence[int]) -> bytes:
    """A field that is an array; `element` is the format of a member, whose length goes before it."""
    head, members, size = _layout(kind, element, len(values))
    if len(values) == 1:  # most, where turnstiles show one ticket at a time
        return head + members.pack(size, values[0])
    fields = [size] * (2 * len(values))
    fields[1::2] = values
    return head + members.pack(*fields)


@lru_cache(maxsize=256)
def _layout(kind: int, element: str, count: int) -> tuple[bytes, struct.Struct, int]:
    """An array's head, the format of its members with their lengths, and the length of one."""
    size = struct.calcsize(element)
    head = _ARRAY.pack(_ARRAY.size - 4 + (4 + size) * count, 1, 0, kind, count, 1)
    return head, struct.Struct(">" + ("i" + element) * count), size
