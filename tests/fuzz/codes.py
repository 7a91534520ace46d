"""Targets for what a reader reads: token bytes, claims, the text of a QR code, and the bytes of scanners."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import date

from gateclient.readers.base import MAX_LINE_BYTES
from gateclient.readers.framing import IDLE_GAP_MS, Framer
from gateclient.readers.lines import _read
from gateclient.scans import MAX_QR_TEXT, LaneSetting, make_scan
from tests.cluster import small_park
from tests.fuzz.target import ADMITTED, Target, require
from ticketcore import token as tokens
from ticketcore.reasons import Reason

ISSUED = [
    small_park.token("day", 1),
    small_park.token("two-day", 2),
    small_park.token("rides", 3),
    small_park.token("family", 4, party=64, entries=63),
    small_park.token("day", 5, day=date(2199, 6, 6), valid_days=512, slot=255),
]
REFUSALS = frozenset({"MALFORMED_CODE", "UNSUPPORTED_VERSION", "UNKNOWN_KEY", "BAD_SIGNATURE"})


def _named(fault: tokens.TokenFault) -> str:
    require(fault.reason.name in REFUSALS, f"a token is refused for {fault.reason!r}")
    return fault.reason.name


def verify_token(data: bytes) -> str:
    """A token is accepted only if it is, byte for byte, one that was issued; all others are refused by name (I8)."""
    try:
        claims = tokens.verify(data, small_park.RING)
    except tokens.TokenFault as fault:
        return _named(fault)
    require(data in ISSUED, f"a token that was never issued is taken for genuine: {data.hex()}")
    require(tokens.encode_claims(claims) == data[: tokens.CLAIMS_LENGTH], "claims do not encode as they were read")
    return ADMITTED


def read_claims(data: bytes) -> str:
    """Claims that can be read are written back as the same bytes: there is one way to say each thing."""
    try:
        claims = tokens.decode_claims(data)
    except tokens.TokenFault as fault:
        return _named(fault)
    require(tokens.encode_claims(claims) == data, f"{data.hex()} is read as {claims}, which is written otherwise")
    return "decoded"


def read_qr_text(data: bytes) -> str:
    """Text is a code only if the code is written as that very text; what it holds is verified like any token."""
    text = data.decode("utf-8", "replace")
    try:
        token = tokens.from_qr_text(text)
    except tokens.TokenFault as fault:
        require(fault.reason is Reason.MALFORMED_CODE, f"text is refused for {fault.reason!r}")
        return _named(fault)
    require(tokens.to_qr_text(token) == text, f"{text!r} is read as a code that is written otherwise")
    return verify_token(token)


def read_scanner(data: bytes) -> str:
    """Whatever a serial, HID or PC/SC reader sends, in whatever pieces, becomes codes of bounded length, and each a
    scan that can be sent. No byte is held for longer than a pause."""
    framer = Framer()
    size, now_ms, codes = data[0] % 64 + 1 if data else 1, 0, list[str]()
    for start in range(1, len(data), size):
        codes += framer.feed(data[start : start + size], now_ms)
        now_ms += data[start] % (2 * IDLE_GAP_MS)
    codes += framer.pause(now_ms + IDLE_GAP_MS)
    require(not framer.waiting, "a pause has not ended the code before it")
    codes += [code.text for code in _read(io.BytesIO(data), "fuzz")]
    for code in codes:
        require(0 < len(code) <= MAX_LINE_BYTES, f"a code of {len(code)} characters")
        scan = make_scan(code, LaneSetting(), bytes(16), 0)
        require(bool(scan.token) != bool(scan.qr_text) or not code.strip("\t "), "a scan has a token or a text")
        require(len(scan.qr_text) <= MAX_QR_TEXT, "a text is longer than any server looks at")
        scan.SerializeToString()
    return "codes" if codes else "no code"


TEXTS = [tokens.to_qr_text(token).encode() for token in ISSUED]
LINES = b"\r\n".join(TEXTS)
CLAIMS = [token[: tokens.CLAIMS_LENGTH] for token in ISSUED]
MAKERS: dict[str, Callable[[], Target]] = {
    "token": lambda: Target("token", "token bytes at the verifier", verify_token, ISSUED),
    "claims": lambda: Target("claims", "claims at the decoder", read_claims, CLAIMS),
    "qr-text": lambda: Target("qr-text", "the text of a QR code", read_qr_text, TEXTS),
    "scanner": lambda: Target("scanner", "bytes of serial, HID and card readers", read_scanner, [LINES, b"\2" + LINES]),
}
