"""A seeded link between a real Session and a small cluster, in virtual time: drops, doubles, delays, reorders, breaks.

The cluster keeps what the real one promises: the same scan_id gets the same answer, an admission can be given back
once, and it may tell RETRY instead of deciding. Nothing sleeps.
"""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass, field
from itertools import count

from gateclient.link_events import Event, Instant, LinkDead, Settled
from gateclient.session import Session
from parkgate.gate.v1 import gate_pb2 as pb


@dataclass
class TinyCluster:
    """Admits a ticket while `persons` of it are not inside; keeps answers by scan_id."""

    chance: random.Random
    retry_share: float = 0.0
    answers: dict[bytes, pb.Verdict] = field(default_factory=dict)
    used: dict[int, int] = field(default_factory=dict)
    passages: dict[bytes, pb.PassageOutcome.ValueType] = field(default_factory=dict)

    def answer(self, frame: pb.ClientFrame) -> pb.ServerFrame:
        reply = pb.ServerFrame()
        if frame.HasField("hello"):
            reply.welcome.gateway = "tiny"
        reply.receipts.extend(self.record(report) for report in frame.passages)
        reply.verdicts.extend(self.decide(scan) for scan in frame.scans)
        if frame.HasField("heartbeat"):
            reply.heartbeat.CopyFrom(frame.heartbeat)
        return reply

    def decide(self, scan: pb.Scan) -> pb.Verdict:
        if scan.scan_id in self.answers:
            return self.answers[scan.scan_id]
        if self.chance.random() < self.retry_share:
            return pb.Verdict(
                scan_id=scan.scan_id, decision=pb.DECISION_RETRY, reason=pb.REASON_BACKPRESSURE, retry_after_ms=40
            )
        ticket_id = int.from_bytes(scan.token[1:9], "big")
        verdict = pb.Verdict(scan_id=scan.scan_id, ticket_id=ticket_id)
        if self.used.get(ticket_id, 0):
            verdict.decision, verdict.reason = pb.DECISION_REJECT, pb.REASON_ALREADY_USED
        else:
            self.used[ticket_id] = 1
            verdict.decision, verdict.persons_admitted = pb.DECISION_ADMIT, 1
        self.answers[scan.scan_id] = verdict
        return verdict

    def record(self, report: pb.PassageReport) -> pb.PassageReceipt:
        known = self.answers.get(report.scan_id)
        if known is None or known.decision != pb.DECISION_ADMIT:
            return pb.PassageReceipt(scan_id=report.scan_id)
        if report.scan_id not in self.passages:
            self.passages[report.scan_id] = report.outcome
            if report.outcome == pb.PASSAGE_OUTCOME_NOT_PASSED:
                self.used[report.ticket_id] -= 1
        return pb.PassageReceipt(scan_id=report.scan_id, recorded=self.passages[report.scan_id])


@dataclass(frozen=True)
class Weather:
    """Shares of frames that suffer each fault, and how long frames take."""

    drop: float = 0.0
    double: float = 0.0
    break_link: float = 0.0
    delay_ms: tuple[int, int] = (1, 5)


class SeededLink:
    """Runs a session against a cluster; `now_ms` is virtual."""

    def __init__(self, session: Session, cluster: TinyCluster, weather: Weather, chance: random.Random) -> None:
        self.session, self.cluster, self.weather, self.chance = session, cluster, weather, chance
        self.now_ms = 0
        self.settled: list[pb.Verdict] = []
        self.up = True
        self._link = 0
        self._in_flight: list[tuple[int, int, int, str, bytes]] = []
        self._order = count()

    @property
    def now(self) -> Instant:
        return Instant(self.now_ms, 1_800_000_000_000 + self.now_ms)

    def submit(self, scan: pb.Scan) -> bytes:
        scan_id, events = self.session.submit(scan, self.now)
        self._take(events)
        return scan_id

    def run(self, for_ms: int) -> None:
        """Moves virtual time on, a millisecond at a time."""
        for now_ms in range(self.now_ms, self.now_ms + for_ms):
            self.now_ms = now_ms
            if self.up and self.session.link.value == "closed":
                self._link += 1
                self.session.connected(self.now)
            self._deliver()
            self._take(self.session.tick(self.now))
            while (frame := self.session.next_frame(self.now)) is not None:
                self._send("to cluster", frame.SerializeToString())
        self.now_ms += 1

    def cut(self) -> None:
        """Breaks the link; frames on it that are on their way back are lost, those to the cluster may still arrive."""
        if self.session.link.value != "closed":
            self.session.disconnected(self.now)
            self._link += 1

    def _send(self, way: str, data: bytes) -> None:
        roll = self.chance.random()
        copies = 0 if roll < self.weather.drop else 2 if roll < self.weather.drop + self.weather.double else 1
        for _ in range(copies):
            arrival = self.now_ms + self.chance.randint(*self.weather.delay_ms)
            heapq.heappush(self._in_flight, (arrival, next(self._order), self._link, way, data))
        if self.chance.random() < self.weather.break_link:
            self.cut()

    def _deliver(self) -> None:
        while self._in_flight and self._in_flight[0][0] <= self.now_ms:
            _, _, link, way, data = heapq.heappop(self._in_flight)
            if way == "to cluster":
                answer = self.cluster.answer(pb.ClientFrame.FromString(data))
                if link == self._link:
                    self._send("to gate", answer.SerializeToString())
            elif link == self._link and self.session.link.value != "closed":
                self._take(self.session.received(pb.ServerFrame.FromString(data), self.now))

    def _take(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, Settled):
                self.settled.append(event.verdict)
            elif isinstance(event, LinkDead):
                self.cut()
