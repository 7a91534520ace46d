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
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from functools import lru_cache

SCAN_ID_LENGTH = 16
HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"
EPOCH_MS = 946_684_800_000
EPOCH_DAY = date(2000, 1, 1).toordinal()
LAST_MS = 253_402_300_799_000
"""The end of the year 9999, where Python's calendar ends."""
SCAN_FIELDS, PASSAGE_FIELDS, FIRST_FIELDS = 18, 14, 7
BIGINT, INTEGER, INSTANT = 20, 23, 1184
"""Postgres' own numbers of the types of arrays' elements."""
_BOOLEAN = struct.Struct(">i?")
_SMALL = struct.Struct(">ih")
_INTEGER = struct.Struct(">ii")
_BIG = struct.Struct(">iq")
_TICKET = struct.Struct(">iQ")
"""Unsigned: what a forged token claims may not fit bigint and is kept by its bits."""
_ARRAY = struct.Struct(">iiiiii")
_SCAN_ID = struct.Struct(f"{SCAN_ID_LENGTH}s")


def micros_of(time_ms: int) -> int:
    """An instant as Postgres keeps it. Those beyond the calendar (a mad clock of a device) become its ends."""
    return (min(max(time_ms, 0), LAST_MS) - EPOCH_MS) * 1_000


def scan_ids_of(joined: bytes) -> Iterator[bytes]:
    """The ids of a column. Raises: struct.error when the last one is not whole."""
    return (scan_id for (scan_id,) in _SCAN_ID.iter_unpack(joined))


def integers(*values: int) -> bytes:
    """Fields of the type integer."""
    return b"".join(_INTEGER.pack(4, value) for value in values)


def smalls(*values: int) -> bytes:
    """Fields of the type smallint."""
    return b"".join(_SMALL.pack(2, value) for value in values)


def boolean(value: bool) -> bytes:
    """A field of the type boolean."""
    return _BOOLEAN.pack(1, value)


def _text(value: str) -> bytes:
    data = value.encode()
    return struct.pack(f">i{len(data)}s", len(data), data)


class EntryRows:
    """Makes the rows of one log entry: its day, partition, sequence and instant are packed once."""

    __slots__ = ("_first", "_instant", "_passage", "_scan", "_when")

    def __init__(self, partition: str, sequence: int, park_date: date, time_ms: int) -> None:
        name, day = _text(partition), _INTEGER.pack(4, park_date.toordinal() - EPOCH_DAY)
        instant = _BIG.pack(8, micros_of(time_ms))
        place = day + name + _BIG.pack(8, sequence)
        self._scan = struct.pack(">h", SCAN_FIELDS) + place
        self._passage = struct.pack(">h", PASSAGE_FIELDS) + place
        self._instant = instant
        self._when = name + day + instant
        self._first = struct.pack(">hi", FIRST_FIELDS, 8)

    def scans(
        self,
        first_position: int,
        columns: tuple[bytes, Sequence[int], Sequence[int], Sequence[int]],
        alike: bytes,
    ) -> bytes:
        """A row of `scan_runs`. Columns: joined scan ids, tickets, gates, device times; `alike`: what members share."""
        joined, ticket_ids, gates, times_ms = columns
        instants = _array(INSTANT, _BIG, _micros_column(times_ms))
        return self._run(self._scan, first_position, alike, (joined, ticket_ids, gates)) + instants

    def passages(self, first_position: int, columns: tuple[bytes, Sequence[int], Sequence[int]], alike: bytes) -> bytes:
        """A row of `passage_runs`. Columns: joined scan ids, tickets, gates; `alike`: what members share."""
        return self._run(self._passage, first_position, alike, columns)

    def _run(
        self, start: bytes, first_position: int, alike: bytes, columns: tuple[bytes, Sequence[int], Sequence[int]]
    ) -> bytes:
        joined, ticket_ids, gates = columns
        place = start + _INTEGER.pack(4, first_position) + self._instant
        members = len(joined).to_bytes(4, "big") + joined + _array(BIGINT, _TICKET, ticket_ids)
        return place + alike + members + _array(INTEGER, _INTEGER, gates)

    def first_admissions(
        self, columns: tuple[Iterable[bytes], Sequence[int], Sequence[int]], product_number: int
    ) -> Iterator[tuple[int, bytes]]:
        """Tickets, each with its row of `first_admissions`. Columns: scan, ticket, gate."""
        pack = _first_row(len(self._when)).pack
        start, when = self._first, self._when
        product = _INTEGER.pack(4, product_number) + struct.pack(">i", SCAN_ID_LENGTH)
        for scan_id, ticket_id, gate in zip(*columns, strict=True):
            yield ticket_id, pack(start, ticket_id, when, 4, gate, product, scan_id)


def _micros_column(times_ms: Sequence[int]) -> list[int]:
    if times_ms and min(times_ms) >= 0 and max(times_ms) <= LAST_MS:
        return [(time_ms - EPOCH_MS) * 1_000 for time_ms in times_ms]
    return [micros_of(time_ms) for time_ms in times_ms]


def _array(kind: int, element: struct.Struct, values: Sequence[int]) -> bytes:
    """A field that is an array; `element` packs a member's length and the member."""
    size = element.size - 4
    pack = element.pack
    head = _ARRAY.pack(_ARRAY.size - 4 + element.size * len(values), 1, 0, kind, len(values), 1)
    return head + b"".join([pack(size, value) for value in values])


@lru_cache(maxsize=64)
def _first_row(when: int) -> struct.Struct:
    return struct.Struct(f">6sQ{when}sii12s16s")
