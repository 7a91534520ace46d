"""I4: capacity of zones with its leases, and quotas with their holds, at every instant of the log.

Inside <= capacity is proved twice: by counting who is inside over all partitions in the order in which entries became
durable, and by the leases (what a partition holds it was granted, what was taken back it gave). The second needs no
common order of partitions, so it also holds where only each partition's own order is known.

Capacities are those of the catalogues that may have been in force. One that was lowered takes nobody out and no unit
back: so many as were leased then may stay leased, and fewer with each that is given back.

"Full" and "sold out" must be true as well: see `tests.checker.room`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from parkgate.events.v1 import events_pb2 as pb
from tests.checker.catalogues import Catalogues
from tests.checker.entitlements import ADMIT, EXIT, NOT_PASSED
from tests.checker.history import OK, History, Operation
from tests.checker.ledger import Fact, Ledger
from tests.checker.refusals import shown_codes
from tests.checker.room import Fullness, Peaks, Taken
from tests.checker.violation import Violation

HELD, PINNED, CONFIRMED = pb.HOLD_STATE_HELD, pb.HOLD_STATE_PINNED, pb.HOLD_STATE_CONFIRMED
RELEASED, LAPSED = pb.HOLD_STATE_RELEASED, pb.HOLD_STATE_LAPSED
MOVES = {HELD: {PINNED, RELEASED, LAPSED}, PINNED: {CONFIRMED, RELEASED}}
"""What a hold may become; from every other state, nothing."""


def check_limits(history: History, ledger: Ledger) -> Iterator[Violation]:
    """All violations of capacities and quotas."""
    park = next(history.of("park"), None)
    if park is None:
        return
    catalogues = Catalogues(history)
    terms = {item.request["ticket"]: item.request for item in history.of("issue")}
    occupancy, quotas = Occupancy(catalogues, ledger.ordered), Quotas(park.request["quotas"])
    fullness = Fullness(catalogues, occupancy.peaks, terms, shown_codes(history))
    for _, together in groupby(ledger.facts, key=lambda fact: (fact.partition, fact.sequence)):
        facts = list(together)
        yield from occupancy.take(facts)
        yield from fullness.take(facts) if ledger.ordered else fullness.later(facts)
        yield from quotas.take(facts)
    yield from occupancy.end()
    yield from fullness.end()
    yield from _full(history, catalogues, occupancy, quotas)
    yield from _told(history, quotas)


@dataclass(slots=True)
class _Lease:
    received: int = 0
    returned: int = 0
    granted: int = 0
    taken_back: int = 0
    inside: int = 0


class Occupancy:
    """Who is inside, and on which lease, entry by entry: an entry is one instant. What is said of several partitions
    at once is checked at every instant if their order is known, else at the end."""

    def __init__(self, catalogues: Catalogues, ordered: bool) -> None:
        self._ordered = ordered
        self._catalogues, self._limited = catalogues, catalogues.limited
        self._heard_ms: dict[str, int | None] = {}
        """When each partition's last entry became durable: none that follows was begun before."""
        self._bounds: dict[int, int] = {}
        """How many units of each zone may be leased, and how many persons be inside."""
        self._leases: dict[tuple[int, str], _Lease] = defaultdict(_Lease)
        self._admissions: dict[bytes, pb.ScanDecided] = {}
        self.peaks = Peaks()

    def inside(self, zone: int) -> int:
        """Persons inside a zone, over all partitions."""
        return sum(lease.inside for (number, _), lease in self._leases.items() if number == zone)

    def leased(self, zone: int) -> int:
        """Units of a zone that are leased to all partitions."""
        return sum(item.granted - item.taken_back for (number, _), item in self._leases.items() if number == zone)

    def take(self, facts: list[Fact]) -> Iterator[Violation]:
        """Moves one entry on."""
        before = {zone: self.leased(zone) for zone in self._limited}
        touched = {key for fact in facts if (key := self._moved(fact)) is not None}
        last = facts[-1]
        for zone, partition in sorted(touched):
            if zone in self._limited:
                self._bound(zone, before[zone], self._heard_ms.get(last.partition), last.durable_ms)
                yield from self._check_alone(zone, partition, last.where)
                if self._ordered:
                    yield from self._check_together(zone, partition, last.where)
        self._heard_ms[last.partition] = last.durable_ms

    def end(self) -> Iterator[Violation]:
        """What must hold after the last entry, whatever the order was."""
        if not self._ordered:
            for zone, partition in sorted(self._leases):
                if zone in self._limited:
                    yield from self._check_together(zone, partition, "at the end")

    def most(self, zone: int) -> int:
        """How many persons may be inside, as of the last entry."""
        return self._bounds.get(zone, self._catalogues.last(zone))

    def _bound(self, zone: int, leased: int, since_ms: int | None, until_ms: int | None) -> None:
        """`leased`: before the entry, for no entry makes room for itself."""
        limit = max(self._catalogues.capacities(zone, since_ms, until_ms))
        self._bounds[zone] = max(limit, min(self._bounds.get(zone, limit), leased))

    def _check_alone(self, zone: int, partition: str, where: str) -> Iterator[Violation]:
        """What one partition's own order shows: that of the capacity owner, or of who leases."""
        subject, limit, lease = f"zone {zone}", self._bounds[zone], self._leases[zone, partition]
        if (leased := self.leased(zone)) > limit:
            yield Violation("I4", subject, f"{leased} units are leased, {limit} there are", where)
        if lease.inside > lease.received - lease.returned:
            has = lease.received - lease.returned
            yield Violation("I4", subject, f"{partition} has {has} units and {lease.inside} persons inside", where)

    def _check_together(self, zone: int, partition: str, where: str) -> Iterator[Violation]:
        """What follows from several partitions at one instant."""
        subject, limit, lease = f"zone {zone}", self._bounds[zone], self._leases[zone, partition]
        if (inside := self.inside(zone)) > limit:
            yield Violation("I4", subject, f"{inside} persons are inside, {limit} may be", where)
        if lease.received > lease.granted:
            what = f"{partition} received {lease.received} units and was granted {lease.granted}"
            yield Violation("I4", subject, what, where)
        if lease.taken_back > lease.returned:
            what = f"{lease.taken_back} units of {partition} were taken back, it gave {lease.returned}"
            yield Violation("I4", subject, what, where)

    def _moved(self, fact: Fact) -> tuple[int, str] | None:
        key = self._move(fact)
        if key is not None:
            self.peaks.note(*key, self._leases[key].inside, fact.durable_ms)
        return key

    def _move(self, fact: Fact) -> tuple[int, str] | None:
        """Takes one fact over; answers the lease that it changed."""
        body, key = fact.body, (getattr(fact.body, "zone_number", 0), fact.partition)
        match fact.kind:
            case "scan_decided" if body.decision == ADMIT and body.counts_inside:
                self._admissions[body.scan_id] = body
                self._leases[key].inside += -body.persons if body.kind == EXIT else body.persons
            case "passage_recorded" if body.outcome == NOT_PASSED and body.scan_id in self._admissions:
                self._leases[key].inside -= body.persons_given_back
            case "lease_changed":
                lease = self._leases[key]
                lease.received, lease.returned = body.received_total, body.returned_total
            case "capacity_moved":
                key = (body.zone_number, body.partition)
                lease = self._leases[key]
                lease.granted, lease.taken_back = body.granted_total, body.returned_total
            case _:
                return None
        return key


