"""Millions of registered tickets in little memory: fixed rows in chunks, found by arithmetic.

Ticket ids are an issuer and its sequence, and a partition holds every P-th of them, so `ticket_id // P` counts up
almost without gaps: chunk number and row are its high and low bits. A registered ticket costs its row of 32 bytes and
a share of its chunk's overhead. The alternative that lost, a dict of objects, takes over 300 bytes a ticket.

Row, big-endian: the last 8 bytes of the claims (product, first day, days, slot, party, entries, flags), digest 12,
lifecycle 1, origin 1, use 4 (`cluster.uses`), price 6. A row whose origin is 0 is empty but for its use.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

from cluster.uses import UNUSED
from ticketcore.admission import Terms, terms_of
from ticketcore.lifecycle import Lifecycle
from ticketcore.token import CLAIMS_LENGTH, DIGEST_LENGTH

ROW = struct.Struct(">8s12sBBIHI")
ROW_SIZE = ROW.size
CHUNK_ROWS_BITS = 8
CHUNK_ROWS = 1 << CHUNK_ROWS_BITS
ROW_MASK = CHUNK_ROWS - 1
_EMPTY_CHUNK = bytes(CHUNK_ROWS * ROW_SIZE)
_TICKET = struct.Struct(">8s12sBB")
USE = struct.Struct(">I")
_USES = struct.Struct(">22xI6x")
_PRICE = struct.Struct(">HI")
_LIFECYCLE_OFFSET = 20
_ORIGIN_OFFSET = 21
USE_OFFSET = 22
USE_END = 26
_PRICE_LOW_BITS = 32
MAX_PRICE_MINOR = (1 << 48) - 1
_HEAD_OFFSET = 9


class Origin(IntEnum):
    """How the partition came to know a ticket."""

    REGISTERED = 1
    SEEN = 2  # admitted or refused on its signature, before sales registered it
    CHANGED = 3  # voided or blocked before it was registered; there is no digest


FRESH = bytes((Lifecycle.ACTIVE, Origin.REGISTERED)) + USE.pack(UNUSED)
"""What follows terms and digest in the row of a ticket that sales have registered, that nothing stands against, and
that was never used."""


class Row(NamedTuple):
    """A ticket as the table holds it, but for its use."""

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
        self.shared: set[int] = set()
        """Chunks that a snapshot still reads: they are changed by way of `changing`. Always the same set."""
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
        head, digest, lifecycle, origin, _, high, low = ROW.unpack_from(chunk, (number & ROW_MASK) * ROW_SIZE)
        if not origin:
            return None
        terms = self._terms.get(head)
        if terms is None:
            terms = self._terms[head] = terms_of(bytes(_HEAD_OFFSET) + head)
        return Row(terms, digest, lifecycle, origin, high << _PRICE_LOW_BITS | low)

    def put(self, claims: bytes, digest: bytes, lifecycle: int, origin: Origin, price_minor: int) -> None:
        """Stores a ticket by its 17 bytes of claims; its use stays what it was. A price has at most
        MAX_PRICE_MINOR."""
        number = int.from_bytes(claims[1:9], "big") // self._partitions
        chunk = self.changing(number)
        offset = (number & ROW_MASK) * ROW_SIZE
        self._count += not chunk[offset + _ORIGIN_OFFSET]
        head = claims[_HEAD_OFFSET:CLAIMS_LENGTH]
        _TICKET.pack_into(chunk, offset, head, digest, lifecycle, origin)
        high, low = divmod(price_minor, 1 << _PRICE_LOW_BITS)
        _PRICE.pack_into(chunk, offset + USE_END, high, low)

    def put_unknown(self, ticket_id: int, lifecycle: int) -> None:
        """Stores that a ticket that was never registered has been voided, blocked or revoked."""
        claims = b"\0" + ticket_id.to_bytes(8, "big") + bytes(8)
        self.put(claims, bytes(DIGEST_LENGTH), lifecycle, Origin.CHANGED, 0)

    def set_lifecycle(self, ticket_id: int, lifecycle: int) -> None:
        """Changes the lifecycle of a ticket that is there."""
        number = ticket_id // self._partitions
        self.changing(number)[(number & ROW_MASK) * ROW_SIZE + _LIFECYCLE_OFFSET] = lifecycle

    def use(self, ticket_id: int) -> int:
        """The number of the ticket's use, whether it is there or not."""
        number = ticket_id // self._partitions
        chunk = self.chunks.get(number >> CHUNK_ROWS_BITS)
        found: int = USE.unpack_from(chunk, (number & ROW_MASK) * ROW_SIZE + USE_OFFSET)[0] if chunk else UNUSED
        return found

    def set_use(self, ticket_id: int, use: int) -> None:
        """Changes it."""
        number = ticket_id // self._partitions
        USE.pack_into(self.changing(number), (number & ROW_MASK) * ROW_SIZE + USE_OFFSET, use)

    def changing(self, number: int) -> bytearray:
        """The chunk of a row that is about to change; the row by its number in the partition."""
        key = number >> CHUNK_ROWS_BITS
        chunk = self.chunks.get(key)
        if chunk is None:
            chunk = self.chunks[key] = bytearray(_EMPTY_CHUNK)
        elif key in self.shared:
            self.shared.discard(key)
            chunk = self.chunks[key] = bytearray(chunk)
        return chunk

    def still(self) -> list[tuple[int, bytearray]]:
        """Chunks by number, as they are now, for a snapshot: until `release`, whoever changes one changes a copy."""
        self.shared.update(self.chunks)
        return list(self.chunks.items())

    def release(self) -> None:
        """Nobody reads what `still` has returned any more."""
        self.shared.clear()

    def load(self, number: int, rows: bytes) -> set[tuple[int]]:
        """Takes a dumped chunk over; answers which uses its rows have. Raises: ValueError: it is none."""
        if len(rows) != len(_EMPTY_CHUNK):
            raise ValueError(f"chunk {number} has {len(rows)} bytes")
        uses = set(_USES.iter_unpack(rows))
        self.chunks[number] = bytearray(rows)
        origins = rows[_ORIGIN_OFFSET::ROW_SIZE]
        self._count += len(origins) - origins.count(0)
        return uses
