"""Sales over a real Postgres, with the shipped catalogue, a clock that tests move, and a cluster in memory."""

import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from parkgate.sales.v1 import sales_pb2 as pb
from sales import outbox
from sales.catalogue_folder import load_folder
from sales.config import SalesConfig
from sales.context import Sales, assemble
from sales.database import migrate
from sales.identity import LOCAL
from sales.usecases.create_order import create_order
from sales.usecases.pay_order import pay_order
from sales.usecases.publish_catalogue import publish_catalogue
from tests.sales.fake_cluster import FakeCluster
from ticketcore.catalogue_document import canonical_json

CATALOGUE = Path(__file__).parents[2] / "catalogue"
NOW = datetime(2026, 12, 1, 9, 0, tzinfo=UTC)
VISIT = "2026-12-10"
CRASH = RuntimeError


def new_id() -> bytes:
    return os.urandom(16)


@dataclass
class Desk:
    """A sales service under test. `crash_at` raises at a seam, once."""

    sales: Sales
    cluster: FakeCluster
    now: datetime = NOW
    crash_at: str = ""
    seams: list[str] = field(default_factory=list)

    def seam(self, name: str) -> None:
        self.seams.append(name)
        if name == self.crash_at:
            self.crash_at = ""
            raise CRASH(f"killed at {name}")

    def wait(self, **duration: float) -> None:
        self.now += timedelta(**duration)

    async def order(self, *lines: pb.OrderLine, **fields: Any) -> pb.Order:
        request = pb.CreateOrderRequest(request_id=new_id(), lines=lines or [line()], channel="window", window_id="w1")
        request.MergeFrom(pb.CreateOrderRequest(**fields))
        return (await create_order(self.sales, LOCAL, request)).order

    async def cash(self, order: pb.Order) -> pb.PayOrderResponse:
        request = pb.PayOrderRequest(
            request_id=new_id(),
            order_id=order.order_id,
            method=pb.PAYMENT_METHOD_CASH,
            tendered_minor=order.total_minor,
        )
        return await pay_order(self.sales, LOCAL, request)

    async def sell(self, *lines: pb.OrderLine) -> list[pb.Ticket]:
        return list((await self.cash(await self.order(*lines))).tickets)

    async def relay(self) -> None:
        while await outbox.relay_once(self.sales):
            pass

    async def rows(self, query: str) -> list[Any]:
        async with self.sales.database.reading() as connection:
            return list((await connection.execute(sa.text(query))).all())

    async def value(self, query: str) -> Any:
        return (await self.rows(query))[0][0]


def line(
    product: str = "day", concession: str = "adult", count: int = 1, date: str = VISIT, slot: int = 0
) -> pb.OrderLine:
    return pb.OrderLine(product_id=product, concession=concession, count=count, visit_date=date, slot=slot)


@pytest.fixture
def config(postgres_url: str) -> SalesConfig:
    return SalesConfig(
        postgres_url=postgres_url,
        bind_address="127.0.0.1:0",
        tls=None,
        cluster_targets=("127.0.0.1:1",),
        cluster_tls=None,
        signing_key_id=3,
        signing_key=Ed25519PrivateKey.generate(),
        issuer_id=7,
        webhook_secret=b"a secret of these tests",
    )


@pytest.fixture
async def desk(config: SalesConfig) -> AsyncIterator[Desk]:
    await migrate(config.postgres_url)
    made: list[Desk] = []
    cluster = FakeCluster(lambda: made[0].now)
    parts = assemble(config, cluster, lambda: made[0].now)
    made.append(Desk(parts, cluster))
    made[0].sales = replace(parts, seam=made[0].seam)
    await publish(made[0])
    yield made[0]
    await parts.database.close()


async def publish(desk: Desk, change: Callable[[dict[str, Any]], None] = lambda document: None) -> int:
    document, _ = load_folder(CATALOGUE)
    change(document)
    request = pb.PublishCatalogueRequest(request_id=new_id(), document=canonical_json(document))
    return (await publish_catalogue(desk.sales, LOCAL, request)).catalogue_version
