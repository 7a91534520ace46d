"""A catalogue that the cluster does not take: whoever publishes hears of it, and no later one waits behind it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from parkgate.sales.v1 import sales_pb2 as pb
from sales.identity import LOCAL
from sales.outbox import relay_once
from sales.usecases.publish_catalogue import publish_catalogue
from sales.usecases.read_catalogue import get_catalogue
from tests.sales.conftest import Desk, new_id, publish

GUESTS_INSIDE = "3 persons are inside"


def renamed(document: dict[str, Any]) -> None:
    document["venue"]["name"] += " by night"


async def pending(desk: Desk, version: int = 0) -> str:
    answer = await get_catalogue(desk.sales, LOCAL, pb.GetCatalogueRequest(catalogue_version=version))
    return answer.pending


async def relay_after(desk: Desk, seconds: float) -> None:
    desk.now += timedelta(seconds=seconds)
    await relay_once(desk.sales)


async def test_a_refused_catalogue_is_said_until_the_cluster_takes_it(desk: Desk) -> None:
    await relay_after(desk, 0.0)
    assert await pending(desk) == ""
    desk.cluster.against[2] = GUESTS_INSIDE
    document = (await get_catalogue(desk.sales, LOCAL, pb.GetCatalogueRequest())).document
    request = pb.PublishCatalogueRequest(request_id=new_id(), document=document.replace(b"CHF", b"EUR"))
    answer = await publish_catalogue(desk.sales, LOCAL, request)
    assert (answer.catalogue_version, answer.changed) == (2, True)
    assert GUESTS_INSIDE in answer.pending
    await relay_after(desk, 0.0)
    assert GUESTS_INSIDE in await pending(desk)
    assert await pending(desk, 1) == ""

    desk.cluster.against.clear()
    again = await publish_catalogue(desk.sales, LOCAL, request)
    assert (again.catalogue_version, again.pending) == (2, "")
    await relay_after(desk, 60.0)
    assert await pending(desk) == ""
    assert desk.cluster.catalogue_version == 2


async def test_a_catalogue_that_this_process_has_not_seen_in_force_yet_is_told_all_the_same(desk: Desk) -> None:
    """Its row is there as soon as it is in force; which one that is, a process looks up once a second only."""
    await relay_after(desk, 0.0)
    seen = await desk.sales.catalogues.current()
    desk.cluster.away = True
    assert await publish(desk, renamed) == 2
    desk.cluster.away = False
    desk.sales.catalogues._current = (seen.version, desk.now)
    await relay_after(desk, 0.5)
    assert desk.cluster.catalogue_version == 2


async def test_a_catalogue_that_was_refused_for_good_does_not_keep_the_next_from_the_cluster(desk: Desk) -> None:
    desk.cluster.against[2] = "the park would move to another time zone"
    await publish(desk, renamed)
    await relay_after(desk, 1.0)
    desk.cluster.away = True  # so that only the outbox can tell it
    assert await publish(desk) == 3
    desk.cluster.away = False
    for _ in range(3):
        await relay_after(desk, 60.0)
    assert desk.cluster.catalogue_version == 3
    assert await pending(desk) == ""
