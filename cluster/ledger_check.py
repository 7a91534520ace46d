"""Looks at a ledger before anybody works on it: is it what the cluster takes it for?

The partition of a ticket follows from how many there are, which is fixed when a ledger is first used. With another
number the old logs would be read by others, or by nobody, and a used ticket would be unknown where it is looked for
(I1). And a ledger that answers before it has written to disk loses admissions that gates have heard of (I2).
"""

from __future__ import annotations

import structlog

from cluster.ledger import Ledger
from ticketcore.errors import ConflictError

PARTITIONS = "partitions"
"""The control record that holds the number, in decimal."""
MAX_PARTITIONS = 4_096
NO_RECORD = -1
log = structlog.get_logger("cluster.ledger_check")


async def check_ledger(ledger: Ledger, partitions: int) -> None:
    """Returns if the cluster may start on this ledger, with so many partitions; at its first use notes the number.

    Raises:
        ConflictError: it may not; says what to set.
        DamagedDataError: the record of the number is not what was written.
        UnavailableError: the ledger is away.
    """
    unsafe = await ledger.check_durability()
    if unsafe is None:
        log.warning("the ledger does not show its configuration: see to it that it syncs each write (I2)")
    elif unsafe:
        raise ConflictError(f"the ledger would lose admissions (I2): {'; '.join(unsafe)}. Set that at its server.")
    fixed = await _fixed_partitions(ledger, partitions)
    if fixed != partitions:
        raise ConflictError(
            f"the ledger is divided into {fixed} partitions for good, and the settings say {partitions}. "
            f"Set PARKGATE_PARTITIONS={fixed}."
        )


async def _fixed_partitions(ledger: Ledger, wanted: int) -> int:
    """How many there are for good: as noted, as found in a ledger that is older than the note, or else as wanted."""
    noted = await ledger.read_control(PARTITIONS)
    while noted is None:
        found = await _found_partitions(ledger) or wanted
        if found != wanted:
            return found
        await ledger.replace_control(PARTITIONS, NO_RECORD, str(wanted).encode())
        noted = await ledger.read_control(PARTITIONS)  # another may have been quicker
    return int(noted[1])


async def _found_partitions(ledger: Ledger) -> int:
    """How many are there; 0 if nothing was ever logged."""
    heads = await ledger.heads([f"p{index}" for index in range(MAX_PARTITIONS)])
    used = any(head.sequence for head in heads.values())
    return 1 + max(int(name[1:]) for name in heads) if used else 0
