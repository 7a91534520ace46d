"""What scans were answered, by scan id, for as long as a scan may still be retried (I3).

Two generations: when the younger is a whole `SCAN_MEMORY_MS` old, the elder is dropped. So an id is remembered at least
that long after its decision, and a scan is only decided while it is younger than `SCAN_MAX_AGE_MS` by a clock that may
be off by `SCAN_MAX_AHEAD_MS`: an id that has been forgotten can never be decided a second time.

A scan beyond that time is refused as CLOCK_SKEW. Within `SCAN_MARGIN_MS` of it the refusal is a decision like any
other, logged and remembered: else the answer could be another when it is asked again at once. Farther off it is only
told: the id may be one that was decided and forgotten, and its record would be a second one.
"""

from __future__ import annotations

from cluster.runs import AdmissionRun
from parkgate.gate.v1 import gate_pb2

SCAN_MEMORY_MS = 360_000
SCAN_MAX_AGE_MS = 180_000
"""Older scans are not decided now: CLOCK_SKEW. Scans from a gate that was off-line come as a replay, not as scans."""
SCAN_MAX_AHEAD_MS = 120_000
"""A device's clock may be ahead by as much."""
SCAN_MARGIN_MS = 25_000
"""Beyond the time in which a scan is decided: longer than anybody asks again for an answer that was lost, and than the
clocks of two owners differ."""
MAX_SINGLE_VERDICTS = 200_000
"""Of one partition: refusals, exits, re-entries and rarer admissions, some 300 bytes each. Parks see some a second; a
flood of codes that are none, or a device that sends one guest in and out, would fill the memory and the log. Beyond, a
scan that would have to be remembered so is told RETRY: to forget one before its time could give its scan id two answers
(I3). First entries, which are remembered in runs, go on."""
TURNS_OF_A_FALL = 1_000
FALL_AT_LEAST = 1_000
"""A generation that is dropped is let go in so many turns of its owner, or faster while it is so small. Freed at once,
two million ids of a busy morning stop an owner, and all guests at the gates, for a fifth of a second."""
if SCAN_MAX_AGE_MS + SCAN_MAX_AHEAD_MS + 2 * SCAN_MARGIN_MS >= SCAN_MEMORY_MS:
    raise AssertionError("a scan could be decided after its id was forgotten")


Kept = bytes | AdmissionRun
"""A serialized verdict; or the run that the admission belongs to."""


class ScanMemory:
    """Verdicts by scan id. The two generations are open to the short way of deciding, which looks at both itself."""

    def __init__(self) -> None:
        self.young: dict[bytes, Kept] = {}
        self.old: dict[bytes, Kept] = {}
        self._falling: dict[bytes, Kept] = {}
        """Of the generation that was dropped last: what is not freed yet. Nobody looks here."""
        self._fall = 0
        self._young_since_ms = 0
        self._young_single = self._old_single = 0

    @property
    def is_full(self) -> bool:
        """Whether no further verdict may be remembered by itself, until older ones may be forgotten."""
        return self._young_single + self._old_single >= MAX_SINGLE_VERDICTS

    def __len__(self) -> int:
        return len(self.young) + len(self.old)

    def recall(self, scan_id: bytes, verdict: gate_pb2.Verdict) -> bool:
        """Writes the verdict that a scan was answered with, if it was decided and is not too old to be retried."""
        kept = self.young.get(scan_id) or self.old.get(scan_id)
        if kept is None:
            return False
        if isinstance(kept, bytes):
            verdict.MergeFromString(kept)
        else:
            kept.write_verdict(scan_id, verdict)
        return True

    def run_of(self, scan_id: bytes) -> AdmissionRun | None:
        """The run that a scan was admitted in; None if it was not, or is forgotten."""
        kept = self.young.get(scan_id) or self.old.get(scan_id)
        return kept if isinstance(kept, AdmissionRun) else None

    def keep(self, scan_id: bytes, verdict: bytes) -> None:
        """Remembers a serialized verdict."""
        self.young[scan_id] = verdict
        self._young_single += 1

    def keep_alike(self, scan_id: bytes, run: AdmissionRun) -> None:
        """Remembers a verdict that is like the others of a run; a tenth of the memory."""
        self.young[scan_id] = run

    def age(self, now_ms: int) -> bool:
        """Drops what may be dropped; called once a batch. Whether anything was."""
        if self._falling:
            self._let_go()
        if now_ms - self._young_since_ms < SCAN_MEMORY_MS:
            return False
        self._falling, self.old, self.young = self.old, self.young, {}
        self._fall = max(FALL_AT_LEAST, len(self._falling) // TURNS_OF_A_FALL)
        self._old_single, self._young_single = self._young_single, 0
        self._young_since_ms = now_ms
        return bool(self._falling)

    def _let_go(self) -> None:
        falling = self._falling
        if len(falling) <= self._fall:
            self._falling = {}
            return
        for _ in range(self._fall):
            falling.popitem()
