"""What a check found."""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """`fault`: Parkgate does not work here. `warning`: it works, less well or less safely."""

    OK = "ok"
    WARNING = "warning"
    FAULT = "fault"


@dataclass(frozen=True, slots=True)
class Finding:
    """`mend` is a thing to do, and empty only when all is well."""

    level: Level
    found: str
    mend: str = ""
    area: str = ""
    name: str = ""


def ok(found: str) -> Finding:
    return Finding(Level.OK, found)


def warning(found: str, mend: str) -> Finding:
    return Finding(Level.WARNING, found, mend)


def fault(found: str, mend: str) -> Finding:
    return Finding(Level.FAULT, found, mend)
