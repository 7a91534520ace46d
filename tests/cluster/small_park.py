"""A small park for tests that need no network: zones with and without a limit, a ride, a clock's noon."""

from __future__ import annotations

from datetime import date
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from parkgate.gate.v1 import gate_pb2
from ticketcore import token as tokens
from ticketcore.catalogue_document import parse_catalogue
from ticketcore.rules import Rules, compile_rules

NOON_MS = 1_780_315_200_000
"""2026-06-01 12:00 UTC; the small park's time zone is UTC."""
TODAY = date(2026, 6, 1)
MAIN, SIDE, ARENA, RIDE = 11, 12, 21, 31
KEY_ID = 3
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC_KEY = KEY.public_key().public_bytes_raw()
RING = tokens.KeyRing.from_bytes({KEY_ID: PUBLIC_KEY})
_PRICES = [{"concession": "adult", "price": "10.00"}]


def document(arena_capacity: int = 5, park_capacity: int = 0) -> dict[str, Any]:
    """The catalogue's document. Passages at `main` time out after two seconds, at `side` nothing is reported."""
    return {
        "format": 1,
        "venue": {"id": "small", "name": "Small park", "time_zone": "UTC", "currency": "CHF"},
        "channels": [{"id": "window", "name": "Window"}],
        "zones": [
            {"id": "park", "number": 1, "name": "Park", "capacity": park_capacity},
            {"id": "arena", "number": 2, "name": "Arena", "capacity": arena_capacity},
            {"id": "wheel", "number": 3, "name": "Wheel"},
        ],
        "gates": [
            {"id": "main", "number": MAIN, "name": "Main", "zone": "park", "passage_timeout_seconds": 2},
            {"id": "side", "number": SIDE, "name": "Side", "zone": "park", "passage_reported": False},
            {"id": "arena", "number": ARENA, "name": "Arena", "zone": "arena", "passage_timeout_seconds": 2},
            {
                "id": "ride",
                "number": RIDE,
                "name": "Ride",
                "zone": "wheel",
                "counts_inside": False,
                "passage_reported": False,
            },
        ],
        "concessions": [{"id": "adult", "name": "Adult"}],
        "products": [
            _product("day", 1, ["park"], reentry="same_day"),
            _product("family", 2, ["park"], persons=4, reentry="same_day"),
            _product("two-day", 3, ["park", "arena"], entries=2, daily_entries=1, valid_days=2, reentry="same_day"),
            _product("show", 4, ["arena"]),
            _product("rides", 5, ["wheel"], entries=3),
            _product("pass", 6, ["park"], entries=0, valid_days=366, identity_required=True, admit_on_signature=False),
        ],
    }


def _product(name: str, number: int, zones: list[str], **more: object) -> dict[str, Any]:
    return {"id": name, "number": number, "name": name, "zones": zones, "prices": _PRICES, **more}


def rules_after(zones: dict[str, list[str]], version: int = 2) -> Rules:
    """The rules of a later catalogue, in which products have other zones; without any, they are withdrawn."""
    later = document()
    products = (product | {"zones": zones.get(product["id"], product["zones"])} for product in later["products"])
    later["products"] = [product for product in products if product["zones"]]
    return compile_rules(parse_catalogue(later), version)


CATALOGUE = parse_catalogue(document())
RULES = compile_rules(CATALOGUE, 1)


def token(product: str, sequence: int, day: date = TODAY, **claims: object) -> bytes:
    """A signed token of a product, valid from `day`."""
    item = CATALOGUE.products[product]
    values: dict[str, object] = {
        "key_id": KEY_ID,
        "ticket_id": tokens.ticket_id_of(7, sequence),
        "product_number": item.number,
        "first_day": day,
        "valid_days": item.valid_days,
        "party": item.persons,
        "entries": item.entries,
    }
    return tokens.sign(tokens.Claims(**(values | claims)), KEY)  # type: ignore[arg-type]


def scan(code: bytes, number: int, time_ms: int = NOON_MS, **fields: object) -> gate_pb2.Scan:
    """A scan whose id is its number."""
    return gate_pb2.Scan(scan_id=scan_id(number), token=code, scan_time_ms=time_ms, **fields)  # type: ignore[arg-type]


def scan_id(number: int) -> bytes:
    return number.to_bytes(16, "big")


def ticket_id(code: bytes) -> int:
    return int.from_bytes(code[1:9], "big")


def reason(verdict: gate_pb2.Verdict) -> str:
    """ADMIT, or the name of the reason."""
    if verdict.decision == gate_pb2.DECISION_ADMIT:
        return "ADMIT"
    return gate_pb2.Reason.Name(verdict.reason).removeprefix("REASON_")
