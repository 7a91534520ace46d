"""Guests and windows that go on while things are killed, and the books that say afterwards what was done."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

import grpc
import psycopg
import redis

from ops import clients
from parkgate.cluster.v1 import control_pb2
from parkgate.events.v1 import events_pb2
from parkgate.gate.v1 import gate_pb2
from parkgate.gate.v1.gate_pb2_grpc import GateServiceStub
from parkgate.reporting.v1 import reporting_pb2
from parkgate.reporting.v1.reporting_pb2_grpc import ReportingServiceStub
from parkgate.sales.v1 import sales_pb2
from tests.cluster.elementary import elementary
from tests.system.stack import QUOTA, Stack
from ticketcore.catalogue_document import parse_catalogue

GATES = ("main-1", "main-2", "lake-1", "lake-2")
PACE_S = 0.05
"""Between two scans of one turnstile: a brisk lane passes one guest in two seconds."""
FINAL = (gate_pb2.DECISION_ADMIT, gate_pb2.DECISION_REJECT, gate_pb2.DECISION_NEEDS_ACTION)
EVENING = 2
"""The product's number."""


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def today(stack: Stack, days: int = 0) -> date:
    from sales.catalogue_folder import load_folder

    zone = parse_catalogue(load_folder(stack.settings.catalogue_dir)[0]).venue.time_zone
    return datetime.now(zone).date() + timedelta(days=days)


async def sell(stack: Stack, product: str, count: int, day: date) -> list[sales_pb2.Ticket]:
    """Tickets sold in one order, as soon as sales can."""
    async with Window(stack) as window:
        tickets = await window.sell(product, count, day)
    assert tickets is not None
    return tickets


