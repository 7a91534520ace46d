"""The quota and capacity owner's state, its events in the log, and its snapshot. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, field

from parkgate.events.v1 import events_pb2
from ticketcore.capacity import CapacityMove, Grant, ZoneBook
from ticketcore.errors import DamagedDataError
from ticketcore.quota import (
    Alert,
    Counter,
    HoldChange,
    HoldState,
    LimitChange,
    Line,
    QuotaBook,
    QuotaChange,
    UnitsReturn,
)
from ticketcore.seal import reading


@dataclass(frozen=True, slots=True)
class ZoneAlert:
    """A level of a zone's capacity was crossed upwards by what is leased."""

    zone_number: int
    level_percent: int
    taken: int
    limit: int


Change = QuotaChange | CapacityMove | ZoneAlert


@dataclass(slots=True)
class QuotaState:
    """Quotas with their holds, and zones with their grants."""

    name: str
    book: QuotaBook = field(default_factory=QuotaBook)
    zones: dict[int, ZoneBook] = field(default_factory=dict)
    epoch: int = 0
    sequence: int = 0
    last_time_ms: int = 0

    def zone(self, zone_number: int) -> ZoneBook:
        """A zone's book."""
        return self.zones.setdefault(zone_number, ZoneBook(zone_number))

    def apply(self, change: Change) -> None:
        """Moves the state, live and in recovery."""
        match change:
            case CapacityMove():
                self.zone(change.zone_number).apply(change)
            case ZoneAlert():
                zone = self.zone(change.zone_number)
                zone.alerted_percent, zone.alerted_limit = change.level_percent, change.limit
            case _:
                self.book.apply(change)


def write_event(entry: events_pb2.LogEntry, change: Change) -> None:
    """Adds a change to a log entry."""
    event = entry.events.add()
    match change:
        case HoldChange():
            hold = event.hold_changed
            hold.hold_id, hold.lapse_time_ms = change.hold_id, change.lapse_time_ms
            hold.state = int(change.state)  # type: ignore[assignment]
            hold.lines.extend(_line(line) for line in change.lines)
        case UnitsReturn():
            event.units_returned.request_id = change.request_id
            event.units_returned.lines.extend(_line(line) for line in change.lines)
        case LimitChange():
            event.limit_set.quota_key, event.limit_set.limit = change.quota_key, change.limit
            event.limit_set.catalogue_version = change.catalogue_version
        case Alert():
            alert = event.alert_raised
            alert.quota_key, alert.level_percent = change.quota_key, change.level_percent
            alert.taken, alert.limit = change.taken, change.limit
        case ZoneAlert():
            alert = event.alert_raised
            alert.zone_number, alert.level_percent = change.zone_number, change.level_percent
            alert.taken, alert.limit = change.taken, change.limit
        case CapacityMove():
            moved = event.capacity_moved
            moved.zone_number, moved.partition = change.zone_number, change.partition
            moved.granted_total, moved.returned_total = change.granted_total, change.returned_total


def read_event(event: events_pb2.Event) -> Change:
    """The change that a log entry holds.

    Raises:
        DamagedDataError: it is none of this owner's.
    """
    match event.WhichOneof("body"):
        case "hold_changed":
            hold = event.hold_changed
            lines = tuple(Line(line.quota_key, line.units) for line in hold.lines)
            return HoldChange(hold.hold_id, HoldState(hold.state), lines, hold.lapse_time_ms)
        case "units_returned":
            returned = event.units_returned
            return UnitsReturn(returned.request_id, tuple(Line(item.quota_key, item.units) for item in returned.lines))
        case "limit_set":
            limit = event.limit_set
            return LimitChange(limit.quota_key, limit.limit, limit.catalogue_version)
        case "alert_raised":
            alert = event.alert_raised
            if alert.zone_number:
                return ZoneAlert(alert.zone_number, alert.level_percent, alert.taken, alert.limit)
            return Alert(alert.quota_key, alert.level_percent, alert.taken, alert.limit)
        case "capacity_moved":
            moved = event.capacity_moved
            return CapacityMove(moved.zone_number, moved.partition, moved.granted_total, moved.returned_total)
        case other:
            raise DamagedDataError(f"the log of the quota owner holds a {other} event")


