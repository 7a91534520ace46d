"""Unused units of a zone are asked back from the partitions that have them, whoever owns those just now."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable

from cluster.routes import Routes
from parkgate.cluster.v1 import link_pb2
from ticketcore.capacity import ZoneBook

RECALL_TIMEOUT_S = 0.5
Totals = list[link_pb2.CapacityRequest]


async def recall(routes: Routes, zone: ZoneBook, wanted: int, but: str = "") -> Totals:
    """Asks the owner of every partition, `but` one, for so many unused units; what those that answered have received
    and given back by now."""
    with contextlib.suppress(TimeoutError):  # of a host that is lost, and not replaced yet
        async with asyncio.timeout(RECALL_TIMEOUT_S):
            await routes.look_up()
    call = link_pb2.LinkRequest()
    call.recall.zone_number, call.recall.wanted, call.recall.except_partition = zone.zone_number, wanted, but
    for partition, grant in zone.grants.items():
        call.recall.granted_totals[partition] = grant.granted_total
    calls = [link.call(_copy(call), RECALL_TIMEOUT_S) for link in routes.links()]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    return [item for answer in answers if isinstance(answer, link_pb2.LinkResponse) for item in answer.recall.totals]


def silent(zone: ZoneBook, totals: Iterable[link_pb2.CapacityRequest], but: str = "") -> list[str]:
    """Partitions that have units and did not answer: theirs may be unused."""
    answered = {but, *(total.partition for total in totals)}
    return [partition for partition, grant in zone.grants.items() if grant.leased and partition not in answered]


def _copy(request: link_pb2.LinkRequest) -> link_pb2.LinkRequest:
    copy = link_pb2.LinkRequest()
    copy.CopyFrom(request)
    return copy
