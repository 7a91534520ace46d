"""Take-over: how soon the partitions of an owner with a million tickets admit again after it is gone, at the gates.

Here the bars are, and the measuring. What the table shows is the longest that any partition kept its guests waiting.
Afterwards each code is shown once more at another gate, and the checker looks at the ledger. It does not look at the
books: these tickets were never sold.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count
from pathlib import Path

import redis

from cluster.link import Address
from parkgate.cluster.v1 import control_pb2
from parkgate.gate.v1 import gate_pb2
from tests.chaos.processes.park import DAY, PARK, PARK_GATES, Park
from tests.chaos.processes.turnstiles import ADMIT, RETRY, Turnstile, now_ms
from tests.chaos.rows import Row
from tests.checker import Violation, check
from ticketcore.token import SIGNATURE_LENGTH, Claims, encode_claims, ticket_id_of

TAKEOVERS = {1: "takeover-owner", 2: "takeover-node"}
"""Their names, by the number of hosts."""
TICKETS = 1_000_000
ISSUER = 9
AT_ONCE, CALLS = 10_000, 2
OWNER_WITHIN_MS, NODE_WITHIN_MS = 5_000, 10_000
"""On two cores; a lost node with the health check that docs/operations.md names."""
GUESTS = 6
"""Before each gate, of all partitions in turn."""
CALM_S = 1.5
WATCHED_S = 60.0
ANSWERED_WITHIN_S = 30.0
"""After the take-over, for whoever stands at a gate, and for copies."""


@dataclass(frozen=True, slots=True)
class Loss:
    """An owner is lost: which partitions it has, how it happens, and how soon they must be back."""

    fault: str
    says: str
    partitions: frozenset[int]
    hit: Callable[[], None]
    within_ms: int


def killed_owner(park: Park) -> Loss:
    """SIGKILL of the owner of the first partition."""
    addresses = owner_addresses(park)
    path = addresses[0].path
    mine = frozenset(number for number, address in addresses.items() if address.path == path)
    pid = int(Path(path).name.split(".")[-2])
    says = "an owner with a million registered tickets is killed; its partitions are back within 5 s"
    return Loss(TAKEOVERS[1], says, mine, lambda: os.kill(pid, signal.SIGKILL), OWNER_WITHIN_MS)


def lost_node(park: Park, host: str, hit: Callable[[], None]) -> Loss:
    """The host of an owner is gone: nothing ends its connections, they just fall silent."""
    mine = frozenset(number for number, address in owner_addresses(park).items() if address.host == host)
    says = "the host of an owner with a million registered tickets is cut off; its partitions are back within 10 s"
    return Loss(TAKEOVERS[2], says, mine, hit, NODE_WITHIN_MS)


def owner_addresses(park: Park) -> dict[int, Address]:
    """Where the owner of each ticket partition listens, by number."""
    with redis.Redis.from_url(park.stack.endpoints.ledger_url) as client:
        numbers = range(park.stack.settings.partitions)
        heads = {number: client.hget(f"pg:{{p{number}}}:head", "address") for number in numbers}
    return {number: Address.decode(bytes(head).decode()) for number, head in heads.items() if head}  # type: ignore[arg-type]


async def takeover_row(park: Park, loss: Loss) -> Row:
    """Registers the tickets, brings the loss about, and measures at the gates."""
    tokens = tokens_of(park, loss.partitions, TICKETS)
    await register(park, tokens)
    bad: list[Violation] = []
    async with AsyncExitStack() as exits:
        watch = Watch(park, await _turnstiles(park, exits), iter(tokens))
        watch.start()
        await asyncio.sleep(CALM_S)
        hit_ms = now_ms()
        loss.hit()
        took_ms = await watch.first_admissions(hit_ms, now_ms(), loss.partitions)
        try:
            await watch.end()
        except TimeoutError:
            bad.append(Violation("I10", "the park", f"does not answer all its guests within {ANSWERED_WITHIN_S:.0f} s"))
    if took_ms > loss.within_ms:
        what = f"{took_ms} ms passed before all partitions admitted, {loss.within_ms} may"
        bad.append(Violation("I10", "the park", what))
    found = await asyncio.to_thread(lambda: check(park.history, park.entries()))
    bad += [item for item in found if str(item) not in park.known]
    says = tuple(map(str, bad))
    return Row("processes", loss.fault, loss.says, 1, watch.asked, watch.unknown, len(watch.admitted), says, took_ms)


async def _turnstiles(park: Park, exits: AsyncExitStack) -> list[Turnstile]:
    turnstiles = []
    for gate in PARK_GATES:
        turnstile = Turnstile(gate, park.addresses, park.credentials(gate), park.history)
        exits.push_async_callback(turnstile.close)
        await turnstile.start(30)
        turnstiles.append(turnstile)
    return turnstiles


@dataclass  # not slotted: it keeps what it has worked out
class Watch:
    """Guests at every partition, and when each partition let one in."""

    park: Park
    turnstiles: list[Turnstile]
    tokens: Iterator[bytes]
    asked: int = 0
    unknown: int = 0
    admitted: list[tuple[int, int, int]] = field(default_factory=list)
    """Partition, when the guest asked, and when the answer came."""
    _streams: list[asyncio.Task[None]] = field(default_factory=list)
    _over: bool = False

    def start(self) -> None:
        """They come."""
        self._streams = [
            asyncio.create_task(self._guests(number)) for number in range(len(self.turnstiles)) for _ in range(GUESTS)
        ]

    async def end(self) -> None:
        """No more guests come; those who are there are waited for, and copies of their codes.

        Raises:
            TimeoutError: somebody was not answered.
        """
        self._over = True
        try:
            async with asyncio.timeout(ANSWERED_WITHIN_S):
                await asyncio.gather(*self._streams)
                # Reports of who went through are receipted, so that nothing is decided while the ledger is read.
                while any(turnstile.session.open_work for turnstile in self.turnstiles):  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
        finally:
            for stream in self._streams:
                stream.cancel()
            await asyncio.gather(*self._streams, return_exceptions=True)

    async def _guests(self, number: int) -> None:
        """At one gate, one after the other; at the end copies of their codes at the next gate."""
        here, there = (self.turnstiles[(number + k) % len(self.turnstiles)] for k in (0, 1))
        shown: list[bytes] = []
        while not self._over:
            shown.append(next(self.tokens))
            await self._insist(here, shown[-1])
            await asyncio.sleep(0.1)
        for token in shown:
            while (await self._scan(there, token)).decision == RETRY:  # noqa: ASYNC110
                await asyncio.sleep(0.1)

    async def _insist(self, turnstile: Turnstile, token: bytes) -> None:
        ticket, verdict = int.from_bytes(token[1:9], "big"), gate_pb2.Verdict()
        self.park.history.note("issue", "nobody", now_ms(), self._terms | {"ticket": ticket})
        while verdict.decision != ADMIT:
            asked_ms = now_ms()
            verdict = await self._scan(turnstile, token)
        turnstile.report(verdict, PARK, passed=True)
        self.admitted.append((ticket % self.park.stack.settings.partitions, asked_ms, now_ms()))

    async def _scan(self, turnstile: Turnstile, token: bytes) -> gate_pb2.Verdict:
        scan = gate_pb2.Scan(scan_id=os.urandom(16), token=token, scan_time_ms=time.time_ns() // 1_000_000)
        verdict = await turnstile.scan(scan, int.from_bytes(token[1:9], "big"))
        self.asked += 1
        self.unknown += verdict.decision == RETRY
        return verdict

    @cached_property
    def _terms(self) -> dict[str, object]:
        """What these tickets entitle to."""
        product = next(product for product in self.park.products.values() if product.number == DAY)
        return {"entries": product.entries, "party": product.persons, "daily_entries": product.daily_entries}

    async def first_admissions(self, hit_ms: int, gone_ms: int, partitions: frozenset[int]) -> int:
        """How many milliseconds after the hit the last of these partitions had let somebody in who asked when the owner
        was gone: answers that were on their way as it was hit are none of whoever takes over."""
        deadline = time.monotonic() + WATCHED_S
        while time.monotonic() < deadline:
            first: dict[int, int] = {}
            for partition, asked_ms, at_ms in self.admitted:
                if asked_ms > gone_ms:
                    first.setdefault(partition, at_ms - hit_ms)
            if partitions <= first.keys():
                return max(first[partition] for partition in partitions)
            await asyncio.sleep(0.02)
        return int(WATCHED_S * 1_000)


def tokens_of(park: Park, partitions: frozenset[int], tickets: int) -> list[bytes]:
    """Day tickets of some partitions. At the gate the registered digest is what proves a token, so the signatures may
    be any bytes: signing a million would take a minute and change nothing that is measured."""
    numbers = (ticket_id_of(ISSUER, sequence) for sequence in count(1))
    mine = (number for number in numbers if number % park.stack.settings.partitions in partitions)
    return [
        encode_claims(Claims(0, next(mine), DAY, park.today, valid_days=2)) + os.urandom(SIGNATURE_LENGTH)
        for _ in range(tickets)
    ]


async def register(park: Park, tokens: list[bytes]) -> None:
    """Makes tickets known, as sales do."""
    starts = iter(range(0, len(tokens), AT_ONCE))
    async with park.stack.control() as stub:

        async def some() -> None:
            for start in starts:
                some_tokens = tokens[start : start + AT_ONCE]
                tickets = [control_pb2.IssuedTicket(token=token, price_minor=7_900) for token in some_tokens]
                await stub.RegisterTickets(control_pb2.RegisterTicketsRequest(tickets=tickets), timeout=30)

        await asyncio.gather(*(some() for _ in range(CALLS)))
