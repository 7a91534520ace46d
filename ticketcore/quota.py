"""Quota: what may be sold. Holds are taken, pinned, confirmed, released, or lapse.

    state       placed by   counts as   leaves to
    HELD        place       held        PINNED (pin), RELEASED (release), LAPSED (the clock, at lapse_time_ms)
    PINNED      pin         pinned      CONFIRMED (confirm), RELEASED (release); never by the clock
    CONFIRMED   confirm     sold        -  (units come back only through `return_units`)
    RELEASED    release     nothing     -
    LAPSED      the clock   nothing     -

Invariant (I4): held + pinned + sold <= limit for every key, whenever a hold is granted.

A refund may be told before the confirmation of what it refunds, for the two travel apart. `sold` is then below zero: a
credit against units that are pinned, which the confirmation uses up. Until it has come the units count as pinned and
nobody else gets them. A credit is never more than what is pinned, for nothing else can still become sold.

Commands look and return `(outcome, change)`; `apply` is the only place where state moves, live and in recovery alike.
The caller appends the changes to the ledger before it answers. A hold is all its lines or none.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from enum import IntEnum

FINISHED_HOLDS_KEPT = 200_000
"""Finished holds whose ids are remembered, so that a repeated call is answered alike; about 30 MB, hours of sales."""


class HoldState(IntEnum):
    """Numbers of `parkgate.events.v1.HoldState`."""

    HELD = 1
    PINNED = 2
    CONFIRMED = 3
    RELEASED = 4
    LAPSED = 5


FINISHED = frozenset({HoldState.CONFIRMED, HoldState.RELEASED, HoldState.LAPSED})


class HoldOutcome(IntEnum):
    """Numbers of `parkgate.cluster.v1.HoldOutcome`."""

    DONE = 1
    SOLD_OUT = 2
    GONE = 3
    UNKNOWN = 4
    CONFLICT = 5


@dataclass(frozen=True, slots=True)
class Line:
    """Units of one quota."""

    quota_key: str
    units: int


@dataclass(frozen=True, slots=True)
class LimitedLine:
    """Units of one quota, and its limit as the caller's catalogue says."""

    quota_key: str
    units: int
    limit: int


@dataclass(frozen=True, slots=True)
class HoldChange:
    """A hold moves to `state`. `lines` and `lapse_time_ms` go with HELD."""

    hold_id: bytes
    state: HoldState
    lines: tuple[Line, ...] = ()
    lapse_time_ms: int = 0


@dataclass(frozen=True, slots=True)
class UnitsReturn:
    """Sold units become sellable again."""

    request_id: bytes
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class LimitChange:
    """A limit, and the version of the catalogue that says so."""

    quota_key: str
    limit: int
    catalogue_version: int


@dataclass(frozen=True, slots=True)
class Alert:
    """A level was crossed upwards."""

    quota_key: str
    level_percent: int
    taken: int
    limit: int


QuotaChange = HoldChange | UnitsReturn | LimitChange | Alert


@dataclass(slots=True)
class Counter:
    """Where one quota stands."""

    limit: int = 0
    catalogue_version: int = 0
    held: int = 0
    pinned: int = 0
    sold: int = 0
    """Below zero: units that were returned before they were confirmed."""
    alerted_percent: int = 0

    @property
    def taken(self) -> int:
        """Units that cannot be sold now."""
        return self.held + self.pinned + max(self.sold, 0)

    def bound_credit(self) -> None:
        """Returns of what was never sold change nothing."""
        self.sold = max(self.sold, -self.pinned)


@dataclass(slots=True)
class Hold:
    """A hold and where it stands."""

    lines: tuple[Line, ...]
    state: HoldState
    lapse_time_ms: int


@dataclass(frozen=True, slots=True)
class HoldAnswer:
    """What a command on a hold is answered, and the changes to append before it is."""

    outcome: HoldOutcome
    state: HoldState | None = None
    lapse_time_ms: int = 0
    short_key: str = ""
    units_left: int = 0
    changes: tuple[QuotaChange, ...] = ()


