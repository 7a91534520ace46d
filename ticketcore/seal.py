"""The seal on what the ledger keeps: five bytes that tell a record that came back whole from one that did not.

A sealed record is the record, the byte 7D, and the CRC-32 (as in zlib) of the record, little-endian. To protobuf these
five bytes are a field 15 of type fixed32, so a sealed message is still a message to whoever does not look.

A disk's flipped bit in a log is mostly still protobuf, and then means another ticket or another gate: only a checksum
tells. It guards against damage, not against malice: whoever can write to the ledger can seal what he writes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from zlib import crc32

from ticketcore.errors import DamagedDataError, ParkgateError

_MARK = b"\x7d"
SEAL_LENGTH = 5


def seal(record: bytes) -> bytes:
    """The record and its seal."""
    return record + _MARK + crc32(record).to_bytes(4, "little")


def unseal(sealed: bytes, what: str) -> bytes:
    """The record, as it was sealed. `what` names it to people.

    Raises:
        DamagedDataError: it is not what was sealed.
    """
    record = sealed[:-SEAL_LENGTH]
    if seal(record) != sealed:
        raise DamagedDataError(f"{what} is damaged: its checksum does not fit. Restore the ledger from the last backup")
    return record


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Whatever a stored record makes its reader stumble over is damage, and has the record's name.

    Raises:
        DamagedDataError: the reader failed otherwise than by an error of ours.
    """
    try:
        yield
    except ParkgateError:
        raise
    except Exception as error:
        raise DamagedDataError(f"{what} says what cannot be: {error!r}") from error
