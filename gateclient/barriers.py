"""Barriers: what opens when a verdict says ADMIT, and says afterwards whether anybody went through."""

from __future__ import annotations

import asyncio
import random
from typing import Protocol

from parkgate.gate.v1 import gate_pb2 as pb


class Barrier(Protocol):
    """A turnstile's arm, a door, or an attendant."""

    async def open(self, verdict: pb.Verdict) -> pb.PassageOutcome.ValueType:
        """Lets the admitted persons through; answers PASSED or NOT_PASSED when that is known."""
        ...


class ConsoleBarrier:
    """An attendant who lets in whom the screen shows green: everybody passes at once."""

    async def open(self, verdict: pb.Verdict) -> pb.PassageOutcome.ValueType:
        """See Barrier."""
        return pb.PASSAGE_OUTCOME_PASSED


class SimulatedTurnstile:
    """Guests take a while, and a seeded share of them turn back. A group turns back as a whole."""

    def __init__(self, seed: int, not_passed_share: float = 0.02, walk_s: float = 0.0) -> None:
        self._chance = random.Random(seed)  # noqa: S311
        self._not_passed_share = not_passed_share
        self._walk_s = walk_s

    async def open(self, verdict: pb.Verdict) -> pb.PassageOutcome.ValueType:
        """See Barrier."""
        await asyncio.sleep(self._walk_s * verdict.persons_admitted)
        turned_back = self._chance.random() < self._not_passed_share
        return pb.PASSAGE_OUTCOME_NOT_PASSED if turned_back else pb.PASSAGE_OUTCOME_PASSED