def replay(state: QuotaState, entry: events_pb2.LogEntry) -> None:
    """Applies one log entry.

    Raises:
        DamagedDataError: it is not the entry that must follow.
    """
    if entry.sequence != state.sequence + 1 or entry.epoch < state.epoch:
        raise DamagedDataError(f"{state.name} at sequence {state.sequence} cannot be followed by {entry.sequence}")
    with reading(f"entry {entry.sequence} of the log of {state.name}"):
        for event in entry.events:
            state.apply(read_event(event))
    state.sequence, state.epoch, state.last_time_ms = entry.sequence, entry.epoch, entry.time_ms


def snapshot(state: QuotaState) -> bytes:
    """The whole state, serialized."""
    record = events_pb2.QuotaSnapshot(partition=state.name, sequence=state.sequence, time_ms=state.last_time_ms)
    for key, counter in state.book.counters.items():
        record.counters.add(
            quota_key=key,
            limit=counter.limit,
            catalogue_version=counter.catalogue_version,
            sold=max(counter.sold, 0),
            alerted_percent=counter.alerted_percent,
            returned_early=max(-counter.sold, 0),
        )
    for hold_id, hold in state.book.holds.items():
        lines = [_line(line) for line in hold.lines]
        record.holds.add(hold_id=hold_id, state=int(hold.state), lines=lines, lapse_time_ms=hold.lapse_time_ms)
    record.returned.extend(state.book.returned)
    for zone in state.zones.values():
        for partition, grant in zone.grants.items():
            record.grants.add(
                zone_number=zone.zone_number,
                partition=partition,
                granted_total=grant.granted_total,
                returned_total=grant.returned_total,
            )
        if zone.alerted_percent:
            alert = record.zone_alerts.add(zone_number=zone.zone_number)
            alert.level_percent, alert.limit = zone.alerted_percent, zone.alerted_limit
    return record.SerializeToString()


def restore(state: QuotaState, data: bytes) -> None:
    """Takes a snapshot over into an empty state.

    Raises:
        DamagedDataError: it cannot be read.
    """
    with reading(f"the snapshot of {state.name}"):
        _restore(state, events_pb2.QuotaSnapshot.FromString(data))


def _restore(state: QuotaState, record: events_pb2.QuotaSnapshot) -> None:
    book = state.book
    for item in record.holds:
        lines = tuple(Line(line.quota_key, line.units) for line in item.lines)
        book.apply(HoldChange(item.hold_id, HoldState.HELD, lines, item.lapse_time_ms))
        if item.state != events_pb2.HOLD_STATE_HELD:
            book.apply(HoldChange(item.hold_id, HoldState(item.state)))
    for counter in record.counters:
        held = book.counters.get(counter.quota_key, Counter())
        book.counters[counter.quota_key] = Counter(
            limit=counter.limit,
            catalogue_version=counter.catalogue_version,
            held=held.held,
            pinned=held.pinned,
            sold=counter.sold - counter.returned_early,
            alerted_percent=counter.alerted_percent,
        )
    book.returned = dict.fromkeys(record.returned)
    for moved in record.grants:
        state.zone(moved.zone_number).grants[moved.partition] = Grant(moved.granted_total, moved.returned_total)
    for alert in record.zone_alerts:
        zone = state.zone(alert.zone_number)
        zone.alerted_percent, zone.alerted_limit = alert.level_percent, alert.limit
    state.sequence, state.last_time_ms = record.sequence, record.time_ms


def _line(line: Line) -> events_pb2.QuotaLine:
    return events_pb2.QuotaLine(quota_key=line.quota_key, units=line.units)
