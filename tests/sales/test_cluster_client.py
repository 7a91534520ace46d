"""The adapter to the cluster, against a real gRPC server whose quota book answers."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import grpc.aio
import pytest

from parkgate.cluster.v1 import control_pb2 as control
from parkgate.cluster.v1.control_pb2_grpc import ControlServiceServicer, add_ControlServiceServicer_to_server
from sales.cluster_client import GrpcCluster, connect
from sales.config import SalesConfig
from tests.sales.conftest import new_id
from tests.sales.fake_cluster import FakeCluster
from ticketcore.errors import UnavailableError, UnknownOutcomeError


@dataclass
class Gateway(ControlServiceServicer):
    """ChangeHolds over a quota book; `short` forgets the last answer. `against` refuses catalogues."""

    cluster: FakeCluster = field(default_factory=lambda: FakeCluster(lambda: datetime.now(UTC)))
    sizes: list[int] = field(default_factory=list)
    short: bool = False
    against: str = ""

    async def ChangeHolds(
        self, request: control.ChangeHoldsRequest, context: grpc.aio.ServicerContext[object, object]
    ) -> control.ChangeHoldsResponse:
        self.sizes.append(len(request.commands))
        results = [await self._do(command) for command in request.commands]
        return control.ChangeHoldsResponse(results=results[:-1] if self.short else results)

    async def PublishCatalogue(
        self, request: control.PublishCatalogueRequest, context: grpc.aio.ServicerContext[object, object]
    ) -> control.PublishCatalogueResponse:
        if self.against:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, self.against)
        return control.PublishCatalogueResponse()

    async def _do(self, command: control.HoldCommand) -> control.HoldResponse:
        match command.WhichOneof("command"):
            case "place":
                return await self.cluster.place_hold(command.place)
            case "pin":
                return await self.cluster.pin_hold(command.pin.hold_id)
            case "confirm":
                return await self.cluster.confirm_hold(command.confirm.hold_id)
            case _:
                return await self.cluster.release_hold(command.release.hold_id)


@pytest.fixture
async def gateway(config: SalesConfig) -> AsyncIterator[tuple[Gateway, GrpcCluster]]:
    servicer, server = Gateway(), grpc.aio.server()
    add_ControlServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    client = connect(replace(config, cluster_targets=(f"127.0.0.1:{port}",)))
    yield servicer, client
    await client.close()
    await server.stop(None)


def place(hold_id: bytes, units: int = 1) -> control.PlaceHoldRequest:
    line = control.LimitedLine(quota_key="a", units=units, limit=10)
    return control.PlaceHoldRequest(hold_id=hold_id, lines=[line], time_to_live_ms=1_000, catalogue_version=1)


async def test_what_many_orders_ask_of_holds_at_once_goes_in_few_calls_and_each_gets_its_own_answer(
    gateway: tuple[Gateway, GrpcCluster],
) -> None:
    servicer, client = gateway
    ids = [new_id() for _ in range(12)]
    answers = await asyncio.gather(*(client.place_hold(place(hold_id)) for hold_id in ids))
    done, sold_out = control.HOLD_OUTCOME_DONE, control.HOLD_OUTCOME_SOLD_OUT
    assert [answer.outcome for answer in answers] == [done] * 10 + [sold_out] * 2
    assert sum(servicer.sizes) == 12
    assert len(servicer.sizes) <= 2
    moves = [
        client.pin_hold(ids[0]),
        client.confirm_hold(ids[0]),
        client.release_hold(ids[1]),
        client.pin_hold(ids[11]),
    ]
    outcomes = [answer.outcome for answer in await asyncio.gather(*moves)]
    assert outcomes == [done, done, done, control.HOLD_OUTCOME_UNKNOWN]
    counter = servicer.cluster.book.counters["a"]
    assert (counter.held, counter.pinned, counter.sold) == (8, 0, 1)


async def test_an_answer_that_lacks_a_result_is_an_unknown_outcome_for_all_that_asked(
    gateway: tuple[Gateway, GrpcCluster],
) -> None:
    servicer, client = gateway
    servicer.short = True
    answers = await asyncio.gather(*(client.pin_hold(new_id()) for _ in range(3)), return_exceptions=True)
    assert {type(answer) for answer in answers} == {UnknownOutcomeError}


async def test_what_the_cluster_has_against_a_catalogue_is_said_in_its_own_words(
    gateway: tuple[Gateway, GrpcCluster],
) -> None:
    servicer, client = gateway
    await client.publish_catalogue(1, b"{}")
    servicer.against = "zone lake: 3 persons are inside"
    with pytest.raises(UnavailableError, match="the ticket cluster refuses: zone lake: 3 persons are inside"):
        await client.publish_catalogue(2, b"{}")


async def test_a_catalogue_for_a_cluster_that_is_away_has_an_unknown_outcome(config: SalesConfig) -> None:
    client = connect(config)  # nobody listens there
    with pytest.raises(UnknownOutcomeError, match="does not answer"):
        await client.publish_catalogue(2, b"{}")
    await client.close()
