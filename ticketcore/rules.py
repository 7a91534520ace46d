"""What a product may do at a gate, compiled from the catalogue once and looked up once a scan.

A `Rule` exists for each pair of product and gate that go together; every other pair is WRONG_GATE. Times are minutes of
the park's day, days are counted from 2020-01-01 as in the token.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, tzinfo
from functools import lru_cache

from ticketcore.catalogue import DAY_MINUTES, Catalogue, Gate, Product, Reentry
from ticketcore.reasons import Reason
from ticketcore.token import EPOCH_DAY

MINUTE_MS = 60_000


@dataclass(frozen=True, slots=True)
class Moment:
    """An instant, and the park's civil day and minute in it. Read once a batch, at the shell."""

    time_ms: int
    day: int
    minute: int


def moment_at(time_ms: int, time_zone: tzinfo) -> Moment:
    """The moment of a UTC instant in milliseconds, in the park's time zone."""
    return Moment(time_ms, *_civil(time_ms // MINUTE_MS, time_zone))


@lru_cache(maxsize=64)
def _civil(minute: int, time_zone: tzinfo) -> tuple[int, int]:
    """Day and minute of it for a minute since 1970. Clocks are whole minutes off UTC, so that it is one of the park's
    too; many batches fall into one."""
    local = datetime.fromtimestamp(minute * 60, UTC).astimezone(time_zone)
    return (local.date() - EPOCH_DAY).days, local.hour * 60 + local.minute


@dataclass(frozen=True, slots=True)
class Rule:
    """What one product may do at one gate."""

    product_number: int
    gate_number: int
    zone_number: int
    other_zones: tuple[int, ...]  # of the product
    counts_inside: bool
    capacity_limited: bool
    passage_timeout_ms: int  # 0: no report is awaited
    daily_entries: int
    reentry: bool
    reentry_after_ms: int
    all_together: bool
    admit_on_signature: bool
    opens_minute: int
    closes_minute: int
    blackout_days: frozenset[int]
    slots: dict[int, tuple[int, int]]  # slot -> first and last minute of entry, last exclusive, on the first valid day
    slot_required: bool


@dataclass(frozen=True, slots=True)
class Rules:
    """All rules of a catalogue."""

    catalogue_version: int
    time_zone: tzinfo
    pairs: dict[int, Rule]
    zones_of_product: dict[int, tuple[int, ...]]
    gate_zone: dict[int, int]
    capacity_of_zone: dict[int, int] = field(default_factory=dict)
    ways_out: dict[int, Rule] = field(default_factory=dict)
    """By gate that counts who is inside: the rule by which guests leave whose product has no place there."""

    def find(self, product_number: int, gate_number: int) -> Rule | Reason:
        """The rule of a pair, or why there is none."""
        rule = self.pairs.get(product_number << 16 | gate_number)
        if rule is not None:
            return rule
        return Reason.WRONG_GATE if product_number in self.zones_of_product else Reason.WRONG_PRODUCT

    def way_out(self, product_number: int, gate_number: int) -> Rule | None:
        """How guests leave through a gate where their product has no place, or has none any more; None at a ride."""
        rule = self.ways_out.get(gate_number)
        return replace(rule, product_number=product_number) if rule is not None else None


NO_RULES = Rules(0, UTC, {}, {}, {})
"""Before a first catalogue is in force: nothing is admitted anywhere."""


def compile_rules(catalogue: Catalogue, version: int) -> Rules:
    """The rules of a catalogue."""
    pairs: dict[int, Rule] = {}
    for product in catalogue.products.values():
        for gate in catalogue.gates.values():
            if gate.zone in product.zones and (not product.gates or gate.id in product.gates):
                pairs[product.number << 16 | gate.number] = _rule(catalogue, product, gate)
    return Rules(
        catalogue_version=version,
        time_zone=catalogue.venue.time_zone,
        pairs=pairs,
        zones_of_product={
            product.number: tuple(sorted(catalogue.zones[zone].number for zone in product.zones))
            for product in catalogue.products.values()
        },
        gate_zone={gate.number: catalogue.zones[gate.zone].number for gate in catalogue.gates.values()},
        capacity_of_zone={zone.number: zone.capacity for zone in catalogue.zones.values()},
        ways_out={gate.number: _way_out(catalogue, gate) for gate in catalogue.gates.values() if gate.counts_inside},
    )


def _way_out(catalogue: Catalogue, gate: Gate) -> Rule:
    return Rule(
        product_number=0,
        gate_number=gate.number,
        zone_number=catalogue.zones[gate.zone].number,
        other_zones=(),
        counts_inside=True,
        capacity_limited=False,
        passage_timeout_ms=0,
        daily_entries=0,
        reentry=False,
        reentry_after_ms=0,
        all_together=False,
        admit_on_signature=False,
        opens_minute=0,
        closes_minute=0,
        blackout_days=frozenset(),
        slots={},
        slot_required=False,
    )


def _rule(catalogue: Catalogue, product: Product, gate: Gate) -> Rule:
    zone = catalogue.zones[gate.zone]
    return Rule(
        product_number=product.number,
        gate_number=gate.number,
        zone_number=zone.number,
        other_zones=tuple(sorted(catalogue.zones[name].number for name in product.zones if name != gate.zone)),
        counts_inside=gate.counts_inside,
        capacity_limited=gate.counts_inside and zone.capacity > 0,
        passage_timeout_ms=gate.passage_timeout_ms if gate.passage_reported else 0,
        daily_entries=product.daily_entries,
        reentry=product.reentry is Reentry.SAME_DAY and gate.counts_inside,
        reentry_after_ms=product.reentry_after_minutes * 60_000,
        all_together=product.all_together,
        admit_on_signature=product.admit_on_signature,
        opens_minute=product.opens_minute,
        closes_minute=product.closes_minute,
        blackout_days=frozenset((day - EPOCH_DAY).days for day in product.blackout_dates),
        slots=_slot_windows(catalogue, product),
        slot_required=bool(product.slot_schedule),
    )


def _slot_windows(catalogue: Catalogue, product: Product) -> dict[int, tuple[int, int]]:
    if not product.slot_schedule:
        return {}
    schedule = catalogue.schedules[product.slot_schedule]
    return {
        slot.number: (slot.starts_minute - schedule.early_minutes, slot.ends_minute + schedule.late_minutes)
        for slot in schedule.slots
    }


def minutes_since_first_day(moment: Moment, first_day: int) -> int:
    """Minutes from the start of a ticket's first day; slots that end after midnight go on counting."""
    return (moment.day - first_day) * DAY_MINUTES + moment.minute
