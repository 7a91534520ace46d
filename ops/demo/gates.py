"""The park's turnstiles and lane controllers: each with its own certificate and stream, and a note of all it heard.

What the gates heard is the demo's own count of the day; the ledger and Postgres must say the same.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gateclient import GateClient, LaneSetting, LinkConfig, SessionLimits, load_credentials, make_scan
from ops.errors import OpsError
from parkgate.gate.v1 import gate_pb2 as pb
from ticketcore.catalogue import Catalogue

CONNECT_S = 15.0
PATIENCE_MS = 10_000
"""A guest of the demo waits longer than a real one: on a small machine the whole park shares two cores."""
REPLY_MS = 3_000
"""Only a cut line makes a turnstile of the demo ask again, not a busy machine: each frame is counted."""
RECEIPTS_S = 10.0
POLL_S = 0.005
SCAN_ID_BYTES = 16


@dataclass(frozen=True, slots=True)
class Asked:
    """How a code is shown."""

    persons: int = 0
    leaving: bool = False
    proof: bool = False


PLAIN = Asked()
LEAVING = Asked(leaving=True)


@dataclass(slots=True)
class Heard:
    """Every scan once, by its id: how many heard what, and who is inside which zone by that."""

    verdicts: Counter[tuple[str, str]] = field(default_factory=Counter)
    inside: Counter[int] = field(default_factory=Counter)
    persons_in: int = 0
    _known: set[bytes] = field(default_factory=set)

    def add(self, verdict: pb.Verdict, zone: int) -> None:
        """Counts a verdict, unless that scan was counted before."""
        if verdict.scan_id in self._known:
            return
        self._known.add(verdict.scan_id)
        self.verdicts[decision_of(verdict), reason_of(verdict)] += 1
        if verdict.decision == pb.DECISION_ADMIT:
            leaving = verdict.kind == pb.ADMISSION_KIND_EXIT
            self.inside[zone] += -verdict.persons_admitted if leaving else verdict.persons_admitted
            self.persons_in += 0 if leaving else verdict.persons_admitted

    def take_back(self, verdict: pb.Verdict, zone: int) -> None:
        """Nobody went through."""
        self.inside[zone] -= verdict.persons_admitted
        self.persons_in -= verdict.persons_admitted


class Device:
    """A turnstile (one gate) or a lane controller (several) with its stream."""

    def __init__(self, client: GateClient, gates: tuple[str, ...], catalogue: Catalogue, heard: Heard) -> None:
        self.client = client
        self.gates = gates
        self._catalogue = catalogue
        self._heard = heard

    def make(self, gate: str, code: str, asked: Asked = PLAIN) -> pb.Scan:
        """A new scan of what a reader read."""
        direction = pb.DIRECTION_EXIT if asked.leaving else pb.DIRECTION_ENTRY
        setting = LaneSetting(self.gates.index(gate), direction, asked.persons)
        scan = make_scan(code, setting, secrets.token_bytes(SCAN_ID_BYTES), time.time_ns() // 1_000_000)
        scan.proof_seen = asked.proof
        return scan

    async def check(self, scan: pb.Scan, *, passed: bool = True) -> pb.Verdict:
        """The verdict; what became of an ADMIT is reported, and is booked when `settle` returns."""
        verdict = await self.client.check(scan)
        self._note(scan, verdict, passed)
        return verdict

    async def check_frame(self, scans: Sequence[pb.Scan]) -> list[pb.Verdict]:
        """Scans that are submitted in one turn of the loop leave in one frame. Raises: OpsError when they did not."""
        await self.settle()  # passage reports of before would be frames too
        before = self.client.session.stats.frames_sent
        verdicts = await asyncio.gather(*(self.client.check(scan) for scan in scans))
        frames = self.client.session.stats.frames_sent - before
        if scans and frames != 1:
            raise OpsError(f"{len(scans)} scans of {self.gates[0]} left in {frames} frames, not in one.")
        for scan, verdict in zip(scans, verdicts, strict=True):
            self._note(scan, verdict, passed=True)
        return list(verdicts)

    def _note(self, scan: pb.Scan, verdict: pb.Verdict, passed: bool) -> None:
        if verdict.decision == pb.DECISION_RETRY:
            raise OpsError(f"{self.gates[scan.lane]} got no verdict in time ({reason_of(verdict)}).")
        zone = self._zone(scan)
        self._heard.add(verdict, zone)
        if verdict.decision == pb.DECISION_ADMIT:
            self._report(verdict, scan.lane, passed)
            if not passed:
                self._heard.take_back(verdict, zone)

    async def settle(self) -> None:
        """Waits until the cluster has booked every passage that was reported."""
        deadline = time.monotonic() + RECEIPTS_S
        while self.client.session.unreceipted:
            if time.monotonic() > deadline:
                raise OpsError(f"{self.client.session.unreceipted} passages of {self.gates[0]} were not receipted.")
            await asyncio.sleep(POLL_S)

    def _zone(self, scan: pb.Scan) -> int:
        gate = self._catalogue.gates[self.gates[scan.lane]]
        return self._catalogue.zones[gate.zone].number

    def _report(self, verdict: pb.Verdict, lane: int, passed: bool) -> None:
        outcome = pb.PASSAGE_OUTCOME_PASSED if passed else pb.PASSAGE_OUTCOME_NOT_PASSED
        self.client.report_passage(
            pb.PassageReport(scan_id=verdict.scan_id, ticket_id=verdict.ticket_id, outcome=outcome, lane=lane)
        )


async def connect(folder: Path, gates: tuple[str, ...], port: int, catalogue: Catalogue, heard: Heard) -> Device:
    """A device that is welcome."""
    limits = SessionLimits(answer_ms=PATIENCE_MS, reply_ms=REPLY_MS)
    config = LinkConfig(gates, (f"localhost:{port}",), load_credentials(folder), limits=limits)
    client = GateClient(config)
    try:
        await client.start(CONNECT_S)
    except BaseException:
        await client.close(0)
        raise
    return Device(client, gates, catalogue, heard)


def decision_of(verdict: pb.Verdict) -> str:
    """The decision's name."""
    return pb.Decision.Name(verdict.decision).removeprefix("DECISION_")


def reason_of(verdict: pb.Verdict) -> str:
    """The reason's name, empty for a plain ADMIT."""
    return pb.Reason.Name(verdict.reason).removeprefix("REASON_") if verdict.reason else ""


def kind_of(verdict: pb.Verdict) -> str:
    """The kind's name, empty if not admitted."""
    return pb.AdmissionKind.Name(verdict.kind).removeprefix("ADMISSION_KIND_") if verdict.kind else ""
