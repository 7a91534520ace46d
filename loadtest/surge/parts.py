"""What the conductor and the two parts of the generator say to each other: one JSON object a line, over their pipes.

The parts make the same plan from the same scenario, so that none needs to be sent. Values only.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any


@dataclass(frozen=True, slots=True)
class Certificate:
    """Paths of PEM files."""

    ca: str
    certificate: str
    key: str


@dataclass(frozen=True, slots=True)
class Order:
    """What a part shall do: the first line that it reads. `changes` take the place of the scenario file's values."""

    scenario: str
    changes: dict[str, Any]
    addresses: list[str]
    certificate: Certificate
    sold: str
    """File into which the shop writes the tickets it sold, and from which the gates learn of them."""
    result: str
    """File into which the part writes its result, as JSON."""
    visit_date: str
    zones: list[tuple[int, bool]]
    """Of each entrance: the number of the zone it leads into, and whether its gates report who went through."""
    share: tuple[int, int] = (0, 1)
    """Which of how many processes of its kind it is."""

    @property
    def step(self) -> str:
        """File into which the gates write what a step of the ramp measured."""
        return f"{self.result}.step"

    def line(self) -> bytes:
        """For the pipe."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def read(cls, line: bytes | str) -> Order:
        """From the pipe."""
        values = json.loads(line)
        values |= {"certificate": Certificate(**values["certificate"]), "share": tuple(values["share"])}
        return cls(**values)


class Phase(StrEnum):
    """How far the rehearsal is."""

    DAY = "day"
    EVENING = "evening"
    """Every turn was made; the last answers are on their way."""
    RAMP = "ramp"


@dataclass(slots=True)
class Progress:
    """What a part tells while it works. `kind` says which of the values mean something."""

    kind: str
    text: str = ""
    values: dict[str, float] = field(default_factory=dict)


def say(progress: Progress) -> None:
    """Tells the conductor."""
    print(json.dumps(asdict(progress)), flush=True)


def heard(line: bytes) -> Progress:
    """What a part told."""
    return Progress(**json.loads(line))
