"""The ticket token: 17 bytes of claims and an Ed25519 signature, 81 bytes in all, base45 in a QR code 5-M.

Layout of the claims, integers big-endian:

====== ====== ======================================================================================
offset bits   meaning
====== ====== ======================================================================================
0      3      format version, 1
0      5      key id, 0 to 31: which public key verifies the signature
1      64     ticket id: 15 bits of issuer (first bit 0) and 48 bits of its own sequence; never 0
9      16     product number, as the catalogue gives it; never 0
11     16     first valid day, in days since 2020-01-01 (up to 2199-06-06), civil days of the park
13     9      days valid, less one: 1 to 512
14.1   8      slot number of the day, 0 for none
15.1   6      party size, less one: 1 to 64 persons
15.7   6      entries, 0 for uncounted, 1 to 63
16.5   3      flags: 1 concession proof to be shown, 2 identity to be shown, 4 spare (must be 0)
17     512    Ed25519 signature (RFC 8032) over bytes 0 to 16
====== ====== ======================================================================================

The last four groups are one 32-bit word, from its high end. There is one encoder and one decoder, and they are here.
A token that cannot be accepted is told apart by a named `TokenFault`, never by None.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import date, timedelta
from enum import Enum, IntFlag

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ticketcore import base45
from ticketcore.errors import InvalidInputError
from ticketcore.reasons import Reason

VERSION = 1
CLAIMS_LENGTH = 17
SIGNATURE_LENGTH = 64
TOKEN_LENGTH = CLAIMS_LENGTH + SIGNATURE_LENGTH
DIGEST_LENGTH = 12
"""96 bits: finding another token with a registered digest needs 2^96 tries, and the table of millions stays small."""
EPOCH_DAY = date(2020, 1, 1)
MAX_ISSUER = 2**15 - 1
MAX_SEQUENCE = 2**48 - 1
MAX_KEY_ID = 31
MAX_PARTY = 64
MAX_ENTRIES = 63
MAX_VALID_DAYS = 512


class Flags(IntFlag):
    """What the attendant must see."""

    NONE = 0
    CONCESSION_PROOF = 1
    IDENTITY = 2


class TokenFault(Exception):
    """Why a token is not acceptable; `reason` is what the gate is told."""

    def __init__(self, reason: Reason, detail: str) -> None:
        self.reason = reason
        super().__init__(detail)


@dataclass(frozen=True, slots=True)
class Claims:
    """What a ticket says of itself. `first_day` is a civil day of the park; `entries` 0 means uncounted."""

    key_id: int
    ticket_id: int
    product_number: int
    first_day: date
    valid_days: int = 1
    slot: int = 0
    party: int = 1
    entries: int = 1
    flags: Flags = Flags.NONE

    @property
    def last_day(self) -> date:
        """The last valid day, inclusive."""
        return self.first_day + timedelta(days=self.valid_days - 1)


class _Range(Enum):
    KEY_ID = ("key_id", 0, MAX_KEY_ID)
    TICKET_ID = ("ticket_id", 1, 2**63 - 1)
    PRODUCT = ("product_number", 1, 2**16 - 1)
    VALID_DAYS = ("valid_days", 1, MAX_VALID_DAYS)
    SLOT = ("slot", 0, 255)
    PARTY = ("party", 1, MAX_PARTY)
    ENTRIES = ("entries", 0, MAX_ENTRIES)
    FLAGS = ("flags", 0, 3)  # an unknown flag would be written over the entries


def ticket_id_of(issuer: int, sequence: int) -> int:
    """The id of the `sequence`-th ticket (from 1) of an issuer (0 to 32767); unique without asking anybody.

    Raises:
        InvalidInputError: a number is out of its range.
    """
    if not 0 <= issuer <= MAX_ISSUER:
        raise InvalidInputError(f"issuer {issuer} is not within 0 to {MAX_ISSUER}")
    if not 1 <= sequence <= MAX_SEQUENCE:
        raise InvalidInputError(f"sequence {sequence} is not within 1 to {MAX_SEQUENCE}")
    return issuer << 48 | sequence


def encode_claims(claims: Claims) -> bytes:
    """The 17 bytes of `claims`.

    Raises:
        InvalidInputError: a field is out of its range; the message names it.
    """
    for name, low, high in (item.value for item in _Range):
        value = getattr(claims, name)
        if not low <= value <= high:
            raise InvalidInputError(f"claim {name} is {value}, which is not within {low} to {high}")
    day = (claims.first_day - EPOCH_DAY).days
    if not 0 <= day <= 0xFFFF:
        raise InvalidInputError(f"claim first_day is {claims.first_day}, which is not within 2020-01-01 to 2199-06-06")
    word = (
        (claims.valid_days - 1) << 23 | claims.slot << 15 | (claims.party - 1) << 9 | claims.entries << 3 | claims.flags
    )
    return b"".join(
        (
            bytes((VERSION << 5 | claims.key_id,)),
            claims.ticket_id.to_bytes(8, "big"),
            claims.product_number.to_bytes(2, "big"),
            day.to_bytes(2, "big"),
            word.to_bytes(4, "big"),
        )
    )


def decode_claims(data: bytes) -> Claims:
    """Reads the 17 bytes of claims, unverified.

    Raises:
        TokenFault: MALFORMED_CODE or UNSUPPORTED_VERSION.
    """
    if len(data) != CLAIMS_LENGTH:
        raise TokenFault(Reason.MALFORMED_CODE, f"claims have {len(data)} bytes, not {CLAIMS_LENGTH}")
    _check_version(data)
    word = int.from_bytes(data[13:17], "big")
    ticket_id = int.from_bytes(data[1:9], "big")
    product = int.from_bytes(data[9:11], "big")
    if not 0 < ticket_id < 2**63 or product == 0 or word & 4:
        raise TokenFault(Reason.MALFORMED_CODE, "claims hold a ticket id, product or flag that no issuer writes")
    return Claims(
        key_id=data[0] & 31,
        ticket_id=ticket_id,
        product_number=product,
        first_day=EPOCH_DAY + timedelta(days=int.from_bytes(data[11:13], "big")),
        valid_days=(word >> 23) + 1,
        slot=word >> 15 & 255,
        party=(word >> 9 & 63) + 1,
        entries=word >> 3 & 63,
        flags=Flags(word & 3),
    )


def _check_version(data: bytes) -> None:
    version = data[0] >> 5
    if version == 0:
        raise TokenFault(Reason.MALFORMED_CODE, "not a Parkgate token")
    if version != VERSION:
        raise TokenFault(Reason.UNSUPPORTED_VERSION, f"token format {version}; this software reads {VERSION}")


def sign(claims: Claims, private_key: Ed25519PrivateKey) -> bytes:
    """The whole token of `claims`. `claims.key_id` must name the key; the caller sees to it."""
    encoded = encode_claims(claims)
    return encoded + private_key.sign(encoded)


def check_form(token: bytes) -> None:
    """Checks length and version, which is all that can be told without a key or the owner.

    Raises:
        TokenFault: MALFORMED_CODE or UNSUPPORTED_VERSION.
    """
    if not token:
        raise TokenFault(Reason.MALFORMED_CODE, "no token")
    if len(token) != TOKEN_LENGTH:
        raise TokenFault(Reason.MALFORMED_CODE, f"token has {len(token)} bytes, not {TOKEN_LENGTH}")
    _check_version(token)


def verify(token: bytes, ring: KeyRing) -> Claims:
    """Verifies a token's form and signature, and nothing about dates or use. Costs about 110 µs.

    Raises:
        TokenFault: MALFORMED_CODE, UNSUPPORTED_VERSION, UNKNOWN_KEY or BAD_SIGNATURE.
    """
    check_form(token)
    encoded = token[:CLAIMS_LENGTH]
    public_key = ring.public_key(encoded[0] & 31)
    try:
        public_key.verify(token[CLAIMS_LENGTH:], encoded)
    except InvalidSignature as error:
        raise TokenFault(Reason.BAD_SIGNATURE, "the signature does not fit the claims") from error
    return decode_claims(encoded)


_HASHER = hashlib.blake2b(digest_size=DIGEST_LENGTH)
"""Never fed: copying it takes half the time of making another."""


def digest(token: bytes) -> bytes:
    """What the owner keeps of a token: 12 bytes of BLAKE2b over all of it."""
    hasher = _HASHER.copy()
    hasher.update(token)
    return hasher.digest()


def to_qr_text(token: bytes) -> str:
    """The text of the QR code: base45 of the token."""
    return base45.encode(token)


def from_qr_text(text: str) -> bytes:
    """The token in the text of a QR code, unverified.

    Raises:
        TokenFault: MALFORMED_CODE.
    """
    try:
        token = base45.decode(text)
    except InvalidInputError as error:
        raise TokenFault(Reason.MALFORMED_CODE, str(error)) from error
    if len(token) != TOKEN_LENGTH:
        raise TokenFault(Reason.MALFORMED_CODE, f"the code holds {len(token)} bytes, not {TOKEN_LENGTH}")
    return token


class KeyRing:
    """The public keys that are valid now, by key id. Rotation: add the new key everywhere, sign with it, drop the old
    one when its last ticket has expired."""

    def __init__(self, keys: dict[int, Ed25519PublicKey]) -> None:
        for key_id in keys:
            if not 0 <= key_id <= MAX_KEY_ID:
                raise InvalidInputError(f"key id {key_id} is not within 0 to {MAX_KEY_ID}")
        self._keys = dict(keys)

    @classmethod
    def from_bytes(cls, keys: dict[int, bytes]) -> KeyRing:
        """A ring of raw 32-byte public keys.

        Raises:
            InvalidInputError: a key is not 32 bytes or an id is out of range.
        """
        try:
            return cls({key_id: Ed25519PublicKey.from_public_bytes(raw) for key_id, raw in keys.items()})
        except ValueError as error:
            raise InvalidInputError(f"a public key of the ring is not an Ed25519 key: {error}") from error

    @property
    def key_ids(self) -> tuple[int, ...]:
        """Ids of the ring, rising."""
        return tuple(sorted(self._keys))

    def public_key(self, key_id: int) -> Ed25519PublicKey:
        """The key of an id.

        Raises:
            TokenFault: UNKNOWN_KEY.
        """
        try:
            return self._keys[key_id]
        except KeyError:
            raise TokenFault(Reason.UNKNOWN_KEY, f"key {key_id} is not in the ring of keys {self.key_ids}") from None
