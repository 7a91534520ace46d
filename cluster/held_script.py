"""One Lua script over a connection that is kept for it, asked one call after the other.

For appends, which every scan waits for. A call of redis-py takes a connection from the pool, looks whether it is still
good, starts a task to write with a time-out, and another time-out to read, through asyncio's streams. Here a call is
one write and one answer, in the event loop's own protocol, packed and parsed by hiredis: a third of the CPU of an
append, and two turns of the event loop less. On a connection that is open and free it is on its way as soon as it is
made, before anybody awaits its answer.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Generator, Sequence
from dataclasses import dataclass
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

    def __call__(self, keys: Sequence[str], args: Sequence[bytes | str]) -> Call:
        """Asks; to be awaited for what the script answers. Sent by this call if the connection is open and no other
        call is on it, else by whoever awaits it."""
        deadline = asyncio.get_running_loop().time() + self._timeout_s
        call, wire = Call(self, deadline, (len(keys), *keys, *args)), self._wire
        if wire is not None and wire.is_free and not self._turn.locked():
            call.asked = wire.ask(deadline, "EVALSHA", self._digest, *call.arguments)
        return call

    async def answer(self, call: Call) -> Any:
        """What the script answers to a call; see `Call`."""
        try:
            if call.asked is None:
                call.asked = await self._ask_in_turn(call.deadline, "EVALSHA", self._digest, *call.arguments)
            return await call.asked
        except ResponseError as error:
            if not str(error).startswith(NO_SCRIPT):
                raise
        # The server is new, or was restarted: nothing has run.
        return await (await self._ask_in_turn(call.deadline, "EVAL", self._script, *call.arguments))

    async def _ask_in_turn(self, deadline: float, *command: Any) -> asyncio.Future[Any]:
        async with asyncio.timeout_at(deadline), self._turn:
            return (await self._free_wire(deadline)).ask(deadline, *command)

    async def _free_wire(self, deadline: float) -> _Wire:
        while not self._ended:
            wire = self._wire
            if wire is None or wire.closed:
                self._wire = await self._connect(deadline)
            elif wire.is_free:
                return wire
            else:
                await wire.settled()
        if self._wire is not None:
            self._wire.close()  # it was made while this end hung up
        raise LostConnectionError("this end has hung up")

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
        except BaseException:
            wire.close()
            raise
        return wire

    async def close(self) -> None:
        """Hangs up for good."""
        self._ended = True
        if self._wire is not None:
            self._wire.close()


@dataclass(slots=True, eq=False)
class Call:
    """A call of the script. Awaited once, it is what the script answers.

    Raises:
        RedisError, OSError, TimeoutError: no answer came; whether the script has run is unknown.
    """

    script: HeldScript
    deadline: float
    """By the loop's clock."""
    arguments: tuple[Any, ...]
    """Of EVALSHA, and of EVAL, after the script."""
    asked: asyncio.Future[Any] | None = None
    """Its answer, once it is on its way."""

    def __await__(self) -> Generator[Any, None, Any]:
        return self.script.answer(self).__await__()


class _Wire(asyncio.Protocol):
    """One connection, with one call at a time. A call that is given up closes it: no answer is ever taken for that of a
    later call."""

    def __init__(self) -> None:
        self._reader = hiredis.Reader(protocolError=LostConnectionError, replyError=ResponseError)
        self._answer: asyncio.Future[Any] | None = None
        self._deadline = 0.0
        self._watch: asyncio.TimerHandle | None = None
        """Looks for an answer that is late; it stays from call to call, for making one costs what a call does."""
        self._watch_time = 0.0
        self._transport: asyncio.Transport | None = None
        self.closed = False

    @property
    def is_free(self) -> bool:
        """Whether a call may be made now."""
        return self._answer is None and not self.closed

    def ask(self, deadline: float, *command: Any) -> asyncio.Future[Any]:
        """Sends a command, at once; answers what it will be answered. `deadline` is by the loop's clock. Of the future:

        Raises:
            ResponseError: the server refuses.
            RedisError, OSError: the connection broke.
            TimeoutError: the time is over.
        """
        if self._transport is None or not self.is_free:
            raise LostConnectionError("the connection is not free")
        packed = hiredis.pack_command(command)
        answer = self._answer = asyncio.get_running_loop().create_future()
        self._watch_until(deadline)
        self._transport.write(packed)
        return answer

    async def settled(self) -> None:
        """Waits for the call that is on the connection. One that was given up is not waited for: it closes it."""
        if self._answer is not None and not self._answer.done():
            await asyncio.wait((self._answer,))
        if self._answer is not None:
            self.close()

    def _watch_until(self, deadline: float) -> None:
        self._deadline = deadline
        if self._watch is not None and self._watch_time <= deadline:
            return
        if self._watch is not None:
            self._watch.cancel()
        self._watch, self._watch_time = asyncio.get_running_loop().call_at(deadline, self._look), deadline

    def _look(self) -> None:
        self._watch = None
        if self._answer is None or self.closed:
            return
        if asyncio.get_running_loop().time() < self._deadline:
            self._watch_until(self._deadline)
        else:
            self._give_up(TimeoutError("no answer in time"))

    def close(self) -> None:
        """Hangs up at once."""
        self.closed = True
        if self._watch is not None:
            self._watch.cancel()
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
        answer = self._answer
        if answer is None or self._reader.has_data():
            self._give_up(LostConnectionError("an answer that nobody has asked for"))
            return
        self._answer = None
        if answer.done():
            self.close()  # its caller has given it up
        elif isinstance(found, ResponseError):
            _fail(answer, found)
        else:
            answer.set_result(found)

    def connection_lost(self, exc: Exception | None) -> None:
        self._give_up(exc or LostConnectionError("the server has hung up"))

    def _give_up(self, why: Exception) -> None:
        answer, self._answer = self._answer, None
        self.close()
        if answer is not None and not answer.done():
            _fail(answer, why)


def _fail(answer: asyncio.Future[Any], why: Exception) -> None:
    answer.set_exception(why)
    answer.exception()  # looked at: an owner that is stopped awaits it no more, and that is no fault to be logged
