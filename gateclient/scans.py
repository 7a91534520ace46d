"""Makes scans of codes. The scan_id is an argument: it is made once, at the edge, by the caller."""

from __future__ import annotations

from dataclasses import dataclass

from parkgate.gate.v1 import gate_pb2 as pb
from ticketcore.token import TokenFault, from_qr_text

SCAN_ID_LENGTH = 16
MAX_QR_TEXT = 512
"""Characters; the protocol looks at no more. Our own codes have 122."""


@dataclass(frozen=True, slots=True)
class LaneSetting:
    """How a lane scans. `persons` 0 means all who are still due on the ticket."""

    lane: int = 0
    direction: pb.Direction.ValueType = pb.DIRECTION_ENTRY
    persons: int = 0


def make_scan(text: str, setting: LaneSetting, scan_id: bytes, scan_time_ms: int) -> pb.Scan:
    """The scan of a code's text. Text that is no token is carried as it is, and the cluster names the fault."""
    scan = pb.Scan(
        scan_id=scan_id,
        scan_time_ms=scan_time_ms,
        direction=setting.direction,
        lane=setting.lane,
        persons=setting.persons,
    )
    try:
        scan.token = from_qr_text(text)
    except TokenFault:
        scan.qr_text = clean_text(text)
    return scan


def clean_text(text: str) -> str:
    """At most 512 characters that UTF-8 can carry: lone surrogates, from undecodable bytes, become question marks."""
    return text[:MAX_QR_TEXT].encode("utf-8", "replace").decode("utf-8")


class Debouncer:
    """Readers see a code many times while it is held before them: within the window that is one scan."""

    def __init__(self, window_ms: int) -> None:
        self._window_ms = window_ms
        self._last: tuple[str, int] | None = None

    def is_repeat(self, text: str, now_ms: int) -> bool:
        """Whether `text` is the code just read. Each sight of it begins the window anew, so a code that stays before
        the reader is one scan however long it stays."""
        repeat = self._last is not None and self._last[0] == text and now_ms - self._last[1] < self._window_ms
        self._last = (text, now_ms)
        return repeat

    def forget(self) -> None:
        """The last scan has to be made again (RETRY, or a proof was asked for): the next sight of it counts."""
        self._last = None
