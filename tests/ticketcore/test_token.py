"""The token's format: golden vectors, every boundary, every byte cut off, every field altered (I8)."""

from __future__ import annotations

import json
import re
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
import segno
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from ticketcore import token as tokens
from ticketcore.errors import InvalidInputError
from ticketcore.reasons import Reason
from ticketcore.token import Claims, Flags, KeyRing, TokenFault

VECTORS = json.loads((Path(__file__).parent / "token_vectors.json").read_text())
KEY = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(VECTORS["private_key"]))
RING = KeyRing.from_bytes({key_id: KEY.public_key().public_bytes_raw() for key_id in range(32)})
PLAIN = Claims(1, tokens.ticket_id_of(1, 1), 1, date(2026, 12, 24))
TOKEN = tokens.sign(PLAIN, KEY)

FIELDS = {
    # field: byte and mask of one of its bits
    "version": (0, 0b0010_0000),
    "key id": (0, 0b0000_0001),
    "issuer": (2, 1),
    "sequence": (8, 1),
    "product": (10, 1),
    "first day": (12, 1),
    "valid days": (13, 0b1000_0000),
    "slot": (14, 0b0100_0000),
    "party": (15, 0b0100_0000),
    "entries": (16, 0b0000_1000),
    "flags": (16, 0b0000_0001),
    "spare flag": (16, 0b0000_0100),
    "signature, R": (20, 1),
    "signature, S": (60, 1),
}


def claims_of(vector: dict[str, Any]) -> Claims:
    fields = dict(vector["claims"])
    return Claims(**(fields | {"first_day": date.fromisoformat(fields["first_day"]), "flags": Flags(fields["flags"])}))


@pytest.mark.parametrize("vector", VECTORS["tokens"], ids=lambda vector: vector["name"])
def test_a_golden_vector_is_written_and_read_byte_by_byte_as_ever(vector: dict[str, Any]) -> None:
    claims, token = claims_of(vector), bytes.fromhex(vector["token"])
    assert tokens.sign(claims, KEY) == token
    assert tokens.to_qr_text(token) == vector["qr_text"]
    assert tokens.from_qr_text(vector["qr_text"]) == token
    assert tokens.verify(token, RING) == claims
    assert tokens.digest(token).hex() == vector["digest"]


def test_a_token_has_81_bytes_and_its_code_122_characters_in_a_qr_code_5_m() -> None:
    text = tokens.to_qr_text(TOKEN)
    assert (len(TOKEN), len(text)) == (81, 122)
    code = segno.make(text, error="M", boost_error=False, micro=False)
    assert (code.designator, code.mode, code.symbol_size(border=0)) == ("5-M", "alphanumeric", (37, 37))


@pytest.mark.parametrize("length", range(81))
def test_a_token_cut_off_at_any_byte_is_malformed(length: int) -> None:
    """I8"""
    for given_bytes in (TOKEN[:length], TOKEN[81 - length :] if length else b""):
        assert fault_of(given_bytes) is Reason.MALFORMED_CODE


@pytest.mark.parametrize(("length", "fault"), [(80, True), (81, False), (82, True)])
def test_only_81_bytes_are_a_token(length: int, fault: bool) -> None:
    assert (fault_of((TOKEN + b"\0")[:length]) is Reason.MALFORMED_CODE) is fault


@pytest.mark.parametrize("field", FIELDS)
def test_a_flipped_bit_in_any_field_has_a_named_reason_and_never_verifies(field: str) -> None:
    """I8"""
    position, mask = FIELDS[field]
    altered = bytearray(TOKEN)
    altered[position] ^= mask
    expected = {"version": Reason.MALFORMED_CODE}.get(field, Reason.BAD_SIGNATURE)
    assert fault_of(bytes(altered)) is expected


