"""What a checker says: which promise was broken, where, and what shows it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

PROMISES = {
    "I1": "one entitlement admits once",
    "I2": "what a gate hears is durable, and never forgotten",
    "I3": "the same scan gets the same answer",
    "I4": "quotas and capacities hold, and fill exactly",
    "I5": "a refund and an admission never both succeed",
    "I6": "reports equal a recount of the ledger",
    "I7": "an unknown outcome is RETRY, never ADMIT, never a bad ticket",
    "I8": "a forged code never admits, and no server crashes",
    "I9": "postings sum to zero, and book what was sold and refunded, once and to the cent",
    "I10": "gates go on admitting, and come back by themselves",
}


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken promise. `subject` names the ids it is about, `evidence` the lines that show it."""

    promise: str
    subject: str
    what: str
    evidence: str = ""

    def __str__(self) -> str:
        shown = f"\n      {self.evidence}" if self.evidence else ""
        return f"{self.promise} ({PROMISES[self.promise]}): {self.subject}: {self.what}{shown}"


def report(violations: Iterable[Violation], limit: int = 20) -> str:
    """The list for people, by promise; at most `limit` of them, and how many more there are."""
    ordered = sorted(violations, key=lambda item: (int(item.promise[1:]), item.subject))
    lines = [f"  {number}. {item}" for number, item in enumerate(ordered[:limit], 1)]
    if len(ordered) > limit:
        lines.append(f"  ... and {len(ordered) - limit} more")
    return "\n".join(lines) or "  no violation"
