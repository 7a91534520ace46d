"""One Lua script over a connection that is kept for it, asked one call after the other.

For appends, which every scan waits for. A call of redis-py takes a connection from the pool, looks whether it is still
good, starts a task to write with a time-out, and another time-out to read, through asyncio's streams. Here a call is
one write and one answer, in the event loop's own protocol, packed and parsed by hiredis: a third of the CPU of an
append, and two turns of the event loop less.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Any, cast

import hiredis
import redis.asyncio
from redis.exceptions import ConnectionError as LostConnectionError
from redis.exceptions import ResponseError

NO_SCRIPT = "NOSCRIPT"


class HeldScript:
    """The script, and its connection: made by the first call, and again by the first after it broke."""

    def __init__(self, url: str, script: str, timeout_s: float) -> None:
        pool = redis.asyncio.ConnectionPool.from_url(url)
        self._server: Any = pool.make_connection()  # type: ignore[no-untyped-call]
        """What the URL says; never connected."""
        self._wire: _Wire | None = None
        self._script = script
        self._digest = hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
        self._timeout_s = timeout_s
        self._turn = asyncio.Lock()
        self._ended = False

    async def __call__(self, keys: Sequence[str], args: Sequence[bytes | str]) -> Any:
        """What the script answers.

        Raises:
            RedisError, OSError, TimeoutError: no answer came; whether the script has run is unknown.
        """
        async with self._turn:
            if self._ended:
                raise LostConnectionError("this end has hung up")
            deadline = asyncio.get_running_loop().time() + self._timeout_s
            wire = self._wire
            if wire is None or wire.closed:
                async with asyncio.timeout_at(deadline):
                    wire = self._wire = await self._connect(deadline)
            try:
                return await wire.ask(deadline, "EVALSHA", self._digest, len(keys), *keys, *args)
            except ResponseError as error:
                if not str(error).startswith(NO_SCRIPT):
                    raise
            # The server is new, or was restarted: nothing has run.
            return await wire.ask(deadline, "EVAL", self._script, len(keys), *keys, *args)

    async def _connect(self, deadline: float) -> _Wire:
        loop, server = asyncio.get_running_loop(), self._server
        tls = server.ssl_context.get() if isinstance(server, redis.asyncio.SSLConnection) else None
        if isinstance(server, redis.asyncio.UnixDomainSocketConnection):
            _, wire = await loop.create_unix_connection(_Wire, server.path)
        else:
            _, wire = await loop.create_connection(_Wire, server.host, server.port, ssl=tls)
        try:
            if server.password:
                await wire.ask(deadline, "AUTH", *filter(None, (server.username, server.password)))
            if server.db:
                await wire.ask(deadline, "SELECT", server.db)
        except ResponseError:
            wire.close()
            raise
        return wire

    async def close(self) -> None:
        """Hangs up for good."""
        self._ended = True
        if self._wire is not None:
            self._wire.close()


class _Wire(asyncio.Protocol):
    """One connection. Whatever interrupts a call closes it: no answer is ever taken for that of a later call."""

    def __init__(self) -> None:
        self._reader = hiredis.Reader(protocolError=LostConnectionError, replyError=ResponseError)
        self._answer: asyncio.Future[Any] | None = None
        self._transport: asyncio.Transport | None = None
        self.closed = False

    async def ask(self, deadline: float, *command: Any) -> Any:
        """One round trip. `deadline` is by the loop's clock.

        Raises:
            ResponseError: the server refuses.
            RedisError, OSError: the connection broke.
            TimeoutError: the time is over.
        """
        if self._transport is None or self.closed:
            raise LostConnectionError("the connection is closed")
        loop = asyncio.get_running_loop()
        answer = self._answer = loop.create_future()
        late = loop.call_at(deadline, self._give_up, TimeoutError("no answer in time"))
        try:
            self._transport.write(hiredis.pack_command(command))
            found = await answer
        except BaseException:
            self.close()
            raise
        finally:
            late.cancel()
        if isinstance(found, ResponseError):
            raise found
        return found

    def close(self) -> None:
        """Hangs up at once."""
        self.closed = True
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast, not a check: uvloop's transports are not instances of asyncio.Transport.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
            found = self._reader.gets()
        except LostConnectionError as error:
            self._give_up(error)
            return
        if found is False:
            return  # the rest is on its way
        answer, self._answer = self._answer, None
        if answer is None or self._reader.has_data():
            self._answer = answer
            self._give_up(LostConnectionError("an answer that nobody has asked for"))
        elif not answer.done():
            answer.set_result(found)

    def connection_lost(self, exc: Exception | None) -> None:
        self._give_up(exc or LostConnectionError("the server has hung up"))

    def _give_up(self, why: Exception) -> None:
        answer, self._answer = self._answer, None
        self.close()
        if answer is not None and not answer.done():
            answer.set_exception(why)
