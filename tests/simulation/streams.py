"""The gate's stream in the simulation: the gateway's end, which the real `GateService` reads, and the device's."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import Callable
from typing import Any

import grpc

from cluster.gate_service import GateService
from gateclient.link_events import Event, Instant, LinkDead, SessionLimits, Settled
from gateclient.session import Session
from parkgate.gate.v1 import gate_pb2
from tests.checker import OK, UNKNOWN, History, verdict_of
from tests.simulation.loop import Handle, Process, State
from tests.simulation.network import Network, Wire

LIMITS = SessionLimits(answer_ms=2_500, reply_ms=500, receipt_ms=700, rescan_ms=3_000)
RECONNECT_S = (0.05, 0.4)


class GatewayEnd:
    """A stream as the gateway sees it: a connection's protocol, and the context that `GateService.stream` is given."""

    def __init__(self, gates: GateService, names: frozenset[str]) -> None:
        self._gates, self.names = gates, names
        self._frames: deque[Any] = deque()
        self._wake: asyncio.Future[None] | None = None
        self._wire: Wire | None = None
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, wire: Wire) -> None:
        self._wire = wire
        self._task = asyncio.create_task(self._serve())

    async def _serve(self) -> None:
        # An abort is what a client has brought upon itself, or a gateway that is not ready: the stream ends.
        with contextlib.suppress(grpc.aio.AbortError):
            await self._gates.stream(None, self)  # type: ignore[arg-type]
        if self._wire is not None:
            self._wire.abort()

    def data_received(self, data: bytes) -> None:
        self._put(data)

    def connection_lost(self, _error: object) -> None:
        if self._task is not None:
            self._task.cancel()

    def _put(self, item: Any) -> None:
        self._frames.append(item)
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def read(self) -> Any:
        """The next frame."""
        while not self._frames:
            self._wake = asyncio.get_running_loop().create_future()
            await self._wake
        return self._frames.popleft()

    async def write(self, frame: bytes) -> None:
        """Sends a frame."""
        if self._wire is not None:
            self._wire.write(frame)

    async def abort(self, code: grpc.StatusCode, details: str) -> None:
        """Ends the stream with a status."""
        raise grpc.aio.AbortError(f"{code.name}: {details}")

    def auth_context(self) -> GatewayEnd:
        """Who is calling; see `world.identity_of`."""
        return self


class TurnstileDownError(Exception):
    """The turnstile shows nothing: its program has ended. If a scan was on its way, nobody knows what became of it."""


