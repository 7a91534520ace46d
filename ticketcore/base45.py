"""Base45 (RFC 9285): bytes as text that QR codes store at 5.5 bits a character.

Two bytes become three characters, little end first; a last single byte becomes two.
Source: RFC 9285. Kept here because the core may import nothing but the standard library.
"""

from __future__ import annotations

from ticketcore.errors import InvalidInputError

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:"
_VALUES = {character: value for value, character in enumerate(ALPHABET)}


def encode(data: bytes) -> str:
    """Encodes `data`; 81 bytes become 122 characters."""
    text: list[str] = []
    for start in range(0, len(data) - 1, 2):
        high, low = divmod(data[start] * 256 + data[start + 1], 45 * 45)
        middle, last = divmod(low, 45)
        text += (ALPHABET[last], ALPHABET[middle], ALPHABET[high])
    if len(data) % 2:
        high, low = divmod(data[-1], 45)
        text += (ALPHABET[low], ALPHABET[high])
    return "".join(text)


def decode(text: str) -> bytes:
    """Decodes `text`.

    Raises:
        InvalidInputError: a character outside the alphabet, a length that cannot be, or a group above its range.
    """
    if len(text) % 3 == 1:
        raise InvalidInputError(f"base45 text of {len(text)} characters is cut off")
    try:
        values = [_VALUES[character] for character in text]
    except KeyError as error:
        raise InvalidInputError(
            f"base45 text has the character {error.args[0]!r}, which is not of its alphabet"
        ) from error
    data = bytearray()
    for start in range(0, len(values) - 2, 3):
        number = values[start] + values[start + 1] * 45 + values[start + 2] * 2025
        if number > 0xFFFF:
            raise InvalidInputError(f"base45 group at character {start + 1} is out of range")
        data += number.to_bytes(2, "big")
    if len(values) % 3 == 2:
        number = values[-2] + values[-1] * 45
        if number > 0xFF:
            raise InvalidInputError(f"base45 group at character {len(values) - 1} is out of range")
        data.append(number)
    return bytes(data)
