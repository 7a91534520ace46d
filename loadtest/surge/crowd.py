"""Codes in guests' hands: what each must hear next, and the gates' own count of the day. No network, no clock.

A code goes through its turns one after the other: the next is shown when the last was answered and its passage is
booked, because a guest is in one place at a time. What comes of a turn is foretold from what the code heard before.
"""

from __future__ import annotations

import os
from collections import Counter, deque
from dataclasses import dataclass, field
from enum import Enum

from loadtest.surge.guests import Guests, Habit
from loadtest.surge.plan import Turn, Way
from parkgate.gate.v1 import gate_pb2 as pb

SIGNATURE_BYTES = 64
ADMIT = "ADMIT"
INSIDE = frozenset({"ALREADY_USED", "ALREADY_INSIDE"})
PROOFS = frozenset({"ID_REQUIRED", "CONCESSION_PROOF_REQUIRED"})
FULL = "CAPACITY_FULL"
REFUNDED = "REFUNDED"
UNKNOWN = "UNKNOWN_TICKET"
"""What a ticket hears, if its product is not admitted on its signature, while sales' word of it is on its way."""


class Next(Enum):
    """What a turn comes to before it is shown."""

    SHOW = "show"
    WAIT = "wait"
    SKIP = "skip"


class Cause(Enum):
    """Why a code is shown."""

    TURN = "its turn came"
    PROOF = "its card was looked at"
    AGAIN = "it comes again"


@dataclass(slots=True, eq=False)
class Code:
    """One ticket's code."""

    guests: Guests
    number: int
    token: bytes = b""
    used: bool = False
    inside: bool = False
    busy: bool = False
    refused_for_good: bool = False
    away: bool = False
    """Comes again: until then it makes no other way."""
    tries: int = 0
    waiting: deque[Turn] = field(default_factory=deque)

    @property
    def persons(self) -> int:
        """How many it lets in."""
        return [line.persons for line in self.guests.kind.tickets for _ in range(line.count)][self.number]

    def next_of(self, way: Way) -> Next:
        """Whether a turn can be made now, must wait, or makes no sense any more."""
        if not self.token or self.busy or (self.away and way is Way.ENTRY):
            return Next.WAIT
        if way is Way.FORGED:
            return Next.SHOW
        if self.refused_for_good or self.away or (way in {Way.EXIT, Way.COPY} and not self.inside):
            return Next.SKIP
        return Next.SHOW

    def may_hear(self, way: Way, *, proof_seen: bool) -> frozenset[str]:
        """Every answer that is right."""
        if way is Way.FORGED:
            return frozenset({"BAD_SIGNATURE"})
        if way is Way.EXIT:
            return frozenset({ADMIT})
        if self.inside:
            return INSIDE
        right = {ADMIT, FULL}
        if self.guests.kind.proof and not proof_seen:
            right |= PROOFS
        if self.guests.habit is Habit.REFUND_IN_QUEUE and self.number == 0:
            right.add(REFUNDED)
        if self.guests.buys_s is not None:
            right.add(UNKNOWN)
        return frozenset(right)


@dataclass(slots=True)
class Counted:
    """The gates' own count: every scan once, by what it heard last."""

    verdicts: Counter[tuple[str, str]] = field(default_factory=Counter)
    inside: Counter[int] = field(default_factory=Counter)
    persons_in: int = 0
    tickets_admitted: int = 0
    """Tickets that were let in at least once."""
    wrong: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Scans that heard what they should not have: way and answer."""
    examples: dict[tuple[str, str], int] = field(default_factory=dict)
    """A ticket id for each of them."""
    refunded_heard: list[int] = field(default_factory=list)
    admitted_refunders: list[int] = field(default_factory=list)
    """Tickets of guests who asked their money back in the queue, by what the gate told them."""

    def hear(self, code: Code, way: Way, verdict: pb.Verdict, *, right: frozenset[str]) -> str:
        """Counts a verdict; answers ADMIT or its reason."""
        decision, reason = names(verdict)
        self.verdicts[decision, reason] += 1
        heard = reason or decision
        if heard not in right:
            self.wrong[way.value, heard] += 1
            self.examples.setdefault((way.value, heard), verdict.ticket_id)
        if code.guests.habit is Habit.REFUND_IN_QUEUE and code.number == 0 and way is Way.ENTRY:
            if heard == ADMIT:
                self.admitted_refunders.append(verdict.ticket_id)
            elif heard == REFUNDED:
                self.refunded_heard.append(verdict.ticket_id)
        return heard

    def admit(self, code: Code, way: Way, verdict: pb.Verdict, zone: int) -> None:
        """Counts whom an ADMIT lets in or out. Nobody, when they turn back: their entry is given back."""
        persons = verdict.persons_admitted
        self.tickets_admitted += not code.used
        code.used = True
        if way is Way.EXIT:
            self.inside[zone] -= persons
            code.inside = False
        elif way is not Way.TURNED_BACK:
            self.inside[zone] += persons
            self.persons_in += persons
            code.inside = True


def names(verdict: pb.Verdict) -> tuple[str, str]:
    """Decision and reason by their names; no reason for a plain ADMIT."""
    reason = pb.Reason.Name(verdict.reason).removeprefix("REASON_") if verdict.reason else ""
    return pb.Decision.Name(verdict.decision).removeprefix("DECISION_"), reason


def forged(token: bytes) -> bytes:
    """The claims of a real ticket under a signature that sales never made."""
    return token[:-SIGNATURE_BYTES] + os.urandom(SIGNATURE_BYTES)
