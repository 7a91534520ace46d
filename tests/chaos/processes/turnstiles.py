"""Turnstiles: the real gate client, its ears open. Each frame's verdicts and each scan's end are written down.

`Turnstile` is the client that guests stand before. `Echo` is a bare stream without a memory, for asking again what was
answered before: it never shows a verdict to a guest and never gives an entry back.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any

import grpc

from gateclient.client import SOFTWARE, GateClient, LinkConfig
from gateclient.credentials import Credentials
from gateclient.link_events import Event, Instant, LinkDead, SessionLimits
from gateclient.session import Session
from parkgate.gate.v1 import gate_pb2
from parkgate.gate.v1.gate_pb2_grpc import GateServiceStub
from tests.checker import OK, UNKNOWN, History, verdict_of

LIMITS = SessionLimits(answer_ms=4_000, reply_ms=500, receipt_ms=700, rescan_ms=3_000)
"""A guest's patience as shipped; what comes after it is shortened, so that a trial comes to rest in seconds."""
ADMIT, RETRY = gate_pb2.DECISION_ADMIT, gate_pb2.DECISION_RETRY
PASSED, NOT_PASSED = gate_pb2.PASSAGE_OUTCOME_PASSED, gate_pb2.PASSAGE_OUTCOME_NOT_PASSED
ECHO_ANSWER_S = 2.0


def now_ms() -> int:
    """The clock that all clients share. It never jumps, whatever is done to the servers' clocks."""
    return time.monotonic_ns() // 1_000_000


def note_verdict(history: History, gate: str, verdict: gate_pb2.Verdict) -> None:
    """A verdict has reached a gate, whether or not anybody still waits for it."""
    history.note("verdict", gate, now_ms(), {"scan_id": verdict.scan_id.hex()}, **verdict_of(verdict))


class _ListeningSession(Session):
    """The gate's session, overheard."""

    def __init__(self, gate: str, hear: Callable[[gate_pb2.Verdict], None]) -> None:
        super().__init__((gate,), SOFTWARE, LIMITS)
        self._hear = hear

    def received(self, frame: gate_pb2.ServerFrame, now: Instant) -> list[Event]:
        for verdict in frame.verdicts:
            self._hear(verdict)
        return super().received(frame, now)


class Turnstile(GateClient):
    """A gate that writes down."""

    def __init__(self, gate: str, addresses: tuple[str, ...], credentials: Credentials, history: History) -> None:
        super().__init__(LinkConfig((gate,), addresses, credentials, server_name="localhost", limits=LIMITS))
        self.gate, self.history = gate, history
        self._address = ""
        self._session = _ListeningSession(gate, lambda verdict: note_verdict(history, gate, verdict))

    async def _one_link(self, address: str) -> None:
        self._address = address
        await super()._one_link(address)

    def return_home(self) -> None:
        """Goes back to the gateway that it asks first, if a fault has made it ask another: its link breaks."""
        if self._address != self._config.addresses[0]:
            self._handle([LinkDead("the turnstile returns to its own gateway")])

    async def scan(self, scan: gate_pb2.Scan, ticket: int, *, forged: bool = False) -> gate_pb2.Verdict:
        """Shows a code and waits for what the turnstile shows."""
        asked = {"scan_id": scan.scan_id.hex(), "ticket": ticket, "forged": forged, "persons": scan.persons}
        operation = self.history.invoke("scan", self.gate, now_ms(), **asked)
        verdict = await self.check(scan)
        # The gate may have gone on with an earlier attempt of the same guest.
        operation.request["scan_id"] = verdict.scan_id.hex()
        outcome = UNKNOWN if verdict.decision == RETRY else OK
        operation.complete(now_ms(), outcome, **verdict_of(verdict))
        return verdict

    def report(self, verdict: gate_pb2.Verdict, zone: int, *, passed: bool, reported: bool = True) -> None:
        """The guests went through or did not; the turnstile tells, unless its sensor is blind."""
        said = verdict_of(verdict)
        asked = {"scan_id": verdict.scan_id.hex(), "ticket": verdict.ticket_id, "zone": zone}
        asked |= {"kind": said["kind"], "persons": said["persons"], "passed": passed}
        self.history.note("passage", self.gate, now_ms(), asked)
        if reported:
            outcome = PASSED if passed else NOT_PASSED
            report = gate_pb2.PassageReport(scan_id=verdict.scan_id, ticket_id=verdict.ticket_id, outcome=outcome)
            self.report_passage(report)


class Echo:
    """Asks again, on streams of its own: another connection, and so perhaps another gateway, than the turnstile's."""

    def __init__(self, gate: str, address: str, credentials: Credentials, history: History) -> None:
        self._gate, self._address, self._credentials, self._history = gate, address, credentials, history

    async def ask(self, scans: list[gate_pb2.Scan]) -> list[gate_pb2.Scan]:
        """Sends scans again on a new stream; returns those that were not answered for good."""
        missing = {scan.scan_id: scan for scan in scans}
        with contextlib.suppress(grpc.aio.AioRpcError, TimeoutError):
            async with (
                self._credentials.channel(self._address, "localhost") as channel,
                asyncio.timeout(ECHO_ANSWER_S),
            ):
                await self._converse(GateServiceStub(channel).Stream(), missing)
        return list(missing.values())

    async def _converse(self, call: Any, missing: dict[bytes, gate_pb2.Scan]) -> None:
        hello = gate_pb2.Hello(gate_ids=[self._gate], device_time_ms=time.time_ns() // 1_000_000, software="echo")
        await call.write(gate_pb2.ClientFrame(hello=hello))
        await call.read()
        await call.write(gate_pb2.ClientFrame(scans=list(missing.values())))
        while missing and (frame := await call.read()) is not grpc.aio.EOF:
            for verdict in frame.verdicts:
                note_verdict(self._history, self._gate, verdict)
                if verdict.decision != RETRY:
                    missing.pop(verdict.scan_id, None)
