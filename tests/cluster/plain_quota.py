"""A quota owner without links: requests go in by hand, over a real ledger and a clock that tests turn."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster.config import ClusterConfig
from cluster.control import Control
from cluster.ledger import Ledger
from cluster.quota_owner import QuotaOwner
from parkgate.cluster.v1 import control_pb2, link_pb2
from tests.cluster import small_park
from tests.cluster.plain_owner import Answers, Clock, UnreliableLedger
from ticketcore.catalogue_document import canonical_json
from ticketcore.errors import UnknownOutcomeError


class Returning:
    """A link to the owner of some partitions, each of which has ever given back so many units of zone 2."""

    def __init__(self, **returned: int) -> None:
        self.returned = returned

    async def call(self, request: link_pb2.LinkRequest, timeout_s: float) -> link_pb2.LinkResponse:
        response = link_pb2.LinkResponse()
        for partition, units in self.returned.items():
            response.recall.totals.add(zone_number=2, partition=partition, returned_total=units)
        return response


class Spare:
    """A link to the owner of p0, which has unused units of zone 2 and gives back as many as are wanted. Held until
    then, where there is a gate."""

    def __init__(self, units: int, gate: asyncio.Event | None = None) -> None:
        self.units, self.returned, self._gate = units, 0, gate
        self.asked = asyncio.Event()

    async def call(self, request: link_pb2.LinkRequest, timeout_s: float) -> link_pb2.LinkResponse:
        self.asked.set()
        if self._gate is not None:
            await self._gate.wait()
        given = min(request.recall.wanted, self.units)
        self.units, self.returned = self.units - given, self.returned + given
        return await Returning(p0=self.returned).call(request, timeout_s)


class Silent:
    """A link to an owner that stands still."""

    async def call(self, request: link_pb2.LinkRequest, timeout_s: float) -> link_pb2.LinkResponse:
        raise UnknownOutcomeError("the owner did not answer", 100)


class PlainRoutes:
    """To the partition owners that can be asked for unused units."""

    def __init__(self, links: Sequence[Returning | Spare | Silent]) -> None:
        self._links = links
        self.damaged: dict[str, Any] = {}

    async def look_up(self) -> None: ...

    def links(self) -> Sequence[Returning | Spare | Silent]:
        return self._links


@dataclass
class QuotaDesk:
    """A quota owner, and what a test asks it."""

    url: str
    clock: Clock = field(default_factory=Clock)
    owners: list[QuotaOwner] = field(default_factory=list)
    links: list[Returning | Spare | Silent] = field(default_factory=list)
    _ids: Any = field(default_factory=lambda: itertools.count(1))

    async def start(self) -> QuotaDesk:
        self.real = Ledger(self.url)
        await Control(self.real).publish_catalogue(1, canonical_json(small_park.document()))
        await self.take_over()
        return self

    async def set_capacity(self, units: int) -> None:
        """A later catalogue has another capacity of zone 2, and the owner has read it."""
        later = canonical_json(small_park.document(units))
        await Control(self.real).publish_catalogue(self.owner.control.catalogue_version + 1, later)
        await self.ask(refresh=link_pb2.RefreshRequest())

    async def take_over(self) -> None:
        """A new owner takes the log; the earlier one goes on living."""
        self.ledger = UnreliableLedger(self.real)
        config = ClusterConfig(self.url, Path("/nowhere"), partitions=2)
        routes = PlainRoutes(self.links)
        self.owner = QuotaOwner("quota", config, self.ledger, routes, self.clock)  # type: ignore[arg-type]
        self.owners.append(self.owner)
        await self.owner.start("")

    async def stop(self) -> None:
        for owner in self.owners:
            await owner.stop()
        await self.real.close()

    def ask(self, **body: Any) -> asyncio.Future[link_pb2.LinkResponse]:
        answers, call_id = Answers(), next(self._ids)
        answers.calls[call_id] = asyncio.get_running_loop().create_future()
        self.owner.request(answers, link_pb2.LinkRequest(call_id=call_id, **body))  # type: ignore[arg-type]
        return answers.calls[call_id]

    async def place(
        self, number: int, units: int = 1, limit: int = 10, live_ms: int = 1_000
    ) -> control_pb2.HoldResponse:
        request = control_pb2.PlaceHoldRequest(
            hold_id=number.to_bytes(16, "big"), time_to_live_ms=live_ms, catalogue_version=1
        )
        request.lines.add(quota_key="a", units=units, limit=limit)
        return (await self.ask(place_hold=request)).hold

    async def move(self, what: str, number: int) -> control_pb2.HoldResponse:
        request = control_pb2.HoldRequest(hold_id=number.to_bytes(16, "big"))
        async with asyncio.timeout(10):
            return (await self.ask(**{what: request})).hold

    async def capacity(self, partition: str, received: int, returned: int, wanted: int) -> link_pb2.CapacityResponse:
        return (await self.ask_capacity(partition, received, returned, wanted)).capacity

    async def ask_capacity(self, partition: str, received: int, returned: int, wanted: int) -> link_pb2.LinkResponse:
        request = link_pb2.CapacityRequest(
            zone_number=2, partition=partition, received_total=received, returned_total=returned, wanted=wanted
        )
        async with asyncio.timeout(10):
            return await self.ask(capacity=request)

    async def quota(self) -> control_pb2.Quota:
        return (await self.ask(get_quotas=control_pb2.GetQuotasRequest(quota_keys=["a"]))).get_quotas.quotas[0]
