"""What a rehearsal leaves behind: everything that was measured, as one JSON document. Values only.

Reports are drawn from it, again and again.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any

FORMAT = 4


@dataclass(frozen=True, slots=True)
class Machine:
    """Where it ran."""

    cores: int
    memory_gb: float
    system: str
    python: str
    version: str


@dataclass(frozen=True, slots=True)
class Count:
    """Two counts that must be the same, and whether they are."""

    what: str
    expected: str
    actual: str


@dataclass(frozen=True, slots=True)
class Happened:
    """A fault that was ordered, and when it struck. `at_s` is a time of the rehearsed day."""

    at_s: float
    says: str


@dataclass(slots=True)
class Record:
    """One rehearsal. `gates` and `shop` are the parts' own results; times of `usage` are of the rehearsed day."""

    scenario: dict[str, Any]
    machine: Machine
    began: str
    against: str
    here: bool
    """Whether the system ran on this machine, so that what it used was seen."""
    seconds: float
    """From the doors to the last answer, by the wall's clock."""
    gates: dict[str, Any]
    shop: dict[str, Any]
    usage: dict[str, Any]
    entrance_zones: list[int]
    """Of each entrance, the number of the zone it leads into."""
    capacity: dict[str, tuple[str, int]]
    """Zone number -> its name and capacity; 0 is no limit."""
    quotas: list[tuple[str, int, int]] = field(default_factory=list)
    """Of what the day's guests hold: a product, a slot of it or 0, and how many persons it is sold to a day."""
    counts: list[Count] = field(default_factory=list)
    tickets: dict[str, int] = field(default_factory=dict)
    """Sold, issued, admitted, refunded, unused."""
    money: dict[str, str] = field(default_factory=dict)
    faults: list[Happened] = field(default_factory=list)
    changes: list[str] = field(default_factory=list)
    interrupted: bool = False
    presale_s: float = 0.0
    format: int = FORMAT

    def json(self) -> str:
        """The document."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def read(cls, text: str) -> Record:
        """From the document. Raises: ValueError for one of another version."""
        values = json.loads(text)
        version = values.get("format") if isinstance(values, dict) else None
        if version != FORMAT:
            raise ValueError(f"it is of format {version}, this is format {FORMAT}")
        known = {one.name for one in fields(cls)}
        kept = {name: value for name, value in values.items() if name in known}
        kept["machine"] = Machine(**kept["machine"])
        kept["quotas"] = [(product, slot, persons) for product, slot, persons in kept.get("quotas", [])]
        kept["counts"] = [Count(**one) for one in kept["counts"]]
        kept["faults"] = [Happened(**one) for one in kept["faults"]]
        return cls(**kept)