@dataclass(slots=True)
class QuotaBook:
    """All quotas and holds of one quota owner."""

    alert_levels_percent: tuple[int, ...] = (80, 90, 100)
    counters: dict[str, Counter] = field(default_factory=dict)
    holds: dict[bytes, Hold] = field(default_factory=dict)
    returned: dict[bytes, None] = field(default_factory=dict)
    finished: dict[bytes, None] = field(default_factory=dict)
    lapses: list[tuple[int, bytes]] = field(default_factory=list)

    def lapse_due(self, now_ms: int) -> tuple[QuotaChange, ...]:
        """Changes for holds whose time has come. To be applied and appended before any other command."""
        due: list[QuotaChange] = []
        while self.lapses and self.lapses[0][0] <= now_ms:
            hold_id = heapq.heappop(self.lapses)[1]
            hold = self.holds.get(hold_id)
            if hold is not None and hold.state is HoldState.HELD:
                due.append(HoldChange(hold_id, HoldState.LAPSED))
        return tuple(due)

    def place(
        self, hold_id: bytes, lines: tuple[LimitedLine, ...], lapse_time_ms: int, catalogue_version: int
    ) -> HoldAnswer:
        """Takes all lines or none; an id that is known gets its first answer, or CONFLICT with other lines."""
        wanted = tuple(Line(line.quota_key, line.units) for line in lines)
        known = self.holds.get(hold_id)
        if known is not None:
            same = known.lines == wanted
            return HoldAnswer(HoldOutcome.DONE if same else HoldOutcome.CONFLICT, known.state, known.lapse_time_ms)
        limits = self._limit_changes(lines, catalogue_version)
        limit_of = {change.quota_key: change.limit for change in limits}
        for line in lines:
            counter = self.counters.get(line.quota_key, Counter())
            left = limit_of.get(line.quota_key, counter.limit) - counter.taken
            if line.units > left:
                return HoldAnswer(
                    HoldOutcome.SOLD_OUT, short_key=line.quota_key, units_left=max(left, 0), changes=limits
                )
        held = HoldChange(hold_id, HoldState.HELD, wanted, lapse_time_ms)
        alerts = self._alerts(wanted, limit_of)
        return HoldAnswer(HoldOutcome.DONE, HoldState.HELD, lapse_time_ms, changes=(*limits, held, *alerts))

    def move(self, hold_id: bytes, to: HoldState) -> HoldAnswer:
        """Pins, confirms or releases; repeating what was done is DONE again."""
        hold = self.holds.get(hold_id)
        if hold is None:
            return HoldAnswer(HoldOutcome.UNKNOWN)
        if hold.state is to or (to is HoldState.PINNED and hold.state is HoldState.CONFIRMED):
            return HoldAnswer(HoldOutcome.DONE, hold.state, hold.lapse_time_ms)
        if to in MOVES[hold.state]:
            return HoldAnswer(HoldOutcome.DONE, to, changes=(HoldChange(hold_id, to),))
        if hold.state in {HoldState.LAPSED, HoldState.RELEASED}:
            # A hold that has lapsed is as good as released.
            outcome = HoldOutcome.DONE if to is HoldState.RELEASED else HoldOutcome.GONE
            return HoldAnswer(outcome, hold.state)
        return HoldAnswer(HoldOutcome.CONFLICT, hold.state, hold.lapse_time_ms)

    def return_units(self, request_id: bytes, lines: tuple[Line, ...]) -> tuple[QuotaChange, ...]:
        """The change that returns sold units; none if that request was done before."""
        return () if request_id in self.returned else (UnitsReturn(request_id, lines),)

    def apply(self, change: QuotaChange) -> None:
        """Moves the state; live after the decision, in recovery from the log."""
        match change:
            case HoldChange():
                self._apply_hold(change)
            case UnitsReturn(request_id, lines):
                self.returned[request_id] = None
                _forget_oldest(self.returned)
                for line in lines:
                    counter = self.counters.get(line.quota_key)
                    if counter is not None:  # else nothing of it was ever held
                        counter.sold -= line.units
                        counter.bound_credit()
            case LimitChange(key, limit, version):
                counter = self.counters.setdefault(key, Counter())
                if limit != counter.limit:
                    counter.alerted_percent = 0
                counter.limit, counter.catalogue_version = limit, version
            case Alert(key, level):
                self.counters[key].alerted_percent = level

    def _apply_hold(self, change: HoldChange) -> None:
        if change.state is HoldState.HELD:
            self.holds[change.hold_id] = Hold(change.lines, HoldState.HELD, change.lapse_time_ms)
            heapq.heappush(self.lapses, (change.lapse_time_ms, change.hold_id))
            self._count(change.lines, HoldState.HELD, 1)
            return
        hold = self.holds[change.hold_id]
        self._count(hold.lines, hold.state, -1)
        hold.state = change.state
        self._count(hold.lines, hold.state, 1)
        for line in hold.lines:
            self.counters[line.quota_key].bound_credit()
        if hold.state in FINISHED:
            self.finished[change.hold_id] = None
            for forgotten in _forget_oldest(self.finished):
                del self.holds[forgotten]

    def _count(self, lines: tuple[Line, ...], state: HoldState, sign: int) -> None:
        for line in lines:
            counter = self.counters.setdefault(line.quota_key, Counter())
            match state:
                case HoldState.HELD:
                    counter.held += sign * line.units
                case HoldState.PINNED:
                    counter.pinned += sign * line.units
                case HoldState.CONFIRMED:
                    counter.sold += sign * line.units
                case _:
                    pass

    def _limit_changes(self, lines: tuple[LimitedLine, ...], version: int) -> tuple[LimitChange, ...]:
        changes: list[LimitChange] = []
        for line in lines:
            known = self.counters.get(line.quota_key)
            if known is None or version > known.catalogue_version:  # also with the same limit: none before it counts
                changes.append(LimitChange(line.quota_key, line.limit, version))
        return tuple(changes)

    def _alerts(self, lines: tuple[Line, ...], limit_of: dict[str, int]) -> tuple[Alert, ...]:
        alerts: list[Alert] = []
        for line in lines:
            counter = self.counters.get(line.quota_key, Counter())
            limit = limit_of.get(line.quota_key, counter.limit)
            level = highest_level(counter.taken + line.units, limit, self.alert_levels_percent)
            alerted = counter.alerted_percent if limit == counter.limit else 0
            if level > alerted:
                alerts.append(Alert(line.quota_key, level, counter.taken + line.units, limit))
        return tuple(alerts)


MOVES: dict[HoldState, frozenset[HoldState]] = {
    HoldState.HELD: frozenset({HoldState.PINNED, HoldState.RELEASED}),
    HoldState.PINNED: frozenset({HoldState.CONFIRMED, HoldState.RELEASED}),
    HoldState.CONFIRMED: frozenset(),
    HoldState.RELEASED: frozenset(),
    HoldState.LAPSED: frozenset(),
}


def highest_level(taken: int, limit: int, levels_percent: tuple[int, ...]) -> int:
    """The highest alert level that `taken` of `limit` reaches; 0 for none."""
    return max((level for level in levels_percent if taken * 100 >= level * limit), default=0)


def _forget_oldest(memory: dict[bytes, None]) -> list[bytes]:
    excess = len(memory) - FINISHED_HOLDS_KEPT
    forgotten = [key for key, _ in zip(memory, range(excess), strict=False)] if excess > 0 else []
    for key in forgotten:
        del memory[key]
    return forgotten
