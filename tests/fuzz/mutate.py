"""Bytes that are nearly right: seeds of a target, damaged the way that wires, readers and attackers damage them.

A million cases want some microseconds each, which a property-test library does not give; the same seed gives the same
cases. Nothing here knows a format: what a target's seeds look like is all that is known of it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

MAX_LENGTH = 4_096
ODD = (0, 1, 0x7F, 0x80, 0xFE, 0xFF)
ODD_INTEGERS = (0, 1, 2**7, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)
VARINT_BOMB = b"\xff" * 9 + b"\x01"


class Mutator:
    """An endless source of cases for one target."""

    def __init__(self, seeds: Sequence[bytes], chance: random.Random) -> None:
        self._seeds = list(seeds) or [b""]
        self._chance = chance
        # What keeps the length comes more often: it gets past the framing, to where the meaning is.
        self._changes = (
            *(self._flip, self._overwrite) * 3,
            self._insert,
            self._cut_out,
            self._repeat,
            self._cut_off,
            self._integer,
            self._splice,
        )

    def next(self) -> bytes:
        """One case: mostly a seed with one to four changes, sometimes a whole one, sometimes noise."""
        roll = self._chance.random()
        if roll < 0.05:
            return self._chance.randbytes(self._chance.choice((0, 1, 4, 17, 81, 122, 300)))
        data = bytearray(self._chance.choice(self._seeds))
        if roll > 0.15:
            for _ in range(self._chance.choice((1, 1, 1, 2, 4))):
                self._chance.choice(self._changes)(data)
        return bytes(data[:MAX_LENGTH])

    def _at(self, data: bytearray) -> int:
        return self._chance.randrange(len(data) + 1)

    def _span(self, data: bytearray) -> slice:
        start = self._at(data)
        return slice(start, start + self._chance.randint(1, 12))

    def _flip(self, data: bytearray) -> None:
        if data:
            data[self._chance.randrange(len(data))] ^= 1 << self._chance.randrange(8)

    def _overwrite(self, data: bytearray) -> None:
        if data:
            data[self._chance.randrange(len(data))] = self._chance.choice((*ODD, self._chance.randrange(256)))

    def _insert(self, data: bytearray) -> None:
        at = self._at(data)
        data[at:at] = self._chance.choice((VARINT_BOMB, self._chance.randbytes(self._chance.randint(1, 9))))

    def _cut_out(self, data: bytearray) -> None:
        del data[self._span(data)]

    def _repeat(self, data: bytearray) -> None:
        span = self._span(data)
        data[span.start : span.start] = data[span] * self._chance.randint(1, 4)

    def _cut_off(self, data: bytearray) -> None:
        del data[self._at(data) :]

    def _integer(self, data: bytearray) -> None:
        length, at = self._chance.choice((1, 2, 4, 8)), self._at(data)
        value = self._chance.choice(ODD_INTEGERS) % 256**length
        data[at : at + length] = value.to_bytes(length, self._chance.choice(("big", "little")))

    def _splice(self, data: bytearray) -> None:
        other = self._chance.choice(self._seeds)
        data[self._at(data) :] = other[self._chance.randrange(len(other) + 1) :]
