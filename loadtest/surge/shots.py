"""One process's share of a step of the ramp: guests with tickets that were never used, over all of its devices.

Several processes that each fire a Poisson process of their share's intensity make one of the whole intensity. After a
step its guests leave again, unmeasured, so that the park never fills up.
"""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import asdict, dataclass, field
from itertools import count
from random import Random
from typing import TYPE_CHECKING, Any

import psutil

from loadtest.surge.stream import Shot, Stream, now_ms
from parkgate.gate.v1 import gate_pb2 as pb

if TYPE_CHECKING:
    from loadtest.surge.gates import Gates

ANSWERS_S = 8.0
TICK_S = 0.001


@dataclass(frozen=True, slots=True)
class Ordered:
    """A step that is to be fired: so many a second by this process, from a monotonic instant on."""

    per_s: float
    seconds: float
    start: float


@dataclass(slots=True)
class Measured:
    """What came of it. Times in ms; `cpu` is a share of a core, `busy` of the whole machine."""

    seconds: float = 0.0
    sent: int = 0
    admitted: int = 0
    took_ms: list[float] = field(default_factory=list)
    late_ms: list[float] = field(default_factory=list)
    cpu: float = 0.0
    busy: float = 0.0

    def columns(self) -> dict[str, Any]:
        """For JSON."""
        rounded = {name: [round(value, 3) for value in getattr(self, name)] for name in ("took_ms", "late_ms")}
        return asdict(self) | rounded


class RampShots:
    """Fires the steps. The gates' own count goes on: these are guests like all others."""

    def __init__(self, gates: Gates) -> None:
        self._gates = gates
        self._devices = count()
        self._spent = 0
        self._random = Random(f"{gates.plan.scenario.seed} ramp {gates.share.index}")
        self._inside: list[tuple[pb.Scan, Stream, int]] = []
        """Who has to leave again: the scan that let them in, where, and at which entrance."""
        ramp = gates.plan.scenario.ramp
        groups = list(enumerate(gates.streams))
        self._streams: list[tuple[Stream, int]] = [
            (stream, entrance)
            for entrance, streams in (groups[-1:] if ramp and ramp.gates else groups)
            for stream in streams
        ]

    @property
    def left(self) -> int:
        """Tickets that were not shown yet."""
        return len(self._gates.ramp_tokens) - self._spent

    async def fire(self, ordered: Ordered) -> Measured:
        """One step, until its guests have left."""
        measured = Measured()
        await self._until(ordered.start)
        cpu = time.process_time()
        psutil.cpu_percent()
        due = ordered.start
        while due < ordered.start + ordered.seconds and self.left and not self._gates.stopping:
            await self._until(due)
            self._fire(due, measured)
            measured.sent += 1
            due += self._random.expovariate(ordered.per_s)
        await self._answers(measured)
        spent = time.monotonic() - ordered.start
        measured.seconds = min(ordered.seconds, due - ordered.start)
        measured.cpu = (time.process_time() - cpu) / spent
        measured.busy = psutil.cpu_percent() / 100
        await self._leave()
        return measured

    @staticmethod
    async def _until(due: float) -> None:
        while (wait_s := due - time.monotonic()) > 0:  # noqa: ASYNC110 - timers may end early
            await asyncio.sleep(max(wait_s, TICK_S))

    @staticmethod
    async def _answers(measured: Measured) -> None:
        deadline = time.monotonic() + ANSWERS_S
        while len(measured.took_ms) < measured.sent and time.monotonic() < deadline:  # noqa: ASYNC110 - of thousands
            await asyncio.sleep(TICK_S * 5)

    def _fire(self, due: float, measured: Measured) -> None:
        device = next(self._devices)
        stream, entrance = self._streams[device % len(self._streams)]
        lane = device // len(self._streams) % len(stream.gates)
        self._spent += 1
        scan = pb.Scan(
            scan_id=os.urandom(16),
            token=self._gates.ramp_tokens[self._spent - 1],
            scan_time_ms=now_ms(),
            direction=pb.DIRECTION_ENTRY,
            lane=lane,
        )

        def told(shot: Shot, verdict: pb.Verdict, now: float) -> None:
            self._gates.open_shots -= 1
            measured.took_ms.append(self._gates.answered(shot, now) * 1e3)
            measured.late_ms.append((shot.handed - shot.due) * 1e3)
            self._gates.count_ramp(verdict, entrance, shot, stream)
            if verdict.decision == pb.DECISION_ADMIT:
                measured.admitted += 1
                self._inside.append((shot.scan, stream, entrance))

        self._gates.open_shots += 1
        stream.send(Shot(scan, due, told))

    async def _leave(self) -> None:
        """Once their passages are booked, in frames as large as they may be."""
        await self._gates.settle()

        def told(shot: Shot, verdict: pb.Verdict, now: float) -> None:
            self._gates.open_shots -= 1
            self._gates.answered(shot, now)
            self._gates.count_ramp_exit(verdict, shot.entrance)

        leaving, self._inside = self._inside, []
        for scan, stream, entrance in leaving:
            self._gates.open_shots += 1
            out = pb.Scan(
                scan_id=os.urandom(16),
                token=scan.token,
                scan_time_ms=now_ms(),
                direction=pb.DIRECTION_EXIT,
                lane=scan.lane,
            )
            stream.send(Shot(out, time.monotonic(), told, entrance=entrance, bulk=True))
        await self._gates.settle()
