"""The seal on what the ledger keeps. Proves I6: what came back otherwise than it was written is never believed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parkgate.events.v1 import events_pb2
from ticketcore.errors import DamagedDataError
from ticketcore.seal import SEAL_LENGTH, seal, unseal


@given(st.binary(max_size=300))
def test_a_record_comes_back_as_it_was_sealed(record: bytes) -> None:
    assert unseal(seal(record), "it") == record
    assert len(seal(record)) == len(record) + SEAL_LENGTH


def test_the_seal_is_written_as_it_ever_was() -> None:
    """A golden vector: logs are read by later versions."""
    assert seal(b"123456789").hex() == "3132333435363738397d2639f4cb"


@given(st.binary(max_size=60), st.data())
def test_no_change_of_up_to_four_bytes_goes_unnoticed(record: bytes, data: st.DataObject) -> None:
    sealed = seal(record)
    start = data.draw(st.integers(0, len(sealed) - 1))
    length = min(data.draw(st.integers(1, 4)), len(sealed) - start)
    change = data.draw(st.binary(min_size=length, max_size=length).filter(any))
    changed = bytes(a ^ b for a, b in zip(sealed[start:], change, strict=False))
    with pytest.raises(DamagedDataError, match="entry 7 is damaged: its checksum does not fit"):
        unseal(sealed[:start] + changed + sealed[start + length :], "entry 7")


@pytest.mark.parametrize("cut", range(1, SEAL_LENGTH + 4))
def test_a_record_that_was_cut_off_is_damaged(cut: int) -> None:
    with pytest.raises(DamagedDataError):
        unseal(seal(b"abc")[:-cut], "it")


def test_a_sealed_message_is_still_a_message() -> None:
    entry = events_pb2.LogEntry(partition="p0", sequence=4)
    read = events_pb2.LogEntry.FromString(seal(entry.SerializeToString()))
    assert (read.partition, read.sequence) == ("p0", 4)
    assert read.checksum == int.from_bytes(seal(entry.SerializeToString())[-4:], "little")
