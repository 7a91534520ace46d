"""Cuts a scanner's bytes into codes. No I/O: bytes and instants are arguments.

Scanners end a code with CR, LF or both, or with nothing: then a pause ends it. Whatever comes is bounded: a code longer
than `max_bytes` is dropped up to its end and counted.
"""

from __future__ import annotations

from gateclient.readers.base import MAX_LINE_BYTES

IDLE_GAP_MS = 80
"""A scanner sends a code in one burst: at 9,600 baud characters are 1 ms apart, so this long a pause is its end."""


class Framer:
    """Collects bytes until a code ends."""

    def __init__(self, max_bytes: int = MAX_LINE_BYTES, idle_gap_ms: int = IDLE_GAP_MS) -> None:
        self._max_bytes = max_bytes
        self._idle_gap_ms = idle_gap_ms
        self._held = bytearray()
        self._overlong = False
        self._last_ms = 0
        self.dropped = 0

    @property
    def waiting(self) -> bool:
        """Whether part of a code is held."""
        return bool(self._held) or self._overlong

    def feed(self, data: bytes, now_ms: int) -> list[str]:
        """Takes bytes; answers the codes that they end."""
        codes = self.pause(now_ms)
        self._last_ms = now_ms
        *ended, rest = data.replace(b"\r", b"\n").split(b"\n")
        for part in ended:
            self._hold(part)
            codes += self._end()
        self._hold(rest)
        return codes

    def pause(self, now_ms: int) -> list[str]:
        """The code that a pause up to now has ended, if any."""
        return self._end() if self.waiting and now_ms - self._last_ms >= self._idle_gap_ms else []

    def _hold(self, part: bytes) -> None:
        if self._overlong or len(self._held) + len(part) > self._max_bytes:
            self._overlong = True
            self._held.clear()
        else:
            self._held += part

    def _end(self) -> list[str]:
        text = decode_text(bytes(self._held))
        self.dropped += self._overlong
        self._overlong = False
        self._held.clear()
        return [text] if text else []


def decode_text(data: bytes) -> str:
    """A code's text: control bytes that scanners put around it are dropped, what is no UTF-8 becomes U+FFFD.

    Spaces are of the base45 alphabet and stay where they are.
    """
    text = data.decode("utf-8", "replace")
    return "".join(character for character in text if character.isprintable() or character == "\t")
