"""The demo's park: a copy of the shipped catalogue; only what depends on the hour, or must be full soon, differs."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from ops.example_park import NO_BLACKOUT, Edit, capacity, clock, evening_zone, slot_quota, write_copy

WATER_CAPACITY = 12
SLOT_QUOTA = 8


def edits(zone: str) -> tuple[Edit, ...]:
    """Everything that the demo's catalogue changes."""
    return (
        clock(zone),
        capacity("water-park", "Water Park", WATER_CAPACITY),
        slot_quota(2, "second", SLOT_QUOTA),
        NO_BLACKOUT,
    )


def write_catalogue(folder: Path, now: datetime) -> tuple[str, ...]:
    """Writes the demo's catalogue; answers what differs, in words. Raises: OpsError when the example has changed."""
    return write_copy(folder, edits(evening_zone(now)))