@pytest.mark.parametrize("bit", range(81 * 8))
def test_no_bit_can_be_flipped(bit: int) -> None:
    """I8"""
    altered = bytearray(TOKEN)
    altered[bit // 8] ^= 1 << bit % 8
    assert fault_of(bytes(altered)) in {Reason.MALFORMED_CODE, Reason.UNSUPPORTED_VERSION, Reason.BAD_SIGNATURE}


@pytest.mark.parametrize(
    ("version", "reason"),
    [(0, Reason.MALFORMED_CODE), (1, None), (2, Reason.UNSUPPORTED_VERSION), (7, Reason.UNSUPPORTED_VERSION)],
)
def test_a_version_is_none_ours_or_a_later_one(version: int, reason: Reason | None) -> None:
    token = bytes((version << 5 | 1,)) + TOKEN[1:]
    assert fault_of(token) is reason


EXTREMES = {
    # field: (below, lowest, highest, above)
    "key_id": (-1, 0, 31, 32),
    "ticket_id": (0, 1, 2**63 - 1, 2**63),
    "product_number": (0, 1, 65535, 65536),
    "valid_days": (0, 1, 512, 513),
    "slot": (-1, 0, 255, 256),
    "party": (0, 1, 64, 65),
    "entries": (-1, 0, 63, 64),
    "first_day": (date(2019, 12, 31), date(2020, 1, 1), date(2199, 6, 6), date(2199, 6, 7)),
}


@pytest.mark.parametrize("field", EXTREMES)
def test_each_field_takes_its_extremes_and_nothing_beyond(field: str) -> None:
    below, lowest, highest, above = EXTREMES[field]
    for value in (lowest, highest):
        claims = changed(**{field: value})
        assert tokens.decode_claims(tokens.encode_claims(claims)) == claims
    for value in (below, above):
        with pytest.raises(InvalidInputError, match=field):
            tokens.encode_claims(changed(**{field: value}))


@pytest.mark.parametrize(("flags", "fits"), [(0, True), (1, True), (2, True), (3, True), (4, False), (8, False)])
def test_flags_are_those_that_are_known(flags: int, fits: bool) -> None:
    """A fourth flag would be written over by the next field: it would come out as other entries, signed."""
    claims = changed(flags=Flags(flags))
    if fits:
        assert tokens.decode_claims(tokens.encode_claims(claims)).flags == flags
    else:
        with pytest.raises(InvalidInputError, match="flags"):
            tokens.encode_claims(claims)


def changed(**fields: Any) -> Claims:
    values = {name: getattr(PLAIN, name) for name in Claims.__dataclass_fields__}
    return Claims(**(values | fields))


any_claims = st.builds(
    Claims,
    key_id=st.integers(0, 31),
    ticket_id=st.integers(1, 2**63 - 1),
    product_number=st.integers(1, 65535),
    first_day=st.dates(date(2020, 1, 1), date(2199, 6, 6)),
    valid_days=st.integers(1, 512),
    slot=st.integers(0, 255),
    party=st.integers(1, 64),
    entries=st.integers(0, 63),
    flags=st.integers(0, 3).map(Flags),
)


@given(any_claims)
def test_any_claims_come_back_as_they_were_written(claims: Claims) -> None:
    encoded = tokens.encode_claims(claims)
    assert len(encoded) == tokens.CLAIMS_LENGTH
    assert tokens.decode_claims(encoded) == claims


@given(st.binary(min_size=17, max_size=17), st.booleans())
def test_bytes_that_can_be_read_as_claims_are_what_would_be_written(data: bytes, ours: bool) -> None:
    """One writing for each meaning: no two tokens say the same."""
    data = bytes((data[0] & 31 | 1 << 5, data[1] & 127)) + data[2:] if ours else data
    try:
        claims = tokens.decode_claims(data)
    except TokenFault:
        return
    assert tokens.encode_claims(claims) == data


@given(st.binary(max_size=100))
def test_no_bytes_verify_that_were_not_signed(data: bytes) -> None:
    """I8"""
    assert fault_of(data) is not None


@given(st.text(max_size=130))
def test_a_text_that_is_no_code_is_malformed(text: str) -> None:
    """I8"""
    with pytest.raises(TokenFault) as fault:
        tokens.from_qr_text(text)
    assert fault.value.reason is Reason.MALFORMED_CODE


def test_the_last_valid_day_is_inclusive() -> None:
    assert changed(valid_days=1).last_day == PLAIN.first_day
    assert changed(valid_days=3).last_day == PLAIN.first_day + timedelta(days=2)


@pytest.mark.parametrize(("issuer", "sequence"), [(-1, 1), (32768, 1), (0, 0), (0, 2**48)])
def test_a_ticket_id_needs_an_issuer_and_a_sequence_within_their_ranges(issuer: int, sequence: int) -> None:
    with pytest.raises(InvalidInputError):
        tokens.ticket_id_of(issuer, sequence)


@given(st.tuples(st.integers(0, 32767), st.integers(1, 2**48 - 1)), st.tuples(st.integers(0, 32767), st.integers(1, 9)))
def test_two_issuers_never_give_the_same_ticket_id(one: tuple[int, int], other: tuple[int, int]) -> None:
    assert (tokens.ticket_id_of(*one) == tokens.ticket_id_of(*other)) == (one == other)
    assert 0 < tokens.ticket_id_of(*one) < 2**63


def test_keys_rotate_old_tokens_hold_until_their_key_is_dropped() -> None:
    old_key, new_key = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    old, new = tokens.sign(changed(key_id=4), old_key), tokens.sign(changed(key_id=5), new_key)
    raw = {4: old_key.public_key().public_bytes_raw(), 5: new_key.public_key().public_bytes_raw()}
    before, both, after = KeyRing.from_bytes({4: raw[4]}), KeyRing.from_bytes(raw), KeyRing.from_bytes({5: raw[5]})
    assert [fault_of(new, ring) for ring in (before, both, after)] == [Reason.UNKNOWN_KEY, None, None]
    assert [fault_of(old, ring) for ring in (before, both, after)] == [None, None, Reason.UNKNOWN_KEY]
    swapped = KeyRing.from_bytes({4: raw[5], 5: raw[4]})
    assert fault_of(old, swapped) is fault_of(new, swapped) is Reason.BAD_SIGNATURE
    assert both.key_ids == (4, 5)


@pytest.mark.parametrize("keys", [{32: bytes(32)}, {-1: bytes(32)}, {1: bytes(31)}, {1: bytes(33)}, {1: b""}])
def test_a_ring_takes_only_ids_and_keys_that_can_be(keys: dict[int, bytes]) -> None:
    with pytest.raises(InvalidInputError):
        KeyRing.from_bytes(keys)


def test_the_document_shows_the_layout_that_the_code_writes() -> None:
    """Each row of the table in docs/token.md: offset, bits, and where a change of the field changes bits."""
    text = (Path(__file__).parents[2] / "docs" / "token.md").read_text()
    rows = re.findall(r"^\| (\d+)\.(\d) \| (\d+) \| `(\w+)` \|", text, re.MULTILINE)
    assert [row[3] for row in rows if row[3] not in {"version", "spare", "signature"}] == list(
        Claims.__dataclass_fields__
    )
    assert sum(int(bits) for _, _, bits, _ in rows) == tokens.TOKEN_LENGTH * 8
    position = 0
    for byte, bit, bits, name in rows:
        assert int(byte) * 8 + int(bit) == position, name
        if name in EXTREMES:
            lowest, highest = (tokens.encode_claims(changed(**{name: value})) for value in EXTREMES[name][1:3])
            differs = int.from_bytes(lowest, "big") ^ int.from_bytes(highest, "big")
            mask = ((1 << int(bits)) - 1) << (17 * 8 - position - int(bits))
            assert differs
            assert differs & ~mask == 0, f"{name} is written outside its bits"
        position += int(bits)


def fault_of(token: bytes, ring: KeyRing = RING) -> Reason | None:
    try:
        tokens.verify(token, ring)
    except TokenFault as fault:
        return fault.reason
    return None
