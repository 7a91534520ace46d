"""Where the seeds of a run of `make chaos` begin: `SEED=n` in its environment.

Each number has a million seeds of its own, so that two runs with different ones have no simulated day, no fuzz case and
no order of faults in common. Whatever fails names the seed by which it alone is seen again.
"""

from __future__ import annotations

from dataclasses import dataclass

STRETCH = 1_000_000
"""More days than any run has the time for."""


@dataclass(frozen=True, slots=True)
class Seeds:
    """The seeds of one run."""

    number: int = 1

    @classmethod
    def read(cls, text: str) -> Seeds:
        """From the environment; empty is the first.

        Raises:
            ValueError: it is no whole number from 1 on.
        """
        if text and not (text.isascii() and text.isdigit() and int(text) > 0):
            raise ValueError(f"SEED: is {text!r}, expected a whole number from 1 on")
        return cls(int(text or 1))

    @property
    def first(self) -> int:
        """The first of them."""
        return (self.number - 1) * STRETCH + 1

    def some(self, count: int) -> range:
        """The first few."""
        return range(self.first, self.first + count)

    def __str__(self) -> str:
        return f"SEED={self.number}"
