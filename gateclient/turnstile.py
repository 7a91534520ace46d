"""One lane: takes a code that was read, has it decided, shows the verdict, opens the barrier, reports the passage."""

from __future__ import annotations

import secrets
import time
from collections import Counter
from dataclasses import dataclass, field

from gateclient.barriers import Barrier
from gateclient.checker import Checker
from gateclient.display import Display, Shown
from gateclient.readers import ReadCode
from gateclient.scans import SCAN_ID_LENGTH, Debouncer, LaneSetting, make_scan
from gateclient.texts import name_of
from parkgate.gate.v1 import gate_pb2 as pb


@dataclass(frozen=True, slots=True)
class LaneHabits:
    """What happens around a scan. `shown_again`: how often a guest who is told RETRY shows the code again unasked (a
    file's codes do, a reader's guests do by themselves). `proof_seen`: the attendant confirms proofs that are asked."""

    debounce_ms: int = 0
    shown_again: int = 0
    proof_seen: bool = False
    report_passages: bool = True


@dataclass(slots=True)
class Tally:
    """What was shown, counted."""

    decisions: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    persons: int = 0
    undecided: int = 0
    repeats: int = 0

    def add(self, verdict: pb.Verdict) -> None:
        """Counts a verdict that was shown."""
        self.decisions[name_of(pb.Decision, verdict.decision, "DECISION_")] += 1
        if verdict.reason:
            self.reasons[name_of(pb.Reason, verdict.reason, "REASON_")] += 1
        self.persons += verdict.persons_admitted


@dataclass(slots=True)
class Turnstile:
    """A lane with what it needs."""

    gate_id: str
    setting: LaneSetting
    habits: LaneHabits
    checker: Checker
    barrier: Barrier
    display: Display
    tally: Tally
    debouncer: Debouncer = field(init=False)

    def __post_init__(self) -> None:
        self.debouncer = Debouncer(self.habits.debounce_ms)

    async def handle(self, code: ReadCode) -> pb.Verdict | None:
        """One guest, from code to passage; None for a repeat of the code just read."""
        if self.debouncer.is_repeat(code.text, time.monotonic_ns() // 1_000_000):
            self.tally.repeats += 1
            return None
        verdict = await self._ask(code, proof_seen=False)
        for _ in range(self.habits.shown_again):
            if verdict.decision != pb.DECISION_RETRY:
                break
            verdict = await self._ask(code, proof_seen=False)
        if verdict.decision == pb.DECISION_NEEDS_ACTION and self.habits.proof_seen:
            verdict = await self._ask(code, proof_seen=True)
        if verdict.decision == pb.DECISION_ADMIT:
            await self._let_through(verdict)
        elif verdict.decision != pb.DECISION_REJECT:
            self.debouncer.forget()
        self.tally.undecided += verdict.decision == pb.DECISION_RETRY
        return verdict

    async def _ask(self, code: ReadCode, *, proof_seen: bool) -> pb.Verdict:
        scan_id, began_ns = secrets.token_bytes(SCAN_ID_LENGTH), time.monotonic_ns()
        scan = make_scan(code.text, self.setting, scan_id, time.time_ns() // 1_000_000)
        scan.proof_seen = proof_seen
        verdict = await self.checker.check(scan)
        self.tally.add(verdict)
        self.display.verdict(Shown(self.gate_id, code, verdict, (time.monotonic_ns() - began_ns) / 1e6))
        return verdict

    async def _let_through(self, verdict: pb.Verdict) -> None:
        outcome = await self.barrier.open(verdict)
        self.display.passage(self.gate_id, verdict.scan_id, outcome)
        if self.habits.report_passages:
            self.checker.report_passage(
                pb.PassageReport(
                    scan_id=verdict.scan_id, ticket_id=verdict.ticket_id, outcome=outcome, lane=self.setting.lane
                )
            )
