"""Base45 against RFC 9285."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ticketcore import base45
from ticketcore.errors import InvalidInputError

RFC_9285 = [(b"AB", "BB8"), (b"Hello!!", "%69 VD92EX0"), (b"base-45", "UJCLQE7W581"), (b"ietf!", "QED8WEX0"), (b"", "")]


@pytest.mark.parametrize(("data", "text"), RFC_9285)
def test_the_examples_of_the_rfc(data: bytes, text: str) -> None:
    assert base45.encode(data) == text
    assert base45.decode(text) == data


@pytest.mark.parametrize(
    ("text", "highest"),
    [("FGW", b"\xff\xff"), ("GGW", None), (":::", None), ("U5", b"\xff"), ("V5", None), ("::", None)],
)
def test_a_group_goes_up_to_all_bits_set_and_no_further(text: str, highest: bytes | None) -> None:
    if highest is not None:
        assert base45.decode(text) == highest
        return
    with pytest.raises(InvalidInputError, match="out of range"):
        base45.decode(text)


@pytest.mark.parametrize("text", ["0", "BB8B", "bb8", "BB\n", "ÄB8", "B,8", "BB\u0660"])
def test_a_text_cut_off_or_with_a_foreign_character_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError):
        base45.decode(text)


@given(st.binary(max_size=200))
def test_all_bytes_come_back(data: bytes) -> None:
    text = base45.encode(data)
    assert len(text) == len(data) // 2 * 3 + len(data) % 2 * 2
    assert set(text) <= set(base45.ALPHABET)
    assert base45.decode(text) == data


@given(st.text(alphabet=base45.ALPHABET, max_size=60))
def test_a_text_that_can_be_read_is_what_would_be_written(text: str) -> None:
    try:
        data = base45.decode(text)
    except InvalidInputError:
        return
    assert base45.encode(data) == text
