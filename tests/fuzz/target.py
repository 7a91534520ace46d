"""What a fuzz target is: a plain function of bytes, run by Hypothesis, by `make fuzz` and by atheris alike.

A target answers the name of how the case ended ("ADMIT", a reason, an error of ours, "decoded" ...) and raises for what
must never be. So a case that ends without a name is a finding, and so is an exception that is none of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

ADMITTED = "ADMIT"
Case = Callable[[bytes], str]


@dataclass(frozen=True, slots=True)
class Target:
    """One boundary that takes bytes; `seeds` are cases to begin from."""

    name: str
    says: str
    case: Case
    seeds: Sequence[bytes]
    close: Callable[[], None] = lambda: None


def require(holds: bool, broken: str) -> None:
    """An invariant of a target; unlike `assert`, it says the promise that was broken and survives `-O`."""
    if not holds:
        raise AssertionError(broken)
