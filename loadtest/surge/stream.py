"""One device's gRPC stream: sends scans and passages, hears verdicts and receipts, connects again and asks again.

Deliberately thinner than the real gate client, so that thousands fit into one process; the rules of the protocol are
the same: a scan keeps its id until it is told, RETRY is asked again, what was not answered when a stream broke is sent
again.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import grpc

from parkgate.gate.v1 import gate_pb2 as pb

METHOD = "/parkgate.gate.v1.GateService/Stream"
SOFTWARE = "parkgate-surge"
STREAMS_A_CONNECTION = 25
"""A device has a connection of its own in a park; here some share one, or the handshakes alone would take a minute."""
MAX_SCANS = 200
"""In a frame of a lane controller."""
FLUSH_S = 0.04
"""A passage waits so long for a scan that it can travel with."""
HELLO_S = 20.0
BEAT_S = 10.0
FIRST_BACKOFF_S = 0.05
LAST_BACKOFF_S = 1.0
BROKEN = (grpc.aio.AioRpcError, grpc.aio.UsageError, asyncio.InvalidStateError, asyncio.CancelledError, TimeoutError)
"""What a call raises when its line is gone. Cancelled: by its channel, which was closed under it; nobody has cancelled
the task then."""
DENIED = (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED)
Call = Any
"""grpc.aio's stream call; its types name no raw bytes."""


@dataclass(slots=True, eq=False)
class Shot:
    """A scan on its way. `due` is when the guest should have been served, `handed` when the generator gave it to the
    stream: how late that was is the generator's own doing. Both on the monotonic clock."""

    scan: pb.Scan
    due: float
    told: Callable[[Shot, pb.Verdict, float], None]
    handed: float = 0.0
    asked: int = 0
    entrance: int = 0
    bulk: bool = False
    """May share a frame with others also at a turnstile."""


class Line(Protocol):
    """Where a stream gets its connection from."""

    async def channel(self) -> grpc.aio.Channel:
        """An open channel; waits while the line is cut."""


@dataclass(slots=True)
class Traffic:
    """What went over all streams."""

    frames: int = 0
    retries: int = 0
    reconnects: int = 0
    resent: int = 0
    connected: int = 0
    denied: int = 0
    """Streams that were refused for who they are: asking again does not help."""
    last_error: str = ""


