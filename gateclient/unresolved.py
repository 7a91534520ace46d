"""Scans that were given up while their outcome was unknown, by the code that was shown.

Kept for a while so that the same code, shown again, is the same attempt. No clock: instants are arguments, and the
time to forget must not fall from one `put` to the next.
"""

from __future__ import annotations

from dataclasses import dataclass

from parkgate.gate.v1 import gate_pb2 as pb


@dataclass(frozen=True, slots=True)
class _Unresolved:
    scan: pb.Scan
    forget_ms: int


def code_of(scan: pb.Scan) -> bytes:
    """What the guest showed: the token, or the text that is none."""
    return scan.token or scan.qr_text.encode()


class Unresolved:
    """At most one scan a code, oldest first."""

    def __init__(self) -> None:
        self._by_code: dict[bytes, _Unresolved] = {}
        self._code_by_id: dict[bytes, bytes] = {}

    def __len__(self) -> int:
        return len(self._by_code)

    def put(self, scan: pb.Scan, forget_ms: int) -> pb.Scan | None:
        """Keeps a scan until `forget_ms`; answers the one of the same code that it displaces."""
        displaced = self.take_code(code_of(scan))
        self._by_code[code_of(scan)] = _Unresolved(scan, forget_ms)
        self._code_by_id[scan.scan_id] = code_of(scan)
        return displaced

    def take_code(self, code: bytes) -> pb.Scan | None:
        """Takes out the scan of a code."""
        kept = self._by_code.pop(code, None)
        if kept is None:
            return None
        del self._code_by_id[kept.scan.scan_id]
        return kept.scan

    def take_id(self, scan_id: bytes) -> pb.Scan | None:
        """Takes out a scan by its id."""
        code = self._code_by_id.get(scan_id)
        return None if code is None else self.take_code(code)

    def take_old(self, now_ms: int) -> list[pb.Scan]:
        """Takes out all that are to be forgotten."""
        old: list[pb.Scan] = []
        while (forget_ms := self.next_forget_ms()) is not None and forget_ms <= now_ms:
            scan = self.take_code(next(iter(self._by_code)))
            old += [scan] if scan is not None else []
        return old

    def next_forget_ms(self) -> int | None:
        """When the oldest is to be forgotten."""
        return next(iter(self._by_code.values())).forget_ms if self._by_code else None
