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
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from cluster import owner_commands as commands
from cluster.batch import Batch, Group, WaitingScan, send_groups
from cluster.config import ClusterConfig
from cluster.control import POLL_S, Control
from cluster.ending import end
from cluster.leasing import Leasing
from cluster.ledger import Append, Appended, Ledger
from cluster.link import Connection
from cluster.minute import Context, Minute
from cluster.partition import Partition
from cluster.snapshots import Snapshots
from cluster.taking import Counters, read_partition
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
SCANS_A_PIECE = 200
"""Scans that are taken from the inbox together; a turn may be longer than its limit by one piece."""
MAX_SCANS_WAITING = 40_000
"""Scans in the inbox. Beyond, groups are answered RETRY at once: some 0.4 s of work is enough of a queue."""
MAX_COMMANDS_WAITING = 1_000
"""Registrations, changes and questions in the inbox: sales have a handful under way. Beyond: ask again."""
MAX_BATCH_AGE_MS = 500
"""A batch has one instant. While the ledger does not answer, what arrives later than this waits for the next batch."""
PACE_S = 0.005
"""From one append to the next while scans come faster than one at a time. An append costs all processes together some
0.4 ms of CPU, whatever it holds: at 5,000 scans a second, begun as soon as the last was done, they took half of two
cores, and the slowest scans waited for a core. 5 ms instead of 3 are 3 % less CPU, for 1.7 ms of wait."""
FEW_SCANS = 3
"""In two batches together: the guests of a turnstile or two, who are not made to wait for each other."""
APPEND_RETRY_S = 0.05
DAMAGED_AGAIN_S = 300.0
"""To the next look at a damaged log: only a hand can mend it, and reading millions of tickets holds up all guests."""
TICK_S = 0.1
SHED_RETRY_MS = 500
BUSY = "the owner has as many calls waiting as may be; nothing was done, ask again"

Work = Callable[[Batch], None]
log = structlog.get_logger("cluster.owner")


@dataclass(frozen=True, slots=True)
class _BegunAppend:
    """The entries of a batch, and what the ledger was asked; None if there are none."""

    entries: Sequence[tuple[Partition, Append]]
    asked: Awaitable[list[Appended]] | None


