"""Where the cluster's actors belong: dealt over Ray's nodes in turn, owners and gateways first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import ray

from cluster.config import ClusterConfig

QUOTA_ACTOR = "quota-0"


@dataclass(frozen=True, slots=True)
class Node:
    """A node of Ray: its id, and the address that people know it by."""

    id: str
    address: str


def turns(cluster: ClusterConfig, further: Sequence[str]) -> dict[str, int]:
    """Whose turn it is when nodes are dealt, by actor. `further`: names of actors of other packages."""
    owners = [(f"owner-{number}", number) for number in range(cluster.owners)]
    gateways = [(f"gateway-{number}", number) for number in range(cluster.gateways)]
    rest = [(name, cluster.owners + number) for number, name in enumerate((QUOTA_ACTOR, *further))]
    return dict((*owners, *rest[:1], *gateways, *rest[1:]))


def live_nodes() -> list[Node]:
    """In the order in which they are dealt. By address, so that what is started anew stands where it stood."""
    live = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    found = [Node(str(node["NodeID"]), str(node["NodeManagerAddress"])) for node in live]
    return sorted(found, key=lambda node: (len(node.address), node.address, node.id))


def node_in_turn(turn: int) -> Node:
    """The node that an actor with this turn belongs to at this moment."""
    live = live_nodes()
    return live[turn % len(live)]
