"""A rule and a moment for tests of the admission machine; what a test does not name is as plain as can be."""

from __future__ import annotations

from typing import Any

from ticketcore.rules import Moment, Rule

DAY = 2_000
"""A park's day, counted from 2020-01-01."""
MINUTE_MS = 60_000
DAY_MS = 24 * 60 * MINUTE_MS


def at(day: int = DAY, hour: int = 12, minute: int = 0, ms: int = 0) -> Moment:
    """The moment of a day and a time of day in a park without summer time."""
    minutes = hour * 60 + minute
    return Moment(day * DAY_MS + minutes * MINUTE_MS + ms, day, minutes)


def rule(**changes: Any) -> Rule:
    """One product at one gate: valid all day, nobody re-enters, nothing is limited."""
    plain: dict[str, Any] = {
        "product_number": 1,
        "gate_number": 11,
        "zone_number": 1,
        "other_zones": (),
        "counts_inside": True,
        "capacity_limited": False,
        "passage_timeout_ms": 20_000,
        "daily_entries": 0,
        "reentry": False,
        "reentry_after_ms": 0,
        "all_together": False,
        "admit_on_signature": True,
        "opens_minute": 0,
        "closes_minute": 24 * 60,
        "blackout_days": frozenset(),
        "slots": {},
        "slot_required": False,
    }
    return Rule(**(plain | changes))
