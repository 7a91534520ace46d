"""Where each partition's owner listens, found in the ledger; one link to each owner, shared by all partitions.

Looking up is never on the path of a scan that finds its link: only a partition without a live link asks the ledger, at
most every `LOOK_UP_EVERY_S`.

Only owners that the ledger names have a link. One that was replaced keeps none: if its host is lost nothing else would
break it for a quarter of an hour, and whoever asks all owners would wait for it each time.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Container, Sequence

from cluster.config import QUOTA_PARTITION
from cluster.ledger import Head, Ledger
from cluster.link import Address, LinkClient
from ticketcore.errors import TransientError, UnavailableError

LOOK_UP_EVERY_S = 0.1


class Routes:
    """Links to the owners of partitions."""

    def __init__(self, ledger: Ledger, partitions: Sequence[str], node: str, tls: ssl.SSLContext | None) -> None:
        self._ledger = ledger
        self._partitions = list(partitions)
        self._names = [*partitions, QUOTA_PARTITION]
        self._node = node
        self._tls = tls
        self._links: dict[str, LinkClient] = {}
        self._addresses: dict[str, str] = {}
        self.damaged: dict[str, Head] = {}
        """Partitions that nobody serves because their log is damaged, as of the last look."""
        self._look_up_lock = asyncio.Lock()
        self._looking: asyncio.Task[None] | None = None
        self._table: list[LinkClient | None] | None = None
        self._sole: LinkClient | None = None

    def link(self, name: str) -> LinkClient | None:
        """The live link to a partition's owner, or None while it is being looked up."""
        link = self._link(name)
        if link is not None and not link.broken:
            return link
        self.look_up_soon()
        return None

    def _link(self, name: str) -> LinkClient | None:
        return self._links.get(self._addresses.get(name, ""))

    def table(self) -> list[LinkClient | None]:
        """Links by index of the ticket partition; kept until a link breaks or routes change."""
        table = self._table
        if table is None or any(link is None or link.broken for link in table):
            table = self._table = [self.link(name) for name in self._partitions]
        return table

    def sole(self) -> LinkClient | None:
        """The live link that leads to all ticket partitions; None if there is no such. Cheap: asked for every frame."""
        link = self._sole
        if link is not None and not link.broken:
            return link
        table = self.table()
        self._sole = table[0] if all(link is table[0] for link in table) else None
        return self._sole

    async def wait(self, name: str, timeout_s: float) -> LinkClient:
        """The live link to a partition's owner.

        Raises:
            UnavailableError: no owner was found in time, or the partition is damaged.
        """
        deadline = asyncio.get_running_loop().time() + timeout_s
        while True:
            link = self.link(name)
            if link is not None:
                return link
            if name in self.damaged:
                raise UnavailableError(f"partition {name} is stopped: {self.damaged[name].damage}", 5_000)
            if asyncio.get_running_loop().time() >= deadline:
                raise UnavailableError(f"the owner of partition {name} is away", 200)
            await asyncio.sleep(0.02)

    def look_up_soon(self) -> None:
        """Looks the routes up in the background, unless that is under way."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look_up_later())

    async def _look_up_later(self) -> None:
        with contextlib.suppress(TransientError):  # looked up again by whoever still misses a link
            await self.look_up()
        await asyncio.sleep(LOOK_UP_EVERY_S)

    async def look_up(self) -> None:
        """Reads all addresses, connects to owners that are new, at once, and closes the links to all others: whoever
        waits on those is told that the outcome is unknown, for a replaced owner appends nothing more."""
        async with self._look_up_lock:
            heads = await self._ledger.heads(self._names)
            self.damaged = {name: head for name, head in heads.items() if head.damage}
            self._addresses = {name: head.address for name, head in heads.items() if head.address}
            self._table = self._sole = None
            named = dict.fromkeys(self._addresses.values())
            self._close_others(named)
            await asyncio.gather(*(self._connect(address) for address in named if address not in self._links))

    def _close_others(self, named: Container[str]) -> None:
        for address, link in list(self._links.items()):
            if address not in named or link.broken:
                link.close()
                del self._links[address]

    async def _connect(self, address: str) -> None:
        with contextlib.suppress(UnavailableError):  # looked up again by whoever still misses it
            self._links[address] = await LinkClient.connect(Address.decode(address), self._node, self._tls)

    def links(self) -> list[LinkClient]:
        """Live links to the owners of ticket partitions, one for each."""
        links = dict.fromkeys(map(self._link, self._partitions))
        return [link for link in links if link is not None and not link.broken]

    def close(self) -> None:
        """Breaks all links."""
        if self._looking is not None:
            self._looking.cancel()
        for link in self._links.values():
            link.close()
