"""How much of the ledger reporting has still to read, and the alarm when that nears its limit.

While Postgres is away the log cannot be trimmed: it grows by what gates do, and by nothing else, for selling has
stopped. Nothing is refused at the limit, for the guests at the gates come first (I10): what happens there is an alarm
at 50, 80 and 100 %, as a metric, in `parkgate status` and in the log, early enough to bring Postgres back or to give
the ledger's machine more memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from cluster.ledger import Ledger
from ticketcore.quota import highest_level

LOOK_EVERY_S = 5.0
LEVELS_PERCENT = (50, 80, 100)
DEFAULT_LIMIT_BYTES = 1 << 30
"""A guest, by scan and passage, takes some 900 bytes of the ledger's memory: over a million guests, more than any park
sees in a day."""
log = structlog.get_logger("cluster.backlog")


@dataclass(frozen=True, slots=True)
class Unreported:
    """What reporting has not read: entries of the log, and about how many bytes they take in the ledger's memory."""

    entries: int = 0
    log_bytes: int = 0


class Backlog:
    """Watches the logs of all partitions. `now` is what it saw last."""

    def __init__(self, ledger: Ledger, partitions: Sequence[str], limit_bytes: int = DEFAULT_LIMIT_BYTES) -> None:
        self._ledger = ledger
        self._partitions = partitions
        self.limit_bytes = limit_bytes
        self.now = Unreported()
        self._level = 0

    @property
    def percent(self) -> int:
        """Of the limit."""
        return self.now.log_bytes * 100 // self.limit_bytes

    async def look(self) -> None:
        """Looks, and tells when another level is reached, or left again.

        Raises:
            UnavailableError: the ledger is away.
        """
        sizes = [await self._ledger.unreported(name) for name in self._partitions]
        self.now = Unreported(sum(entries for entries, _ in sizes), sum(size for _, size in sizes))
        level = highest_level(self.now.log_bytes, self.limit_bytes, LEVELS_PERCENT)
        if level != self._level:
            tell = log.critical if level == LEVELS_PERCENT[-1] else log.warning if level else log.info
            tell(_WORDS[level > 0], percent=self.percent, entries=self.now.entries, bytes=self.now.log_bytes)
        self._level = level


_WORDS = {
    True: "reporting is far behind and the ledger grows: bring Postgres back, or give the ledger more memory",
    False: "reporting has caught up",
}
