"""Millions of registered tickets in little memory: fixed rows in chunks, found by arithmetic.

Ticket ids are an issuer and its sequence, and a partition holds every P-th of them, so `ticket_id // P` counts up
almost without gaps: chunk number and row are its high and low bits. A registered ticket costs its row of 32 bytes and
a share of its chunk's overhead. The alternative that lost, a dict of objects, takes over 300 bytes a ticket.

Row: the last 8 bytes of the claims (product, first day, days, slot, party, entries, flags), digest 12, lifecycle 1,
origin 1, spare 2, price 8 big-endian. A row whose origin is 0 is empty.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

from ticketcore.admission import Terms, terms_of
from ticketcore.lifecycle import Lifecycle
from ticketcore.token import CLAIMS_LENGTH, DIGEST_LENGTH

ROW = struct.Struct(">8s12sBB2xq")
ROW_SIZE = ROW.size
CHUNK_ROWS_BITS = 8
CHUNK_ROWS = 1 << CHUNK_ROWS_BITS
ROW_MASK = CHUNK_ROWS - 1
_EMPTY_CHUNK = bytes(CHUNK_ROWS * ROW.size)
_LIFECYCLE_OFFSET = 20
_ORIGIN_OFFSET = 21
_HEAD_OFFSET = 9


class Origin(IntEnum):
    """How the partition came to know a ticket."""

    REGISTERED = 1
    SEEN = 2  # admitted or refused on its signature, before sales registered it
    CHANGED = 3  # voided or blocked before it was registered; there is no digest


ACTIVE_AND_REGISTERED = bytes((Lifecycle.ACTIVE, Origin.REGISTERED))
"""What follows terms and digest in the row of a ticket that sales have registered, and that nothing stands against."""


class Row(NamedTuple):
    """A ticket as the table holds it."""

    terms: Terms
    digest: bytes
    lifecycle: int
    origin: int
    price_minor: int


class TicketTable:
    """The tickets of one partition out of `partitions`."""

    def __init__(self, partitions: int) -> None:
        self._partitions = partitions
        self.chunks: dict[int, bytearray] = {}
        """Open to the short way of deciding, which looks for rows itself."""
        self._still: set[int] = set()
        """Chunks that a snapshot still reads."""
        self._count = 0
        self._terms: dict[bytes, Terms] = {}

    def __len__(self) -> int:
        return self._count

    def find(self, ticket_id: int) -> Row | None:
        """The ticket, or None."""
        number = ticket_id // self._partitions
        chunk = self.chunks.get(number >> CHUNK_ROWS_BITS)
        if chunk is None:
            return None
        head, digest, lifecycle, origin, price = ROW.unpack_from(chunk, (number & ROW_MASK) * ROW.size)
        if not origin:
            return None
        terms = self._terms.get(head)
        if terms is None:
            terms = self._terms[head] = terms_of(bytes(_HEAD_OFFSET) + head)
        return Row(terms, digest, lifecycle, origin, price)

    def put(self, claims: bytes, digest: bytes, lifecycle: int, origin: Origin, price_minor: int) -> None:
        """Stores a ticket by its 17 bytes of claims."""
        number = int.from_bytes(claims[1:9], "big") // self._partitions
        chunk = self._chunk(number)
        offset = (number & ROW_MASK) * ROW.size
        self._count += not chunk[offset + _ORIGIN_OFFSET]
        head = claims[_HEAD_OFFSET:CLAIMS_LENGTH]
        ROW.pack_into(chunk, offset, head, digest, lifecycle, origin, price_minor)

    def put_unknown(self, ticket_id: int, lifecycle: int) -> None:
        """Stores that a ticket that was never registered has been voided, blocked or revoked."""
        claims = b"\0" + ticket_id.to_bytes(8, "big") + bytes(8)
        self.put(claims, bytes(DIGEST_LENGTH), lifecycle, Origin.CHANGED, 0)

    def set_lifecycle(self, ticket_id: int, lifecycle: int) -> None:
        """Changes the lifecycle of a ticket that is there."""
        number = ticket_id // self._partitions
        self._chunk(number)[(number & ROW_MASK) * ROW.size + _LIFECYCLE_OFFSET] = lifecycle

    def _chunk(self, number: int) -> bytearray:
        """The chunk of a row that is about to change."""
        key = number >> CHUNK_ROWS_BITS
        chunk = self.chunks.get(key)
        if chunk is None:
            chunk = self.chunks[key] = bytearray(_EMPTY_CHUNK)
        elif key in self._still:
            self._still.discard(key)
            chunk = self.chunks[key] = bytearray(chunk)
        return chunk

    def still(self) -> list[tuple[int, bytearray]]:
        """Chunks by number, as they are now, for a snapshot: until `release`, whoever changes one changes a copy."""
        self._still = set(self.chunks)
        return list(self.chunks.items())

    def release(self) -> None:
        """Nobody reads what `still` has returned any more."""
        self._still.clear()

    def load(self, number: int, rows: bytes) -> None:
        """Takes a dumped chunk over."""
        self.chunks[number] = bytearray(rows)
        self._count += sum(1 for offset in range(_ORIGIN_OFFSET, len(rows), ROW.size) if rows[offset])
