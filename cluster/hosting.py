"""Starts an owner or quota owner with a link server and a ledger of its own. Used by the actors, and by tests as is.

The socket's name holds the process id, so that a restarted owner never meets its predecessor's socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from cluster.config import ClusterConfig
from cluster.leasing import Leasing
from cluster.ledger import Head, Ledger
from cluster.link import Address, LinkServer
from cluster.owner import DAMAGED_AGAIN_S, Owner
from cluster.quota_owner import QuotaOwner
from cluster.routes import Routes
from cluster.tls import client_context, server_context


class _Host:
    """What both kinds of owner need around them."""

    def __init__(self, name: str, config: ClusterConfig, node: str) -> None:
        self.name = name
        self.config = config
        self.node = node
        self.ledger = Ledger(config.ledger_url)
        tls = client_context(config.link_tls) if config.link_tls is not None else None
        self.routes = Routes(self.ledger, config.partition_names, node, tls)
        self.address = ""
        self._server: LinkServer | None = None
        self._path = Path()

    async def listen(self, owner: Owner | QuotaOwner) -> None:
        """Opens the link, unless it is open. Nobody knows its address before it is published."""
        if self.address:
            return
        self._path = self.config.run_dir / f"{self.name}.{os.getpid()}.sock"
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
        tls = server_context(self.config.link_tls) if self.config.link_tls is not None else None
        self._server = LinkServer(owner.request)
        port = await self._server.listen(str(self._path), self.config.link_host, tls)
        self.address = Address(self.node, str(self._path), self.config.link_host, port).encode()

    async def close(self) -> None:
        """Closes link, routes and ledger."""
        if self._server is not None:
            await self._server.close()
            with contextlib.suppress(FileNotFoundError):
                self._path.unlink()
        self.routes.close()
        await self.ledger.close()


class OwnerHost(_Host):
    """A partition owner with its link."""

    def __init__(self, name: str, config: ClusterConfig, node: str) -> None:
        super().__init__(name, config, node)
        self.owner = Owner(name, config, self.ledger)
        self._runs = False

    @property
    def failure(self) -> BaseException | None:
        """What has ended a part of the owner: it must be made anew."""
        leasing = self.owner.leasing
        return self.owner.failure or (leasing.failure if leasing is not None else None)

    async def start(self, indexes: Sequence[int]) -> None:
        """Listens, then takes partitions over. To be called again and again: it does what is missing, after a failure
        too, and does nothing where all is well. A damaged partition is no failure: see `Owner.own`."""
        await self.listen(self.owner)
        if not self._runs:
            self.owner.leasing = Leasing(self.owner.owned, self.routes, self.owner.resume)
            await self.owner.start()
            self._runs = True
        await self.owner.own(await self._missing(indexes), self.address)

    async def is_work(self, indexes: Sequence[int]) -> bool:
        """Whether `start`, which was called before, has something to do. Not while it runs."""
        return bool(await self._missing(indexes))

    async def _missing(self, indexes: Sequence[int]) -> list[int]:
        """Which of these are to be taken now."""
        names = self.config.partition_names
        heads = await self.ledger.heads([names[index] for index in indexes])
        self._drop_lost(heads)
        missing = [index for index in indexes if not self._serves(index, heads.get(names[index]))]
        return [index for index in missing if not self.owner.is_set_aside(index)]

    def _drop_lost(self, heads: Mapping[str, Head]) -> None:
        """Gives up what another has taken. An owner that nobody asks anything would never notice at an append: nobody
        asks, because its address went with its epoch."""
        owned = self.owner.owned
        lost = [index for index, item in owned.items() if item.name in heads and heads[item.name].epoch != item.epoch]
        self.owner.drop(lost)

    def _serves(self, index: int, head: Head | None) -> bool:
        """Owned, and known to be: taking a partition may have succeeded and publishing its address failed."""
        return index in self.owner.owned and head is not None and head.address == self.address

    async def stop(self) -> None:
        """Stops in order."""
        if self.owner.leasing is not None:
            await self.owner.leasing.stop()
        await self.owner.stop()
        await self.close()


class QuotaHost(_Host):
    """The quota and capacity owner with its link."""

    def __init__(self, config: ClusterConfig, node: str) -> None:
        super().__init__("quota-0", config, node)
        self.owner = QuotaOwner(self.name, config, self.ledger, self.routes)
        self._look_again = 0.0

    async def start(self) -> None:
        """Listens, then takes the log over. To be called again and again, like that of the partition owner. A damaged
        log is no failure: the owner tells of it, and looks again after DAMAGED_AGAIN_S."""
        await self.listen(self.owner)
        if not self.is_work:
            return
        try:
            await self.owner.start(self.address)
        except BaseException:
            await self.owner.stop()
            raise
        if self.owner.damage:
            self._look_again = asyncio.get_running_loop().time() + DAMAGED_AGAIN_S

    @property
    def is_work(self) -> bool:
        """Whether `start` has something to do."""
        return not self.owner.serves and asyncio.get_running_loop().time() >= self._look_again

    async def stop(self) -> None:
        """Stops in order."""
        await self.owner.stop()
        await self.close()
