"""The partition owner: decides in memory, appends, then answers. A plain class; `cluster.actors` wraps it for Ray.

One loop does everything that changes state, a turn at a time: take all that has arrived, decide it, append one entry a
partition in one call, answer. What arrives meanwhile is decided into the next turn's batch, so a lone scan waits for
nobody, a crowd shares its fsync, and deciding and fsync overlap. One append is in flight at a time. Nothing is answered
before its entry is durable, and so is all that was decided before it (I2); an append whose outcome is unknown is
repeated until the ledger says what became of it; a partition that turns out to be fenced is dropped, and nothing of it
is answered, not even what was decided on it meanwhile.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from cluster import owner_commands as commands
from cluster.batch import Batch, Group, WaitingScan, retry_frame, send_groups
from cluster.config import ClusterConfig
from cluster.control import DAMAGED_CONTROL, POLL_S, Control
from cluster.leasing import Leasing
from cluster.ledger import Appended, Ledger
from cluster.link import Connection
from cluster.minute import Context, Minute
from cluster.partition import Partition
from cluster.recovery import replay, restore
from cluster.snapshots import Snapshots
from parkgate.cluster.v1 import control_pb2, link_pb2
from parkgate.gate.v1 import gate_pb2
from ticketcore.errors import (
    DamagedDataError,
    FencedError,
    ParkgateError,
    TransientError,
    UnavailableError,
    UnknownOutcomeError,
)
from ticketcore.rules import NO_RULES, moment_at

MAX_SCANS_A_TURN = 4_000
"""About 40 ms of deciding: longer turns would only add to everybody's wait."""
MAX_SCANS_WAITING = 40_000
"""Scans in the inbox. Beyond, groups are answered RETRY at once: some 0.4 s of work is enough of a queue."""
MAX_BATCH_AGE_MS = 500
"""A batch has one instant. While the ledger does not answer, what arrives later than this waits for the next batch."""
APPEND_RETRY_S = 0.05
TICK_S = 0.1
SHED_RETRY_MS = 500

Work = Callable[[Batch], None]
log = structlog.get_logger("cluster.owner")


def wall_clock_ms() -> int:
    """UTC milliseconds since 1970."""
    return time.time_ns() // 1_000_000


@dataclass(slots=True)
class Counters:
    """What an owner has done since it started."""

    turns: int = 0
    scans: int = 0
    shed: int = 0
    append_retries: int = 0
    fenced: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    """Partitions that could not be taken at the last attempt, for their log cannot be believed."""