@dataclass(eq=False)
class Stream:
    """A turnstile (`coalesces` False: one scan a frame) or a lane controller."""

    line: Line
    gates: tuple[str, ...]
    coalesces: bool
    traffic: Traffic
    _out: deque[Shot] = field(default_factory=deque)
    _passages: deque[pb.PassageReport] = field(default_factory=deque)
    _asked: dict[bytes, Shot] = field(default_factory=dict)
    _reported: dict[bytes, tuple[pb.PassageReport, Callable[[], None]]] = field(default_factory=dict)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _flush: asyncio.TimerHandle | None = None
    _heartbeat: bool = False
    welcome: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def unanswered(self) -> int:
        """Scans and passages that the cluster has not answered."""
        return len(self._out) + len(self._asked) + len(self._reported)

    @property
    def unbooked(self) -> int:
        """Passages that were reported and have no receipt."""
        return len(self._reported)

    def send(self, shot: Shot) -> None:
        """Puts a scan into the next frame."""
        shot.handed = shot.handed or time.monotonic()
        self._out.append(shot)
        self._wake.set()

    def report(self, report: pb.PassageReport, receipted: Callable[[], None]) -> None:
        """Tells what became of an admission, with the next scan or a little later."""
        self._reported[report.scan_id] = (report, receipted)
        self._queue_passage(report)

    def _queue_passage(self, report: pb.PassageReport) -> None:
        self._passages.append(report)
        if self._flush is None:
            self._flush = asyncio.get_running_loop().call_later(FLUSH_S, self._flushed)

    def _flushed(self) -> None:
        self._flush = None
        self._wake.set()

    async def run(self) -> None:
        """Serves until it is cancelled, through every break of the line."""
        task, backoff_s = asyncio.current_task(), FIRST_BACKOFF_S
        assert task is not None
        while True:
            try:
                await self._serve(await self.line.channel())
            except BROKEN as error:
                if task.cancelling():
                    raise
                self._note(error)
                self._broken()
            backoff_s = FIRST_BACKOFF_S if self.welcome.is_set() else min(backoff_s * 2, LAST_BACKOFF_S)
            self.welcome.clear()
            self.traffic.reconnects += 1
            await asyncio.sleep(backoff_s)

    def _note(self, error: BaseException) -> None:
        self.traffic.last_error = ""
        if isinstance(error, grpc.aio.AioRpcError):
            self.traffic.last_error = error.details() or ""
            self.traffic.denied += error.code() in DENIED

    def _broken(self) -> None:
        """What was asked and not answered is asked again, with the same ids."""
        self.traffic.resent += len(self._asked)
        self._out.extendleft(reversed(self._asked.values()))
        self._asked.clear()
        self._passages = deque(report for report, _ in self._reported.values())

    async def _serve(self, channel: grpc.aio.Channel) -> None:
        call: Call = channel.stream_stream(METHOD)()
        writer: asyncio.Task[None] | None = None
        try:
            async with asyncio.timeout(HELLO_S):
                await call.write(self._hello())
                await call.read()
            self.welcome.set()
            self.traffic.connected += 1
            self._wake.set()
            writer = asyncio.create_task(self._write(call))
            await self._read(call)
        finally:
            self.traffic.connected -= self.welcome.is_set()
            call.cancel()
            if writer is not None:
                writer.cancel()
                await asyncio.gather(writer, return_exceptions=True)

    def _hello(self) -> bytes:
        hello = pb.Hello(gate_ids=self.gates, device_time_ms=now_ms(), software=SOFTWARE)
        return pb.ClientFrame(hello=hello).SerializeToString()

    def beat(self) -> None:
        """Called every ten seconds: a device that has nothing to say says that it is there."""
        self._heartbeat = True
        self._wake.set()

    async def _write(self, call: Call) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._out or self._passages or self._heartbeat:
                await call.write(self._frame())
                self.traffic.frames += 1

    def _frame(self) -> bytes:
        frame = pb.ClientFrame()
        together = bool(self._out) and (self.coalesces or self._out[0].bulk)
        for _ in range(min(len(self._out), MAX_SCANS if together else 1)):
            shot = self._out.popleft()
            shot.asked += 1
            self._asked[shot.scan.scan_id] = shot
            frame.scans.append(shot.scan)
        for _ in range(min(len(self._passages), MAX_SCANS)):
            frame.passages.append(self._passages.popleft())
        if self._heartbeat and not frame.scans:
            frame.heartbeat.device_time_ms = now_ms()
        self._heartbeat = False
        return frame.SerializeToString()

    async def _read(self, call: Call) -> None:
        while (raw := await call.read()) is not grpc.aio.EOF:
            frame = pb.ServerFrame.FromString(raw)
            now = time.monotonic()
            for verdict in frame.verdicts:
                self._hear(verdict, now)
            for receipt in frame.receipts:
                self._book(receipt)
        self._broken()

    def _hear(self, verdict: pb.Verdict, now: float) -> None:
        shot = self._asked.pop(verdict.scan_id, None)
        if shot is None:
            return
        if verdict.decision == pb.DECISION_RETRY:
            self.traffic.retries += 1
            asyncio.get_running_loop().call_later(verdict.retry_after_ms / 1_000, self.send, shot)
            return
        shot.told(shot, verdict, now)

    def _book(self, receipt: pb.PassageReceipt) -> None:
        found = self._reported.get(receipt.scan_id)
        if found is None:
            return
        if receipt.retry_after_ms:
            asyncio.get_running_loop().call_later(receipt.retry_after_ms / 1_000, self._queue_passage, found[0])
            return
        del self._reported[receipt.scan_id]
        found[1]()


async def beat(streams: Sequence[Stream]) -> None:
    """Every ten seconds a heartbeat of each device."""
    while True:
        await asyncio.sleep(BEAT_S)
        for stream in streams:
            stream.beat()


def now_ms() -> int:
    """The device's clock."""
    return time.time_ns() // 1_000_000
