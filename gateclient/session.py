"""The gate's side of the stream: decides what to send, given frames, time-outs and the instant. It can do no I/O.

A scan's life, seen from the gate::

    submit ──► WAITING ──verdict──► settled (shown once)
                 │  ▲
                 │  └── no reply, RETRY, link broken: due again, with the SAME scan_id
                 │
                 └─deadline──► UNRESOLVED, a local RETRY is shown (never ADMIT, never a bad ticket: I7)
                                 │  same code at the same lane within the rescan window: WAITING again, SAME scan_id
                                 │  a late ADMIT, the window over, or the code shown at another lane:
                                 └─ the admission, which nobody used, is reported NOT_PASSED, and the scan forgotten

Once NOT_PASSED was reported, that scan_id is never sent again: its stored answer may be an ADMIT whose entry was given
back (I1). A passage report waits until it is receipted; it is due again after a time-out, and on each new link.

A link is CLOSED, GREETING (Hello sent, Welcome awaited) or OPEN; scans and reports go out on an OPEN one only.
Verdicts are matched by scan_id, so their order, repeats and frames do not matter.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from gateclient.link_events import (
    DISBELIEF_RECEIPTS,
    GREETING_LIMIT_MS,
    HEARTBEAT_AFTER_MS,
    MAX_OPEN_WORK,
    MAX_PASSAGES_PER_FRAME,
    MAX_SCANS_PER_FRAME,
    RETRY_AFTER_RANGE_MS,
    SILENCE_LIMIT_MS,
    Commanded,
    Event,
    Instant,
    Link,
    LinkDead,
    SessionLimits,
    SessionStats,
    Settled,
    Welcomed,
)
from gateclient.outbox import Outbox
from gateclient.unresolved import Unresolved, code_of
from parkgate.gate.v1 import gate_pb2 as pb
from ticketcore.errors import invariant
from ticketcore.token import CLAIMS_LENGTH, TokenFault, decode_claims


@dataclass(frozen=True, slots=True)
class _Kept:
    report: pb.PassageReport
    disbelieve_until_ms: int = 0


@dataclass(slots=True)
class _Waiting:
    scan: pb.Scan
    deadline_ms: int = 0
    sent: bool = False
    why_late: pb.Reason.ValueType = pb.REASON_TIMEOUT


class Session:
    """One gate's or lane controller's stream, over any number of links."""

    def __init__(self, gate_ids: tuple[str, ...], software: str, limits: SessionLimits | None = None) -> None:
        self._gate_ids = gate_ids
        self._software = software
        self._limits = limits or SessionLimits()
        self._link = Link.CLOSED
        self._hello_due = False
        self._heard_ms = 0
        self._spoke_ms = 0
        self._heartbeats = 0
        self._scans: Outbox[_Waiting] = Outbox()
        self._reports: Outbox[_Kept] = Outbox()
        self._deadlines: deque[tuple[int, bytes]] = deque()
        self._unresolved = Unresolved()
        self.stats = SessionStats()

    @property
    def link(self) -> Link:
        """Where the link stands."""
        return self._link

    @property
    def open_work(self) -> int:
        """Scans not settled or not resolved, and reports not receipted."""
        return len(self._scans) + len(self._unresolved) + len(self._reports)

    @property
    def unreceipted(self) -> int:
        """Passage reports that are not receipted."""
        return len(self._reports)

    # What the gate asks.

    def submit(self, scan: pb.Scan, now: Instant) -> tuple[bytes, list[Event]]:
        """Takes a scan; answers the scan_id that will be settled: its own, or that of the same attempt before it."""
        if self.open_work >= MAX_OPEN_WORK:
            return scan.scan_id, [self._told_retry(scan, pb.REASON_BACKPRESSURE)]
        waiting = self._same_attempt(scan, now) or _Waiting(scan)
        waiting.deadline_ms = now.monotonic_ms + self._limits.answer_ms
        self._scans.put(waiting.scan.scan_id, waiting, now.monotonic_ms)
        self._deadlines.append((waiting.deadline_ms, waiting.scan.scan_id))
        return waiting.scan.scan_id, []

    def report_passage(self, report: pb.PassageReport, now: Instant) -> None:
        """Keeps a passage report, and sends it, until it is receipted."""
        self._reports.put(report.scan_id, _Kept(report), now.monotonic_ms)

    # What the link tells.

    def connected(self, now: Instant) -> None:
        """A new stream is there: Hello goes first."""
        invariant(self._link is Link.CLOSED, "a link was opened while another was open")
        self._link = Link.GREETING
        self._hello_due = True
        self._heard_ms = self._spoke_ms = now.monotonic_ms

    def disconnected(self, now: Instant) -> None:
        """The stream is gone: what was sent on it may be lost, so all of it is due again on the next."""
        self._link = Link.CLOSED
        self._scans.make_all_due(now.monotonic_ms)
        self._reports.make_all_due(now.monotonic_ms)

    def received(self, frame: pb.ServerFrame, now: Instant) -> list[Event]:
        """Takes a frame of the present stream."""
        self._heard_ms = now.monotonic_ms
        events: list[Event] = []
        if frame.HasField("welcome"):
            self._link = Link.OPEN
            events.append(Welcomed(frame.welcome))
        for verdict in frame.verdicts:
            events += self._take_verdict(verdict, now)
        for receipt in frame.receipts:
            self._take_receipt(receipt, now)
        if frame.HasField("command"):
            events.append(Commanded(frame.command))
        return events

    # What time brings, and what to send.

    def tick(self, now: Instant) -> list[Event]:
        """What has become overdue. Call at `next_wake_ms`, or at any time."""
        events = self._overdue_scans(now)
        for scan in self._unresolved.take_old(now.monotonic_ms):
            self._give_back(scan, now)
        silent_ms = now.monotonic_ms - self._heard_ms
        if self._link is Link.GREETING and silent_ms >= GREETING_LIMIT_MS:
            events.append(LinkDead("no welcome came"))
        elif self._link is Link.OPEN and silent_ms >= SILENCE_LIMIT_MS:
            events.append(LinkDead("the gateway has gone silent"))
        return events

    def next_frame(self, now: Instant) -> pb.ClientFrame | None:
        """The frame to send now, or None. Call again until None."""
        if self._hello_due and self._link is Link.GREETING:
            self._hello_due = False
            hello = pb.Hello(gate_ids=self._gate_ids, device_time_ms=now.wall_ms, software=self._software)
            return self._spoken(pb.ClientFrame(hello=hello), now)
        if self._link is not Link.OPEN:
            return None
        now_ms = now.monotonic_ms
        reports = self._reports.take_due(now_ms, now_ms + self._limits.receipt_ms, MAX_PASSAGES_PER_FRAME)
        waiting = self._scans.take_due(now_ms, now_ms + self._limits.reply_ms, MAX_SCANS_PER_FRAME)
        if reports or waiting:
            passages = [kept.report for kept in reports]
            return self._spoken(pb.ClientFrame(scans=map(_mark_sent, waiting), passages=passages), now)
        if now_ms - self._spoke_ms >= HEARTBEAT_AFTER_MS:
            self._heartbeats += 1
            beat = pb.Heartbeat(device_time_ms=now.wall_ms, count=self._heartbeats)
            return self._spoken(pb.ClientFrame(heartbeat=beat), now)
        return None

    def next_wake_ms(self) -> int | None:
        """The monotonic instant at which `tick` or `next_frame` will have something to do, if nothing else happens."""
        dues = [self._unresolved.next_forget_ms(), self._next_deadline_ms()]
        if self._link is Link.GREETING:
            dues.append(self._heard_ms + GREETING_LIMIT_MS)
        if self._link is Link.OPEN:
            dues += [self._heard_ms + SILENCE_LIMIT_MS, self._spoke_ms + HEARTBEAT_AFTER_MS]
            dues += [self._scans.next_due_ms(), self._reports.next_due_ms()]
        return min((due for due in dues if due is not None), default=None)

    # Inside.

    def _spoken(self, frame: pb.ClientFrame, now: Instant) -> pb.ClientFrame:
        self._spoke_ms = now.monotonic_ms
        self.stats.frames_sent += 1
        self.stats.scans_sent += len(frame.scans)
        return frame

    def _same_attempt(self, scan: pb.Scan, now: Instant) -> _Waiting | None:
        """The attempt that a scan goes on with: an unresolved one of the same code, asked in the same way."""
        earlier = self._unresolved.take_code(code_of(scan))
        if earlier is None:
            return None
        if _asks_same(earlier, scan):
            self.stats.reused += 1
            return _Waiting(earlier, sent=True)
        self._give_back(earlier, now)
        return None

    def _take_verdict(self, verdict: pb.Verdict, now: Instant) -> list[Event]:
        waiting = self._scans.get(verdict.scan_id)
        if waiting is None:
            self._take_late(verdict, now)
            return []
        if verdict.decision in (pb.DECISION_ADMIT, pb.DECISION_REJECT, pb.DECISION_NEEDS_ACTION):
            self._scans.remove(verdict.scan_id)
            return [Settled(verdict)]
        self._scans.postpone(verdict.scan_id, now.monotonic_ms + _bounded(verdict.retry_after_ms))
        waiting.why_late = verdict.reason or pb.REASON_INTERNAL_ERROR
        return []

    def _take_late(self, verdict: pb.Verdict, now: Instant) -> None:
        if verdict.decision == pb.DECISION_RETRY:
            return
        scan = self._unresolved.take_id(verdict.scan_id)
        if scan is not None and verdict.decision == pb.DECISION_ADMIT:
            self._give_back(scan, now)

    def _take_receipt(self, receipt: pb.PassageReceipt, now: Instant) -> None:
        kept = self._reports.get(receipt.scan_id)
        if kept is None:
            return
        if receipt.retry_after_ms:
            self._reports.postpone(receipt.scan_id, now.monotonic_ms + _bounded(receipt.retry_after_ms))
        elif receipt.recorded or now.monotonic_ms >= kept.disbelieve_until_ms:
            self._reports.remove(receipt.scan_id)

    def _next_deadline_ms(self) -> int | None:
        """The first deadline of a scan that still waits; those of settled ones before it are dropped."""
        while self._deadlines:
            deadline_ms, scan_id = self._deadlines[0]
            waiting = self._scans.get(scan_id)
            if waiting is not None and waiting.deadline_ms == deadline_ms:
                return deadline_ms
            self._deadlines.popleft()
        return None

    def _overdue_scans(self, now: Instant) -> list[Event]:
        events: list[Event] = []
        while (deadline_ms := self._next_deadline_ms()) is not None and deadline_ms <= now.monotonic_ms:
            _, scan_id = self._deadlines.popleft()
            waiting = self._scans.remove(scan_id)
            if waiting is not None and waiting.sent:
                self._leave_unresolved(waiting.scan, now)
            if waiting is not None:
                events.append(self._told_retry(waiting.scan, waiting.why_late))
        return events

    def _leave_unresolved(self, scan: pb.Scan, now: Instant) -> None:
        displaced = self._unresolved.put(scan, now.monotonic_ms + self._limits.rescan_ms)
        if displaced is not None:
            self._give_back(displaced, now)

    def _give_back(self, scan: pb.Scan, now: Instant) -> None:
        """Nobody went through on a scan whose verdict was not shown: if it was admitted, the entry is given back."""
        try:
            ticket_id = decode_claims(scan.token[:CLAIMS_LENGTH]).ticket_id
        except TokenFault:
            return
        self.stats.given_back += 1
        report = pb.PassageReport(
            scan_id=scan.scan_id, ticket_id=ticket_id, outcome=pb.PASSAGE_OUTCOME_NOT_PASSED, lane=scan.lane
        )
        until_ms = now.monotonic_ms + DISBELIEF_RECEIPTS * self._limits.receipt_ms
        self._reports.put(scan.scan_id, _Kept(report, until_ms), now.monotonic_ms)

    def _told_retry(self, scan: pb.Scan, reason: pb.Reason.ValueType) -> Settled:
        self.stats.retries_told += 1
        return Settled(
            pb.Verdict(
                scan_id=scan.scan_id,
                decision=pb.DECISION_RETRY,
                reason=reason,
                decided_by=pb.DECIDED_BY_GATE,
                retry_after_ms=self._limits.reply_ms,
            )
        )


def _bounded(retry_after_ms: int) -> int:
    low, high = RETRY_AFTER_RANGE_MS
    return min(max(retry_after_ms, low), high)


def _mark_sent(waiting: _Waiting) -> pb.Scan:
    waiting.sent = True
    return waiting.scan


def _asks_same(first: pb.Scan, second: pb.Scan) -> bool:
    return (first.lane, first.direction, first.persons, first.proof_seen) == (
        second.lane,
        second.direction,
        second.persons,
        second.proof_seen,
    )
