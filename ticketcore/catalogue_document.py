"""The one reader of the catalogue's format: a document becomes `Catalogue` values, or one error with every problem.

A document is the park's TOML files merged, or the canonical JSON that travels between the services; `docs/catalogue.md`
describes it key by key. Nothing here touches a file.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import date, time
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

from ticketcore.catalogue import (
    DAY_MINUTES,
    Bundle,
    BundlePart,
    Catalogue,
    Channel,
    Concession,
    Gate,
    Price,
    PriceDifference,
    Product,
    ReasonText,
    Reentry,
    RefundTier,
    Slot,
    SlotSchedule,
    Venue,
    Zone,
)
from ticketcore.document_node import Node, suggest, to_date, to_minute
from ticketcore.errors import InvalidInputError, InvalidInputsError
from ticketcore.money import parse_minor
from ticketcore.reasons import Reason
from ticketcore.token import MAX_ENTRIES, MAX_PARTY, MAX_VALID_DAYS

FORMAT = 1
MAX_NUMBER = 2**16 - 1
MAX_SLOT = 255
MAX_BUNDLED = 16
"""Tickets of one bundle: an order of 64 lines holds four such bundles."""
MAX_UNITS = 10**9
"""Far above any park's capacity, far inside the 32 bits of the wire."""
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
TEXT_KEYS = frozenset({"ADMIT"} | {reason.name for reason in Reason if reason is not Reason.NONE})

Named = TypeVar("Named", Zone, Gate, Product, Bundle, Concession, SlotSchedule, Channel)


def parse_catalogue(document: Mapping[str, Any]) -> Catalogue:
    """The catalogue that a document describes.

    Raises:
        InvalidInputsError: with every problem, each with its path, such as `products[3].prices[1].price`.
    """
    problems: list[str] = []
    catalogue = _catalogue(Node("", document, problems))
    if problems:
        raise InvalidInputsError("catalogue", problems)
    return catalogue


def read_catalogue(data: bytes) -> Catalogue:
    """The catalogue in canonical JSON.

    Raises:
        InvalidInputError: no JSON object.
        InvalidInputsError: as `parse_catalogue`.
    """
    try:
        document = json.loads(data)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise InvalidInputError(f"the catalogue is no JSON document: {error}") from error
    if not isinstance(document, dict):
        raise InvalidInputError("the catalogue's JSON must be an object")
    return parse_catalogue(document)


