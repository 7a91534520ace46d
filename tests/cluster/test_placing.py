"""Whose turn it is when nodes are dealt, and what `parkgate rebalance` may be asked for. That actors move is tried on
two nodes (tests/system/test_two_nodes.py) and by `make chaos`."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.config import ClusterConfig
from cluster.placing import turns
from cluster.rebalance import Rebalance
from ticketcore.errors import NotFoundError

CLUSTER = ClusterConfig("redis://127.0.0.1:1/0", Path("/nowhere"), partitions=4, owners=2, gateways=2)


def test_owners_and_gateways_are_spread_alike_and_the_rest_behind_the_owners() -> None:
    assert turns(CLUSTER, ["reporting-0"]) == {
        "owner-0": 0,
        "owner-1": 1,
        "quota-0": 2,
        "gateway-0": 0,
        "gateway-1": 1,
        "reporting-0": 3,
    }


async def test_an_actor_that_there_is_not_is_named_with_those_that_there_are() -> None:
    async with Rebalance.of(CLUSTER, ["reporting-0"]) as rebalance:
        with pytest.raises(NotFoundError, match="no actor owner-2; there are owner-0, owner-1, quota-0, gateway-0"):
            await rebalance.places(["owner-1", "owner-2"])


def test_an_actor_owns_every_so_manieth_partition() -> None:
    rebalance = Rebalance(CLUSTER, [])
    assert [
        rebalance._partitions_of(name) for name in ("owner-0", "owner-1", "quota-0", "gateway-1", "reporting-0")
    ] == [
        ["p0", "p2"],
        ["p1", "p3"],
        ["q0"],
        [],
        [],
    ]