@dataclass(slots=True)
class _Hold:
    state: int
    lines: list[tuple[str, int]]


@dataclass(slots=True)
class _Quota:
    limit: int
    taken: int = 0
    sold: int = 0
    returns: set[bytes] = field(default_factory=set)


class Quotas:
    """Holds and what they take, entry by entry."""

    def __init__(self, limits: dict[str, int]) -> None:
        self._quotas = {key: _Quota(limit) for key, limit in limits.items()}
        self.levels = {key: Taken(limit) for key, limit in limits.items()}
        self._holds: dict[bytes, _Hold] = {}
        self._returned: set[bytes] = set()

    def sold(self, key: str) -> int:
        """Units sold."""
        return self._quotas[key].sold

    def taken(self, key: str) -> int:
        """Units sold, pinned and held."""
        return self._quotas[key].taken

    def state(self, hold_id: bytes) -> int:
        """Where a hold stands; 0 for one that was never placed."""
        hold = self._holds.get(hold_id)
        return hold.state if hold is not None else 0

    def take(self, facts: list[Fact]) -> Iterator[Violation]:
        """Moves one entry on."""
        for fact in facts:
            if fact.kind == "hold_changed":
                yield from self._hold(fact)
            elif fact.kind == "units_returned":
                yield from self._return(fact)
            else:
                continue
            self._note(fact.durable_ms)
        if any(fact.kind == "hold_changed" for fact in facts):
            yield from self._within(facts[-1])

    def _note(self, ms: int | None) -> None:
        """Units that were returned before their sale was confirmed are still pinned, and so taken."""
        for key, level in self.levels.items():
            quota = self._quotas[key]
            level.note(quota.taken - min(quota.sold, 0), ms)

    def _hold(self, fact: Fact) -> Iterator[Violation]:
        change, subject = fact.body, f"hold {fact.body.hold_id.hex()}"
        hold = self._holds.get(change.hold_id)
        if hold is None or change.state == HELD:
            if hold is not None or change.state != HELD:
                yield Violation("I4", subject, f"{_state(change.state)} is no beginning of it", fact.where)
            hold = _Hold(HELD, [(line.quota_key, line.units) for line in change.lines])
            self._holds[change.hold_id] = hold
            self._count(hold, 1, 0)
            return
        if change.state not in MOVES.get(hold.state, ()):
            what = f"became {_state(change.state)} after {_state(hold.state)}"
            yield Violation("I4", subject, what, fact.where)
        gone = hold.state in (RELEASED, LAPSED)
        hold.state = change.state
        if change.state == CONFIRMED:
            self._count(hold, 1 if gone else 0, 1)
        elif change.state in (RELEASED, LAPSED):
            self._count(hold, -1, 0)

    def _count(self, hold: _Hold, taken: int, sold: int) -> None:
        for key, units in hold.lines:
            quota = self._quotas.setdefault(key, _Quota(0))
            quota.taken += taken * units
            quota.sold += sold * units

    def _return(self, fact: Fact) -> Iterator[Violation]:
        if fact.body.request_id in self._returned:
            yield Violation("I4", f"request {fact.body.request_id.hex()}", "returned its units twice", fact.where)
        self._returned.add(fact.body.request_id)
        for line in fact.body.lines:
            quota = self._quotas.setdefault(line.quota_key, _Quota(0))
            quota.taken, quota.sold = quota.taken - line.units, quota.sold - line.units

    def _within(self, fact: Fact) -> Iterator[Violation]:
        for key, quota in self._quotas.items():
            if quota.taken > quota.limit:
                what = f"{quota.taken} units are sold and held, {quota.limit} there are"
                yield Violation("I4", f"quota {key}", what, fact.where)


