"""Whose turn it is when nodes are dealt, and what `parkgate rebalance` may be asked for. That actors move is tried on
two nodes (tests/system/test_two_nodes.py) and by `make chaos`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from cluster import rebalance as rebalancing
from cluster.config import ClusterConfig
from cluster.placing import Node, turns
from cluster.rebalance import Place, Rebalance
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


def test_an_actor_that_does_not_say_where_it_is_counts_as_right() -> None:
    """It may be reading its partitions; to end it would begin that anew."""
    here, there = Node("a", "10.0.0.1"), Node("b", "10.0.0.2")
    assert Place("owner-0", here, here).is_right
    assert not Place("owner-0", there, here).is_right
    assert not Place("owner-0", None, here).is_right
    assert Place("owner-0", None, here, silent=True).is_right


async def test_an_owner_is_back_when_all_of_its_partitions_are_taken_also_those_that_nobody_had(
    valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebalancing, "_find", lambda _: SimpleNamespace(_actor_id="new"))
    async with Rebalance.of(replace(CLUSTER, ledger_url=valkey_url), []) as rebalance:
        ledger = rebalance._ledger
        before = {"p0": (await ledger.take("p0", "old")).epoch, "p2": 0}
        seen = []
        for name in ("p0", "p2"):
            seen.append(await rebalance._serves("owner-0", SimpleNamespace(_actor_id="old"), before))
            taken = await ledger.take(name, "new")
            seen.append(await rebalance._serves("owner-0", None, before))
            await ledger.publish_address(name, taken.epoch, "here")
        seen.append(await rebalance._serves("owner-0", SimpleNamespace(_actor_id="new"), before))
        assert seen == [False] * 5
        assert await rebalance._serves("owner-0", SimpleNamespace(_actor_id="old"), before)
