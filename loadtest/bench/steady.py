"""The open-loop client: scans come when guests come, not when the last answer has.

Arrivals are a Poisson process (seeded), whose guests are dealt to the streams in turn: the load is the same whatever
the number of streams. Latency counts from the arrival, so that a system that stands still is not asked less and does
not look fast. Frames of one scan; a stream writes on without waiting for answers. Runs in a process of its own: a plan
on standard input, the result on standard output.
"""

from __future__ import annotations

import asyncio
import gc
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import grpc
import uvloop

from loadtest.bench import client
from ops.embedded.base import own_module
from parkgate.gate.v1 import gate_pb2

LATE_S = 0.05
"""An arrival that the client itself wrote so much later was late by its own fault."""
PATIENCE_S = 10.0
CHANNELS = 8


@dataclass(frozen=True, slots=True)
class Plan:
    """What one run does: `tickets` scans in all, `per_s` a second, dealt evenly to the streams."""

    base: client.Plan
    per_s: float
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Result:
    """What came of it; percentiles are of the arrivals after the warm-up. `late`: the client's own fault."""

    scans: int
    seconds: float
    p50_ms: float
    p99_ms: float
    late: int
    retried: int
    refused: dict[str, int]


@dataclass(slots=True)
class _Run:
    plan: Plan
    started: float = 0.0
    answered: int = 0
    late: int = 0
    retried: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)

    async def go(self, credentials: grpc.ChannelCredentials) -> Result:
        base = self.plan.base
        options = [("grpc.use_local_subchannel_pool", 1)]
        channels = [
            grpc.aio.secure_channel(base.address, credentials, options=options)
            for _ in range(min(base.streams, CHANNELS))
        ]
        calls: list[Any] = [
            channels[number % len(channels)].stream_stream(client.METHOD)() for number in range(base.streams)
        ]
        await asyncio.gather(*(client.say_hello(call, base.gates) for call in calls))
        frames = client.build_frames(base)
        gc.freeze()  # a collection that walks through all frames would make arrivals late
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.readline)
        self.started = time.perf_counter()
        shares = zip(client.deal(frames, len(calls)), client.deal(self._arrivals(len(frames)), len(calls)), strict=True)
        await asyncio.gather(*(self._stream(call, *share) for call, share in zip(calls, shares, strict=True)))
        seconds = time.perf_counter() - self.started
        for channel in channels:
            await channel.close()
        self.latencies.sort()
        p50, p99 = (client.percentile(self.latencies, share) * 1e3 for share in (0.50, 0.99))
        return Result(self.answered, seconds, p50, p99, self.late, self.retried, dict(self.refused))

    async def _stream(self, call: Any, frames: list[bytes], arrivals: list[float]) -> None:
        due: dict[bytes, float] = {}
        reading = asyncio.create_task(self._read(call, due, len(frames)))
        for frame, wanted in zip(frames, arrivals, strict=True):
            pause = wanted - time.perf_counter()
            if pause > 0:
                await asyncio.sleep(pause)
            self.late += time.perf_counter() - wanted > LATE_S
            due[client.scan_id_of(frame)] = wanted
            await call.write(frame)
        async with asyncio.timeout(PATIENCE_S):
            await reading
        call.cancel()

    def _arrivals(self, count: int) -> list[float]:
        chance, when, arrivals = random.Random(self.plan.seed), self.started, list[float]()
        for _ in range(count):
            when += chance.expovariate(self.plan.per_s)
            arrivals.append(when)
        return arrivals

    async def _read(self, call: Any, due: dict[bytes, float], count: int) -> None:
        measured_from = self.started + client.WARM_UP_S
        while count:
            for verdict in gate_pb2.ServerFrame.FromString(await call.read()).verdicts:
                if verdict.decision == gate_pb2.DECISION_RETRY:
                    self.retried += 1
                elif verdict.decision != gate_pb2.DECISION_ADMIT:
                    self.refused[gate_pb2.Reason.Name(verdict.reason)] += 1
                wanted = due.pop(verdict.scan_id)
                self.answered += 1
                count -= 1
                if wanted >= measured_from:
                    self.latencies.append(time.perf_counter() - wanted)


async def measure(plan: Plan, on_ready: Callable[[], None] = lambda: None) -> Result:
    """Runs the client in a process of its own. `on_ready` is called when its streams are open, before the first scan.

    Raises:
        RuntimeError: it failed, or a scan was not admitted. Whether the client was late is in the result.
    """
    process = await asyncio.create_subprocess_exec(
        *own_module(__name__), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(asdict(plan)).encode() + b"\n")
    if await process.stdout.readline():
        on_ready()
    out, _ = await process.communicate(b"go\n")
    if process.returncode != 0:
        raise RuntimeError(f"the open-loop client failed against {plan.base.address}")
    result = Result(**json.loads(out))
    if result.refused or result.retried:
        raise RuntimeError(f"open loop: {result.retried} scans retried, refused {result.refused}")
    return result


def main() -> None:
    """Reads a plan from standard input, writes the result to standard output."""
    given = json.loads(sys.stdin.readline())
    plan = Plan(client.Plan(**given["base"]), given["per_s"], given["seed"])
    files = (plan.base.ca, plan.base.key, plan.base.certificate)
    credentials = grpc.ssl_channel_credentials(*(Path(name).read_bytes() for name in files))
    json.dump(asdict(uvloop.run(_Run(plan).go(credentials))), sys.stdout)


if __name__ == "__main__":
    main()
