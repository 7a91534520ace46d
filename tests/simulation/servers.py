"""The two servers of a simulated park, ledger and Postgres, behind trips that lose, delay and repeat what is asked.

A trip has two halves, there and back. Whatever is lost, the caller waits for its time-out or hears of a broken
connection, and cannot tell whether it was done: that is what every unknown outcome is made of.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator, Sequence
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any

import psycopg
import redis.exceptions

from cluster import ledger as ledger_module
from cluster.runs import scan_ids_of
from reporting.batch import Batch
from reporting.store import Offset
from tests.checker import Books, StoredEntry, Trimmed
from tests.simulation.loop import PROCESS, Process, VirtualLoop
from tests.simulation.memory_redis import APPEND, MemoryRedis, MemoryServer, Operation
from tests.simulation.network import Network
from tests.simulation.trace import Trace
from ticketcore.errors import DamagedDataError


@dataclass(frozen=True, slots=True)
class Trouble:
    """Shares of calls that suffer each fault; `slow_s` is how long a slow one takes on its way there."""

    lost_before: float = 0.0
    lost_after: float = 0.0
    broken_before: float = 0.0
    broken_after: float = 0.0
    slow: float = 0.0
    slow_s: tuple[float, float] = (0.2, 3.0)


NO_TROUBLE = Trouble()


class RemoteServer:
    """A server that is called over the network. Stop its process, and calls pile up; cut a way, and they are lost."""

    def __init__(self, name: str, network: Network, chance: random.Random, broken: Callable[[], Exception]) -> None:
        self.process = Process(name)
        self.trouble = NO_TROUBLE
        self._network, self._chance, self._broken = network, chance, broken

    async def trip(self, operation: Operation) -> Any:
        """One call of the calling process.

        Raises:
            TimeoutError: no answer came within the ledger's time-out.
            The server's own error for a broken connection.
        """
        loop, caller = self._network.loop, PROCESS.get()
        answer: asyncio.Future[Any] = loop.create_future()
        fate = self._fate()
        if fate != "lost_before" and self._network.passes(caller, self.process):
            there = self._chance.uniform(*self.trouble.slow_s) if fate == "slow" else self._network.delay()
            arguments = (operation, answer, copy_context(), caller, fate)
            loop.call_later(there, self._arrive, *arguments, context=self.process.context)
        giving_up = loop.call_later(ledger_module.CALL_TIMEOUT_S, _give_up, answer)
        try:
            return await answer
        finally:
            giving_up.cancel()

    def _fate(self) -> str:
        roll, trouble = self._chance.random(), self.trouble
        if trouble is NO_TROUBLE:
            return "fine"
        for name in ("lost_before", "lost_after", "broken_before", "broken_after", "slow"):
            share = getattr(trouble, name)
            if roll < share:
                return name
            roll -= share
        return "fine"

    def _arrive(
        self, operation: Operation, answer: asyncio.Future[Any], context: Any, caller: Process | None, fate: str
    ) -> None:
        failure: Exception | None = None
        result: Any = None
        if fate == "broken_before":
            failure = self._broken()
        else:
            try:
                result = operation()
            except Exception as error:  # noqa: BLE001 - the server's error is the caller's answer
                failure = error
        if fate == "broken_after":
            failure = self._broken()
        if fate == "lost_after" or not self._network.passes(self.process, caller):
            return
        self._network.loop.call_later(self._network.delay(), _reply, answer, result, failure, context=context)


def _give_up(answer: asyncio.Future[Any]) -> None:
    _reply(answer, None, TimeoutError("no answer came"))


def _reply(answer: asyncio.Future[Any], result: Any, failure: Exception | None) -> None:
    if answer.done():
        return
    if failure is not None:
        answer.set_exception(failure)
    else:
        answer.set_result(result)


class LedgerServer(RemoteServer):
    """The ledger, and everything that was ever appended to it, also what was trimmed. `committed` is how far reporting
    has brought a partition into Postgres."""

    def __init__(self, network: Network, chance: random.Random, trace: Trace, committed: Callable[[str], int]) -> None:
        super().__init__("ledger", network, chance, _connection_broken)
        self.data = MemoryServer(self._appended, self._trimmed)
        self.entries: list[StoredEntry] = []
        self.trims: list[Trimmed] = []
        self._committed = committed
        self._loop: VirtualLoop = network.loop
        self._trace = trace

    def client(self) -> MemoryRedis:
        """A connection of the calling process."""
        return MemoryRedis(self.data, self.trip)

    def _appended(self, key: str, number: int, data: bytes) -> None:
        partition = _partition_of(key)
        self._trace.note(self._loop.time(), "append", partition, number, data.hex())
        now_ms = int(self._loop.time() * 1_000)
        self.entries.append(StoredEntry(partition, number, data, len(self.entries), now_ms))

    def _trimmed(self, key: str, last: int) -> None:
        partition = _partition_of(key)
        snapshot = int(self.data.hget(f"pg:{{{partition}}}:snapshot", "sequence") or 0)
        self.trims.append(Trimmed(partition, last, snapshot, self._committed(partition)))


def _partition_of(key: str) -> str:
    return key.removeprefix("pg:{").removesuffix("}:log")


def _connection_broken() -> Exception:
    return redis.exceptions.ConnectionError("Connection reset by peer")


def _postgres_broken() -> Exception:
    return psycopg.OperationalError("server closed the connection unexpectedly")


class Ledger(ledger_module.Ledger):
    """The real ledger adapter over a client in memory."""

    def __init__(self, client: MemoryRedis) -> None:
        self._redis: Any = client
        self._append = client.register_script(APPEND)


class PostgresServer(RemoteServer):
    """Postgres as a reporting worker sees it: an offset that is locked, rows and sums, all in one transaction.

    It stands in for `reporting.store`, whose SQL is tried on the real Postgres by `tests/reporting`.
    """

    def __init__(self, network: Network, chance: random.Random) -> None:
        super().__init__("postgres", network, chance, _postgres_broken)
        self.offsets: dict[str, Offset] = {}
        self.books = Books()

    def committed(self, partition: str) -> int:
        """The offset of a partition."""
        return self.offsets.get(partition, Offset()).sequence

    async def connect(self, _url: str) -> PostgresServer:
        """As `reporting.database.connect`."""
        await self._ask(lambda: None)
        return self

    async def close(self) -> None:
        """Nothing is open."""

    async def read_offset(self, _connection: object, partition: str) -> Offset:
        """As `reporting.store.read_offset`."""
        offset: Offset = await self._ask(lambda: self.offsets.get(partition, Offset()))
        return offset

    async def write(
        self, _connection: object, batches: Sequence[tuple[Batch, Offset]]
    ) -> dict[str, tuple[Offset, bool]]:
        """As `reporting.store.write`."""
        answer: dict[str, tuple[Offset, bool]] = await self._ask(
            lambda: {batch.partition: self.commit(batch, read_from) for batch, read_from in batches}
        )
        return answer

    async def _ask(self, operation: Operation) -> Any:
        try:
            return await self.trip(operation)
        except TimeoutError as error:
            raise psycopg.OperationalError("timeout expired") from error

    def commit(self, batch: Batch, read_from: Offset) -> tuple[Offset, bool]:
        """A partition's part of the transaction: all of it, or nothing because the offset has moved. That a batch which
        cannot be takes those before it back is tried on the real Postgres."""
        present = self.offsets.get(batch.partition, Offset())
        if present != read_from:
            return present, False
        self.insert(batch)
        self.move_offset(batch)
        return self.offsets[batch.partition], True

    def move_offset(self, batch: Batch) -> None:
        """The offset is at the batch's end."""
        self.offsets[batch.partition] = Offset(batch.last_sequence, batch.last_epoch)
        self.books.offsets[batch.partition] = batch.last_sequence

    def insert(self, batch: Batch) -> None:
        """Rows, sums and first admissions of a batch."""
        books = self.books
        books.scans += [row for fields in copied(batch.scans) for row in _scan_rows(fields)]
        books.passages += [row for fields in copied(batch.passages) for row in _passage_rows(fields)]
        books.tickets += map(_ticket_row, batch.tickets)
        for mine, theirs in (
            (books.scan_sums, batch.scan_sums),
            (books.passage_sums, batch.passage_sums),
            (books.ticket_sums, batch.ticket_sums),
        ):
            for key, (count, amount) in theirs.items():
                before = mine.get((batch.partition, *key), (0, 0))
                mine[batch.partition, *key] = (before[0] + count, before[1] + amount)
        self._recognise(batch)

    def _recognise(self, batch: Batch) -> None:
        """First admissions, and those that are undone, in the order of the log."""
        first = self.books.first
        for ticket in batch.withdrawn:
            first.pop(ticket, None)
        if twice := first.keys() & (batch.recognised | batch.fleeting):
            raise DamagedDataError(f"the ledger has a second first admission of tickets {sorted(twice)}")
        facts = [fact for fields in copied(batch.first) for fact in _first_admissions(fields)]
        undone = [((sequence, position), ticket, "") for ticket, _, sequence, position in batch.undone]
        for _, ticket, scan_id in sorted([*facts, *undone]):
            if scan_id:
                first[ticket] = scan_id
            else:
                first.pop(ticket, None)
        if not batch.recognised <= first.keys() or (batch.withdrawn | batch.fleeting) - batch.recognised & first.keys():
            raise AssertionError("what a batch recognises is not what is left of its rows")


