"""Rows of the event tables in COPY's binary format, made column by column. Knows that format and nothing of events.

    file      signature 11, flags int32, length of the header's extension int32, rows, int16 -1
    row       int16 number of fields, then each field
    field     int32 number of bytes, then these; integers big-endian
    date      int32, days since 2000-01-01
    instant   int64, microseconds since 2000-01-01 00:00 UTC

Binary because Postgres would parse, and we would print, every number and instant of a text: together that took half of
the time of a row (measured, with the worker's other work: 2.3 µs of its CPU an event as text, 0.9 µs so).
What rows share is packed once; a row is then one call.
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
_BOOLEAN = struct.Struct(">i?")
_SMALL = struct.Struct(">ih")
_INTEGER = struct.Struct(">ii")
_BIG = struct.Struct(">iq")
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

    __slots__ = ("_at", "_first", "_passage", "_scan", "_when")

    def __init__(self, partition: str, sequence: int, park_date: date, time_ms: int) -> None:
        name, day = _text(partition), _INTEGER.pack(4, park_date.toordinal() - EPOCH_DAY)
        instant = _BIG.pack(8, micros_of(time_ms))
        place = day + name + _BIG.pack(8, sequence) + struct.pack(">i", 4)
        self._scan = struct.pack(">h", SCAN_FIELDS) + place
        self._passage = struct.pack(">h", PASSAGE_FIELDS) + place
        self._at = instant + struct.pack(">i", SCAN_ID_LENGTH)
        self._when = name + day + instant
        self._first = struct.pack(">hi", FIRST_FIELDS, 8)

    def scans(
        self,
        first_position: int,
        columns: tuple[Iterable[bytes], Sequence[int], Sequence[int], Sequence[int]],
        alike: tuple[bytes, bytes],
    ) -> bytes:
        """Rows of `scan_events`. Columns: scan, ticket, gate, device time; `alike`: the fields before and after it."""
        before, after = alike[0] + struct.pack(">i", 8), alike[1]
        pack = _scan_row(len(self._scan), len(before), len(after)).pack
        start, at = self._scan, self._at
        return b"".join(
            [
                pack(start, position, at, scan_id, 8, ticket_id, 4, gate, before, micros, after)
                for position, (scan_id, ticket_id, gate, micros) in enumerate(
                    zip(*columns[:3], _micros_column(columns[3]), strict=True), first_position
                )
            ]
        )

    def passages(
        self, first_position: int, columns: tuple[Iterable[bytes], Sequence[int], Sequence[int]], alike: bytes
    ) -> bytes:
        """Rows of `passage_events`. Columns: scan, ticket, gate; `alike`: the fields after them."""
        pack = _passage_row(len(self._passage), len(alike)).pack
        start, at = self._passage, self._at
        return b"".join(
            [
                pack(start, position, at, scan_id, 8, ticket_id, 4, gate, alike)
                for position, (scan_id, ticket_id, gate) in enumerate(zip(*columns, strict=True), first_position)
            ]
        )

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


# Ticket ids are packed unsigned: what a forged token claims may not fit bigint and is kept by its bits.


@lru_cache(maxsize=64)
def _scan_row(start: int, before: int, after: int) -> struct.Struct:
    return struct.Struct(f">{start}si16s16siQii{before}sq{after}s")


@lru_cache(maxsize=64)
def _passage_row(start: int, alike: int) -> struct.Struct:
    return struct.Struct(f">{start}si16s16siQii{alike}s")


@lru_cache(maxsize=64)
def _first_row(when: int) -> struct.Struct:
    return struct.Struct(f">6sQ{when}sii12s16s")
