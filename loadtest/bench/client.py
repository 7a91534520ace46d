"""The one client of every scenario: S streams, each sending its next frame when the last was answered.

Runs in a process of its own. Frames are built before the clock starts, for every scenario alike, so that the client
costs each of them the same. Latency is counted from the write of a frame to its answer.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import grpc
import uvloop

from parkgate.gate.v1 import gate_pb2

Item = TypeVar("Item")
WARM_UP_S = 1.0
METHOD = "/parkgate.gate.v1.GateService/Stream"


@dataclass(frozen=True, slots=True)
class Plan:
    """What one run of the client does. `tokens` is a file of 81-byte tokens, read from `first_token` on."""

    address: str
    ca: str
    certificate: str
    key: str
    gates: list[str]
    streams: int
    scans_a_frame: int
    seconds: float
    tokens: str
    first_token: int
    token_count: int


@dataclass(frozen=True, slots=True)
class Result:
    """What came of it. Rates and percentiles are of the time after the warm-up."""

    per_s: float
    p50_ms: float
    p99_ms: float
    admitted: int
    not_admitted: int
    ran_out: bool
    retried: int
    reasons: dict[str, int]
    client_cpu_share: float


class _Run:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.frames = build_frames(plan)
        self.latencies: list[float] = []
        self.scans = 0
        self.admitted = 0
        self.not_admitted = 0
        self.ran_out = False
        self.retried = 0
        self.reasons: Counter[str] = Counter()
        self.started = 0.0
        self.deadline = 0.0

    async def go(self, credentials: grpc.ChannelCredentials) -> Result:
        channels = [
            grpc.aio.secure_channel(self.plan.address, credentials, options=[("grpc.use_local_subchannel_pool", 1)])
            for _ in range(min(self.plan.streams, 8))
        ]
        calls: list[Any] = [
            channels[number % len(channels)].stream_stream(METHOD)() for number in range(self.plan.streams)
        ]
        await asyncio.gather(*(say_hello(call, self.plan.gates) for call in calls))
        self.started = time.perf_counter()
        self.deadline = self.started + WARM_UP_S + self.plan.seconds
        cpu = time.process_time()
        shares = deal(self.frames, len(calls))
        await asyncio.gather(*(self._stream(call, frames) for call, frames in zip(calls, shares, strict=True)))
        elapsed = min(time.perf_counter(), self.deadline) - self.started - WARM_UP_S
        share = (time.process_time() - cpu) / (time.perf_counter() - self.started)
        for channel in channels:
            await channel.close()
        self.latencies.sort()
        return Result(
            per_s=self.scans / max(elapsed, 1e-9),
            p50_ms=percentile(self.latencies, 0.50) * 1e3,
            p99_ms=percentile(self.latencies, 0.99) * 1e3,
            admitted=self.admitted,
            not_admitted=self.not_admitted,
            ran_out=self.ran_out,
            retried=self.retried,
            reasons=dict(self.reasons),
            client_cpu_share=share,
        )

    async def _decided(self, call: Any, frame: bytes) -> list[int]:
        """Decisions of a frame; RETRY is sent again with the same ids, as a turnstile does, on the same clock."""
        while True:
            await call.write(frame)
            answer = gate_pb2.ServerFrame.FromString(await call.read())
            decisions: list[int] = [verdict.decision for verdict in answer.verdicts]
            if gate_pb2.DECISION_RETRY not in decisions:
                refused = (item.reason for item in answer.verdicts if item.decision != gate_pb2.DECISION_ADMIT)
                self.reasons.update(gate_pb2.Reason.Name(reason) for reason in refused)
                return decisions
            self.retried += 1
            await asyncio.sleep(max(verdict.retry_after_ms for verdict in answer.verdicts) / 1_000)

    async def _stream(self, call: Any, frames: list[bytes]) -> None:
        measured_from = self.started + WARM_UP_S
        for frame in frames:
            sent = time.perf_counter()
            if sent >= self.deadline:
                call.cancel()
                return
            decisions = await self._decided(call, frame)
            now = time.perf_counter()
            admitted = decisions.count(gate_pb2.DECISION_ADMIT)
            self.admitted += admitted
            self.not_admitted += len(decisions) - admitted
            if measured_from <= now <= self.deadline:
                self.scans += len(decisions)
                self.latencies.append(now - sent)
        self.ran_out = True
        self.deadline = min(self.deadline, time.perf_counter())
        call.cancel()


async def say_hello(call: Any, gates: list[str]) -> None:
    """Opens a stream for those gates, and reads its welcome."""
    await call.write(hello(gates))
    await call.read()


def hello(gates: list[str]) -> bytes:
    """The first frame of a stream for those gates."""
    said = gate_pb2.Hello(gate_ids=gates, device_time_ms=time.time_ns() // 1_000_000, software="bench")
    return gate_pb2.ClientFrame(hello=said).SerializeToString()


def scan_id_of(frame: bytes) -> bytes:
    """The scan of a frame that holds one."""
    return gate_pb2.ClientFrame.FromString(frame).scans[0].scan_id


def build_frames(plan: Plan) -> list[bytes]:
    """Every frame of the run: a new ticket and a new scan id for each scan."""
    now = time.time_ns() // 1_000_000
    with Path(plan.tokens).open("rb") as file:
        file.seek(plan.first_token * 81)
        data = file.read(plan.token_count * 81)
    tokens = (data[start : start + 81] for start in range(0, len(data), 81))
    frames: list[bytes] = []
    while chunk := list(islice(tokens, plan.scans_a_frame)):
        frame = gate_pb2.ClientFrame()
        for token in chunk:
            frame.scans.add(scan_id=os.urandom(16), token=token, scan_time_ms=now)
        frames.append(frame.SerializeToString())
    return frames


def deal(items: list[Item], streams: int) -> list[list[Item]]:
    """Each stream's frames, or whatever belongs to them."""
    return [items[number::streams] for number in range(streams)]


def percentile(ordered: list[float], share: float) -> float:
    """Of values in order; NaN if there are none."""
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else float("nan")


def main() -> None:
    """Reads a plan from standard input, writes the result to standard output."""
    plan = Plan(**json.load(sys.stdin))
    files = (plan.ca, plan.key, plan.certificate)
    credentials = grpc.ssl_channel_credentials(*(Path(name).read_bytes() for name in files))
    result = uvloop.run(_Run(plan).go(credentials))
    json.dump(asdict(result), sys.stdout)


if __name__ == "__main__":
    main()