def copied(rows: bytes | bytearray) -> Iterator[list[bytes]]:
    """The fields of rows in COPY's binary format."""
    at = 0
    while at < len(rows):
        count = int.from_bytes(rows[at : at + 2], "big")
        fields, at = _fields(rows, at + 2, count)
        yield fields


def _fields(rows: bytes | bytearray, at: int, count: int) -> tuple[list[bytes], int]:
    """So many fields, and where they end."""
    fields: list[bytes] = []
    for _ in range(count):
        length, at = int.from_bytes(rows[at : at + 4], "big"), at + 4
        fields.append(bytes(rows[at : at + length]))
        at += length
    return fields, at


def _number(field: bytes) -> int:
    return int.from_bytes(field, "big", signed=True)


def numbers_of(field: bytes) -> list[int]:
    """The numbers of an array: a head of five numbers, the fourth of which counts its members, then each as a field."""
    return [_number(member) for member in _fields(field, 20, _number(field[12:16]))[0]]


def _scan_rows(fields: list[bytes]) -> Iterator[tuple[Any, ...]]:
    """Columns as the view `reporting.scan_events`."""
    alike = (*(_number(fields[column]) for column in (8, 9, 10, 11)), fields[13] == b"\1")
    return _members(fields, fields[14:17], alike)


