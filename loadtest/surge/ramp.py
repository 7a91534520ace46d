"""After the day: more and more guests a second, until the limit is passed. How much an installation holds is measured.

Each step lasts the same time; its guests come by chance (a Poisson process of even intensity) with tickets that were
never used, over all devices. A step is held if all were admitted and 99 of 100 within the limit, counted from when they
should have been served. The first step that is not held is tried again, and then one between it and the last that was.
After each step its guests leave again, unmeasured, so that the park never fills up.
"""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import TYPE_CHECKING

import psutil

from loadtest.surge.samples import percentile
from loadtest.surge.stream import Shot, Stream, now_ms
from parkgate.gate.v1 import gate_pb2 as pb

if TYPE_CHECKING:
    from loadtest.surge.gates import Gates

LIMIT_MS = 100.0
HALVINGS = 4
"""Slower steps that are tried where not even the first is held: down to a sixteenth."""
PAUSE_S = 0.3
ANSWERS_S = 8.0
TICK_S = 0.001


@dataclass(frozen=True, slots=True)
class Step:
    """One step. Times in ms; `late_p99_ms` is the generator's own part of the latency; `cpu` and `busy` are shares of a
    core and of the whole machine."""

    per_s: float
    seconds: float
    sent: int
    admitted: int
    p50_ms: float
    p99_ms: float
    late_p99_ms: float
    cpu: float
    busy: float

    @property
    def held(self) -> bool:
        """Whether everybody was admitted, and in time."""
        return self.sent > 0 and self.admitted == self.sent and self.p99_ms <= LIMIT_MS


@dataclass
class _Running:
    """A step on its way."""

    took_ms: list[float] = field(default_factory=list)
    late_ms: list[float] = field(default_factory=list)
    admitted: int = 0
    inside: list[tuple[pb.Scan, Stream, int]] = field(default_factory=list)
    """Who has to leave again: the scan that let them in, where, and at which entrance."""


class RampShots:
    """Fires the steps. The gates' own count goes on: these are guests like all others."""

    def __init__(self, gates: Gates) -> None:
        self.steps: list[Step] = []
        self._gates = gates
        self._devices = count()
        self._spent = 0
        self._random = Random(f"{gates.plan.scenario.seed} ramp")
        ramp = gates.plan.scenario.ramp
        groups = list(enumerate(gates.streams))
        self._streams: list[tuple[Stream, int]] = [
            (stream, entrance)
            for entrance, streams in (groups[-1:] if ramp and ramp.gates else groups)
            for stream in streams
        ]

    @property
    def wanted(self) -> bool:
        """Whether the scenario has one."""
        ramp = self._gates.plan.scenario.ramp
        return ramp is not None and ramp.steps > 0

    @property
    def _left(self) -> int:
        return len(self._gates.ramp_tokens) - self._spent

    async def run(self) -> None:
        """All steps, until one is not held twice; then one between it and the last that was. If the first one is not
        held, slower ones, until one is."""
        ramp = self._gates.plan.scenario.ramp
        if ramp is None:
            return
        held = 0.0
        for rate in ramp.rates:
            if await self._held(rate, ramp.seconds) or await self._held(rate, ramp.seconds):
                held = rate
                continue
            if held:
                await self._held((held * rate) ** 0.5, ramp.seconds)
            else:
                await self._slower(rate, ramp.seconds)
            return

    async def _slower(self, rate: float, seconds: float) -> None:
        for _ in range(HALVINGS):
            rate /= 2
            if await self._held(rate, seconds):
                return

    async def _held(self, rate: float, seconds: float) -> bool:
        if self._gates.stopping or self._left < rate * seconds:
            return False
        running = _Running()
        self.steps.append(await self._step(rate, seconds, running))
        await self._leave(running)
        await asyncio.sleep(PAUSE_S)
        return self.steps[-1].held

    async def _step(self, rate: float, seconds: float, running: _Running) -> Step:
        cpu = time.process_time()
        psutil.cpu_percent()
        began = time.monotonic() + PAUSE_S
        due, sent = began, 0
        while due < began + seconds and self._left and not self._gates.stopping:
            await self._until(due)
            self._fire(due, running)
            sent += 1
            due += self._random.expovariate(rate)
        await self._answers(running, sent)
        spent = time.monotonic() - began
        took, late = sorted(running.took_ms), sorted(running.late_ms)
        return Step(
            rate,
            min(seconds, due - began),
            sent,
            running.admitted,
            percentile(took, 0.5),
            percentile(took, 0.99),
            percentile(late, 0.99),
            (time.process_time() - cpu) / spent,
            psutil.cpu_percent() / 100,
        )

    @staticmethod
    async def _until(due: float) -> None:
        while (wait_s := due - time.monotonic()) > 0:  # noqa: ASYNC110 - timers may end early
            await asyncio.sleep(max(wait_s, TICK_S))

    @staticmethod
    async def _answers(running: _Running, sent: int) -> None:
        deadline = time.monotonic() + ANSWERS_S
        while len(running.took_ms) < sent and time.monotonic() < deadline:  # noqa: ASYNC110 - of thousands of answers
            await asyncio.sleep(TICK_S * 5)

    def _fire(self, due: float, running: _Running) -> None:
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
            running.took_ms.append(self._gates.answered(shot, now) * 1e3)
            running.late_ms.append((shot.handed - shot.due) * 1e3)
            self._gates.count_ramp(verdict, entrance, shot, stream)
            if verdict.decision == pb.DECISION_ADMIT:
                running.admitted += 1
                running.inside.append((shot.scan, stream, entrance))

        self._gates.open_shots += 1
        stream.send(Shot(scan, due, told))

    async def _leave(self, running: _Running) -> None:
        """Once their passages are booked, in frames as large as they may be."""
        await self._gates.settle()

        def told(shot: Shot, verdict: pb.Verdict, now: float) -> None:
            self._gates.open_shots -= 1
            self._gates.answered(shot, now)
            self._gates.count_ramp_exit(verdict, shot.entrance)

        for scan, stream, entrance in running.inside:
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
