"""Bugs planted in the real code, to try the checker: each is a mistake that somebody could make, or once had made.

A checker that never finds anything proves nothing. Each bug must be caught within `seeds` days of its profile: many
times as many as it takes, or a run with other seeds might miss it by chance. The second half are mistakes that the
simulation found in the product: the plant takes the repair out again.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

from redis.exceptions import ResponseError

from cluster import ledger, minute, owner, owner_commands, quota_owner, recalling, snapshots
from cluster.control_service import CALL_TIMEOUT_S, ControlService
from cluster.deciding import Decider, Genuine, Waiting
from cluster.hosting import OwnerHost
from cluster.ledger import Append, Appended
from cluster.minute import Known
from cluster.owner import Owner
from cluster.partition import Partition
from cluster.quota_owner import QuotaOwner
from cluster.quota_state import QuotaState
from cluster.runs import AdmissionRun
from cluster.scan_memory import ScanMemory
from gateclient.session import Session
from parkgate.gate.v1 import gate_pb2
from reporting import joint, worker
from reporting.store import Offset
from sales.usecases import issue
from tests.checker import OK
from tests.simulation.guests import People, Ticket
from tests.simulation.loop import Process
from tests.simulation.memory_redis import MemoryServer
from tests.simulation.servers import Ledger
from tests.simulation.streams import Device
from tests.simulation.world import replaced
from ticketcore import admission, postings, quota
from ticketcore.admission import Admission, Visit
from ticketcore.capacity import CapacityMove, Grant, ZoneBook, ZoneLease
from ticketcore.errors import TransientError
from ticketcore.postings import Kind, SoldLine, Transaction
from ticketcore.quota import Counter, HoldState
from ticketcore.reasons import Reason

LEASE_MS = 1_000


@dataclass(frozen=True, slots=True)
class Bug:
    """A bug, the kind of day on which it must show, and how many such days it may take."""

    says: str
    profile: str
    plant: Callable[[Any], AbstractContextManager[None]]
    seeds: int = 40


def _patch(*changes: tuple[Any, str, Any]) -> Callable[[Any], AbstractContextManager[None]]:
    return lambda _simulation: replaced(*changes)


# What somebody could do


def _fence_ignored(item: Append, answer: bytes) -> Appended:
    return Appended.DONE


async def _answer_first(self: Ledger, appends: Sequence[Append]) -> list[Appended]:
    """The append is on its way; surely it will arrive."""
    on_its_way = asyncio.ensure_future(ledger.Ledger.append(self, appends))
    on_its_way.add_done_callback(lambda done: done.cancelled() or done.exception())
    return [Appended.DONE] * len(appends)


def _append_unchecked(
    self: Decider, scan: gate_pb2.Scan, gate_number: int, genuine: Genuine, known: Known, visit: Visit
) -> Admission | Reason | Waiting:
    """A genuine ticket that its terms let in here is logged as admitted, and then it is looked at: whether it is used,
    refunded, or inside. The gate hears what that says, and a refusal is logged as well."""
    unchecked, rule = known.fresh, known.standing.rule
    checked = _JUDGE(self, scan, gate_number, genuine, known, visit)
    if not (isinstance(unchecked, Admission) and rule is not None and isinstance(checked, Reason)):
        return checked  # it is logged once: as admitted with what it is counted for, or when it need not wait any more
    ticket_id, _, verification = genuine
    first = visit.admitted == 0 and not self._admitted_elsewhere(ticket_id, rule)
    event = self.log().scan_decided
    event.CopyFrom(minute.event_of(rule, unchecked, verification, first))
    event.scan_id, event.ticket_id, event.gate_number = scan.scan_id, ticket_id, gate_number
    event.scan_time_ms = scan.scan_time_ms
    return checked


_JUDGE = Decider._judge


@contextmanager
def _new_id_on_retry(simulation: Any) -> Iterator[None]:
    """The client makes a new scan_id each time it sends a scan again, and believes what that is told."""
    real_frame, real_received = Session.next_frame, Session.received
    seen: set[bytes] = set()
    asked: dict[bytes, bytes] = {}

    def next_frame(self: Session, now: Any) -> gate_pb2.ClientFrame | None:
        frame = real_frame(self, now)
        if frame is None:
            return None
        copy = gate_pb2.ClientFrame()
        copy.CopyFrom(frame)
        for scan in copy.scans:
            first, again = scan.scan_id, scan.scan_id in seen
            scan.scan_id = simulation.chance.randbytes(16) if again else first
            seen.add(first)
            asked[scan.scan_id] = first
        return copy

    def received(self: Session, frame: gate_pb2.ServerFrame, now: Any) -> Any:
        for verdict in frame.verdicts:
            verdict.scan_id = asked.get(verdict.scan_id, verdict.scan_id)
        return real_received(self, frame, now)

    with replaced((Session, "next_frame", next_frame), (Session, "received", received)):
        yield


@contextmanager
def _offset_outside(simulation: Any) -> Iterator[None]:
    postgres = simulation.park.postgres

    async def write_one(batch: Any, read_from: Offset) -> tuple[Offset, bool]:
        present = await postgres.read_offset(None, batch.partition)
        if present != read_from:
            return present, False
        await postgres._ask(lambda: postgres.insert(batch))
        await postgres._ask(lambda: postgres.move_offset(batch))
        return postgres.offsets[batch.partition], True

    async def write(_connection: object, batches: Any) -> dict[str, tuple[Offset, bool]]:
        """Rows in one transaction, the offset in the next."""
        return {batch.partition: await write_one(batch, read_from) for batch, read_from in batches}

    with replaced((joint, "write", write)):
        yield


async def _trim_unread(store: ledger.Ledger, name: str, sequence: int) -> int:
    """What a snapshot holds is needed no more."""
    await store.trim(name, sequence)
    return sequence


@contextmanager
def _lease_by_the_clock(_simulation: Any) -> Iterator[None]:
    """The capacity owner takes back what others have had for long, without asking them."""
    real, since = QuotaOwner._grant, dict[tuple[int, str], int]()

    def grant(self: QuotaOwner, request: Any, changes: list[Any]) -> int:
        now, zone = self._clock(), self.state.zone(request.zone_number)
        for partition, known in list(zone.grants.items()):
            old = now - since.get((request.zone_number, partition), now) > LEASE_MS
            if partition != request.partition and known.leased > 0 and old:
                move = CapacityMove(request.zone_number, partition, known.granted_total, known.granted_total)
                zone.apply(move)
                changes.append(move)
        since[request.zone_number, request.partition] = now
        return real(self, request, changes)

    with replaced((QuotaOwner, "_grant", grant)):
        yield


@contextmanager
def _ids_from_one(_simulation: Any) -> Iterator[None]:
    """A turnstile numbers its scans, and begins with one whenever its program does."""
    numbers: dict[Process, Iterator[int]] = {}

    def new_scan_id(self: Device, _chance: Any) -> bytes:
        number = next(numbers.setdefault(self.process, count(1)))
        return self.name.encode().ljust(12, b".") + number.to_bytes(4, "big")

    with replaced((Device, "new_scan_id", new_scan_id)):
        yield


async def _refund_unasked(self: People, ticket: Ticket, at_s: float) -> None:
    await asyncio.sleep(at_s)
    request_id = self.chance.randbytes(16)
    operation = self.history.invoke("refund", "desk", self.now_ms(), ticket=ticket.number, request_id=request_id.hex())
    operation.complete(self.now_ms(), OK, changed="DONE")


def _sales_left_to_the_shift(bookings: Sequence[tuple[bytes, int, Transaction]], *when: Any) -> Any:
    """The till books what was sold when its shift is closed. Nobody has written that part."""
    return _BOOKING_ROWS([booking for booking in bookings if booking[2].kind is not Kind.SALE], *when)


_BOOKING_ROWS = issue.booking_rows


def _sale_without_cents(method: Any, lines: Sequence[SoldLine], *more: Any) -> Transaction:
    whole = tuple(replace(line, total_minor=line.total_minor // 100 * 100) for line in lines)
    return _SALE(method, whole, *more)


_SALE = postings.sale


def _without_the_first(kind: Any, *lines: Any) -> Transaction:
    return Transaction(kind, lines[1:])


def _last_entry_kept(terms: Any, visit: Any, rule: Any, wanted: int, admitted_today: int) -> Any:
    """Of several entries the last is never given."""
    if terms.entries > 1 and visit.admitted >= (terms.entries - 1) * terms.party:
        return Reason.NO_ENTRIES_LEFT
    return _FRESH_ENTRY(terms, visit, rule, wanted, admitted_today)


_FRESH_ENTRY = admission._fresh_entry

_GONE_COMES_BACK = {**quota.MOVES, HoldState.LAPSED: frozenset({HoldState.PINNED, HoldState.CONFIRMED})}


# What was done, and is mended


def _grant_unless_on_its_way(
    self: ZoneBook, partition: str, received_total: int, wanted: int, partitions: int
) -> CapacityMove | None:
    known = self.grants.get(partition, Grant())
    if wanted <= 0 or known.granted_total > received_total or self.free <= 0:
        return None
    units = min(max(wanted, self.free // (2 * max(partitions, 1))), self.free)
    return CapacityMove(self.zone_number, partition, known.granted_total + units, known.returned_total)


def _grant_what_came_back(self: QuotaOwner, request: Any, missing: int, totals: Any, changes: Any) -> int:
    """Nothing is granted after a recall that has brought nothing."""
    before = self.state.zone(request.zone_number).leased
    granted = _GRANT_REST(self, request, 0, totals, changes)
    if self.state.zone(request.zone_number).leased == before:
        return granted
    return self._grant_more(request, missing, changes)


_GRANT_REST = QuotaOwner._grant_rest


def _recall_of_what_is_known(batch: Any, request: Any, touched: set[str]) -> Any:
    request.granted_totals.clear()
    return _RECALL(batch, request, touched)


_RECALL = owner_commands.recall


def _believe_full(self: Owner, batch: Any, first: Any, answer: Any) -> bool:
    answer.returned_total = 2**63
    return _RECEIVE_LEASE(self, batch, first, answer)


_RECEIVE_LEASE = Owner._receive_lease


def _no_credit(self: Counter) -> None:
    self.sold = max(self.sold, 0)


def _is_owned(self: OwnerHost, index: int, _head: object) -> bool:
    return index in self.owner.owned


async def _ask_while_patient(self: ControlService, link: Any, call: Any) -> Any:
    """A silent owner's successor is looked for when our own time is over; the caller's is over before."""
    try:
        return await link.call(call, CALL_TIMEOUT_S)
    except TransientError:
        self._routes.look_up_soon()
        raise


def _grow_while_young(self: Owner, batch: Any) -> bool:
    """Whatever is in force meanwhile."""
    return self._clock() - batch.context.moment.time_ms < owner.MAX_BATCH_AGE_MS


def _await_all(self: Partition, run: AdmissionRun, _scan_ids: Iterable[bytes]) -> None:
    """A run that is recovered awaits all of its members."""
    _HOLD_RUN(self, run, run.scan_ids)


_HOLD_RUN = Partition.hold_run


async def _recall_the_missing(routes: Any, zone: Any, wanted: int, but: str = "") -> Any:
    """What is leased beyond a lowered capacity stays where it is."""
    return await recalling.recall(routes, zone, wanted - max(-zone.free, 0), but)


async def _nothing(*_: object) -> None:
    return None


async def _not_overtaken(_self: object) -> bool:
    return False


@contextmanager
def _recovery_on_top(_simulation: Any) -> Iterator[None]:
    """A quota owner that starts again after a failure begins with what the failed start has left."""
    states: dict[int, QuotaState] = {}
    real = QuotaOwner.start

    async def start(self: QuotaOwner, address: str) -> None:
        kept = states.setdefault(id(self), self.state)
        with replaced((quota_owner, "QuotaState", lambda _name: kept)):
            await real(self, address)

    # A process that dies in the midst of `start` puts nothing back: this does, at the end of the day.
    with replaced((QuotaOwner, "start", start), (quota_owner, "QuotaState", quota_owner.QuotaState)):
        yield


_write_snapshot = QuotaOwner._write_snapshot


async def _write_beside_the_last(self: QuotaOwner, sequence: int, data: bytes) -> None:
    self._writing = False
    await _write_snapshot(self, sequence, data)


def _finish_in_part(self: MemoryServer, keys: Sequence[str], arguments: Sequence[bytes]) -> bytes:
    """What is there must be the snapshot that was written."""
    head, new, snapshot = keys
    if self.hget(head, "epoch") != arguments[0]:
        return b"FENCED"
    if new not in self.hashes:
        raise ResponseError("no such key")
    self.hashes[snapshot] = self.hashes.pop(new)
    return b"DONE"


BUGS = {
    "fence ignored": Bug(
        "an owner takes FENCED for DONE", "zombies", _patch((ledger, "_appended", _fence_ignored))
    ),
    "answer before append": Bug(
        "gates hear what is still on its way to the ledger", "ledger", _patch((Ledger, "append", _answer_first))
    ),
    "append before check": Bug(
        "an owner logs an admission, and looks afterwards whether the ticket is used", "calm",
        _patch((Decider, "_judge", _append_unchecked)),
    ),
    "retry with a new id": Bug("a gate makes a new scan_id when it sends again", "network", _new_id_on_retry),
    "scan ids begin anew": Bug("a gate that is restarted numbers its scans from one again", "gates", _ids_from_one),
    "scan forgotten": Bug(
        "an owner does not remember what it has answered", "network",
        _patch((ScanMemory, "recall", lambda *_: False)),
    ),
    "offset outside": Bug("rows in one transaction, the offset in another", "reporting", _offset_outside),
    "trimmed unread": Bug(
        "an owner trims its log up to its snapshot, however far reporting has read", "reporting",
        _patch((snapshots, "trim_after", _trim_unread), (quota_owner, "trim_after", _trim_unread)),
    ),
    "lease by the clock": Bug("a lease is taken back when its time is over", "calm", _lease_by_the_clock),
    "refund unasked": Bug(
        "money back without asking the owner", "calm", _patch((People, "refund", _refund_unasked))
    ),
    "refusal forgotten": Bug(
        "a refund that was refused is judged anew when it is asked for again", "calm",
        _patch((owner_commands, "_log_refusal", lambda *_: None)), 100,
    ),
    "refund booked twice": Bug(
        "a booking's id is drawn, and does not follow from what it is for", "calm",
        _patch((issue, "derive", lambda *_: os.urandom(16))),
    ),
    "sale not booked": Bug(
        "postings of refunds are written, those of sales are left out", "calm",
        _patch((issue, "booking_rows", _sales_left_to_the_shift)),
    ),
    "cents lost": Bug(
        "a sale is booked in whole francs, and sums to zero", "calm", _patch((postings, "sale", _sale_without_cents))
    ),
    "posting forgotten": Bug(
        "a transaction need not sum to zero, and lacks a line", "calm",
        _patch((Transaction, "__post_init__", lambda _: None), (postings, "_transaction", _without_the_first)),
    ),
    "last entry refused": Bug(
        "of several entries the last is refused as used", "calm", _patch((admission, "_fresh_entry", _last_entry_kept))
    ),
    "lapsed hold confirmed": Bug(
        "a hold that has lapsed can still be paid", "calm", _patch((quota, "MOVES", _GONE_COMES_BACK))
    ),
    "return told too soon": Bug(
        "the capacity owner hears of returned units before they are durable", "zombies",
        _patch((ZoneLease, "returned_by", lambda self, _sequence: self.returned_total)), 1_000,
    ),
    "silent is full": Bug(
        "who does not answer a recall is taken to have no unused units", "zombies",
        _patch((quota_owner, "silent", lambda *_, **__: [])), 100,
    ),
    "full on its way": Bug(
        "full is believed while units that were given back are on their way", "network",
        _patch((Owner, "_receive_lease", _believe_full)), 1_000,
    ),
    "returned early": Bug(
        "units that are returned before their sale is confirmed are lost", "calm",
        _patch((Counter, "bound_credit", _no_credit)),
    ),
    "full too soon": Bug(
        "a question that overtakes an answer is told that the zone is full", "ledger",
        _patch((ZoneBook, "grant", _grant_unless_on_its_way), (QuotaOwner, "_grant_rest", _grant_what_came_back)), 100,
    ),
    "grant lost": Bug(
        "units whose grant was not heard of lie idle", "network",
        _patch((owner_commands, "recall", _recall_of_what_is_known)), 1_000,
    ),
    "fenced quota owner talks": Bug(
        "answers that change nothing are given without being the owner", "quota",
        _patch((QuotaOwner, "_prove_ownership", _nothing)), 1_000,
    ),
    "caller gives up first": Bug(
        "a silent owner's successor is not looked for when the caller is less patient", "hung",
        _patch((ControlService, "_ask", _ask_while_patient)), 100,
    ),
    "snapshots mixed": Bug(
        "a quota owner begins a snapshot before the last has its end, and the ledger takes what there is", "hung",
        _patch(
            (QuotaOwner, "_write_snapshot", _write_beside_the_last), (MemoryServer, "_finish_snapshot", _finish_in_part)
        ),
        5_000,
    ),
    "recovery on top": Bug("a quota owner recovers on top of what it had", "ledger", _recovery_on_top, 2_000),
    "taken, not announced": Bug(
        "a partition is taken and its address never published", "ledger",
        _patch((OwnerHost, "_drop_lost", lambda *_: None), (OwnerHost, "_serves", _is_owned)), 100,
    ),
    "batch grows on": Bug(
        "what is asked after a catalogue was read is decided by the one before", "catalogue",
        _patch((Owner, "_may_grow", _grow_while_young)), 3_000,
    ),
    "settled forgotten": Bug(
        "a partition that comes back from a snapshot awaits passages again that were settled before", "everything",
        _patch((Partition, "hold_run", _await_all)), 1_000,
    ),
    "overhang stays": Bug(
        "units that are leased beyond a lowered capacity, and unused, are not recalled", "catalogue",
        _patch((quota_owner, "recall", _recall_the_missing)), 1_000,
    ),
    "stale worker stops": Bug(
        "a second worker takes for damage what was trimmed meanwhile", "reporting",
        _patch((worker.PartitionWorker, "_was_overtaken", _not_overtaken)), 1_000,
    ),
}  # fmt: skip

BREAKS = {
    "fence ignored": ("I1", "I2"),
    "answer before append": ("I2", "I7"),
    "append before check": ("I1",),
    "retry with a new id": ("I2", "I3"),
    "scan ids begin anew": ("I3",),
    "scan forgotten": ("I3",),
    "offset outside": ("I6",),
    "trimmed unread": ("I6",),
    "lease by the clock": ("I4",),
    "refund unasked": ("I5",),
    "refusal forgotten": ("I5", "I9"),
    "refund booked twice": ("I9",),
    "sale not booked": ("I9",),
    "cents lost": ("I9",),
    "posting forgotten": ("I9",),
    "lapsed hold confirmed": ("I4",),
    "return told too soon": ("I4",),
    "full too soon": ("I4",),
    "grant lost": ("I4",),
    "fenced quota owner talks": ("I4",),
    "caller gives up first": ("I4", "I10"),
    "snapshots mixed": ("I10",),
    "recovery on top": ("I4",),
    "taken, not announced": ("I10",),
    "stale worker stops": ("I8",),
    "batch grows on": ("I1", "I7"),
    "settled forgotten": ("I1", "I5"),
    "overhang stays": ("I4",),
    "last entry refused": ("I7",),
    "silent is full": ("I4",),
    "full on its way": ("I4",),
    "returned early": ("I4",),
}
"""The promises of which each bug must break one: a program that merely falls over is not caught for its bug."""
