"""Workers of one process write together: one transaction for all that they have read.

A transaction costs some 20 statements and an fsync, whatever it holds. Eight partitions that each made one every 0.2 s
made forty a second: a third of reporting's CPU and half of Postgres'. What each partition says is still whole and its
own: its offset decides whether it is written, and one whose books contradict its ledger holds up no other.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

import psycopg

from reporting.batch import Batch
from reporting.database import Connection, connect
from reporting.store import Offset, read_offset, write
from ticketcore.errors import DamagedDataError

REST_RANGE_S = (0.2, 0.5)
"""From one transaction that is not full to the next. It takes the cores and the disk that gates want: reports may lag,
guests may not. An event waits for a rest and two transactions at most, in all some 1 s where one takes 0.2 s,
and for a rest more if its worker was not done with reading when the others began."""
REST_TIMES = 4
"""How many times as long as a transaction took the rest after it is, within that range. Where the machine is busy each
takes longer, fewer are made, and each event costs less: many of them then share a row, a statement and an fsync."""
GATHER_S = 0.05
"""For the other workers to have read what there is: they begin at the same moment, after what they wrote together."""
TARGET_EVENTS = 200_000
"""A transaction of about this many events costs 0.3 s of work, 1.5 µs each, of 50,000 events 2 µs each where tickets
are strewn over millions; more would only add memory and lag."""

Written = tuple[Offset, bool]
"""The partition's offset now, and whether the batch was written: not if the offset had been moved by another."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    batch: Batch
    read_from: Offset
    written: asyncio.Future[Written]


class JointWriter:
    """One connection to Postgres for all workers of a process, made when it is needed, and again after it broke."""

    def __init__(self, url: str, workers: int = 1) -> None:
        """So many workers share it: when all of them wait, nobody else is waited for."""
        self._url = url
        self._workers = workers
        self._connection: Connection | None = None
        self._turn = asyncio.Lock()
        self._waiting: list[_Waiting] = []
        self._begin = asyncio.Event()
        self._writing: asyncio.Task[None] | None = None
        self._last_end = 0.0
        """When the last transaction was done, by the loop's clock."""
        self.rest_s = REST_RANGE_S[0]
        """How long to let events gather after it."""

    async def read_offset(self, partition: str) -> Offset:
        """The offset of a partition, committed.

        Raises:
            psycopg.OperationalError, psycopg.InterfaceError: Postgres is away.
        """
        async with self._turn:
            try:
                return await read_offset(await self._connected(), partition)
            except BaseException:  # also a question that is broken off, which leaves its transaction half done
                await self._drop()
                raise

    async def write(self, batch: Batch, read_from: Offset, *, at_once: bool) -> Written:
        """Writes a batch that follows `read_from`, with those of other workers. `at_once`: waits for none of them.

        Raises:
            DamagedDataError, psycopg.DataError, psycopg.IntegrityError: the batch cannot be; nothing of it was written.
            psycopg.OperationalError, psycopg.InterfaceError: Postgres is away; the outcome may be unknown.
        """
        mine = _Waiting(batch, read_from, asyncio.get_running_loop().create_future())
        self._waiting.append(mine)
        if at_once or len(self._waiting) >= self._workers:
            self._begin.set()
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write_waiting())
        return await mine.written

    async def close(self) -> None:
        """Hangs up. Whoever still waits hears that the outcome is unknown."""
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.gather(self._writing, return_exceptions=True)
        _fail(self._waiting, _closed())
        await self._drop()

    async def _write_waiting(self) -> None:
        while self._waiting:
            await self._gather()
            await self._write(self._take())

    async def _gather(self) -> None:
        now = asyncio.get_running_loop().time()
        due = max(now, self._last_end + self.rest_s) + GATHER_S
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(due - now):
                await self._begin.wait()

    def _take(self) -> list[_Waiting]:
        """What goes into the next transaction: batches in the order in which they came, until it is full."""
        taken: list[_Waiting] = []
        while self._waiting and sum(item.batch.events for item in taken) < TARGET_EVENTS:
            taken.append(self._waiting.pop(0))
        if not self._waiting:
            self._begin.clear()
        return taken

    async def _write(self, taken: Sequence[_Waiting]) -> None:
        began = asyncio.get_running_loop().time()
        try:
            async with self._turn:
                connection = await self._connected()
                written = await write(connection, [(item.batch, item.read_from) for item in taken])
        except (DamagedDataError, psycopg.DataError, psycopg.IntegrityError) as error:
            if len(taken) == 1:
                _fail(taken, error)
                return
            for item in taken:  # nothing was written: now whose fault it was
                await self._write([item])
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            _fail(taken, error)
            await self._drop()
        except asyncio.CancelledError:
            _fail(taken, _closed())
            raise
        except Exception as error:  # noqa: BLE001 - theirs to hear who gave the batch
            _fail(taken, error)
            await self._drop()
        else:
            for item in taken:
                if not item.written.done():  # its worker has not been ended meanwhile
                    item.written.set_result(written[item.batch.partition])
        finally:
            _fail(taken, _closed())  # whoever was not told anything, whatever has ended this
            self._last_end = asyncio.get_running_loop().time()
            self.rest_s = rest_after(self._last_end - began)

    async def _connected(self) -> Connection:
        if self._connection is None:
            self._connection = await connect(self._url)
        return self._connection

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(psycopg.Error, OSError):
                await connection.close()


def rest_after(took_s: float) -> float:
    """Seconds to rest after a transaction that took so long."""
    shortest_s, longest_s = REST_RANGE_S
    return min(max(shortest_s, REST_TIMES * took_s), longest_s)


def _closed() -> psycopg.InterfaceError:
    return psycopg.InterfaceError("the connection was closed while a batch waited for it")


def _fail(waiting: Sequence[_Waiting], error: Exception) -> None:
    for item in waiting:
        if not item.written.done():
            item.written.set_exception(error)
