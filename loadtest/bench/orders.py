"""Orders per second: many windows sell two tickets each of one hot slot with a quota, for cash, over TLS.

Every order is whole: priced, its units held and pinned, paid in the open shift of its window, booked, signed, answered
with its tokens. Afterwards the books are asked: what the windows were answered, what sales booked, what the quota owner
counts as sold and what is in the tills must be the same number, and a second, small slot that all windows storm at once
must end exactly full. A figure of a run that does not foot is no figure.

Run as a module it is the client, in a process of its own: a plan on standard input, the result on standard output.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import grpc
import uvloop

from loadtest.bench import system
from loadtest.bench.client import Result
from ops.embedded.base import own_module
from parkgate.cluster.v1 import control_pb2, control_pb2_grpc
from parkgate.sales.v1 import sales_pb2 as pb
from parkgate.sales.v1 import sales_pb2_grpc

WINDOWS = 128
CHANNELS = 8
WARM_UP_S = 2.0
PRODUCT = "night-show"
PRODUCT_NUMBER = 8
HOT_SLOT, SMALL_SLOT = 3, 1
TICKETS = 2
DRAIN_S = 60.0
"""How long the cluster may take to acknowledge what was sold, before the run counts as failed."""
TIME_ZONE = "Europe/Zurich"
RETRIES = 50
RETRY_S = 0.05


@dataclass(frozen=True, slots=True)
class Plan:
    """What one run of the client does. `form` is "steps" (CreateOrder, PayOrder) or "sell" (SellTickets)."""

    address: str
    ca: str
    certificate: str
    key: str
    form: str
    visit_date: str
    seconds: float
    windows: int = WINDOWS


@dataclass(frozen=True, slots=True)
class Sold:
    """What the windows were answered."""

    per_s: float
    p50_ms: float
    p99_ms: float
    hot_tickets: int
    small_tickets: int
    refused: int
    till_difference_minor: int
    client_cpu_share: float


@dataclass
class Till:
    """One window of the run."""

    stub: Any
    name: str
    shift_id: int = 0
    cash_minor: int = 0


@dataclass
class Run:
    """All windows of one run."""

    plan: Plan
    sell: Callable[[Till, int], Awaitable[int]]
    latencies: list[float] = field(default_factory=list)
    hot_tickets: int = 0
    small_tickets: int = 0
    refused: int = 0

    async def hot(self, till: Till, measured: tuple[float, float]) -> None:
        """Sells the hot slot until the time is over."""
        started, deadline = measured
        while (sent := time.perf_counter()) < deadline:
            tickets = await self.sell(till, HOT_SLOT)
            self.hot_tickets += tickets
            now = time.perf_counter()
            if started <= now <= deadline:
                self.latencies.append(now - sent)

    async def storm(self, till: Till) -> None:
        """Sells the small slot until it is sold out."""
        while True:
            try:
                tickets = await self.sell(till, SMALL_SLOT)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                    raise
                self.refused += 1
                return
            self.small_tickets += tickets


def lines(plan: Plan, slot: int) -> list[pb.OrderLine]:
    """Two seats for adults."""
    return [
        pb.OrderLine(product_id=PRODUCT, concession="adult", count=TICKETS, visit_date=plan.visit_date, slot=slot),
    ]


async def retried(call: Callable[[Any], Awaitable[Any]], request: Any) -> Any:
    """A call, made again with the same request_id while the service says UNAVAILABLE, as windows do."""
    for _ in range(RETRIES):
        try:
            return await call(request)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            await asyncio.sleep(RETRY_S)
    return await call(request)


def by_steps(plan: Plan) -> Callable[[Till, int], Awaitable[int]]:
    """Sells as a window that shows the price first: order, then payment."""

    async def sell(till: Till, slot: int) -> int:
        wanted = pb.CreateOrderRequest(
            request_id=os.urandom(16), lines=lines(plan, slot), channel="window", window_id=till.name
        )
        order = (await retried(till.stub.CreateOrder, wanted)).order
        payment = pb.PayOrderRequest(
            request_id=os.urandom(16),
            order_id=order.order_id,
            method=pb.PAYMENT_METHOD_CASH,
            tendered_minor=order.total_minor,
        )
        return _taken(till, await retried(till.stub.PayOrder, payment))

    return sell


def in_one_call(plan: Plan) -> Callable[[Till, int], Awaitable[int]]:
    """Sells as a window over the counter: one call."""

    async def sell(till: Till, slot: int) -> int:
        request = pb.SellTicketsRequest(
            request_id=os.urandom(16),
            lines=lines(plan, slot),
            channel="window",
            window_id=till.name,
            method=pb.PAYMENT_METHOD_CASH,
        )
        return _taken(till, await retried(till.stub.SellTickets, request))

    return sell


def _taken(till: Till, answer: Any) -> int:
    if answer.order.state != pb.ORDER_STATE_ISSUED or len(answer.tickets) != TICKETS:
        raise RuntimeError(f"order {answer.order.order_id} was not issued: {answer}")
    till.cash_minor += answer.order.total_minor
    return len(answer.tickets)


FORMS = {"steps": by_steps, "sell": in_one_call}


async def run_windows(plan: Plan, credentials: grpc.ChannelCredentials) -> Sold:
    """Opens the shifts, sells, storms the small slot, and closes the shifts with the cash that was taken."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.secure_channel(plan.address, credentials, options=options) for _ in range(CHANNELS)]
    stubs = [sales_pb2_grpc.SalesServiceStub(channel) for channel in channels]
    tills = [Till(stubs[number % CHANNELS], f"{plan.form}-{number}") for number in range(plan.windows)]
    run = Run(plan, FORMS[plan.form](plan))
    for till in tills:
        opened = pb.OpenShiftRequest(request_id=os.urandom(16), window_id=till.name, operator="bench")
        till.shift_id = (await till.stub.OpenShift(opened)).shift.shift_id
    begun = time.perf_counter()
    cpu = time.process_time()
    measured = (begun + WARM_UP_S, begun + WARM_UP_S + plan.seconds)
    await asyncio.gather(*(run.hot(till, measured) for till in tills))
    share = (time.process_time() - cpu) / (time.perf_counter() - begun)
    await asyncio.gather(*(run.storm(till) for till in tills))
    differences = [await _close(till) for till in tills]
    for channel in channels:
        await channel.close()
    return _sold(run, sum(abs(difference) for difference in differences), share)