def _passage_rows(fields: list[bytes]) -> Iterator[tuple[Any, ...]]:
    """Columns as the view `reporting.passage_events`."""
    return _members(fields, fields[11:14], tuple(_number(fields[column]) for column in (7, 8)))


def _first_admissions(fields: list[bytes]) -> Iterator[tuple[tuple[int, int], int, str]]:
    """Place in the log, ticket and scan of each that a row of `reporting.first_admission_runs` holds."""
    position = _number(fields[3])
    for nth, (_, sequence, scan_id, ticket_id, _) in enumerate(_members(fields, fields[6:9], ())):
        yield (sequence, position + nth), ticket_id, scan_id


def _members(fields: list[bytes], columns: list[bytes], alike: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    """A row for each member of a run. Columns: scan ids, tickets, gates."""
    place = (fields[1].decode(), _number(fields[2]))
    for scan_id, ticket_id, gate in zip(scan_ids_of(columns[0]), *map(numbers_of, columns[1:]), strict=True):
        yield (*place, scan_id.hex(), ticket_id, gate, *alike)


def _ticket_row(line: str) -> tuple[Any, ...]:
    """Columns as `reporting.store.TICKET_COLUMNS`."""
    f = line.rstrip("\n").split("\t")
    return (f[1], int(f[2]), int(f[5]), int(f[8]), int(f[9]), f[-1] == "1")
