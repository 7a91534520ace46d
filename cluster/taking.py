"""What an owner finds when it takes a partition, and what it counts from then on."""

from __future__ import annotations

from dataclasses import dataclass, field

from cluster.ledger import Ledger
from cluster.partition import Partition
from cluster.recovery import replay, restore
from ticketcore.errors import UnavailableError
from ticketcore.rules import Rules


@dataclass(slots=True)
class Counters:
    """What an owner has done since it started."""

    turns: int = 0
    scans: int = 0
    shed: int = 0
    append_retries: int = 0
    fenced: list[str] = field(default_factory=list)
    damaged: dict[str, str] = field(default_factory=dict)
    """Partitions that are not served, for their log cannot be believed, and why."""


async def read_partition(ledger: Ledger, name: str, known: tuple[int, Rules | None], sequence: int) -> Partition:
    """The state of a partition up to a sequence. `known`: how many partitions there are, and the rules in force.

    Raises:
        DamagedDataError: snapshot or log cannot be believed.
        UnavailableError: the ledger is away, or there are no rules to read its events by.
    """
    partitions, rules = known
    partition = Partition(name, partitions)
    stored = await ledger.read_snapshot(name)
    if stored is not None:
        restore(partition, stored[1], partitions)
    if sequence > partition.sequence:
        if rules is None:
            raise UnavailableError("no catalogue is in force, but the ledger holds events")
        async for entry in ledger.entries(name, partition.sequence, sequence):
            replay(partition, entry, rules)
    return partition
