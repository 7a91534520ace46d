"""The quota and capacity owner: one writer for all quotas, holds and zone capacities. Wrapped by `cluster.actors`.

Like a partition owner it decides in memory, appends one entry for all that arrived, and only then answers.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import structlog

from cluster.batch import BATCH_ID_LENGTH
from cluster.config import QUOTA_PARTITION, ClusterConfig
from cluster.control import DAMAGED_CONTROL, POLL_S, Control
from cluster.ending import end
from cluster.ledger import Append, Appended, Ledger, at_once
from cluster.link import Connection
from cluster.owner import APPEND_RETRY_S, BUSY, TICK_S, wall_clock_ms
from cluster.quota_state import Change, QuotaState, ZoneAlert, replay, restore, snapshot, write_event
from cluster.recalling import Totals, recall, silent
from cluster.routes import Routes
from cluster.snapshots import trim_after
from parkgate.cluster.v1 import control_pb2, link_pb2
from parkgate.events.v1 import events_pb2
from ticketcore.capacity import LEVELS_PERCENT, Grant, ZoneBook
from ticketcore.errors import DamagedDataError, FencedError, TransientError, UnavailableError, UnknownOutcomeError
from ticketcore.quota import Counter, HoldAnswer, HoldState, LimitedLine, Line, highest_level

MAX_HOLD_MS = 3_600_000
MAX_LINES = 64
MAX_CALLS = 2_000
"""Calls under way: sales send theirs in batches, and each partition has one question a zone. Beyond: ask again."""
MAX_NAMED = 5
"""Partitions that one message names."""
SNAPSHOT_AFTER_ENTRIES = 20_000
SHRINK_S = 0.25
"""From one look for units beyond a lowered capacity to the next."""
MOVE_OF_COMMAND = {"pin": HoldState.PINNED, "confirm": HoldState.CONFIRMED, "release": HoldState.RELEASED}

Changes = list[Change]
Work = Callable[[Changes], Any]
log = structlog.get_logger("cluster.quota_owner")


class QuotaOwner:
    """Owns all quotas and capacities."""

    def __init__(
        self,
        name: str,
        config: ClusterConfig,
        ledger: Ledger,
        routes: Routes,
        clock: Callable[[], int] = wall_clock_ms,
    ) -> None:
        self.name = name
        self.config = config
        self.ledger = ledger
        self.control = Control(ledger)
        self.state = QuotaState(QUOTA_PARTITION)
        self.failure: BaseException | None = None
        self.serves = False
        self.damage = ""
        """Why nothing is served: the log cannot be believed."""
        self._routes = routes
        self._clock = clock
        self._last_ms = 0
        self._inbox: deque[tuple[Sequence[Work], asyncio.Future[list[Any]]]] = deque()
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._zone_locks: dict[int, asyncio.Lock] = {}
        self._snapshot_sequence = 0
        self._writing = False

    # Life

    async def start(self, address: str) -> None:
        """Takes the log over, recovers, publishes where it listens, starts the loops. May be called again after a
        failure. A log that cannot be believed is told by `damage`, in the ledger, and loudly; called again then, the
        epoch rises only if the log can be read now."""
        await self.control.refresh()
        name = QUOTA_PARTITION
        try:
            if self.damage:
                head = (await self.ledger.heads([name])).get(name)
                await self._recover(head.sequence if head is not None else 0)
            await self._take()
        except DamagedDataError as error:
            self.damage = str(error)
            log.critical("quotas and capacities stopped: their log is damaged", owner=self.name, error=self.damage)
            return
        self.damage = ""
        await self.control.refresh()  # whoever put something in force before it was taken has asked the earlier owner
        for loop in (self._turns(), self._ticks(), self._polls(), self._shrinks()):
            self._spawn(loop)
        await self.ledger.publish_address(name, self.state.epoch, address)
        self.serves = True

    async def _take(self) -> None:
        taken = await self.ledger.take(self.state.name, self.name)
        try:
            await self._recover(taken.sequence)
        except DamagedDataError as error:
            await self.ledger.publish_damage(self.state.name, taken.epoch, str(error))
            raise
        self.state.epoch = taken.epoch

    async def _recover(self, sequence: int) -> None:
        """Begins with an empty state, for what a half-done recovery has counted would be counted twice."""
        self.state = QuotaState(QUOTA_PARTITION)
        self._snapshot_sequence = 0
        stored = await self.ledger.read_snapshot(self.state.name)
        if stored is not None:
            restore(self.state, stored[1])
            self._snapshot_sequence = self.state.sequence
        async for entry in self.ledger.entries(self.state.name, self.state.sequence, sequence):
            replay(self.state, entry)
        self._last_ms = self.state.last_time_ms

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.failure = task.exception()
            log.error("quota owner stops", error=str(self.failure))

    async def stop(self) -> None:
        """Ends the loops. What was not appended was not answered."""
        await end(self._tasks)

    # What arrives

    def request(self, connection: Connection, request: link_pb2.LinkRequest) -> None:
        """Takes a request from a link; the answer goes back on it."""
        if len(self._tasks) >= MAX_CALLS:
            connection.send(link_pb2.LinkResponse(call_id=request.call_id, fault=BUSY))
            return
        self._spawn(self._answer(connection, request))

    async def _answer(self, connection: Connection, request: link_pb2.LinkRequest) -> None:
        response = link_pb2.LinkResponse(call_id=request.call_id)
        try:
            await self._run(request, response)
        except (TransientError, DamagedDataError) as error:
            response.fault = str(error)
        connection.send(response)

    async def _run(self, request: link_pb2.LinkRequest, response: link_pb2.LinkResponse) -> None:
        match request.WhichOneof("body"):
            case "place_hold":
                response.hold.CopyFrom(await self._commit(lambda changes: self._place(request.place_hold, changes)))
            case "pin_hold":
                response.hold.CopyFrom(await self._move(request.pin_hold, HoldState.PINNED))
            case "confirm_hold":
                response.hold.CopyFrom(await self._move(request.confirm_hold, HoldState.CONFIRMED))
            case "release_hold":
                response.hold.CopyFrom(await self._move(request.release_hold, HoldState.RELEASED))
            case "change_holds":
                works = [self._work_of(command) for command in request.change_holds.commands]
                response.change_holds.results.extend(await self._commit_all(works))
            case "return_units":
                await self._commit(lambda changes: self._return(request.return_units, changes))
                response.return_units.SetInParent()
            case "get_quotas":
                response.get_quotas.CopyFrom(await self._commit(lambda _: self._quotas(request.get_quotas)))
            case "capacity":
                response.capacity.CopyFrom(await self._capacity(request.capacity))
            case "occupancy":
                response.occupancy.CopyFrom(self._leases())
            case "refresh":
                await self.control.refresh()
                await self._take_overhang_back()
                response.refresh.catalogue_version = self.control.catalogue_version
            case "status":
                response.status.CopyFrom(self.status())
            case other:
                raise UnavailableError(f"the quota owner does not answer {other}")

    async def _commit(self, work: Work) -> Any:
        """Runs `work` in the next turn and returns its result once all that it changed is durable."""
        return (await self._commit_all([work]))[0]

    async def _commit_all(self, works: Sequence[Work]) -> list[Any]:
        """As `_commit`, for several in their order: each sees what the ones before it changed."""
        future: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self._inbox.append((works, future))
        self._wake.set()
        return await future

    # A turn

    async def _turns(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._inbox:
                await self._turn()
                # Only here, between turns, is all that the state holds also durable.
                if self.state.sequence - self._snapshot_sequence >= SNAPSHOT_AFTER_ENTRIES and not self._writing:
                    self._snapshot_sequence, self._writing = self.state.sequence, True
                    self._spawn(self._write_snapshot(self.state.sequence, snapshot(self.state)))

    async def _turn(self) -> None:
        self._last_ms = max(self._clock(), self._last_ms)
        entry = events_pb2.LogEntry()
        answers: list[tuple[asyncio.Future[list[Any]], list[Any]]] = []
        self._apply(list(self.state.book.lapse_due(self._last_ms)), entry)
        while self._inbox:
            works, future = self._inbox.popleft()
            answers.append((future, [self._decide(work, entry) for work in works]))
        if entry.events:
            await self._append(entry)
        else:
            await self._prove_ownership()
        for future, results in answers:
            if not future.done():
                future.set_result(results)

    def _decide(self, work: Work, entry: events_pb2.LogEntry) -> Any:
        changes: Changes = []
        result = work(changes)
        self._apply(changes, entry)
        return result

    def _apply(self, changes: Changes, entry: events_pb2.LogEntry) -> None:
        for change in changes:
            self.state.apply(change)
            write_event(entry, change)

    async def _prove_ownership(self) -> None:
        """An answer that changes nothing must be as true as one that does: a fenced owner's "sold out" or "no such
        hold" would be believed. An append proves it by itself."""
        while True:
            try:
                await self._check_epoch()
                return
            except UnavailableError as error:
                log.warning("ownership asked again", error=str(error))
                await asyncio.sleep(APPEND_RETRY_S)

    async def _check_epoch(self) -> None:
        epoch = (await self.ledger.heads([self.state.name]))[self.state.name].epoch
        if epoch != self.state.epoch:
            raise FencedError("a later quota owner has taken over")

    async def _append(self, entry: events_pb2.LogEntry) -> None:
        state = self.state
        entry.partition, entry.epoch, entry.sequence = state.name, state.epoch, state.sequence + 1
        entry.time_ms, entry.batch_id = self._last_ms, os.urandom(BATCH_ID_LENGTH)
        append = Append(state.name, state.epoch, entry.sequence, entry.batch_id, entry.SerializeToString())
        while True:
            try:
                answer = (await self.ledger.append([append]))[0]
                break
            except UnknownOutcomeError as error:
                log.warning("append repeated", error=str(error))
                await asyncio.sleep(APPEND_RETRY_S)
        if answer is Appended.FENCED:
            raise FencedError("a later quota owner has taken over")
        state.sequence, state.last_time_ms = entry.sequence, entry.time_ms

    # Quotas

    def _place(self, request: control_pb2.PlaceHoldRequest, changes: Changes) -> control_pb2.HoldResponse:
        lines = tuple(LimitedLine(line.quota_key, line.units, line.limit) for line in request.lines[:MAX_LINES])
        lapse_time_ms = self._last_ms + min(request.time_to_live_ms, MAX_HOLD_MS)
        answer = self.state.book.place(request.hold_id, lines, lapse_time_ms, request.catalogue_version)
        changes += answer.changes
        return _hold_response(answer)

    async def _move(self, request: control_pb2.HoldRequest, to: HoldState) -> control_pb2.HoldResponse:
        answer: control_pb2.HoldResponse = await self._commit(self._moving(request.hold_id, to))
        return answer

    def _moving(self, hold_id: bytes, to: HoldState) -> Work:
        def move(changes: Changes) -> control_pb2.HoldResponse:
            answer = self.state.book.move(hold_id, to)
            changes += answer.changes
            return _hold_response(answer)

        return move

    def _work_of(self, command: control_pb2.HoldCommand) -> Work:
        kind = command.WhichOneof("command")
        if kind == "place":
            return lambda changes: self._place(command.place, changes)
        if kind not in MOVE_OF_COMMAND:
            raise UnavailableError(f"the quota owner knows no command {kind} on a hold")
        return self._moving(getattr(command, kind).hold_id, MOVE_OF_COMMAND[kind])

    def _return(self, request: control_pb2.ReturnUnitsRequest, changes: Changes) -> None:
        lines = tuple(Line(line.quota_key, line.units) for line in request.lines)
        changes += self.state.book.return_units(request.request_id, lines)

    def _quotas(self, request: control_pb2.GetQuotasRequest) -> control_pb2.GetQuotasResponse:
        counters = self.state.book.counters
        response = control_pb2.GetQuotasResponse()
        for key in request.quota_keys or sorted(counters):
            counter = counters.get(key, Counter())
            sold = max(counter.sold, 0)  # below zero: returned early, and counted as pinned until it is confirmed
            response.quotas.add(quota_key=key, limit=counter.limit, held=counter.held, pinned=counter.pinned, sold=sold)
        return response

    # Capacity

    async def _capacity(self, request: link_pb2.CapacityRequest) -> link_pb2.CapacityResponse:
        """Grants units; when they run short, unused ones are recalled from all others before anyone is told "full".

        Raises:
            UnavailableError: nothing is free, and there may be unused units: not all who have any have answered, or
                more would have been asked for by the capacity that is in force now.
        """
        zone_number = request.zone_number
        if not self._capacity_of(zone_number):
            return link_pb2.CapacityResponse(granted_total=request.received_total, unlimited=True)
        lock = self._zone_locks.setdefault(zone_number, asyncio.Lock())
        async with lock:
            granted = await self._commit(lambda changes: self._grant(request, changes))
            missing = request.received_total + request.wanted - granted
            zone, away = self.state.zone(zone_number), list[str]()
            capacity = zone.capacity
            if missing > 0:
                overhang = max(-zone.free, 0)  # of a capacity that was lowered
                totals = await recall(self._routes, zone, missing + overhang, but=request.partition)
                away = silent(zone, totals, but=request.partition)
                granted = await self._commit(lambda changes: self._grant_rest(request, missing, totals, changes))
        short = granted < request.received_total + request.wanted
        changed = zone.capacity != capacity
        if (away or changed) and short and granted <= request.received_total:
            where = f"at {', '.join(away[:MAX_NAMED])}" if away else "since its capacity has changed; ask again"
            raise UnavailableError(f"units of zone {zone_number} may lie unused {where}")
        response = link_pb2.CapacityResponse(granted_total=granted, full=short and not away and not changed)
        response.returned_total = zone.grants.get(request.partition, Grant()).returned_total
        return response

    async def _take_overhang_back(self) -> None:
        """Recalls unused units of zones whose capacity was lowered below what is leased: who comes from now on must
        not be let in with them.

        Raises:
            UnavailableError: partitions that have units did not answer; all others have given theirs back. Those that
                are stopped for damage let nobody in with them.
        """
        limits = self.control.rules.capacity_of_zone if self.control.rules else {}
        over = [zone for zone, limit in limits.items() if limit and self.state.zone(zone).leased > limit]
        found = await asyncio.gather(*map(self._shrink, over))
        away = [name for names in found for name in names if name not in self._routes.damaged]
        if away:
            raise UnavailableError(f"units beyond a lowered capacity may lie unused at {', '.join(away[:MAX_NAMED])}")

    async def _shrink(self, zone_number: int) -> list[str]:
        """Takes what is leased beyond the capacity and unused back; names partitions that did not answer."""
        async with self._zone_locks.setdefault(zone_number, asyncio.Lock()):
            zone = self._limited(zone_number)
            if zone.free >= 0:
                return []
            totals = await recall(self._routes, zone, -zone.free)
            await self._commit(lambda changes: self._note_returns(zone, totals, changes))
            return silent(zone, totals)

    def _capacity_of(self, zone_number: int) -> int:
        """What is in force now; 0 is unlimited."""
        return self.control.rules.capacity_of_zone.get(zone_number, 0) if self.control.rules else 0

    def _limited(self, zone_number: int) -> ZoneBook:
        """A zone with the capacity that is in force now; that of when the question was asked may have been another. One
        that has become unlimited meanwhile keeps its last for the questions under way."""
        zone = self.state.zone(zone_number)
        zone.capacity = self._capacity_of(zone_number) or zone.capacity
        return zone

    def _grant(self, request: link_pb2.CapacityRequest, changes: Changes) -> int:
        zone = self._limited(request.zone_number)
        returned = zone.note_return(request.partition, request.returned_total)
        if returned is not None:
            zone.apply(returned)
            changes.append(returned)
        return self._grant_more(request, request.wanted, changes, request.received_total)

    def _grant_more(
        self, request: link_pb2.CapacityRequest, wanted: int, changes: Changes, received_total: int | None = None
    ) -> int:
        zone = self.state.zone(request.zone_number)
        known = zone.grants.get(request.partition)
        already = known.granted_total if known is not None else 0
        received = already if received_total is None else received_total
        move = zone.grant(request.partition, received, wanted, self.config.partitions)
        if move is None:
            return already
        changes.append(move)
        self._alert(request.zone_number, zone.leased + move.granted_total - already, zone.capacity, changes)
        return move.granted_total

    def _alert(self, zone_number: int, taken: int, limit: int, changes: Changes) -> None:
        level = highest_level(taken, limit, LEVELS_PERCENT)
        if level > self.state.zone(zone_number).alerted_percent:
            changes.append(ZoneAlert(zone_number, level, taken, limit))

    def _grant_rest(
        self,
        request: link_pb2.CapacityRequest,
        missing: int,
        totals: Totals,
        changes: Changes,
    ) -> int:
        self._note_returns(self._limited(request.zone_number), totals, changes)
        return self._grant_more(request, missing, changes)

    @staticmethod
    def _note_returns(zone: ZoneBook, totals: Totals, changes: Changes) -> None:
        for total in totals:
            returned = zone.note_return(total.partition, total.returned_total)
            if returned is not None:
                zone.apply(returned)
                changes.append(returned)

    def _leases(self) -> control_pb2.GetOccupancyResponse:
        response = control_pb2.GetOccupancyResponse()
        capacities = self.control.rules.capacity_of_zone if self.control.rules else {}
        for zone_number, capacity in sorted(capacities.items()):
            leased = self.state.zone(zone_number).leased
            response.zones.add(zone_number=zone_number, capacity=capacity, leased=leased)
        return response

    def status(self) -> control_pb2.GetStatusResponse:
        """Where the log stands."""
        response = control_pb2.GetStatusResponse(catalogue_version=self.control.catalogue_version)
        response.partitions.add(
            partition=self.state.name, owner=self.name, epoch=self.state.epoch, sequence=self.state.sequence
        )
        return response

    # By the clock

    async def _ticks(self) -> None:
        """Lapses holds."""
        while True:
            await asyncio.sleep(TICK_S)
            lapses = self.state.book.lapses
            if lapses and lapses[0][0] <= self._clock():
                await self._commit(lambda _: None)

    async def _shrinks(self) -> None:
        """After a capacity was lowered, until nothing is leased beyond it: units become free as guests leave."""
        while True:
            await asyncio.sleep(SHRINK_S)
            try:
                await self._take_overhang_back()
            except TransientError as error:
                log.warning("a lowered capacity is not reached yet", error=str(error))

    async def _write_snapshot(self, sequence: int, data: bytes) -> None:
        """One at a time: two that are written at once, in one place, are neither the one nor the other."""
        try:
            await self.ledger.write_snapshot(self.state.name, self.state.epoch, sequence, at_once(data))
            await trim_after(self.ledger, self.state.name, sequence)
        except TransientError as error:
            log.warning("snapshot not written", error=str(error))
        finally:
            self._writing = False

    async def _polls(self) -> None:
        while True:
            await asyncio.sleep(POLL_S)
            try:
                await self.control.refresh()
                await self._check_epoch()  # without an address nobody asks, and without an append it would never notice
            except UnavailableError as error:
                log.warning("control records not read", error=str(error))
            except DamagedDataError as error:
                log.critical(DAMAGED_CONTROL, owner=self.name, error=str(error))


def _hold_response(answer: HoldAnswer) -> control_pb2.HoldResponse:
    response = control_pb2.HoldResponse(
        outcome=int(answer.outcome),  # type: ignore[arg-type]
        lapse_time_ms=answer.lapse_time_ms,
        short_quota_key=answer.short_key,
        units_left=answer.units_left,
    )
    if answer.state is not None:
        response.state = int(answer.state)  # type: ignore[assignment]
    return response
