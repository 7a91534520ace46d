"""A line between a turnstile and its gateway that can be cut at the worst moment. It carries TLS, and reads none."""

from __future__ import annotations

import asyncio
import contextlib

CUT_AFTER_S = 0.25
"""From the first byte of the scan to the cut: a hundred times what a verdict takes, so it was decided, and is lost."""


class LossyLine:
    """Forwards connections to `localhost:target`. `lose_next_reply` swallows what comes back next, then cuts."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._losing = False
        self.cuts = 0

    async def start(self) -> int:
        """Listens on loopback; answers the port."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    def lose_next_reply(self) -> None:
        """The next thing that is sent gets no answer."""
        self._losing = True

    async def stop(self) -> None:
        """Ends all connections."""
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        with contextlib.suppress(OSError, asyncio.CancelledError):
            up_reader, up_writer = await asyncio.open_connection("localhost", self._target)
            try:
                await self._carry((reader, writer), (up_reader, up_writer))
            finally:
                writer.transport.abort()
                up_writer.transport.abort()

    async def _carry(
        self,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        cut = asyncio.Event()
        directions = [
            asyncio.create_task(self._forward(client[0], server[1], cut)),
            asyncio.create_task(self._return(server[0], client[1])),
            asyncio.create_task(cut.wait()),
        ]
        try:
            await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in directions:
                task.cancel()
            await asyncio.gather(*directions, return_exceptions=True)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, cut: asyncio.Event) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
            if self._losing:
                await asyncio.sleep(CUT_AFTER_S)
                self._losing = False
                self.cuts += 1
                cut.set()
                return

    async def _return(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            if not self._losing:
                writer.write(data)
                await writer.drain()
