"""Copies of the shipped park in which a few values differ, each said in words: for demos and rehearsals.

The clock is nobody's: the venue is moved to a fixed-offset time zone in which it is early evening now.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ops.errors import OpsError
from ops.services.catalogue import EXAMPLE

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


def clock(zone: str) -> Edit:
    """The park's clock."""
    return Edit("park.toml", r'(time_zone = )"[^"]*"', f'"{zone}"', f"the clock is {zone}, where it is evening")


def capacity(zone: str, name: str, persons: int) -> Edit:
    """How many persons a zone holds; 0 is no limit."""
    return Edit("park.toml", rf'(id = "{zone}"[^\[]*?\ncapacity = )\d+', str(persons), f"the {name} holds {persons:,}")


def slot_quota(number: int, name: str, places: int) -> Edit:
    """How many places a slot of the night show has."""
    pattern = rf"(\nnumber = {number}\n[^\[]*?quota = )\d+"
    return Edit("slots.toml", pattern, str(places), f"the {name} night show has {places:,} places")


def daily_quota(product: str, name: str, persons: int) -> Edit:
    """For how many persons a product is sold a day."""
    pattern = rf'(id = "{product}"\n(?:(?!\[\[).*\n)*?daily_quota = )\d+'
    return Edit("products.toml", pattern, str(persons), f"the {name} is sold to {persons:,} a day")


NO_BLACKOUT = Edit("products.toml", r"(blackout_dates = )\[[^\]]*\]", "[]", "no blackout dates")


def write_copy(folder: Path, edits: Sequence[Edit]) -> tuple[str, ...]:
    """Writes the copy; answers what differs, in words. Raises: OpsError when the example has changed."""
    shutil.copytree(EXAMPLE, folder)
    for edit in edits:
        path = folder / edit.file
        text, count = re.subn(edit.pattern, rf"\g<1>{edit.value}", path.read_text("utf-8"))
        if count != 1:
            raise OpsError(f"{edit.pattern!r} must be once in {edit.file} of the example park, and is {count} times.")
        path.write_text(text, "utf-8")
    return tuple(edit.says for edit in edits)
