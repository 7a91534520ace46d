"""One Lua script over a connection that is kept for it, asked one call after the other.

For appends, which every scan waits for. A call of redis-py's client takes a connection from the pool, looks whether it
is still good, starts a task to write with a time-out, and another time-out to read; here all of a call is one time-out
around a write and a read of the library's own connection: half the CPU, and two turns of the event loop less.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Any

import redis.asyncio
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError
from redis.retry import Retry


class HeldScript:
    """The script, and its connection: made by the first call, and again by the first after it broke."""

    def __init__(self, url: str, script: str, timeout_s: float) -> None:
        pool = redis.asyncio.ConnectionPool.from_url(
            url, retry=Retry(NoBackoff(), 0), socket_timeout=None, socket_connect_timeout=timeout_s
        )
        self._connection: Any = pool.make_connection()  # type: ignore[no-untyped-call]
        self._script = script
        self._digest = hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
        self._timeout_s = timeout_s
        self._turn = asyncio.Lock()

    async def __call__(self, keys: Sequence[str], args: Sequence[bytes | str]) -> Any:
        """What the script answers.

        Raises:
            RedisError, OSError, TimeoutError: no answer came; whether the script has run is unknown.
        """
        async with self._turn, asyncio.timeout(self._timeout_s):
            try:
                return await self._ask("EVALSHA", self._digest, len(keys), *keys, *args)
            except NoScriptError:  # the server is new, or was restarted: nothing has run
                return await self._ask("EVAL", self._script, len(keys), *keys, *args)

    async def _ask(self, *command: Any) -> Any:
        """One round trip. Whatever interrupts it closes the connection: no answer is taken for that of a later call."""
        connection = self._connection
        if not connection.is_connected:
            await connection.connect()
        await connection.send_packed_command(connection.pack_command(*command), check_health=False)
        return await connection.read_response()

    async def close(self) -> None:
        """Hangs up."""
        await self._connection.disconnect()