def canonical_json(document: Mapping[str, Any]) -> bytes:
    """The document as bytes that are the same whenever it says the same: sorted keys, no spaces, dates as texts.

    Raises:
        InvalidInputError: a value that no catalogue holds, for example a float.
    """
    return json.dumps(_plain(document), sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if type(value) is date:
        return value.isoformat()
    if isinstance(value, time):
        return value.strftime("%H:%M")
    if isinstance(value, bool | int | str):
        return value
    raise InvalidInputError(f"{value!r} cannot stand in a catalogue: write amounts in quotes, such as '79.00'")


def _catalogue(root: Node) -> Catalogue:
    root.integer("format", FORMAT, FORMAT, FORMAT)
    venue = _venue(root.table("venue"))
    channels = _by_id([_channel(node) for node in root.tables("channels")], root, "channels")
    zones = _by_id([_zone(node) for node in root.tables("zones")], root, "zones")
    gates = _by_id([_gate(node, zones) for node in root.tables("gates")], root, "gates")
    concessions = _by_id([_concession(node) for node in root.tables("concessions")], root, "concessions")
    schedules = _by_id([_schedule(node) for node in root.tables("schedules", [])], root, "schedules")
    policies = _policies(root)
    known = Catalogue(venue, zones, gates, {}, concessions, schedules, channels, _texts(root, venue))
    products = _by_id([_product(node, known, policies) for node in root.tables("products")], root, "products")
    sold = replace(known, products=products)
    bundles = _by_id([_bundle(node, sold, policies) for node in root.tables("bundles", [])], root, "bundles")
    for key, numbers in (
        ("zones", [zone.number for zone in zones.values()]),
        ("gates", [gate.number for gate in gates.values()]),
        ("products", [product.number for product in products.values()]),
    ):
        _unique(numbers, root, key, "number")
    root.finish()
    return replace(sold, bundles=bundles)


def _by_id(items: list[Named], root: Node, key: str) -> dict[str, Named]:
    _unique([item.id for item in items if item.id], root, key, "id")
    if not items and key in root.values and isinstance(root.values[key], list):
        root.problem(key, "is empty, expected at least one")
    return {item.id: item for item in items}


def _unique(values: Iterable[object], node: Node, key: str, what: str) -> None:
    seen: set[object] = set()
    for value in values:
        if value in seen:
            node.problem(key, f"{what} {value!r} is given twice")
        seen.add(value)


def _refer(node: Node, key: str, name: str, known: Iterable[str]) -> None:
    known = list(known)
    if name and name not in known:
        node.problem(key, f"names {name!r}, which does not exist; {suggest(name, known)}")


def _venue(node: Node) -> Venue:
    digits = node.integer("currency_digits", 0, 4, 2)
    currency = node.text("currency")
    if currency and not (len(currency) == 3 and currency.isascii() and currency.isupper()):
        node.problem("currency", f"is {currency!r}, expected three capital letters such as 'CHF'")
    zone = node.converted("time_zone", _to_time_zone, ZoneInfo("UTC"), required=True)
    languages = node.texts("languages", ["en"])
    if not languages:
        node.problem("languages", "is empty, expected at least one language such as 'en'")
    venue = Venue(node.id(), node.text("name"), zone, currency, digits, languages or ("en",))
    node.finish()
    return venue


def _to_time_zone(value: Any) -> ZoneInfo:
    try:
        return ZoneInfo(value)
    except (KeyError, ValueError, OSError, TypeError, AttributeError) as error:
        raise InvalidInputError(f"is {value!r}, expected an IANA time zone such as 'Europe/Zurich'") from error


def _channel(node: Node) -> Channel:
    channel = Channel(node.id(), node.text("name"))
    node.finish()
    return channel


def _zone(node: Node) -> Zone:
    levels = node.get("alert_levels_percent", [80, 90, 100])
    if not isinstance(levels, list) or any(type(level) is not int or not 1 <= level <= 100 for level in levels):
        node.problem("alert_levels_percent", f"is {levels!r}, expected whole numbers from 1 to 100")
        levels = []
    zone = Zone(
        id=node.id(),
        number=node.integer("number", 1, MAX_NUMBER),
        name=node.text("name"),
        capacity=node.integer("capacity", 0, MAX_UNITS, 0),
        alert_levels_percent=tuple(sorted(set(levels))),
    )
    node.finish()
    return zone


def _gate(node: Node, zones: Mapping[str, Zone]) -> Gate:
    gate = Gate(
        id=node.id(),
        number=node.integer("number", 1, MAX_NUMBER),
        name=node.text("name"),
        zone=node.text("zone"),
        counts_inside=node.flag("counts_inside", True),
        passage_reported=node.flag("passage_reported", True),
        passage_timeout_ms=1000 * node.integer("passage_timeout_seconds", 1, 600, 20),
    )
    _refer(node, "zone", gate.zone, zones)
    node.finish()
    return gate


def _concession(node: Node) -> Concession:
    concession = Concession(
        id=node.id(),
        name=node.text("name"),
        proof_required=node.flag("proof_required", False),
        free_every=node.integer("free_every", 0, 1000, 0),
        min_persons=node.integer("min_persons", 1, 1000, 1),
    )
    if concession.free_every == 1:
        node.problem("free_every", "is 1, expected 0 (nobody is free) or at least 2")
    node.finish()
    return concession


def _schedule(node: Node) -> SlotSchedule:
    slots = tuple(_slot(child) for child in node.tables("slots"))
    _unique([slot.number for slot in slots], node, "slots", "number")
    schedule = SlotSchedule(
        id=node.id(),
        slots=slots,
        early_minutes=node.integer("early_minutes", 0, DAY_MINUTES, 0),
        late_minutes=node.integer("late_minutes", 0, DAY_MINUTES, 0),
    )
    node.finish()
    return schedule


def _slot(node: Node) -> Slot:
    slot = Slot(
        number=node.integer("number", 1, MAX_SLOT),
        starts_minute=node.converted("starts", to_minute, 0, required=True),
        ends_minute=node.converted("ends", to_minute, DAY_MINUTES, required=True),
        quota=node.integer("quota", 0, MAX_UNITS),
    )
    if slot.starts_minute >= slot.ends_minute:
        node.problem("ends", "is not after 'starts'; a slot may not go over midnight")
    node.finish()
    return slot


def _policies(root: Node) -> dict[str, tuple[RefundTier, ...]]:
    policies: dict[str, tuple[RefundTier, ...]] = {}
    for node in root.tables("refund_policies", []):
        name = node.id()
        if name in policies:
            root.problem("refund_policies", f"id {name!r} is given twice")
        policies[name] = _tiers(node)
        node.finish()
    return policies


def _tiers(node: Node) -> tuple[RefundTier, ...]:
    tiers = []
    for child in node.tables("tiers"):
        tiers.append(RefundTier(child.integer("days_before", -365, 365), child.integer("fee_percent", 0, 100)))
        child.finish()
    days = [tier.days_before for tier in tiers]
    fees = [tier.fee_percent for tier in tiers]
    if days != sorted(set(days), reverse=True) or fees != sorted(fees):
        node.problem("tiers", "expected falling 'days_before' and a 'fee_percent' that does not fall")
    return tuple(tiers)


def _product(node: Node, known: Catalogue, policies: Mapping[str, tuple[RefundTier, ...]]) -> Product:
    policy = node.text("refund_policy", "")
    _refer(node, "refund_policy", policy, policies)
    product = Product(
        id=node.id(),
        number=node.integer("number", 1, MAX_NUMBER),
        name=node.text("name"),
        zones=frozenset(node.texts("zones")),
        gates=frozenset(node.texts("gates", [])),
        entries=node.integer("entries", 0, MAX_ENTRIES, 1),
        daily_entries=node.integer("daily_entries", 0, MAX_ENTRIES, 0),
        persons=node.integer("persons", 1, MAX_PARTY, 1),
        valid_days=node.integer("valid_days", 1, MAX_VALID_DAYS, 1),
        opens_minute=node.converted("opens", to_minute, 0),
        closes_minute=node.converted("closes", to_minute, DAY_MINUTES),
        reentry=node.choice("reentry", Reentry, Reentry.NONE),
        reentry_after_minutes=node.integer("reentry_after_minutes", 0, DAY_MINUTES, 0),
        all_together=node.flag("all_together", False),
        admit_on_signature=node.flag("admit_on_signature", True),
        identity_required=node.flag("identity_required", False),
        blackout_dates=node.converted("blackout_dates", _to_dates, frozenset()),
        slot_schedule=node.text("slot_schedule", ""),
        daily_quota=node.integer("daily_quota", 0, MAX_UNITS, 0),
        refundable=node.flag("refundable", True),
        reschedulable=node.flag("reschedulable", True),
        price_difference=node.choice("price_difference", PriceDifference, PriceDifference.KEEP),
        channels=frozenset(node.texts("channels", [])),
        prices=tuple(_price(child, known) for child in node.tables("prices")),
        refund_tiers=policies.get(policy, ()),
    )
    _check_product(node, product, known)
    node.finish()
    return product


def _check_product(node: Node, product: Product, known: Catalogue) -> None:
    for key, names, existing in (
        ("zones", product.zones, set(known.zones)),
        ("gates", product.gates, set(known.gates)),
        ("channels", product.channels, set(known.channels)),
        ("slot_schedule", [product.slot_schedule], set(known.schedules)),
    ):
        for name in sorted(names):
            _refer(node, key, name, existing)
    for name in sorted(product.gates & set(known.gates)):
        if known.gates[name].zone not in product.zones:
            node.problem("gates", f"names {name!r}, whose zone {known.gates[name].zone!r} is not in 'zones'")
    free = {price.concession for price in product.prices if _free_every(known, price.concession)}
    for holds, key, message in (
        (bool(product.zones), "zones", "is empty, expected at least one zone"),
        (bool(product.prices), "prices", "is empty, expected at least one price"),
        (product.opens_minute < product.closes_minute, "closes", "is not after 'opens'"),
        (not product.entries or product.daily_entries <= product.entries, "daily_entries", "is more than 'entries'"),
        (not product.slot_schedule or product.valid_days == 1, "valid_days", "must be 1 with a 'slot_schedule'"),
        (
            not product.reentry_after_minutes or product.reentry is not Reentry.NONE,
            "reentry_after_minutes",
            "needs a 'reentry' other than 'none'",
        ),
        (
            product.persons == 1 or not free,
            "prices",
            f"has {sorted(free)}, of whom one in several is free, on a ticket for {product.persons} persons",
        ),
    ):
        if not holds:
            node.problem(key, message)


def _bundle(node: Node, known: Catalogue, policies: Mapping[str, tuple[RefundTier, ...]]) -> Bundle:
    policy = node.text("refund_policy", "")
    _refer(node, "refund_policy", policy, policies)
    bundle = Bundle(
        id=node.id(),
        name=node.text("name"),
        parts=tuple(_part(child, known) for child in node.tables("parts")),
        prices=tuple(_price(child, known) for child in node.tables("prices")),
        channels=frozenset(node.texts("channels", [])),
        refundable=node.flag("refundable", True),
        refund_tiers=policies.get(policy, ()),
    )
    _check_bundle(node, bundle, known)
    node.finish()
    return bundle


def _part(node: Node, known: Catalogue) -> BundlePart:
    part = BundlePart(
        product=node.text("product"),
        count=node.integer("count", 1, MAX_BUNDLED, 1),
        weight=node.integer("weight", 0, MAX_UNITS, 0),
    )
    _refer(node, "product", part.product, known.products)
    node.finish()
    return part


def _check_bundle(node: Node, bundle: Bundle, known: Catalogue) -> None:
    if bundle.id in known.products:
        node.problem("id", f"{bundle.id!r} is a product's id too")
    for name in sorted(bundle.channels):
        _refer(node, "channels", name, known.channels)
    weighted = {part.weight > 0 for part in bundle.parts}
    products = [known.products[part.product] for part in bundle.parts if part.product in known.products]
    wanted = {price.concession for price in bundle.prices}
    groups = {name for name in wanted if _free_every(known, name) or _min_persons(known, name) > 1}
    unpriced = sorted(p.id for p in products if wanted - {price.concession for price in p.prices})
    for holds, key, message in (
        (2 <= sum(part.count for part in bundle.parts) <= MAX_BUNDLED, "parts", f"expected 2 to {MAX_BUNDLED} tickets"),
        (len({part.product for part in bundle.parts}) == len(bundle.parts), "parts", "names a product twice"),
        (len(weighted) <= 1, "parts", "expected a 'weight' for every part, or for none"),
        (bool(bundle.prices), "prices", "is empty, expected at least one price"),
        (not groups, "prices", f"has {sorted(groups)}: a bundle is not sold to groups"),
        (not unpriced, "prices", f"has a concession that {unpriced} has no price for"),
    ):
        if not holds:
            node.problem(key, message)


def _min_persons(known: Catalogue, concession: str) -> int:
    return known.concessions[concession].min_persons if concession in known.concessions else 1


def _free_every(known: Catalogue, concession: str) -> int:
    return known.concessions[concession].free_every if concession in known.concessions else 0


def _price(node: Node, known: Catalogue) -> Price:
    price = Price(
        concession=node.text("concession"),
        price_minor=node.converted(
            "price", lambda value: _to_price(value, known.venue.currency_digits), 0, required=True
        ),
        first_day=node.converted("first_day", to_date, None),
        last_day=node.converted("last_day", to_date, None),
        weekdays=node.converted("weekdays", _to_weekdays, frozenset()),
    )
    _refer(node, "concession", price.concession, known.concessions)
    if price.first_day and price.last_day and price.first_day > price.last_day:
        node.problem("last_day", "is before 'first_day'")
    node.finish()
    return price


def _to_price(value: Any, digits: int) -> int:
    if not isinstance(value, str):
        raise InvalidInputError(f"is {value!r}, expected an amount in quotes, such as '79.00'")
    minor = parse_minor(value, digits)
    if minor < 0:
        raise InvalidInputError(f"is {value!r}, expected an amount that is not negative")
    return minor


def _to_dates(value: Any) -> frozenset[date]:
    if not isinstance(value, list):
        raise InvalidInputError(f"is {value!r}, expected a list of dates such as ['2026-12-24']")
    return frozenset(to_date(item) for item in value)


def _to_weekdays(value: Any) -> frozenset[int]:
    if not isinstance(value, list) or any(item not in WEEKDAYS for item in value):
        raise InvalidInputError(f"is {value!r}, expected a list of {', '.join(WEEKDAYS)}")
    return frozenset(WEEKDAYS.index(item) for item in value)


def _texts(root: Node, venue: Venue) -> dict[str, dict[str, ReasonText]]:
    languages = root.table("texts", {})
    texts: dict[str, dict[str, ReasonText]] = {}
    for language in languages.values:
        _refer(languages, str(language), str(language), venue.languages)
        by_reason = languages.table(language)
        texts[str(language)] = {str(key): _reason_text(by_reason, str(key)) for key in by_reason.values}
    return texts


def _reason_text(by_reason: Node, key: str) -> ReasonText:
    _refer(by_reason, key, key, TEXT_KEYS)
    node = by_reason.table(key)
    text = ReasonText(node.text("guest"), node.text("staff"))
    node.finish()
    return text
