"""Moves actors to the nodes that their turns put them on, one after the other: after a node has joined, or to start all
anew without a pause of the whole.

An actor is ended for good; the supervisor, which runs with the cluster service, makes it anew. What it owned is fenced
and read again from the ledger by the next, and gates hear RETRY meanwhile (I1, I2, I7).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import ray

from cluster.config import QUOTA_PARTITION, ClusterConfig
from cluster.ledger import Head, Ledger
from cluster.placing import QUOTA_ACTOR, Node, live_nodes, node_in_turn, turns
from ticketcore.errors import NotFoundError, UnavailableError

BACK_WITHIN_S = 60.0
LOOK_EVERY_S = 0.1
ANSWER_S = 10.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where an actor is, None while it is nowhere, and where it belongs. `silent`: it is somewhere and does not say."""

    actor: str
    at: Node | None
    belongs: Node
    silent: bool = False

    @property
    def is_right(self) -> bool:
        """Whether it need not be moved. One that is silent may be where it belongs, and is about to take over."""
        return self.silent or self.at == self.belongs


class Rebalance:
    """Of the cluster on the Ray that this process has joined. `further`: names of actors of other packages."""

    def __init__(self, cluster: ClusterConfig, further: Sequence[str]) -> None:
        self._cluster = cluster
        self._turns = turns(cluster, further)
        self._ledger = Ledger(cluster.ledger_url)

    @classmethod
    @asynccontextmanager
    async def of(cls, cluster: ClusterConfig, further: Sequence[str]) -> AsyncIterator[Rebalance]:
        """A rebalance, and its connection to the ledger while it is needed."""
        rebalance = cls(cluster, further)
        try:
            yield rebalance
        finally:
            await rebalance._ledger.close()

    async def places(self, actors: Sequence[str] = ()) -> list[Place]:
        """Where these actors are, or all, in the order in which they are moved.

        Raises:
            NotFoundError: there is no such actor; names those that there are.
        """
        unknown = [actor for actor in actors if actor not in self._turns]
        if unknown:
            raise NotFoundError(f"there is no actor {', '.join(unknown)}; there are {', '.join(self._turns)}")
        live = {node.id: node for node in live_nodes()}
        chosen = {actor: turn for actor, turn in self._turns.items() if not actors or actor in actors}
        nodes = await asyncio.gather(*map(_node_of, chosen))
        return [
            Place(actor, live.get(node or ""), node_in_turn(turn), silent=node is None)
            for (actor, turn), node in zip(chosen.items(), nodes, strict=True)
        ]

    async def move(self, actor: str) -> float:
        """Ends an actor and waits until the next of its name serves; returns the seconds between.

        Raises:
            UnavailableError: it is not back in time. The supervisor goes on trying.
        """
        partitions = self._partitions_of(actor)
        heads = await self._ledger.heads(partitions)
        before = {name: heads[name].epoch if name in heads else 0 for name in partitions}
        began = time.monotonic()
        old = _find(actor)
        if old is not None:
            ray.kill(old, no_restart=True)
        while not await self._serves(actor, old, before):
            if time.monotonic() > began + BACK_WITHIN_S:
                raise UnavailableError(
                    f"{actor} is not back after {BACK_WITHIN_S:.0f} s; does the cluster service run?"
                )
            await asyncio.sleep(LOOK_EVERY_S)
        return time.monotonic() - began

    async def _serves(self, actor: str, old: Any, before: dict[str, int]) -> bool:
        new = _find(actor)
        if new is None or (old is not None and new._actor_id == old._actor_id):
            return False
        if not before:
            return bool(await _answer(new.start))  # returns once it serves
        heads = await self._ledger.heads(list(before))
        return all(name in heads and _is_taken(heads[name], epoch) for name, epoch in before.items())

    def _partitions_of(self, actor: str) -> list[str]:
        if actor == QUOTA_ACTOR:
            return [QUOTA_PARTITION]
        kind, _, number = actor.rpartition("-")
        return self._cluster.partition_names[int(number) :: self._cluster.owners] if kind == "owner" else []


def _is_taken(head: Head, before: int) -> bool:
    return head.epoch > before and bool(head.address or head.damage)


def _find(actor: str) -> Any:
    try:
        return ray.get_actor(actor)
    except ValueError:  # Ray's word for a name that nobody has
        return None


async def _node_of(actor: str) -> str | None:
    """The id of its node; empty if it is nowhere, None if it does not say."""
    handle = _find(actor)
    if handle is None:
        return ""
    node = await _answer(handle.node)
    return None if node is None else str(node)


async def _answer(method: Any) -> Any:
    """What an actor answers; None if it is away."""
    try:
        async with asyncio.timeout(ANSWER_S):
            return await method.remote()
    except (ray.exceptions.RayError, TimeoutError):
        return None
