"""Take-over: how soon the partitions of an owner with a million tickets admit again after it is gone, at the gates.

Here the bars are, and the measuring. What the table shows is the longest that any partition kept a guest waiting.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from parkgate.cluster.v1 import control_pb2
from parkgate.gate.v1 import gate_pb2
from tests.chaos.processes.park import DAY, PARK_GATES, Park
from tests.chaos.processes.turnstiles import ADMIT, Turnstile, now_ms
from ticketcore.token import SIGNATURE_LENGTH, Claims, encode_claims, ticket_id_of

TICKETS = 1_000_000
ISSUER = 9
AT_ONCE, CALLS = 10_000, 2
WITHIN_OWNER_S, WITHIN_NODE_S = 5.0, 10.0
"""On two cores; a lost node with the health check that docs/operations.md names."""
WATCHED_S = 60.0


@dataclass(slots=True)
class Watch:
    """Guests at every partition, one after the other, and when each partition let one in."""

    park: Park
    turnstiles: list[Turnstile]
    tokens: Iterator[bytes]
    asked: int = 0
    unknown: int = 0
    admitted: list[tuple[int, int]] = field(default_factory=list)
    """Partition, and when."""
    _streams: list[asyncio.Task[None]] = field(default_factory=list)

    def start(self) -> None:
        """Begins; of each partition somebody is always before a gate."""
        self._streams = [
            asyncio.create_task(self._guests(turnstile)) for turnstile in self.turnstiles for _ in "12345678"
        ]

    async def stop(self) -> None:
        """Ends."""
        for stream in self._streams:
            stream.cancel()
        await asyncio.gather(*self._streams, return_exceptions=True)

    async def _guests(self, turnstile: Turnstile) -> None:
        for token in self.tokens:
            ticket = int.from_bytes(token[1:9], "big")
            verdict = gate_pb2.Verdict()
            while verdict.decision != ADMIT:
                scan = gate_pb2.Scan(scan_id=os.urandom(16), token=token, scan_time_ms=time.time_ns() // 1_000_000)
                verdict = await turnstile.scan(scan, ticket)
                self.asked += 1
                self.unknown += verdict.decision == gate_pb2.DECISION_RETRY
            turnstile.report(verdict, 1, passed=True)
            self.admitted.append((ticket % self.park.stack.settings.partitions, now_ms()))
            await asyncio.sleep(0.1)

    async def first_admissions(self, since_ms: int, partitions: set[int]) -> int:
        """How many milliseconds after an instant the last of these partitions had let somebody in."""
        deadline = time.monotonic() + WATCHED_S
        while time.monotonic() < deadline:
            first: dict[int, int] = {}
            for partition, at_ms in self.admitted:
                if at_ms > since_ms:
                    first.setdefault(partition, at_ms - since_ms)
            if partitions <= first.keys():
                return max(first[partition] for partition in partitions)
            await asyncio.sleep(0.02)
        return int(WATCHED_S * 1_000)


def tokens_of(park: Park, count: int) -> list[bytes]:
    """Day tickets. At the gate the registered digest is what proves a token, so the signatures may be any bytes:
    signing a million would take a minute and change nothing that is measured."""
    return [
        encode_claims(Claims(0, ticket_id_of(ISSUER, sequence), DAY, park.today, valid_days=1))
        + os.urandom(SIGNATURE_LENGTH)
        for sequence in range(1, count + 1)
    ]


async def register(park: Park, tokens: list[bytes]) -> None:
    """Makes tickets known, as sales do."""
    starts = iter(range(0, len(tokens), AT_ONCE))
    async with park.stack.control() as stub:

        async def some() -> None:
            for start in starts:
                tickets = [
                    control_pb2.IssuedTicket(token=token, price_minor=7_900)
                    for token in tokens[start : start + AT_ONCE]
                ]
                await stub.RegisterTickets(control_pb2.RegisterTicketsRequest(tickets=tickets), timeout=30)

        await asyncio.gather(*(some() for _ in range(CALLS)))


async def watch_of(park: Park, tokens: list[bytes]) -> Watch:
    """Connected turnstiles at the park's gates."""
    turnstiles = []
    for gate in PARK_GATES:
        turnstile = Turnstile(gate, park.addresses, park.credentials(gate), park.history)
        turnstiles.append(turnstile)
        await turnstile.start(30)
    return Watch(park, turnstiles, iter(tokens))