class Window:
    """A kiosk that asks on until it is told, each call with one request_id."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._context = stack.sales()
        self._stub: Any = None
        self.failures: Counter[str] = Counter()

    async def __aenter__(self) -> Window:
        self._stub = await self._context.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._context.__aexit__(*error)

    async def sell(self, product: str, count: int, day: date) -> list[sales_pb2.Ticket] | None:
        """The tickets; None: sold out."""
        line = sales_pb2.OrderLine(product_id=product, concession="adult", count=count, visit_date=day.isoformat())
        create = sales_pb2.CreateOrderRequest(request_id=os.urandom(16), lines=[line], channel="kiosk", window_id="k1")
        created = await self._ask(lambda: self._stub.CreateOrder(create, timeout=10))
        if created is None:
            return None
        pay = sales_pb2.PayOrderRequest(
            request_id=os.urandom(16),
            order_id=created.order.order_id,
            method=sales_pb2.PAYMENT_METHOD_CASH,
            tendered_minor=created.order.total_minor,
        )
        paid = await self._ask(lambda: self._stub.PayOrder(pay, timeout=20))
        assert paid is not None, "an order that was held must be payable"
        return list(paid.tickets)

    async def _ask(self, call: Callable[[], Awaitable[Any]]) -> Any:
        while True:
            try:
                return await call()
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
                    return None
                if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                    raise
                self.failures[f"{error.code().name}: {error.details()}"] += 1
                await asyncio.sleep(0.1)


@dataclass(slots=True)
class Told:
    """A scan, the verdict that it was told, and when."""

    gate: str
    scan: gate_pb2.Scan
    verdict: gate_pb2.Verdict
    at: float


class Turnstile:
    """A gate whose guests pass when they are admitted. It asks on until it is told, and writes down what."""

    def __init__(self, stack: Stack, gate: str, told: list[Told]) -> None:
        self._gate = gate
        self._told = told
        self._client = stack.turnstile(gate)

    async def __aenter__(self) -> Turnstile:
        await self._client.start(30)
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._client.close(10.0)

    @property
    def gateway(self) -> str:
        """The gateway that it is linked to."""
        return self._client.welcome.gateway

    async def scan(self, token: bytes) -> gate_pb2.Verdict:
        scan = gate_pb2.Scan(scan_id=os.urandom(16), token=token, scan_time_ms=now_ms())
        verdict = await self._client.check(scan)
        self._told.append(Told(self._gate, scan, verdict, time.monotonic()))
        if verdict.decision == gate_pb2.DECISION_ADMIT:
            passed = gate_pb2.PASSAGE_OUTCOME_PASSED
            self._client.report_passage(
                gate_pb2.PassageReport(scan_id=scan.scan_id, ticket_id=verdict.ticket_id, outcome=passed)
            )
        return verdict


@dataclass(slots=True)
class Traffic:
    """Turnstiles that scan the same tickets at once, each ticket twice, and a window that sells a day out.

    `async with` starts and, at the end, waits until every scan has its final verdict.
    """

    stack: Stack
    tokens: Sequence[bytes]
    day: date
    told: list[Told] = field(default_factory=list)
    sold: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    _stopping: bool = False
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _exit: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def __aenter__(self) -> Traffic:
        for number, gate in enumerate(GATES):
            turnstile = await self._exit.enter_async_context(Turnstile(self.stack, gate, self.told))
            # Every ticket is shown at two gates.
            self._tasks.append(asyncio.create_task(self._scan(turnstile, list(self.tokens[number % 2 :: 2]))))
        self._tasks.append(asyncio.create_task(self._sell()))
        return self

    async def __aexit__(self, *error: Any) -> None:
        self._stopping = True
        if error[0] is not None:
            for task in self._tasks:
                task.cancel()
        try:
            results = await asyncio.gather(*self._tasks, return_exceptions=error[0] is not None)
            assert all(result is None or error[0] is not None for result in results)
        finally:
            await self._exit.aclose()

    async def _scan(self, turnstile: Turnstile, tokens: list[bytes]) -> None:
        for token in itertools.cycle(tokens):
            if self._stopping:
                return
            await turnstile.scan(token)
            await asyncio.sleep(PACE_S)

    async def _sell(self) -> None:
        """Sells until the day is sold out; then it asks on, and must be refused."""
        async with Window(self.stack) as window:
            refused = False
            while not (self._stopping and refused):
                tickets = await window.sell("evening", 1, self.day)
                refused = refused or tickets is None
                self.sold += len(tickets or ())
                await asyncio.sleep(PACE_S if tickets is not None else 0.5)
            self.failures = window.failures

    def longest_pause(self, since: float) -> float:
        """The longest time in which no gate was told anything, from `since` on."""
        times = [since, *sorted(told.at for told in self.told if told.at > since), time.monotonic()]
        return max(after - before for before, after in itertools.pairwise(times))

    async def wait_admitted(self, since: float, timeout_s: float) -> float:
        """Waits for an ADMIT that was told after `since`; returns how many seconds after it that was."""
        deadline = time.monotonic() + timeout_s
        while True:
            for told in self.told:
                if told.at > since and told.verdict.decision == gate_pb2.DECISION_ADMIT:
                    return told.at - since
            assert time.monotonic() < deadline, f"no ADMIT within {timeout_s} s"
            await asyncio.sleep(0.02)

    def admitted(self) -> list[Told]:
        return [told for told in self.told if told.verdict.decision == gate_pb2.DECISION_ADMIT]


# What must hold afterwards.


def check_verdicts(traffic: Traffic) -> None:
    """Every scan has a final verdict, and no ticket was admitted twice (I1)."""
    assert traffic.told
    assert {told.verdict.decision for told in traffic.told} <= set(FINAL)
    counts = Counter(told.verdict.ticket_id for told in traffic.admitted())
    assert [ticket for ticket, count in counts.items() if count > 1] == []
    others = {told.verdict.reason for told in traffic.told} - {gate_pb2.REASON_UNSPECIFIED}
    assert others <= {gate_pb2.REASON_ALREADY_INSIDE, gate_pb2.REASON_ALREADY_USED}, others


async def check_same_answers(stack: Stack, told: Sequence[Told]) -> None:
    """Asked again, each scan is answered what it was answered (I3)."""
    for gate in {one.gate for one in told}:
        asked = [one for one in told if one.gate == gate]
        answers = await _ask_again(stack, gate, [one.scan for one in asked])
        for one, answer in zip(asked, answers, strict=True):
            assert (answer.decision, answer.reason) == (one.verdict.decision, one.verdict.reason), (one, answer)


async def _ask_again(stack: Stack, gate: str, scans: Sequence[gate_pb2.Scan]) -> list[gate_pb2.Verdict]:
    from gateclient.credentials import load_credentials
    from ops.pki import Kind

    credentials = load_credentials(stack.certificate(Kind.GATE, f"device-{gate}", (gate,)))
    async with credentials.channel(f"localhost:{stack.settings.gate_port}") as channel:
        call = GateServiceStub(channel).Stream()
        hello = gate_pb2.Hello(gate_ids=[gate], device_time_ms=now_ms(), software="test")
        await call.write(gate_pb2.ClientFrame(hello=hello))
        await call.read()
        answers: dict[bytes, gate_pb2.Verdict] = {}
        while missing := [scan for scan in scans if scan.scan_id not in answers]:
            await call.write(gate_pb2.ClientFrame(scans=missing[:500]))
            for verdict in (await call.read()).verdicts:
                if verdict.decision in FINAL:
                    answers[verdict.scan_id] = verdict
        call.cancel()
    return [answers[scan.scan_id] for scan in scans]


def ledger_admits(stack: Stack) -> Counter[bytes]:
    """How often the ledger holds the admission of each scan."""
    found: Counter[bytes] = Counter()
    with redis.Redis.from_url(stack.endpoints.ledger_url) as client:
        for number in range(stack.settings.partitions):
            for _, fields in client.xrange(f"pg:{{p{number}}}:log"):
                entry = events_pb2.LogEntry.FromString(fields[b"e"])
                decided = (
                    event.scan_decided for event in elementary(entry) if event.WhichOneof("body") == "scan_decided"
                )
                found.update(one.scan_id for one in decided if one.decision == gate_pb2.DECISION_ADMIT)
    return found


def postgres_admits(stack: Stack) -> Counter[bytes]:
    """How often Postgres holds it."""
    with psycopg.connect(stack.endpoints.postgres_url) as connection:
        rows = connection.execute(
            "SELECT scan_id, count(*) FROM reporting.scan_events WHERE decision = %s GROUP BY scan_id",
            (int(gate_pb2.DECISION_ADMIT),),
        ).fetchall()
    return Counter({bytes(scan_id): count for scan_id, count in rows})


def check_books(stack: Stack, told: Sequence[Told]) -> None:
    """Every ADMIT that was heard is in the ledger and in Postgres, once, and both hold the same (I2, I6)."""
    heard = {one.scan.scan_id for one in told if one.verdict.decision == gate_pb2.DECISION_ADMIT}
    ledger, postgres = ledger_admits(stack), postgres_admits(stack)
    assert heard - set(ledger) == set()
    assert {count for counts in (ledger, postgres) for count in counts.values()} <= {1}
    assert ledger == postgres


async def wait_reported(stack: Stack, timeout_s: float = 30.0) -> None:
    """Waits until reporting, sales and the ledger agree to the unit and the cent (I6)."""
    deadline = time.monotonic() + timeout_s
    while True:
        said = await _differences(stack)
        if not said:
            return
        assert time.monotonic() < deadline, f"the books differ after {timeout_s} s: {said}"
        await asyncio.sleep(0.3)


async def _differences(stack: Stack) -> list[str]:
    async with clients.channel(stack.settings, stack.settings.reporting_port) as channel:
        stub = ReportingServiceStub(channel)
        try:
            progress = await stub.GetProgress(reporting_pb2.GetProgressRequest(), timeout=10)
            behind = [one.partition for one in progress.partitions if one.lag_entries]
            if behind:
                return [f"{behind} are not read to their end"]
            return list((await stub.GetCounts(reporting_pb2.GetCountsRequest(), timeout=20)).differences)
        except grpc.aio.AioRpcError as error:
            return [f"reporting: {error.details()}"]


async def check_sold_out(stack: Stack, traffic: Traffic) -> None:
    """The day asked for more than there was, and ended exactly full (I4)."""
    key = f"product={EVENING};date={traffic.day}"
    assert traffic.sold == QUOTA
    deadline = time.monotonic() + 15
    while True:
        async with stack.control() as stub:
            request = control_pb2.GetQuotasRequest(quota_keys=[key])
            quota = (await stub.GetQuotas(request, timeout=10)).quotas[0]
        # Confirming a hold follows from sales' outbox.
        if quota.sold == QUOTA and not quota.held and not quota.pinned:
            return
        assert time.monotonic() < deadline, quota
        await asyncio.sleep(0.2)
