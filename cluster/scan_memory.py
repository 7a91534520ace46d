"""What scans were answered, by scan id, for as long as a scan may still be retried (I3).

Two generations: when the younger is a whole `SCAN_MEMORY_MS` old, the elder is dropped. So an id is remembered at least
that long after its decision, and a scan is only decided while it is younger than `SCAN_MAX_AGE_MS` by a clock that may
be off by `SCAN_MAX_AHEAD_MS`: an id that has been forgotten can never be decided a second time.
"""

from __future__ import annotations

SCAN_MEMORY_MS = 300_000
SCAN_MAX_AGE_MS = 180_000
"""Older scans are not decided now: CLOCK_SKEW. Scans from a gate that was off-line come as a replay, not as scans."""
SCAN_MAX_AHEAD_MS = 120_000
"""A device's clock may be ahead by as much."""
if SCAN_MAX_AGE_MS + SCAN_MAX_AHEAD_MS > SCAN_MEMORY_MS:
    raise AssertionError("a scan could be decided after its id was forgotten")


class ScanMemory:
    """Serialized verdicts by scan id."""

    def __init__(self) -> None:
        self._young: dict[bytes, bytes] = {}
        self._old: dict[bytes, bytes] = {}
        self._young_since_ms = 0

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def find(self, scan_id: bytes) -> bytes | None:
        """The verdict of a scan, or None if it was never decided or is too old to be retried."""
        return self._young.get(scan_id) or self._old.get(scan_id)

    def keep(self, scan_id: bytes, verdict: bytes) -> None:
        """Remembers a verdict."""
        self._young[scan_id] = verdict

    def age(self, now_ms: int) -> None:
        """Drops what may be dropped; called once a batch."""
        if now_ms - self._young_since_ms >= SCAN_MEMORY_MS:
            self._old, self._young = self._young, {}
            self._young_since_ms = now_ms

    def dump(self) -> list[tuple[bytes, bytes]]:
        """All of it, elder first, for a snapshot."""
        return [*self._old.items(), *self._young.items()]