def wall_clock_ms() -> int:
    """UTC milliseconds since 1970."""
    return time.time_ns() // 1_000_000


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
        self._look_again: dict[str, float] = {}  # when a damaged partition is tried next, by the loop's clock
        self._clock = clock
        self._last_ms = 0
        self._minute = Minute(NO_RULES, moment_at(0, NO_RULES.time_zone), {})
        self._inbox: deque[tuple[int, Work]] = deque()
        self._scans_waiting = 0
        self._commands_waiting = 0
        self._wake = asyncio.Event()
        self._snapshots = Snapshots(config, ledger)
        self._tasks: set[asyncio.Task[None]] = set()
        self._deciding: Batch | None = None
        self._appending: asyncio.Task[None] | None = None
        self._met_fence = False
        self._assuming = False
        """Passages that are due are in the inbox."""
        self._append_time = 0.0
        """When the last append began, by the loop's clock."""
        self._last_scans = 0
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
        await end(self._tasks)

    async def own(self, indexes: Sequence[int], address: str) -> None:
        """Takes partitions over: raises their epoch, recovers their state, publishes where it listens.

        One whose log cannot be believed is set aside: nothing is decided for it, and log, metric and ledger say so. It
        is tried again after DAMAGED_AGAIN_S, and its epoch rises again only once its log can be read.
        """
        for index in indexes:
            if not self.is_set_aside(index):
                await self._own_or_set_aside(index, self.config.partition_names[index], address)

    def is_set_aside(self, index: int) -> bool:
        """Whether its log was damaged, and it is not yet time to look at it again."""
        again = self._look_again.get(self.config.partition_names[index], 0.0)
        return asyncio.get_running_loop().time() < again

    async def _own_or_set_aside(self, index: int, name: str, address: str) -> None:
        try:
            if name in self.counters.damaged:
                head = (await self.ledger.heads([name])).get(name)
                await self._read(name, head.sequence if head is not None else 0)
            await self._own(index, address)
        except DamagedDataError as error:
            log.critical("partition stopped: its log is damaged", owner=self.name, error=str(error))
            self.counters.damaged[name] = str(error)
            self._look_again[name] = asyncio.get_running_loop().time() + DAMAGED_AGAIN_S
            return
        self.counters.damaged.pop(name, None)
        self._look_again.pop(name, None)

    async def _own(self, index: int, address: str) -> None:
        if index not in self.owned:
            self.owned[index] = await self._take(index)
        partition = self.owned[index]
        try:
            await self.ledger.publish_address(partition.name, partition.epoch, address)
        except FencedError:
            self.drop([index])

    async def _read(self, name: str, sequence: int) -> Partition:
        return await read_partition(self.ledger, name, (self.config.partitions, self.control.rules), sequence)

    def drop(self, indexes: Sequence[int]) -> None:
        """Stops owning partitions; what is asked of them is answered RETRY."""
        for index in indexes:
            self.owned.pop(index, None)

    async def _take(self, index: int) -> Partition:
        name = self.config.partition_names[index]
        taken = await self.ledger.take(name, self.name)
        # Whoever put something in force before has asked the earlier owner; whoever does so later will ask this one.
        await self.control.refresh_or_keep(self.name)
        try:
            partition = await self._read(name, taken.sequence)
        except DamagedDataError as error:
            await self.ledger.publish_damage(name, taken.epoch, str(error))
            raise
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
            self._enqueue_groups(connection, request.scans.groups)
            return
        if request.WhichOneof("body") == "refresh":
            self._spawn(self._refresh(connection, request.call_id))
            return
        if self._commands_waiting >= MAX_COMMANDS_WAITING:
            connection.send(link_pb2.LinkResponse(call_id=request.call_id, fault=BUSY))
            return
        self._commands_waiting += 1
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

    def _enqueue_groups(self, connection: Connection, received: Iterable[link_pb2.ScanGroup]) -> None:
        """What came together waits together: one piece of work for every `SCANS_A_PIECE`."""
        shed = self._scans_waiting > MAX_SCANS_WAITING or self.control.rules is None
        groups: list[Group] = []
        scans = 0
        for item in received:
            frame = gate_pb2.ClientFrame.FromString(item.client_frame)
            group = Group(connection, item.group_id, frame, item.gate_numbers, item.heads)
            groups.append(group)
            scans += group.items
            if scans >= SCANS_A_PIECE:
                self._take_groups(scans, groups, shed)
                groups, scans = [], 0
        if groups:
            self._take_groups(scans, groups, shed)

    def _take_groups(self, scans: int, groups: list[Group], shed: bool) -> None:
        if not shed:
            self._enqueue(scans, lambda batch: batch.decide_groups(groups))
            return
        for group in groups:  # answered at once: waiting in line would only make the answer too late
            self.counters.shed += len(group.verdicts)
            group.give_up(gate_pb2.REASON_BACKPRESSURE, SHED_RETRY_MS)
        send_groups(groups)

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
                await self._decide_waiting(batch)
                await self._decide_more(batch)
                await self._pace(batch)
                self._deciding = None
                self._appending = self._spawn(self._commit(batch, self._begin_append(batch)))
                self._appending.add_done_callback(lambda _: self._wake.set())
                await asyncio.sleep(0)  # what came meanwhile is read before anything more is decided

    async def _appended(self) -> None:
        """Waits for the append that is in flight."""
        if self._appending is not None:
            await self._appending

    async def _decide_more(self, batch: Batch) -> None:
        """Decides what arrives into the same batch, for as long as the last one is in flight."""
        while self._appending is not None and not self._appending.done():
            await self._wake.wait()
            self._wake.clear()
            await self._decide_waiting(batch)
        await self._appended()

    def _may_grow(self, batch: Batch) -> bool:
        """A batch has one instant, and one catalogue, one set of modes and one ring of keys. Whoever puts others in
        force is told so once they are read: what is asked after that is not decided by those of before."""
        context, control = batch.context, self.control
        in_force = context.minute.rules is (control.rules or NO_RULES) and context.minute.modes is control.modes
        young = self._clock() - context.moment.time_ms < MAX_BATCH_AGE_MS
        return young and in_force and context.ring is control.ring

    async def _pace(self, batch: Batch) -> None:
        """Lets a crowd gather for a moment, so that it shares an append."""
        loop = asyncio.get_running_loop()
        early_s = self._append_time + PACE_S - loop.time()
        crowd, self._last_scans = batch.scans + self._last_scans > FEW_SCANS, batch.scans
        if crowd and early_s > 0:
            await asyncio.sleep(early_s)
            await self._decide_waiting(batch)
        self._append_time = loop.time()

    async def _decide_waiting(self, batch: Batch) -> None:
        """Decides what is waiting now, a piece at a time: in between what became durable is answered, what was sent
        gets on its way, and others may be put in force. What arrives meanwhile waits: commands count as no scans, and
        would keep a batch open for ever."""
        for left in reversed(range(len(self._inbox))):
            if not self._inbox or batch.scans >= MAX_SCANS_A_TURN or not self._may_grow(batch):
                break
            scans, work = self._inbox.popleft()
            self._scans_waiting -= scans
            batch.scans += scans
            work(batch)
            if left:
                await asyncio.sleep(0)
        if batch.waiting:
            waiting, batch.waiting = batch.waiting, []
            self._wait_for_capacity(waiting)

    def _begin_append(self, batch: Batch) -> _BegunAppend:
        """An append is on its way in the turn that has decided it."""
        entries = list(batch.appends())
        return _BegunAppend(entries, self.ledger.append([append for _, append in entries]) if entries else None)

    async def _commit(self, batch: Batch, append: _BegunAppend) -> None:
        """Waits until a batch is durable, then answers it."""
        await self._durable(batch, append)
        unproven = batch.told_of() - {partition for partition, _ in append.entries}
        if unproven:
            await self._prove_ownership(unproven)
        if self._met_fence:
            batch.forget_fenced()
        for _, reply in batch.replies:
            reply()
        send_groups(batch.ready_groups)
        self.counters.turns += 1
        self.counters.scans += batch.scans
        self._snapshots.count(append.entries)
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
            partition.age(now)
        if not self._minute.holds(rules, moment, self.control.modes):
            self._minute = Minute(rules, moment, self.control.modes)
        return Context(moment, self._minute, self.control.ring)

    async def _durable(self, batch: Batch, append: _BegunAppend) -> None:
        """Waits until a batch's entries are appended. Partitions that turn out to be fenced are marked so, and
        dropped."""
        if append.asked is None:
            return
        asked = append.asked
        while True:
            try:
                answers = await asked
                break
            except UnknownOutcomeError as error:
                self.counters.append_retries += 1
                log.warning("append repeated", owner=self.name, error=str(error))
                await asyncio.sleep(APPEND_RETRY_S)
                asked = self.ledger.append([item for _, item in append.entries])
        for (partition, item), answer in zip(append.entries, answers, strict=True):
            if answer is Appended.FENCED:
                partition.fenced = self._met_fence = True
            else:
                partition.appended(item.sequence, batch.context.moment.time_ms)
        if Appended.FENCED in answers:
            self._drop_fenced()

    async def _prove_ownership(self, partitions: set[Partition]) -> None:
        """An answer that changes nothing must be as true as one that does: a replaced owner's "already used" would be
        believed. An append proves it by itself."""
        while partitions:
            try:
                heads = await self.ledger.heads([partition.name for partition in partitions])
                break
            except UnavailableError as error:
                log.warning("ownership asked again", owner=self.name, error=str(error))
                await asyncio.sleep(APPEND_RETRY_S)
        for partition in partitions:
            if heads[partition.name].epoch != partition.epoch:
                partition.fenced = self._met_fence = True
        self._drop_fenced()

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
        if answer is not None and not self._receive_lease(batch, waiting[0], answer):
            answer = None
        for item in waiting:
            group = item.group
            group.waiting -= 1
            if answer is None:
                item.give_up(gate_pb2.REASON_INTERNAL_ERROR, SHED_RETRY_MS)
            else:
                batch.resume(item)
            if not group.waiting:
                batch.ready_groups.append(group)
        batch.context.full_zones = frozenset()  # whoever came later asks anew: somebody may have left since it was said

    def _receive_lease(self, batch: Batch, first: WaitingScan, answer: link_pb2.CapacityResponse) -> bool:
        """Takes an answer over. False if it says nothing: no units, and "full" without those that were given back and
        are on their way, which may be free yet."""
        key = (first.partition, first.zone_number)
        index = self.config.partition_names.index(first.partition)
        decider = batch.decider(index)
        if decider is None:
            return True
        lease = decider.partition.zone_lease(first.zone_number)
        if lease.receive(answer.granted_total):
            commands.add_lease_event(decider, first.zone_number)
        outdated = answer.full and lease.returned_total > answer.returned_total
        if answer.full and not outdated:
            batch.context.full_zones = frozenset((key,))
        return not outdated or lease.spare > 0

    # Commands

    def _command(self, batch: Batch, connection: Connection, request: link_pb2.LinkRequest) -> None:
        self._commands_waiting -= 1
        touched: set[Partition] = set()
        response = link_pb2.LinkResponse(call_id=request.call_id)
        try:
            if self.control.rules is None and request.WhichOneof("body") != "status":
                raise UnavailableError("no catalogue is in force yet; publish one first")
            commands.answer(batch, request, response, touched, self.status)
        except TransientError as error:
            response.fault = str(error)
        batch.answer_later(touched, lambda: connection.send(response))

    def status(self) -> control_pb2.GetStatusResponse:
        """Where the partitions owned here stand."""
        return commands.status(self.name, self.control.catalogue_version, self.owned.values())

    # By the clock

    async def _ticks(self) -> None:
        """Passages that nobody reported count as passed."""
        while True:
            await asyncio.sleep(TICK_S)
            now = self._clock()
            deadlines = [partition.next_deadline() for partition in self.owned.values()]
            if not self._assuming and any(deadline is not None and deadline <= now for deadline in deadlines):
                self._assume_soon()

    def _assume_soon(self) -> None:
        self._assuming = True
        self._enqueue(0, self._assume_passages)

    def _assume_passages(self, batch: Batch) -> None:
        self._assuming = False
        if batch.assume_passages(SCANS_A_PIECE):
            self._assume_soon()  # after what has arrived meanwhile

    async def _polls(self) -> None:
        while True:
            await asyncio.sleep(POLL_S)
            try:
                await self.control.refresh_or_keep(self.name)
            except TransientError as error:
                log.warning("control records not read", owner=self.name, error=str(error))
