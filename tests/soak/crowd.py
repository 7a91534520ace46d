"""A crowd with real tickets: more are shown at once than can be decided, each of them at two gates.

Streams go in pairs that show the same tickets, the second of a pair half a round behind, so that both ask for tickets
that nobody has used yet. Whoever is told RETRY asks again with the same scan id, as turnstiles do, but at once, as they
do not: that is the overload. One patient turnstile among them has guests of its own.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

from parkgate.gate.v1 import gate_pb2, gate_pb2_grpc
from tests.checker import History, verdict_of
from tests.cluster.harness import channel, now_ms, ticket_id
from tests.soak.clients import HELLO, Load, lasting, watch
from tests.soak.served import CAPACITY, Served

SCANS_A_FRAME = 500
LONE_GUESTS = 3
"""Shown together by the lone turnstile."""
LONE_PAUSE_S = 0.1
RETRY = gate_pb2.DECISION_RETRY
PARK = 1


@dataclass(slots=True)
class Crowd:
    """Who shows what, and what all of them heard that was no RETRY."""

    server: Served
    load: Load
    history: History = field(default_factory=History)

    def heard(self, verdicts: Sequence[gate_pb2.Verdict]) -> None:
        """Notes decisions, for the checker."""
        now = now_ms()
        for verdict in verdicts:
            asked = {"scan_id": verdict.scan_id.hex()}
            self.history.note("verdict", "main-1", now, asked, **verdict_of(verdict))


async def storm(server: Served, streams: int, seconds: float, ahead: int) -> Crowd:
    """So many streams, each with `ahead` frames of 500 scans of registered tickets on their way."""
    crowd = Crowd(server, lasting(seconds))
    _set_up(crowd)
    guests = LONE_GUESTS * int(crowd.load.longest_s / LONE_PAUSE_S)
    mine, theirs = server.tokens[:guests], server.tokens[guests:]
    share = len(theirs) // (streams // 2)
    parts = [theirs[pair * share : (pair + 1) * share] for pair in range(streams // 2)]
    turned = [part[share // 2 :] + part[: share // 2] for part in parts]
    await asyncio.gather(
        *(_stream(crowd, part, ahead) for part in (*parts, *turned)),
        _lone(crowd, mine),
        watch(server, crowd.load),
    )
    return crowd


def _set_up(crowd: Crowd) -> None:
    park = {"capacities": {str(PARK): CAPACITY}, "quotas": {}, "time_zone": "Europe/Zurich"}
    crowd.history.note("park", "nobody", 0, park)
    for token in crowd.server.tokens:
        terms = {"ticket": ticket_id(token), "product": "day", "entries": 1, "party": 1, "daily_entries": 0}
        crowd.history.note("issue", "sales", 0, terms)


class _Guests:
    """The guests at one stream: those who must ask again first, then who has not been shown yet, round after round."""

    def __init__(self, tokens: Sequence[bytes]) -> None:
        self._tokens: Iterator[bytes] = cycle(tokens)
        self._again: deque[gate_pb2.Scan] = deque()
        self._asked: dict[bytes, gate_pb2.Scan] = {}

    def frame(self, count: int) -> gate_pb2.ClientFrame:
        """The next scans."""
        scans = [self._again.popleft() if self._again else _scan(next(self._tokens)) for _ in range(count)]
        self._asked.update((scan.scan_id, scan) for scan in scans)
        return gate_pb2.ClientFrame(scans=scans)

    def take(self, verdict: gate_pb2.Verdict) -> bool:
        """Takes an answer; says whether it was a decision."""
        scan = self._asked.pop(verdict.scan_id)
        if verdict.decision == RETRY:
            self._again.append(scan)
        return verdict.decision != RETRY


def _scan(token: bytes) -> gate_pb2.Scan:
    return gate_pb2.Scan(scan_id=os.urandom(16), token=token, scan_time_ms=now_ms())


async def _stream(crowd: Crowd, tokens: Sequence[bytes], ahead: int) -> None:
    guests, load = _Guests(tokens), crowd.load
    async with channel(crowd.server.files, crowd.server.port) as link:
        call = gate_pb2_grpc.GateServiceStub(link).Stream()
        await call.write(HELLO)
        await call.read()
        for _ in range(ahead):
            await call.write(guests.frame(SCANS_A_FRAME))
        while load.lasts:
            answer = await call.read()
            if not answer.verdicts:
                continue
            decided = [verdict for verdict in answer.verdicts if guests.take(verdict)]
            load.take(answer.verdicts)
            crowd.heard(decided)
            for _ in range(len(answer.verdicts) // SCANS_A_FRAME):  # several may be answered together
                await call.write(guests.frame(SCANS_A_FRAME))
        call.cancel()


async def _lone(crowd: Crowd, tokens: Sequence[bytes]) -> None:
    """A turnstile that waits as long as it is told to: how long until its guests are in, counts."""
    load = crowd.load
    async with channel(crowd.server.files, crowd.server.port) as link:
        call = gate_pb2_grpc.GateServiceStub(link).Stream()
        await call.write(HELLO)
        await call.read()
        for start in range(0, len(tokens), LONE_GUESTS):
            if not load.lasts:
                break
            began = time.monotonic()
            await _let_in(crowd, call, tokens[start : start + LONE_GUESTS])
            load.lone_s.append(time.monotonic() - began)
            await asyncio.sleep(LONE_PAUSE_S)
        call.cancel()


async def _let_in(crowd: Crowd, call: Any, tokens: Sequence[bytes]) -> None:
    """Asks until all are decided."""
    guests, left = _Guests(tokens), len(tokens)
    while left:
        await call.write(guests.frame(left))
        asked, waits_ms = left, [0]
        while asked:
            verdicts = (await call.read()).verdicts
            decided = [verdict for verdict in verdicts if guests.take(verdict)]
            crowd.heard(decided)
            asked, left = asked - len(verdicts), left - len(decided)
            waits_ms += [verdict.retry_after_ms for verdict in verdicts]
        await asyncio.sleep(max(waits_ms) / 1_000)