class Device:
    """A turnstile: the real `Session` over streams that come and go, and what its guests hear.

    Its program may end at any moment. The product keeps nothing of a session, so the next program knows of no scan, no
    verdict and no passage of the last.
    """

    def __init__(self, name: str, network: Network, history: History, skew_ms: Callable[[], int]) -> None:
        self.name = name
        self.process = Process(f"gate {name}")
        self.session = Session((name,), "simulation", LIMITS)
        self.history = history
        self._network, self._loop = network, network.loop
        self._wall_ms = skew_ms
        self._wire: Wire | None = None
        self._gone: asyncio.Future[None] | None = None
        self._answers: dict[bytes, list[asyncio.Future[gate_pb2.Verdict]]] = {}
        self._timer: Handle | None = None

    def now(self) -> Instant:
        """Both clocks."""
        return Instant(int(self._loop.time() * 1_000), self._wall_ms())

    @property
    def is_up(self) -> bool:
        """Whether its program runs."""
        return self.process.state is not State.DEAD

    def start(self, gateways: list[str], chance: random.Random) -> None:
        """Its program begins; after a crash with nothing of what was."""
        if not self.is_up:
            self.process = Process(f"gate {self.name}")
            self.session = Session((self.name,), "simulation", LIMITS)
        self._loop.start(self.process, self.run(gateways, chance))

    def crash(self) -> None:
        """Its program ends without a word."""
        self._loop.kill(self.process)
        self._wire = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        answers, self._answers = self._answers, {}
        for answer in (answer for waiting in answers.values() for answer in waiting if not answer.done()):
            answer.set_exception(TurnstileDownError(self.name))

    def new_scan_id(self, chance: random.Random) -> bytes:
        """As the turnstile makes one: drawn, so that no program repeats one of an earlier program."""
        return chance.randbytes(16)

    async def run(self, gateways: list[str], chance: random.Random) -> None:
        """Keeps a stream to one of the gateways, for good."""
        turn = chance.randrange(len(gateways))
        while True:
            turn += 1
            try:
                await self._network.connect(lambda: self, f"stream:{gateways[turn % len(gateways)]}")
            except ConnectionRefusedError:
                await asyncio.sleep(chance.uniform(*RECONNECT_S))
                continue
            assert self._gone is not None
            await self._gone
            await asyncio.sleep(chance.uniform(*RECONNECT_S))

    # The connection

    def connection_made(self, wire: Wire) -> None:
        self._wire = wire
        self._gone = self._loop.create_future()
        self.session.connected(self.now())
        self.pump()

    def connection_lost(self, _error: object) -> None:
        self._wire = None
        self.session.disconnected(self.now())
        if self._gone is not None and not self._gone.done():
            self._gone.set_result(None)
        self.pump()

    def data_received(self, data: bytes) -> None:
        frame = gate_pb2.ServerFrame.FromString(data)
        self._hear(frame)
        self._take(self.session.received(frame, self.now()))
        self.pump()

    def _hear(self, frame: gate_pb2.ServerFrame) -> None:
        now_ms = int(self._loop.time() * 1_000)
        for verdict in frame.verdicts:
            asked = {"scan_id": verdict.scan_id.hex()}
            self.history.note("verdict", self.name, now_ms, asked, **verdict_of(verdict))

    def pump(self) -> None:
        """Sends what is due, and comes back when more is."""
        now = self.now()
        self._take(self.session.tick(now))
        while self._wire is not None and (frame := self.session.next_frame(now)) is not None:
            self._wire.write(frame.SerializeToString())
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        wake_ms = self.session.next_wake_ms()
        if wake_ms is not None:
            wait_s = max(wake_ms - now.monotonic_ms, 1) / 1_000
            self._timer = self._loop.call_later(wait_s, self.pump, context=self.process.context)

    def _take(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, Settled):
                for answer in self._answers.pop(event.verdict.scan_id, ()):
                    if not answer.done():
                        answer.set_result(event.verdict)
            elif isinstance(event, LinkDead) and self._wire is not None:
                self._wire.abort()

    # Guests

    async def scan(self, scan: gate_pb2.Scan, ticket: int, *, forged: bool = False) -> gate_pb2.Verdict:
        """Shows a code and waits for what the turnstile shows.

        Raises:
            TurnstileDownError: nothing, any more. A scan that was on its way stays unanswered.
        """
        if not self.is_up:
            raise TurnstileDownError(self.name)
        answer: asyncio.Future[gate_pb2.Verdict] = self._loop.create_future()
        began = self.now()
        scan_id, events = self.session.submit(scan, began)
        operation = self.history.invoke(
            "scan", self.name, began.monotonic_ms, scan_id=scan_id.hex(), ticket=ticket, forged=forged
        )
        self._answers.setdefault(scan_id, []).append(answer)
        self._take(events)
        self._loop.call_soon(self.pump, context=self.process.context)
        verdict = await answer
        outcome = UNKNOWN if verdict.decision == gate_pb2.DECISION_RETRY else OK
        operation.complete(self.now().monotonic_ms, outcome, **verdict_of(verdict))
        return verdict

    def report(self, verdict: gate_pb2.Verdict, zone: int, *, passed: bool, reported: bool) -> None:
        """The guests went through or did not; the turnstile tells, unless its sensor is blind."""
        asked = {
            "scan_id": verdict.scan_id.hex(),
            "ticket": verdict.ticket_id,
            "zone": zone,
            "kind": verdict_of(verdict)["kind"],
            "persons": verdict.persons_admitted,
            "passed": passed,
        }
        self.history.note("passage", self.name, self.now().monotonic_ms, asked)
        if reported:
            outcome = gate_pb2.PASSAGE_OUTCOME_PASSED if passed else gate_pb2.PASSAGE_OUTCOME_NOT_PASSED
            report = gate_pb2.PassageReport(scan_id=verdict.scan_id, ticket_id=verdict.ticket_id, outcome=outcome)
            self.session.report_passage(report, self.now())
            self._loop.call_soon(self.pump, context=self.process.context)