def _state(state: Any) -> str:
    return pb.HoldState.Name(state).removeprefix("HOLD_STATE_")


def _full(history: History, catalogues: Catalogues, occupancy: Occupancy, quotas: Quotas) -> Iterator[Violation]:
    """A run that asked for more than there is ends exactly full: nothing is stranded for good."""
    park = next(history.of("park")).request
    for item in history.of("full"):
        if "zone" in item.request:
            zone = item.request["zone"]
            inside, limit = occupancy.inside(zone), catalogues.last(zone)
            if not limit <= inside <= occupancy.most(zone):
                yield Violation("I4", f"zone {zone}", f"ended with {inside} persons inside, {limit} may be")
        else:
            key = item.request["quota"]
            if quotas.sold(key) != park["quotas"][key] or quotas.taken(key) != quotas.sold(key):
                what = f"ended with {quotas.sold(key)} sold and {quotas.taken(key)} taken of {park['quotas'][key]}"
                yield Violation("I4", f"quota {key}", what)


def _told(history: History, quotas: Quotas) -> Iterator[Violation]:
    """What a window was told of a hold is what became of it."""
    for step in history.of("hold"):
        yield from _sold_out(step, quotas)
        if step.outcome != OK or step.answer["state"] != "DONE":
            continue
        state, asked = quotas.state(bytes.fromhex(step.request["hold_id"])), step.request["step"]
        subject = f"hold {step.request['hold_id']}"
        if state == 0:
            yield Violation("I4", subject, f"{asked} was done, and the ledger knows nothing of it")
        elif asked == "confirm" and state != CONFIRMED:
            yield Violation("I4", subject, f"was confirmed, and is {_state(state)}")


def _sold_out(step: Operation, quotas: Quotas) -> Iterator[Violation]:
    """Whoever was told so can have met too few units left."""
    asked = step.request
    level = quotas.levels.get(asked.get("quota", ""))
    if step.answer.get("state") != "SOLD_OUT" or step.completed is None or level is None:
        return
    if not level.was_short(asked["units"], step.invoked, step.completed):
        what = f"{asked['units']} units were said to be sold out, and there were as many all the while"
        yield Violation("I4", f"quota {asked['quota']}", what, f"hold {asked['hold_id']}")