async def _close(till: Till) -> int:
    closed = pb.CloseShiftRequest(request_id=os.urandom(16), shift_id=till.shift_id, counted_minor=till.cash_minor)
    difference: int = (await till.stub.CloseShift(closed)).shift.difference_minor
    return difference


def _sold(run: Run, till_difference_minor: int, share: float) -> Sold:
    ordered = sorted(run.latencies) or [float("nan")]
    return Sold(
        per_s=len(run.latencies) / run.plan.seconds,
        p50_ms=ordered[len(ordered) // 2] * 1e3,
        p99_ms=ordered[min(int(len(ordered) * 0.99), len(ordered) - 1)] * 1e3,
        hot_tickets=run.hot_tickets,
        small_tickets=run.small_tickets,
        refused=run.refused,
        till_difference_minor=till_difference_minor,
        client_cpu_share=share,
    )


# The parent: runs the client and asks the books


@dataclass
class Orders:
    """The scenario over a running stack. Each run sells another day, so that each has a full quota before it."""

    stack: system.Stack
    service: system.Files
    seconds: float
    runs: int = 0

    async def measure(self, form: str) -> Result:
        """One run of the client, with its books checked.

        Raises:
            RuntimeError: the books do not foot, or the small slot did not end exactly full.
        """
        self.runs += 1
        day = datetime.now(ZoneInfo(TIME_ZONE)).date() + timedelta(days=self.runs)
        ca, certificate, key = (str(path) for path in (self.service.ca, self.service.certificate, self.service.key))
        address = f"localhost:{self.stack.sales_port}"
        plan = Plan(address, ca, certificate, key, form, day.isoformat(), self.seconds)
        sold = Sold(**await _run_client(asdict(plan)))
        self._check(sold, day)
        return Result(
            per_s=sold.per_s,
            p50_ms=sold.p50_ms,
            p99_ms=sold.p99_ms,
            admitted=0,
            not_admitted=0,
            ran_out=False,
            retried=0,
            reasons={},
            client_cpu_share=sold.client_cpu_share,
        )

    def _check(self, sold: Sold, day: date) -> None:
        credentials = grpc.ssl_channel_credentials(
            self.service.ca.read_bytes(), self.service.key.read_bytes(), self.service.certificate.read_bytes()
        )
        with grpc.secure_channel(f"localhost:{self.stack.sales_port}", credentials) as channel:
            _wait_until_told(sales_pb2_grpc.SalesServiceStub(channel))
        keys = [f"product={PRODUCT_NUMBER};date={day};slot={slot}" for slot in (HOT_SLOT, SMALL_SLOT)]
        with grpc.secure_channel(f"localhost:{self.stack.gate_port}", credentials) as channel:
            stub = control_pb2_grpc.ControlServiceStub(channel)
            quotas = stub.GetQuotas(control_pb2.GetQuotasRequest(quota_keys=keys)).quotas
        _compare(sold, quotas)


async def _run_client(plan: dict[str, Any]) -> dict[str, Any]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*own_module("loadtest.bench.orders"), stdin=pipe, stdout=pipe)
    out, _ = await process.communicate(json.dumps(plan).encode())
    if process.returncode != 0:
        raise RuntimeError("the windows of the order benchmark failed")
    result: dict[str, Any] = json.loads(out)
    return result


def _wait_until_told(stub: Any) -> None:
    deadline = time.monotonic() + DRAIN_S
    while (waiting := stub.Reconcile(pb.ReconcileRequest()).outbox_waiting) > 0:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{waiting} outbox rows were not acknowledged within {DRAIN_S:.0f} s")
        time.sleep(0.1)


def _compare(sold: Sold, quotas: Sequence[control_pb2.Quota]) -> None:
    hot, small = quotas
    problems = [
        f"{name}: windows {answered}, quota owner {quota.sold} of {quota.limit}, {quota.held + quota.pinned} still held"
        for name, answered, quota in (("hot slot", sold.hot_tickets, hot), ("small slot", sold.small_tickets, small))
        if answered != quota.sold or quota.sold > quota.limit or quota.held or quota.pinned
    ]
    if small.limit - small.sold >= TICKETS:
        problems.append(f"small slot: {small.sold} of {small.limit} sold, and windows were told that it is sold out")
    if sold.till_difference_minor:
        problems.append(f"the tills are off by {sold.till_difference_minor}")
    if problems:
        raise RuntimeError("orders: " + "; ".join(problems))


def main() -> None:
    """Reads a plan from standard input, writes what was sold to standard output."""
    plan = Plan(**json.load(sys.stdin))
    files = (plan.ca, plan.key, plan.certificate)
    credentials = grpc.ssl_channel_credentials(*(Path(name).read_bytes() for name in files))
    json.dump(asdict(uvloop.run(run_windows(plan, credentials))), sys.stdout)


if __name__ == "__main__":
    main()