class Owner:
    """Owns some partitions of the ticket space."""

    def __init__(
        self, name: str, config: ClusterConfig, ledger: Ledger, clock: Callable[[], int] = wall_clock_ms
    ) -> None:
        self.name = name
        self.config = config
        self.ledger = ledger
        self.control = Control(ledger)
        self.counters = Counters()
        self.owned: dict[int, Partition] = {}
        self.leasing: Leasing | None = None
        self._clock = clock
        self._last_ms = 0
        self._minute = Minute(NO_RULES, moment_at(0, NO_RULES.time_zone), {})
        self._inbox: deque[tuple[int, Work]] = deque()
        self._scans_waiting = 0
        self._wake = asyncio.Event()
        self._snapshots = Snapshots(config, ledger)
        self._tasks: set[asyncio.Task[None]] = set()
        self._deciding: Batch | None = None
        self._appending: asyncio.Task[None] | None = None
        self.failure: BaseException | None = None

    # Life

    async def start(self) -> None:
        """Reads what is in force and starts the loops. Partitions are taken by `own`."""
        await self.control.refresh()
        for loop in (self._turns(), self._ticks(), self._polls()):
            self._spawn(loop)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._loop_ended)
        return task

    def _loop_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.failure = task.exception()
            log.error("owner stops", owner=self.name, error=str(self.failure))

    async def stop(self) -> None:
        """Ends the loops. What was not appended was not answered."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def own(self, indexes: Sequence[int], address: str) -> None:
        """Takes partitions over: raises their epoch, recovers their state, publishes where it listens.

        Raises:
            DamagedDataError: the log of some cannot be believed; all others were taken. Nothing is decided for these.
        """
        damaged: list[str] = []
        for index in indexes:
            try:
                await self._own(index, address)
            except DamagedDataError as error:
                log.critical("partition stopped: its log is damaged", owner=self.name, error=str(error))
                damaged.append(str(error))
        self.counters.damaged = damaged
        if damaged:
            raise DamagedDataError("; ".join(damaged))

    async def _own(self, index: int, address: str) -> None:
        if index not in self.owned:
            self.owned[index] = await self._take(index)
        partition = self.owned[index]
        try:
            await self.ledger.publish_address(partition.name, partition.epoch, address)
        except FencedError:
            self.drop([index])

    def drop(self, indexes: Sequence[int]) -> None:
        """Stops owning partitions; what is asked of them is answered RETRY."""
        for index in indexes:
            self.owned.pop(index, None)

    async def _take(self, index: int) -> Partition:
        name = self.config.partition_names[index]
        taken = await self.ledger.take(name, self.name)
        partition = Partition(name, self.config.partitions)
        stored = await self.ledger.read_snapshot(name)
        if stored is not None:
            restore(partition, stored[1], self.config.partitions)
        if taken.sequence > partition.sequence:
            rules = self.control.rules
            if rules is None:
                raise UnavailableError("no catalogue is in force, but the ledger holds events")
            async for entry in self.ledger.entries(name, partition.sequence, taken.sequence):
                replay(partition, entry, rules)
        partition.epoch = taken.epoch
        self._last_ms = max(self._last_ms, partition.last_time_ms)  # the earlier owner's clock may have been ahead
        log.info(
            "partition taken", partition=name, epoch=taken.epoch, sequence=taken.sequence, tickets=len(partition.table)
        )
        return partition

    # What arrives

    def request(self, connection: Connection, request: link_pb2.LinkRequest) -> None:
        """Takes a request from a link; the answer goes back on it."""
        if request.WhichOneof("body") == "scans":
            for group in request.scans.groups:
                self._enqueue_group(connection, group)
            return
        if request.WhichOneof("body") == "refresh":
            self._spawn(self._refresh(connection, request.call_id))
            return
        self._enqueue(0, lambda batch: self._command(batch, connection, request))

    async def _refresh(self, connection: Connection, call_id: int) -> None:
        response = link_pb2.LinkResponse(call_id=call_id)
        try:
            await self.control.refresh()
            response.refresh.catalogue_version = self.control.catalogue_version
        except ParkgateError as error:
            response.fault = str(error)
        connection.send(response)

    def _enqueue(self, scans: int, work: Work) -> None:
        self._inbox.append((scans, work))
        self._scans_waiting += scans
        self._wake.set()

    def _enqueue_group(self, connection: Connection, received: link_pb2.ScanGroup) -> None:
        frame = gate_pb2.ClientFrame.FromString(received.client_frame)
        group = Group(connection, received.group_id, frame, list(received.gate_numbers))
        if self._scans_waiting > MAX_SCANS_WAITING or self.control.rules is None:
            self._shed(group)
            return
        self._enqueue(len(frame.scans) + len(frame.passages), lambda batch: self._decide_group(batch, group))

    def _shed(self, group: Group) -> None:
        """Answers RETRY at once: waiting in line would only make the answer too late."""
        self.counters.shed += len(group.frame.scans)
        for scan in group.frame.scans:
            group.verdicts.append(retry_frame(scan.scan_id, gate_pb2.REASON_BACKPRESSURE, SHED_RETRY_MS))
        for report in group.frame.passages:
            group.receipts.receipts.add(scan_id=report.scan_id, retry_after_ms=SHED_RETRY_MS)
        send_groups([group])

    # A turn

    async def _turns(self) -> None:
        """While one batch is appended the next is decided, and goes on growing until the ledger has answered."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._inbox:
                if self._snapshots.is_due(self.owned.values()):
                    await self._appended()
                    self._begin_snapshot()
                self._deciding = batch = Batch(self._context(), self.owned, self.config.partitions)
                self._decide_waiting(batch)
                await self._decide_more(batch)
                self._deciding = None
                self._appending = self._spawn(self._commit(batch))
                self._appending.add_done_callback(lambda _: self._wake.set())
                await asyncio.sleep(0)  # the append is on its way before anything more is decided

    async def _appended(self) -> None:
        """Waits for the append that is in flight."""
        if self._appending is not None:
            await self._appending

    async def _decide_more(self, batch: Batch) -> None:
        """Decides what arrives into the same batch, for as long as the last one is in flight."""
        while self._appending is not None and not self._appending.done():
            await self._wake.wait()
            self._wake.clear()
            if self._clock() - batch.context.moment.time_ms < MAX_BATCH_AGE_MS:
                self._decide_waiting(batch)
        await self._appended()

    def _decide_waiting(self, batch: Batch) -> None:
        while self._inbox and batch.scans < MAX_SCANS_A_TURN:
            scans, work = self._inbox.popleft()
            self._scans_waiting -= scans
            batch.scans += scans
            work(batch)
        if batch.waiting:
            waiting, batch.waiting = batch.waiting, []
            self._wait_for_capacity(waiting)

    async def _commit(self, batch: Batch) -> None:
        """Makes a batch durable, then answers it."""
        await self._append(batch)
        self.counters.turns += 1
        self.counters.scans += batch.scans
        # What was asked may have met a partition that an earlier append, or this one, found to be fenced.
        for touched, reply in batch.replies:
            if not any(partition.fenced for partition in touched):
                reply()
        send_groups([group for group in batch.ready_groups if not any(item.fenced for item in group.partitions)])
        if self._deciding is None:
            self._begin_snapshot()

    def _begin_snapshot(self) -> None:
        """Only while nothing is decided that is not durable as well."""
        for partition in self._snapshots.due(self.owned.values()):
            self._spawn(self._snapshots.begin(partition))

    def _context(self) -> Context:
        rules = self.control.rules or NO_RULES
        now = max(self._clock(), self._last_ms)
        self._last_ms = now
        moment = moment_at(now, rules.time_zone)
        for partition in self.owned.values():
            partition.scans.age(now)
        if not self._minute.holds(rules, moment, self.control.modes):
            self._minute = Minute(rules, moment, self.control.modes)
        return Context(moment, self._minute, self.control.ring)

    def _decide_group(self, batch: Batch, group: Group) -> None:
        batch.decide_group(group)
        if not group.waiting:
            batch.ready_groups.append(group)

    async def _append(self, batch: Batch) -> None:
        """Appends the batch. Partitions that turn out to be fenced are dropped, and marked so."""
        pairs = list(batch.appends())
        if not pairs:
            return
        appends = [append for _, append in pairs]
        while True:
            try:
                answers = await self.ledger.append(appends)
                break
            except UnknownOutcomeError as error:
                self.counters.append_retries += 1
                log.warning("append repeated", owner=self.name, error=str(error))
                await asyncio.sleep(APPEND_RETRY_S)
        for (partition, append), answer in zip(pairs, answers, strict=True):
            if answer is Appended.FENCED:
                partition.fenced = True
                continue
            partition.appended(append.sequence, batch.context.moment.time_ms)
        self._drop_fenced()
        self._snapshots.count(pairs)

    def _drop_fenced(self) -> None:
        fenced = {index: partition.name for index, partition in self.owned.items() if partition.fenced}
        if fenced:
            log.warning("partitions fenced", owner=self.name, partitions=sorted(fenced.values()))
            self.counters.fenced += sorted(fenced.values())
            self.drop(list(fenced))

    # Capacity

    def _wait_for_capacity(self, waiting: list[WaitingScan]) -> None:
        if self.leasing is None:
            self.resume(waiting, None)
            return
        self.leasing.want(waiting)

    def resume(self, waiting: list[WaitingScan], answer: link_pb2.CapacityResponse | None) -> None:
        """Decides scans again that waited for capacity; None: the capacity owner did not answer, so RETRY."""
        self._enqueue(len(waiting), lambda batch: self._resume(batch, waiting, answer))

    def _resume(self, batch: Batch, waiting: list[WaitingScan], answer: link_pb2.CapacityResponse | None) -> None:
        if answer is not None:
            self._receive_lease(batch, waiting[0], answer)
        for item in waiting:
            group = item.group
            group.waiting -= 1
            if answer is None:
                item.give_up(gate_pb2.REASON_INTERNAL_ERROR, SHED_RETRY_MS)
            else:
                batch.decide_scan(group, item.position, item.scan, item.gate_number)
            if not group.waiting:
                batch.ready_groups.append(group)

    def _receive_lease(self, batch: Batch, first: WaitingScan, answer: link_pb2.CapacityResponse) -> None:
        key = (first.partition, first.zone_number)
        index = self.config.partition_names.index(first.partition)
        decider = batch.decider(index)
        if decider is None:
            return
        if decider.partition.zone_lease(first.zone_number).receive(answer.granted_total):
            commands.add_lease_event(decider, first.zone_number)
        if answer.full:
            batch.context.full_zones = batch.context.full_zones | {key}

    # Commands

    def _command(self, batch: Batch, connection: Connection, request: link_pb2.LinkRequest) -> None:
        touched: set[Partition] = set()
        response = link_pb2.LinkResponse(call_id=request.call_id)
        try:
            self._run_command(batch, request, response, touched)
        except TransientError as error:
            response.fault = str(error)
        batch.answer_later(touched, lambda: connection.send(response))

    def _run_command(
        self, batch: Batch, request: link_pb2.LinkRequest, response: link_pb2.LinkResponse, touched: set[Partition]
    ) -> None:
        body = request.WhichOneof("body")
        if self.control.rules is None and body not in ("refresh", "status"):
            raise UnavailableError("no catalogue is in force yet; publish one first")
        match body:
            case "register":
                response.register.CopyFrom(commands.register(batch, request.register, touched))
            case "change":
                response.change.CopyFrom(commands.change(batch, request.change, touched))
            case "inspect":
                response.inspect.CopyFrom(commands.inspect(batch, request.inspect, touched))
            case "recall":
                response.recall.CopyFrom(commands.recall(batch, request.recall, touched))
            case "occupancy":
                response.occupancy.CopyFrom(commands.occupancy(list(self.owned.values())))
            case "dry_run":
                response.dry_run.CopyFrom(commands.dry_run(batch, request.dry_run, touched))
            case "status":
                response.status.CopyFrom(self.status())
            case other:
                raise UnavailableError(f"a partition owner does not answer {other}")

    def status(self) -> control_pb2.GetStatusResponse:
        """Where the partitions owned here stand."""
        response = control_pb2.GetStatusResponse(catalogue_version=self.control.catalogue_version)
        for partition in self.owned.values():
            response.partitions.add(
                partition=partition.name,
                owner=self.name,
                epoch=partition.epoch,
                sequence=partition.sequence,
                tickets=len(partition.table),
                snapshot_sequence=partition.snapshot_sequence,
            )
        return response

    # By the clock

    async def _ticks(self) -> None:
        """Passages that nobody reported count as passed."""
        while True:
            await asyncio.sleep(TICK_S)
            now = self._clock()
            deadlines = [partition.next_deadline() for partition in self.owned.values()]
            if any(deadline is not None and deadline <= now for deadline in deadlines):
                self._enqueue(0, _assume_passages)

    async def _polls(self) -> None:
        while True:
            await asyncio.sleep(POLL_S)
            try:
                await self.control.refresh()
            except TransientError as error:
                log.warning("control records not read", owner=self.name, error=str(error))
            except ParkgateError as error:
                log.critical(DAMAGED_CONTROL, owner=self.name, error=str(error))


def _assume_passages(batch: Batch) -> None:
    for index, partition in batch.owned.items():
        due = partition.due(batch.context.moment.time_ms)
        decider = batch.decider(index) if due else None
        for scan_id in due:
            if decider is not None:
                decider.settle(scan_id, gate_pb2.PASSAGE_OUTCOME_ASSUMED)
