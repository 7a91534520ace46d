"""The open-loop client: scans come when guests come, not when the last answer has.

Arrivals are a Poisson process (seeded), whose guests are dealt to the streams in turn: the load is the same whatever
the number of streams. Latency counts from the arrival, so that a system that stands still is not asked less and does
not look fast. Frames of one scan; a stream writes on without waiting for answers. The streams are those of
`loadtest.bench.wire`: turnstiles bring processors of their own, and a client that takes most of a core of two would
have its own queue measured. Runs in a process of its own: a plan on standard input, the result on standard output.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import random
import ssl
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import uvloop

from loadtest.bench import client
from loadtest.bench.wire import Wire, client_tls
from ops.embedded.base import own_module
from parkgate.gate.v1 import gate_pb2

LATE_S = 0.0125
"""An arrival that the client itself wrote so much later was late by its own fault: half of what a p99 may be."""
PATIENCE_S = 10.0
CONNECTIONS = 8
TICK_S = 0.001
"""The finest that uvloop's timers go: who arrives within it is sent together."""


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


class _Run:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.started = 0.0
        self.answered = self.late = self.retried = 0
        self.refused: Counter[str] = Counter()
        self.latencies: list[float] = []
        self._due: dict[bytes, float] = {}
        """When the scans that wait for their verdicts arrived."""
        self._welcomes = 0

    async def go(self, tls: ssl.SSLContext) -> Result:
        base = self.plan.base
        wires = [await Wire.connect(base.address, tls) for _ in range(min(base.streams, CONNECTIONS))]
        streams = [
            (wire, wire.open(client.METHOD, self._hear))
            for wire, _ in zip(itertools.cycle(wires), range(base.streams), strict=False)
        ]
        for wire, number in streams:
            wire.send(number, client.hello(base.gates))
        await self._until(wires, lambda: self._welcomes == len(streams))
        frames = client.build_frames(base)
        scans = [(frame, client.scan_id_of(frame)) for frame in frames]
        gc.freeze()  # a collection that walks through all frames would make arrivals late
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.readline)
        self.started = time.perf_counter()
        await self._show(scans, streams)
        await self._until(wires, lambda: self.answered == len(scans))
        seconds = time.perf_counter() - self.started
        for wire in wires:
            wire.close()
        self.latencies.sort()
        p50, p99 = (client.percentile(self.latencies, share) * 1e3 for share in (0.50, 0.99))
        return Result(self.answered, seconds, p50, p99, self.late, self.retried, dict(self.refused))

    async def _show(self, scans: list[tuple[bytes, bytes]], streams: list[tuple[Wire, int]]) -> None:
        """Sends each scan when it arrives, from the streams in turn."""
        for (frame, scan_id), wanted, (wire, number) in zip(
            scans, self._arrivals(len(scans)), itertools.cycle(streams), strict=False
        ):
            while (early := wanted - time.perf_counter()) > 0:  # noqa: ASYNC110 - a time is awaited, no event
                await asyncio.sleep(max(early, TICK_S))
            self.late += -early > LATE_S
            self._due[scan_id] = wanted
            wire.send(number, frame)

    def _arrivals(self, count: int) -> Iterator[float]:
        chance, when = random.Random(self.plan.seed), self.started
        for _ in range(count):
            when += chance.expovariate(self.plan.per_s)
            yield when

    @staticmethod
    async def _until(wires: list[Wire], done: Callable[[], bool]) -> None:
        """Waits for answers.

        Raises:
            WireError: a connection has ended.
            TimeoutError: they did not come within PATIENCE_S.
        """
        async with asyncio.timeout(PATIENCE_S):
            while not done():
                for wire in wires:
                    if wire.ended.done():
                        wire.ended.result()
                await asyncio.sleep(TICK_S)

    def _hear(self, message: bytes) -> None:
        now, measured_from = time.perf_counter(), self.started + client.WARM_UP_S
        answer = gate_pb2.ServerFrame.FromString(message)
        self._welcomes += answer.HasField("welcome")
        for verdict in answer.verdicts:
            if verdict.decision == gate_pb2.DECISION_RETRY:
                self.retried += 1
            elif verdict.decision != gate_pb2.DECISION_ADMIT:
                self.refused[gate_pb2.Reason.Name(verdict.reason)] += 1
            wanted = self._due.pop(verdict.scan_id)
            self.answered += 1
            if wanted >= measured_from:
                self.latencies.append(now - wanted)


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
    tls = client_tls(Path(plan.base.ca), Path(plan.base.certificate), Path(plan.base.key))
    json.dump(asdict(uvloop.run(_Run(plan).go(tls))), sys.stdout)


if __name__ == "__main__":
    main()
