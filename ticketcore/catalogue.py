"""The park's catalogue as the core sees it: venue, zones, gates, products, concessions, slots, prices, refund tiers.

Plain frozen values. They are read from a document (TOML files merged, or the canonical JSON that travels between the
services) by `ticketcore.catalogue_document`, the one reader of that format. Times of day are minutes since midnight of
the park's own time zone, dates are civil days of the park, money is in minor units of the venue's currency.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from enum import Enum
from functools import cached_property
from zoneinfo import ZoneInfo

DAY_MINUTES = 24 * 60


class Reentry(Enum):
    """Whether somebody who left may come back in on the same entry."""

    NONE = "none"
    SAME_DAY = "same_day"


class PriceDifference(Enum):
    """What becomes of the difference when a ticket is moved to a date of another price."""

    KEEP = "keep"
    """The price that was paid stays; a dearer date is refused."""
    PAY_UP = "pay_up"
    """A dearer date is paid up; on a cheaper one the price that was paid stays."""
    SETTLE = "settle"
    """A dearer date is paid up, and a cheaper one paid back."""


@dataclass(frozen=True, slots=True)
class Venue:
    """The park. `time_zone` is an IANA name; `currency` is ISO 4217 and `currency_digits` its minor digits."""

    id: str
    name: str
    time_zone: ZoneInfo
    currency: str
    currency_digits: int = 2
    languages: tuple[str, ...] = ("en",)
    """Languages of `Catalogue.texts`; the first is shown at the gates."""


@dataclass(frozen=True, slots=True)
class Channel:
    """A way of selling: window, kiosk, web, agency."""

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class ReasonText:
    """What a gate shows for a reason: to the guest, and to the attendant (what it means and what to do)."""

    guest: str
    staff: str


@dataclass(frozen=True, slots=True)
class Zone:
    """An area whose occupancy counts. `capacity` 0 means unlimited."""

    id: str
    number: int
    name: str
    capacity: int = 0
    alert_levels_percent: tuple[int, ...] = (80, 90, 100)


@dataclass(frozen=True, slots=True)
class Gate:
    """A gate leads into one zone (and out of it). With `counts_inside` false it only counts entries: rides."""

    id: str
    number: int
    name: str
    zone: str
    counts_inside: bool = True
    passage_reported: bool = True
    passage_timeout_ms: int = 20_000


@dataclass(frozen=True, slots=True)
class Slot:
    """A time slot of a schedule; `number` 1 to 255 goes into the token. `quota` is how many persons each product of the
    schedule may be sold to for it, a day."""

    number: int
    starts_minute: int
    ends_minute: int
    quota: int


@dataclass(frozen=True, slots=True)
class SlotSchedule:
    """The slots of a day. Entry is open from `early_minutes` before a slot starts to `late_minutes` after it ends."""

    id: str
    slots: tuple[Slot, ...]
    early_minutes: int = 0
    late_minutes: int = 0


@dataclass(frozen=True, slots=True)
class Concession:
    """Who a price is for. `free_every` n: of every n persons of this concession on one order, one is free."""

    id: str
    name: str
    proof_required: bool = False
    free_every: int = 0
    min_persons: int = 1


@dataclass(frozen=True, slots=True)
class Price:
    """Price of one ticket of a product for a concession on visit dates within [first_day, last_day], both inclusive.

    The last price that fits wins, so a holiday price follows the plain one. `weekdays` 0 is Monday; empty means all.
    """

    concession: str
    price_minor: int
    first_day: date | None = None
    last_day: date | None = None
    weekdays: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class RefundTier:
    """Refunds asked at least `days_before` the visit date cost `fee_percent` of what was paid (rounded half up)."""

    days_before: int
    fee_percent: int


@dataclass(frozen=True, slots=True)
class Product:
    """What is sold, and what its ticket entitles to.

    For each of `zones` separately: `entries` entries (0 uncounted) of `persons` persons, at most `daily_entries` a day
    (0 unlimited). `opens_minute` to `closes_minute` bounds the time of entry. `gates` empty means every gate of the
    zones, `channels` empty every channel. `daily_quota` bounds the persons it is sold for, by first day of validity (0
    unlimited).
    """

    id: str
    number: int
    name: str
    zones: frozenset[str]
    gates: frozenset[str] = frozenset()
    entries: int = 1
    daily_entries: int = 0
    persons: int = 1
    valid_days: int = 1
    opens_minute: int = 0
    closes_minute: int = DAY_MINUTES
    reentry: Reentry = Reentry.NONE
    reentry_after_minutes: int = 0
    all_together: bool = False
    admit_on_signature: bool = True
    identity_required: bool = False
    blackout_dates: frozenset[date] = frozenset()
    slot_schedule: str = ""
    daily_quota: int = 0
    refundable: bool = True
    reschedulable: bool = True
    price_difference: PriceDifference = PriceDifference.KEEP
    channels: frozenset[str] = frozenset()
    prices: tuple[Price, ...] = ()
    refund_tiers: tuple[RefundTier, ...] = ()


@dataclass(frozen=True, slots=True)
class BundlePart:
    """`count` tickets of a product in each bundle. `weight` says what share of the price each carries (see
    `ticketcore.bundles`)."""

    product: str
    count: int = 1
    weight: int = 0


@dataclass(frozen=True, slots=True)
class Bundle:
    """Tickets of several products at one price, refunded as a whole. `channels` empty means every channel."""

    id: str
    name: str
    parts: tuple[BundlePart, ...]
    prices: tuple[Price, ...]
    channels: frozenset[str] = frozenset()
    refundable: bool = True
    refund_tiers: tuple[RefundTier, ...] = ()


@dataclass(frozen=True)
class Catalogue:
    """A whole catalogue; immutable. Look-ups by number are for the path of a scan, by id for people."""

    venue: Venue
    zones: dict[str, Zone]
    gates: dict[str, Gate]
    products: dict[str, Product]
    concessions: dict[str, Concession]
    schedules: dict[str, SlotSchedule] = field(default_factory=dict)
    channels: dict[str, Channel] = field(default_factory=dict)
    texts: dict[str, dict[str, ReasonText]] = field(default_factory=dict)
    """By language, then by the name of a `Reason`, or "ADMIT" for the plain welcome."""
    bundles: dict[str, Bundle] = field(default_factory=dict)

    @cached_property
    def gate_by_number(self) -> dict[int, Gate]:
        """Gates by number."""
        return {gate.number: gate for gate in self.gates.values()}

    @cached_property
    def product_by_number(self) -> dict[int, Product]:
        """Products by number."""
        return {product.number: product for product in self.products.values()}

    @cached_property
    def zone_by_number(self) -> dict[int, Zone]:
        """Zones by number."""
        return {zone.number: zone for zone in self.zones.values()}

    @cached_property
    def gate_texts(self) -> dict[str, ReasonText]:
        """Texts in the park's first language, which the gates show."""
        return self.texts.get(self.venue.languages[0], {})

    def slot(self, product: Product, number: int) -> Slot | None:
        """The slot of that number of the product's schedule, if it has one."""
        schedule = self.schedules.get(product.slot_schedule)
        return next((slot for slot in schedule.slots if slot.number == number), None) if schedule else None
