"""Connections to the gateways. Streams share them, and they can be cut for a while: a rehearsal's network fault."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import grpc

OPTIONS = (("grpc.use_local_subchannel_pool", 1), ("grpc.keepalive_time_ms", 10_000))


def credentials(ca: Path, certificate: Path, key: Path) -> grpc.ChannelCredentials:
    """A client's own certificate. Raises: OSError."""
    return grpc.ssl_channel_credentials(ca.read_bytes(), key.read_bytes(), certificate.read_bytes())


class Lines:
    """Connections to one of the addresses each, in turn."""

    def __init__(self, addresses: Sequence[str], secret: grpc.ChannelCredentials, count: int) -> None:
        self._addresses = addresses
        self._secret = secret
        self._channels: list[grpc.aio.Channel | None] = [None] * count
        self._whole = asyncio.Event()
        self._whole.set()

    def line(self, number: int) -> Line:
        """One of them, for a stream."""
        return Line(self, number % len(self._channels))

    async def channel(self, number: int) -> grpc.aio.Channel:
        """The connection; waits while it is cut."""
        await self._whole.wait()
        found = self._channels[number]
        if found is None:
            address = self._addresses[number % len(self._addresses)]
            found = grpc.aio.secure_channel(address, self._secret, options=OPTIONS)
            self._channels[number] = found
        return found

    async def cut(self, seconds: float) -> None:
        """All connections break, and none comes back before `seconds` are over."""
        self._whole.clear()
        await self.close()
        await asyncio.sleep(seconds)
        self._whole.set()

    async def close(self) -> None:
        """Closes all."""
        open_ones = [channel for channel in self._channels if channel is not None]
        self._channels = [None] * len(self._channels)
        for channel in open_ones:
            await channel.close()


class Line:
    """A stream's share of a connection."""

    def __init__(self, lines: Lines, number: int) -> None:
        self._lines = lines
        self._number = number

    async def channel(self) -> grpc.aio.Channel:
        """The connection; waits while it is cut."""
        return await self._lines.channel(self._number)
