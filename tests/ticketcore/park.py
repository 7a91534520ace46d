"""A small park for tests of rules, as a document and as a catalogue."""

from typing import Any

from ticketcore.catalogue import Catalogue
from ticketcore.catalogue_document import parse_catalogue


def document() -> dict[str, Any]:
    """A document that says a little of everything. A new one each time, to be spoiled at will."""
    return {
        "venue": {"id": "park", "name": "Park", "time_zone": "Europe/Zurich", "currency": "CHF"},
        "channels": [{"id": "window", "name": "Window"}, {"id": "web", "name": "Web"}],
        "zones": [{"id": "park", "number": 1, "name": "Park", "capacity": 10}],
        "gates": [{"id": "main", "number": 1, "name": "Main", "zone": "park"}],
        "concessions": [
            {"id": "adult", "name": "Adult"},
            {"id": "group", "name": "Group", "free_every": 10, "min_persons": 10},
        ],
        "schedules": [
            {"id": "show", "slots": [{"number": 1, "starts": "19:00", "ends": "20:00", "quota": 5}]},
        ],
        "refund_policies": [
            {
                "id": "standard",
                "tiers": [
                    {"days_before": 7, "fee_percent": 0},
                    {"days_before": 1, "fee_percent": 10},
                    {"days_before": 0, "fee_percent": 50},
                ],
            }
        ],
        "products": [
            {
                "id": "day",
                "number": 1,
                "name": "Day",
                "zones": ["park"],
                "daily_quota": 100,
                "refund_policy": "standard",
                "prices": [
                    {"concession": "adult", "price": "79.00"},
                    {"concession": "group", "price": "69.00"},
                    {"concession": "adult", "price": "85.00", "weekdays": ["sat", "sun"]},
                    {"concession": "adult", "price": "99.00", "first_day": "2026-12-24", "last_day": "2026-12-26"},
                ],
            },
            {
                "id": "fixed",
                "number": 2,
                "name": "Fixed",
                "zones": ["park"],
                "refundable": False,
                "reschedulable": False,
                "channels": ["web"],
                "prices": [{"concession": "adult", "price": "10.00"}, {"concession": "group", "price": "5.00"}],
            },
            {
                "id": "show",
                "number": 3,
                "name": "Show",
                "zones": ["park"],
                "slot_schedule": "show",
                "persons": 2,
                "prices": [{"concession": "adult", "price": "30.00"}],
            },
        ],
    }


def park() -> Catalogue:
    """The catalogue of `document`."""
    return parse_catalogue(document())
