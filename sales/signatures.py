"""Signed HTTP bodies between sales and the payment provider: HMAC-SHA256 over time and body.

The header `Parkgate-Signature` is `t=<seconds since 1970>,v1=<hex>`; what is signed is the decimal time, a dot, and
the body. A message older or newer than the replay window is refused, and within it a repeat is known by its event id.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from datetime import datetime

from ticketcore.errors import NotPermittedError

HEADER = "parkgate-signature"
REPLAY_WINDOW_S = 300
_FORM = re.compile(r"t=(\d{1,12}),v1=([0-9a-f]{64})")


def sign(secret: bytes, body: bytes, now: datetime) -> str:
    """The header's value."""
    seconds = int(now.timestamp())
    return f"t={seconds},v1={_digest(secret, seconds, body)}"


def check(secret: bytes, body: bytes, header: str, now: datetime) -> None:
    """Accepts a signed body.

    Raises:
        NotPermittedError: malformed, of another time, or not signed with the secret.
    """
    match = _FORM.fullmatch(header)
    if match is None:
        raise NotPermittedError("the signature header is missing or malformed")
    seconds = int(match.group(1))
    genuine = hmac.compare_digest(_digest(secret, seconds, body), match.group(2))
    if not genuine:
        raise NotPermittedError("the signature does not fit")
    if abs(now.timestamp() - seconds) > REPLAY_WINDOW_S:
        raise NotPermittedError(f"signed more than {REPLAY_WINDOW_S} s from now")


def _digest(secret: bytes, seconds: int, body: bytes) -> str:
    return hmac.new(secret, f"{seconds}.".encode() + body, hashlib.sha256).hexdigest()
