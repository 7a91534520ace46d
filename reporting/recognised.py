"""Which tickets are recognised, a bit each, in blocks of consecutive ids: the rows of `reporting.recognised_tickets`.

Pure: what the transaction of a batch has to set or clear. A bit that is to be set and is set already is a second first
admission, which must not be.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

BLOCK_BITS = 11
BLOCK = 1 << BLOCK_BITS
"""Tickets of a block: few enough that one ticket alone is cheap, enough that a crowd shares blocks."""
BLOCK_BYTES = BLOCK // 8
_PLACE = BLOCK - 1


def blocks_of(ticket_ids: Iterable[int]) -> dict[int, bytes]:
    """By number of the block: its bits, with those of the tickets set. The first bit of a block is the highest of its
    first byte, as Postgres counts the bits of a `bit(2048)`."""
    blocks: dict[int, bytearray] = {}
    for ticket_id in ticket_ids:
        block = blocks.get(ticket_id >> BLOCK_BITS)
        if block is None:
            block = blocks[ticket_id >> BLOCK_BITS] = bytearray(BLOCK_BYTES)
        place = ticket_id & _PLACE
        block[place >> 3] |= 0x80 >> (place & 7)
    return {_signed(number): bytes(block) for number, block in blocks.items()}


def _signed(number: int) -> int:
    """As Postgres, which knows no unsigned numbers, finds it in a ticket that is kept by its bits."""
    return number if number < 1 << 63 - BLOCK_BITS else number - (1 << 64 - BLOCK_BITS)


def tickets_of(blocks: Mapping[int, bytes]) -> list[int]:
    """The tickets whose bits are set, in order."""
    return [
        number << BLOCK_BITS | place
        for number, block in sorted(blocks.items())
        for place in range(BLOCK)
        if block[place >> 3] & 0x80 >> (place & 7)
    ]
