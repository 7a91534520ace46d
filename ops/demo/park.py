"""The demo's park: a copy of the shipped catalogue; only what depends on the hour, or must be full soon, differs.

The clock is nobody's: the venue is moved to a fixed-offset time zone in which it is early evening now.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ops.errors import OpsError
from ops.services.catalogue import EXAMPLE

WATER_CAPACITY = 12
SLOT_QUOTA = 8
OPEN_MINUTE = 20
"""The first night show lets in from 18:15 to 19:45: a day that begins between 18:20 and 19:20 has 25 minutes of it."""


@dataclass(frozen=True, slots=True)
class Edit:
    """One value that differs: in which file, which text (one group before the value), and what it is now."""

    file: str
    pattern: str
    value: str
    says: str


def evening_zone(now: datetime) -> str:
    """The fixed-offset zone whose clock reads 18:20 to 19:19 at the UTC instant `now`."""
    hour = 18 if now.minute >= OPEN_MINUTE else 19
    ahead = (hour - now.hour) % 24
    ahead = ahead if ahead <= 14 else ahead - 24
    return "Etc/GMT" if ahead == 0 else f"Etc/GMT{-ahead:+d}"  # these names count westwards


def edits(zone: str) -> tuple[Edit, ...]:
    """Everything that the demo's catalogue changes."""
    return (
        Edit("park.toml", r'(time_zone = )"[^"]*"', f'"{zone}"', f"the clock is {zone}, where it is evening"),
        Edit(
            "park.toml",
            r'(id = "water-park"[^\[]*?\ncapacity = )\d+',
            str(WATER_CAPACITY),
            f"the Water Park holds {WATER_CAPACITY}",
        ),
        Edit(
            "slots.toml",
            r"(\nnumber = 2\n[^\[]*?quota = )\d+",
            str(SLOT_QUOTA),
            f"the second night show has {SLOT_QUOTA} places",
        ),
        Edit("products.toml", r"(blackout_dates = )\[[^\]]*\]", "[]", "no blackout dates"),
    )


def write_catalogue(folder: Path, now: datetime) -> tuple[str, ...]:
    """Writes the demo's catalogue; answers what differs, in words. Raises: OpsError when the example has changed."""
    shutil.copytree(EXAMPLE, folder)
    made = edits(evening_zone(now))
    for edit in made:
        path = folder / edit.file
        text, count = re.subn(edit.pattern, rf"\g<1>{edit.value}", path.read_text("utf-8"))
        if count != 1:
            raise OpsError(f"The demo expects {edit.pattern!r} once in {edit.file}, and it is there {count} times.")
        path.write_text(text, "utf-8")
    return tuple(edit.says for edit in made)
