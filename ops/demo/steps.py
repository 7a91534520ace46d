"""The words that stories are told in: what a guest or a window does, and what must come of it. Data only.

A name stands for a ticket (its image, never its bytes). `expect` is "ADMIT", or the reason of a refusal.
"""

from __future__ import annotations

from dataclasses import dataclass

ADMIT = "ADMIT"


@dataclass(frozen=True, slots=True)
class Buy:
    """A guest buys `count` tickets: `name`, or `name-1`, `name-2` ... `day` counts from today."""

    name: str
    product: str
    concession: str = "adult"
    count: int = 1
    day: int = 0
    slot: int = 0
    pay: str = "cash"
    window: str = "w1"
    free: int = 0
    """How many of them must be free."""


@dataclass(frozen=True, slots=True)
class SoldOut:
    """A guest wants `count` tickets and must hear that only `left` places are left."""

    product: str
    count: int
    slot: int
    left: int
    concession: str = "adult"
    window: str = "w2"


@dataclass(frozen=True, slots=True)
class Forge:
    """Somebody copies a ticket's claims and signs them with a key of their own."""

    name: str
    of: str


@dataclass(frozen=True, slots=True)
class Cut:
    """Somebody shows an image with the first `characters` of a ticket's code."""

    name: str
    of: str
    characters: int = 60


@dataclass(frozen=True, slots=True)
class Scan:
    """A ticket is shown at a gate. What is None is not looked at. `passed` False: nobody goes through after ADMIT."""

    name: str
    gate: str
    expect: str = ADMIT
    persons: int = 0
    leaving: bool = False
    proof: bool = False
    passed: bool = True
    kind: str | None = None
    admitted: int | None = None
    to_come: int | None = None
    entries_left: int | None = None
    first_gate: str | None = None


@dataclass(frozen=True, slots=True)
class Together:
    """Tickets are shown at one gate in one coalesced frame, and all must hear the same."""

    names: tuple[str, ...]
    gate: str
    expect: str = ADMIT
    leaving: bool = False


@dataclass(frozen=True, slots=True)
class Race:
    """One ticket at several gates at the same instant: exactly one admits, the others say ALREADY_USED and where."""

    name: str
    gates: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LostReply:
    """The line is cut after the scan and before its verdict arrives; the turnstile asks again with the same scan_id."""

    name: str
    expect: str = ADMIT


@dataclass(frozen=True, slots=True)
class Refund:
    """A refund is asked at a window."""

    name: str
    expect: str = "REFUNDED"
    window: str = "w1"


@dataclass(frozen=True, slots=True)
class Move:
    """A ticket is rescheduled; the new one is `to`."""

    name: str
    to: str
    day: int = 0
    slot: int = 0
    expect: str = "DONE"
    window: str = "w1"


Step = Buy | SoldOut | Forge | Cut | Scan | Together | Race | LostReply | Refund | Move


@dataclass(frozen=True, slots=True)
class Story:
    """A promise, told as what happens to a guest."""

    title: str
    steps: tuple[Step, ...]


def names(name: str, first: int, last: int) -> tuple[str, ...]:
    """`name-first` to `name-last`."""
    return tuple(f"{name}-{number}" for number in range(first, last + 1))
