"""Clients for soaks: some that come and go in every way, and some that send more than can be served."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from parkgate.gate.v1 import gate_pb2, gate_pb2_grpc
from tests.cluster.harness import channel, now_ms
from tests.soak.served import Held, Served

SCANS_A_FRAME = 500

AT_ONCE = 8
HELLO = gate_pb2.ClientFrame(hello=gate_pb2.Hello(gate_ids=["main-1"], software="soak"))
LONE_ANSWERS, MOST = 3, 6
"""A flood lasts until the lone turnstile has so many answers, so many times its time at most."""
REST_S = 3.0
"""After the last client, before it is counted what is left: the end of a stream is told within two seconds."""
SCANS_OF_A_VISIT = 3
SLACK = 5
"""Files and tasks more than before: connections to the ledger come and go with what is asked of it. Of hundreds of
visits a leak would leave hundreds."""


async def come_and_go(server: Served, times: int) -> None:
    """So many connections, each of its own: ended in order, cancelled in the middle, cut off, or silent."""
    turn = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> None:
        async with turn:
            await _visit(server, number)

    for start in range(0, times, 100):
        await asyncio.gather(*(one(number) for number in range(start, min(start + 100, times))))


async def _visit(server: Served, number: int) -> None:
    link = channel(server.files, server.port)
    try:
        call = gate_pb2_grpc.GateServiceStub(link).Stream()
        if number % 4 == 3:  # connects, and says nothing
            await call.wait_for_connection()
            return
        await call.write(HELLO)
        await call.read()
        frame = _frame(server, number)
        await call.write(frame)
        if number % 4 == 0:
            await call.read()
            await call.done_writing()
            await call.code()
        elif number % 4 == 1:
            call.cancel()
        # else the connection is cut off with its stream
    finally:
        await link.close(None)


def _frame(server: Served, number: int) -> gate_pb2.ClientFrame:
    token = server.tokens[number % len(server.tokens)]
    scans = [gate_pb2.Scan(scan_id=os.urandom(16), token=token, scan_time_ms=now_ms()) for _ in range(SCANS_OF_A_VISIT)]
    return gate_pb2.ClientFrame(scans=scans)


@dataclass(frozen=True, slots=True)
class Moment:
    """What the server held, and how far the load had come."""

    held: Held
    answered: int
    retried: int


@dataclass(slots=True)
class Load:
    """What a flood came to. It lasts its time, and until the lone turnstile was answered a few times: a machine that is
    busy with other work is no proof that it was held up."""

    end: float
    limit: float
    longest_s: float
    answered: int = 0
    admitted: int = 0
    retried: int = 0
    waits_ms: set[int] = field(default_factory=set)
    reasons: set[int] = field(default_factory=set)
    """Of what must be asked again."""
    lone_s: list[float] = field(default_factory=list)
    moments: list[Moment] = field(default_factory=list)

    @property
    def lasts(self) -> bool:
        """Whether it goes on."""
        now = time.monotonic()
        return now < self.end or (now < self.limit and len(self.lone_s) < LONE_ANSWERS)

    def take(self, verdicts: Sequence[gate_pb2.Verdict]) -> None:
        """Counts the answers to a frame."""
        retried = [verdict for verdict in verdicts if verdict.decision == gate_pb2.DECISION_RETRY]
        self.answered += len(verdicts) - len(retried)
        self.admitted += sum(verdict.decision == gate_pb2.DECISION_ADMIT for verdict in verdicts)
        self.retried += len(retried)
        self.waits_ms |= {verdict.retry_after_ms for verdict in retried}
        self.reasons |= {verdict.reason for verdict in retried}


def lasting(seconds: float) -> Load:
    """A load that begins now."""
    began = time.monotonic()
    return Load(began + seconds, began + MOST * seconds, MOST * seconds)


async def flood(server: Served, streams: int, seconds: float, ahead: int) -> Load:
    """So many streams, each with `ahead` frames of 500 scans of no ticket on their way, and one turnstile among them.

    With one frame ahead this is all that can be served; with more it is more than that."""
    load = lasting(seconds)
    await asyncio.gather(
        *(_stream(server, ahead, load) for _ in range(streams)),
        _lone(server, load),
        watch(server, load),
    )
    return load


async def _stream(server: Served, ahead: int, load: Load) -> None:
    async with channel(server.files, server.port) as link:
        call = gate_pb2_grpc.GateServiceStub(link).Stream()
        await call.write(HELLO)
        await call.read()
        for _ in range(ahead):
            await call.write(_nonsense())
        while load.lasts:
            answer = await call.read()
            if not answer.verdicts:
                continue
            load.take(answer.verdicts)
            for _ in range(len(answer.verdicts) // SCANS_A_FRAME):  # several may be answered together
                await call.write(_nonsense())
        call.cancel()


def _nonsense() -> gate_pb2.ClientFrame:
    at = now_ms()
    return gate_pb2.ClientFrame(
        scans=[gate_pb2.Scan(scan_id=os.urandom(16), token=b"no ticket", scan_time_ms=at) for _ in range(SCANS_A_FRAME)]
    )


async def _lone(server: Served, load: Load) -> None:
    async with channel(server.files, server.port) as link:
        call = gate_pb2_grpc.GateServiceStub(link).Stream()
        await call.write(HELLO)
        await call.read()
        number = 0
        while load.lasts:
            began, number = time.monotonic(), number + 1
            await call.write(_frame(server, number))
            while not (await call.read()).verdicts:
                pass
            load.lone_s.append(time.monotonic() - began)
            await asyncio.sleep(0.1)
        call.cancel()


async def watch(server: Served, load: Load) -> None:
    """Notes what the server holds, twice a second."""
    while load.lasts:
        held = await asyncio.to_thread(server.held)
        load.moments.append(Moment(held, load.answered, load.retried))
        await asyncio.sleep(0.5)
