"""Guests: they come at a pace, show their codes, go through or turn back, and are as stubborn as in a real park.

Among them: copycats, who show a ticket at another gate at the same time; forgers; families that come in parts; and
gates that ask again, over another connection, what they were told before.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from parkgate.gate.v1 import gate_pb2
from tests.chaos.processes.desk import Desk, Ticket
from tests.chaos.processes.park import GATES, PARK_GATES, WATER, WATER_GATES, Park
from tests.chaos.processes.turnstiles import ADMIT, RETRY, Echo, Turnstile

VISITORS_EVERY_S, BATHERS_EVERY_S, FAMILIES_EVERY_S = 0.025, 0.2, 1.0
SALES_EVERY_S, ORDERS_EVERY_S, HOLDS_EVERY_S = 0.25, 0.15, 0.3
TRIES = 8
"""How often a guest who is told RETRY shows the code again before giving up for good."""
ECHOED = 0.15
STOCK = {"day": 700, "water": 60, "family": 20}
"""Tickets in hand when a trial begins."""


def scan_of(ticket: Ticket, chance: random.Random, **more: Any) -> gate_pb2.Scan:
    """A scan of a ticket, just now by the device's clock."""
    return gate_pb2.Scan(scan_id=os.urandom(16), token=ticket.token, scan_time_ms=time.time_ns() // 1_000_000, **more)


@dataclass(slots=True)
class Crowd:
    """Everybody who comes during one trial. `stop` lets nobody more come; `gone` waits for the last."""

    park: Park
    turnstiles: Mapping[str, Turnstile]
    desk: Desk
    chance: random.Random
    answered: deque[tuple[str, gate_pb2.Scan]] = field(default_factory=lambda: deque(maxlen=1_500))
    """Scans that have their final verdict, with their gates: to be asked again."""
    bathers: dict[int, Ticket] = field(default_factory=dict)
    """Who may be in the small zone: also those who turned back too late to be believed."""
    _tickets: dict[str, deque[Ticket]] = field(default_factory=dict)
    _people: set[asyncio.Task[Any]] = field(default_factory=set)
    _streams: list[asyncio.Task[None]] = field(default_factory=list)

    async def prepare(self) -> None:
        """Buys what most guests come with."""
        for product, count in STOCK.items():
            self._tickets[product] = deque(await self.desk.stock(product, count))

    def come(self) -> None:
        """The day begins."""
        self._streams = [
            asyncio.create_task(self._stream(every_s, person))
            for every_s, person in (
                (VISITORS_EVERY_S, self._visitor),
                (BATHERS_EVERY_S, self._bather),
                (FAMILIES_EVERY_S, self._family),
                (SALES_EVERY_S, self._buyer),
                (ORDERS_EVERY_S, self._evening_buyer),
                (HOLDS_EVERY_S, self._holder),
            )
        ]

    async def stop(self) -> None:
        """Nobody more comes."""
        for stream in self._streams:
            stream.cancel()
        await asyncio.gather(*self._streams, return_exceptions=True)

    async def gone(self) -> None:
        """Waits until everybody who came is done."""
        while self._people:
            await asyncio.gather(*self._people)

    def abandon(self) -> None:
        """Ends everybody, after a failure."""
        for person in (*self._streams, *self._people):
            person.cancel()

    async def _stream(self, every_s: float, person: Callable[[], Awaitable[None]]) -> None:
        while True:
            self._send(person())
            await asyncio.sleep(every_s)

    def _send(self, person: Awaitable[None]) -> None:
        task = asyncio.ensure_future(person)
        self._people.add(task)
        task.add_done_callback(self._people.discard)

    # Who comes

    async def _visitor(self) -> None:
        ticket = self._take("day")
        if ticket is None:
            return
        if self.chance.random() < 0.05:
            await self._forge(ticket)
        if self.chance.random() < 0.25:
            self._send(self._visit(ticket, self.chance.choice(PARK_GATES)))
        if self.chance.random() < 0.06:
            self._send(self.desk.refund(ticket))
        await self._visit(ticket, self.chance.choice(PARK_GATES))

    async def _bather(self) -> None:
        """Into the small zone, and out again: a full one is tried again later."""
        ticket = self._take("water")
        for _ in range(TRIES if ticket is not None else 0):
            assert ticket is not None
            self.bathers[ticket.number] = ticket
            if await self._visit(ticket, self.chance.choice(WATER_GATES)):
                await asyncio.sleep(self.chance.uniform(0.3, 1.5))
                await self.leave(ticket)
                return
            await asyncio.sleep(self.chance.uniform(0.3, 0.8))

    async def _family(self) -> None:
        """Four on one code, who come in two parts, at two gates."""
        ticket = self._take("family")
        if ticket is not None:
            first = self.chance.randint(1, 3)
            parts = (first, 4 - first)
            await asyncio.gather(
                *(self._visit(ticket, self.chance.choice(PARK_GATES), persons=persons) for persons in parts)
            )

    async def _buyer(self) -> None:
        """Buys at the window and walks straight to the gate: the ticket may be there before its registration."""
        for ticket in await self.desk.sell("day", 1, self.park.today):
            await self._visit(ticket, self.chance.choice(PARK_GATES))

    async def _evening_buyer(self) -> None:
        await self.desk.order("evening", self.park.evening(self.park.trials))

    async def _holder(self) -> None:
        await self.desk.hold(self.chance.uniform(0.0, 1.0))

    async def _forge(self, ticket: Ticket) -> None:
        """The same claims with a signature that is wrong in one bit."""
        forged = Ticket(ticket.product, ticket.token[:-1] + bytes([ticket.token[-1] ^ 1]), ticket.number)
        gate = self.chance.choice(PARK_GATES)
        await self.turnstiles[gate].scan(scan_of(forged, self.chance), ticket.number, forged=True)

    def _take(self, product: str) -> Ticket | None:
        tickets = self._tickets[product]
        return tickets.popleft() if tickets else None

    # At the gate

    async def _visit(self, ticket: Ticket, gate: str, persons: int = 0) -> bool:
        """Shows the code until the guest is in or refused; one who turns back tries again."""
        for _ in range(TRIES):
            scan = scan_of(ticket, self.chance, persons=persons)
            verdict = await self.turnstiles[gate].scan(scan, ticket.number)
            scan.scan_id = verdict.scan_id
            if verdict.decision == ADMIT:
                if await self._pass(verdict, gate, scan):
                    return True
            elif verdict.decision != RETRY:
                self.answered.append((gate, scan))
                return False
            await asyncio.sleep(self.chance.uniform(0.05, 0.4))
        return False

    async def _pass(self, verdict: gate_pb2.Verdict, gate: str, scan: gate_pb2.Scan) -> bool:
        await asyncio.sleep(self.chance.choice((0.0, 0.05, 0.3)))
        passed = self.chance.random() < 0.9
        self.turnstiles[gate].report(
            verdict, GATES[gate], passed=passed, reported=not passed or self.chance.random() < 0.9
        )
        self.answered.append((gate, scan))
        if passed and self.chance.random() < ECHOED:
            self._send(self._ask_again(gate, scan, self.chance.uniform(0.1, 1.5)))
        return passed

    async def leave(self, ticket: Ticket) -> None:
        """Goes out, however often it takes."""
        gate = self.chance.choice(WATER_GATES)
        while True:
            verdict = await self.turnstiles[gate].scan(
                scan_of(ticket, self.chance, direction=gate_pb2.DIRECTION_EXIT), ticket.number
            )
            if verdict.decision == ADMIT:
                self.turnstiles[gate].report(verdict, WATER, passed=True)
            if verdict.decision != RETRY:
                self.bathers.pop(ticket.number, None)
                return
            await asyncio.sleep(self.chance.uniform(0.05, 0.4))

    async def insist(self, ticket: Ticket) -> bool:
        """Wants into the small zone and takes no RETRY for an answer; at the end, when all is well again."""
        gate = self.chance.choice(WATER_GATES)
        self.bathers[ticket.number] = ticket
        while True:
            verdict = await self.turnstiles[gate].scan(scan_of(ticket, self.chance), ticket.number)
            if verdict.decision == ADMIT:
                self.turnstiles[gate].report(verdict, WATER, passed=True)
            if verdict.decision != RETRY:
                return verdict.decision == ADMIT

    # Asked again

    async def _ask_again(self, gate: str, scan: gate_pb2.Scan, after_s: float) -> None:
        await asyncio.sleep(after_s)
        await self._echo(gate).ask([scan])

    async def ask_all_again(self) -> int:
        """Every scan that was answered, over new connections; returns how many were not answered a second time."""
        left = 0
        for gate in GATES:
            scans = [scan for at, scan in self.answered if at == gate]
            for _ in range(3):
                scans = await self._echo(gate).ask(scans) if scans else []
            left += len(scans)
        return left

    def _echo(self, gate: str) -> Echo:
        address = self.chance.choice(self.park.addresses)
        return Echo(gate, address, self.park.credentials(gate), self.park.history)
