"""What all scans of a minute share: how terms stand at a gate, and what their admissions look like in verdict and log.

It is worked out when the first scan asks, and thrown away when minute, rules or modes change. Pure: no I/O, no clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cluster.heads import claims_of, gate_of
from cluster.runs import Alike, alike_of
from cluster.verdicts import write_verdict
from parkgate.events.v1 import events_pb2
from parkgate.gate.v1 import gate_pb2
from ticketcore import token as tokens
from ticketcore.admission import (
    EMPTY_VISIT,
    MODE_REASON,
    PLAIN_ENTRY,
    Admission,
    Kind,
    Mode,
    Standing,
    Terms,
    decide,
    standing,
    terms_of,
)
from ticketcore.lifecycle import Lifecycle
from ticketcore.reasons import Reason
from ticketcore.rules import Moment, Rule, Rules

SIGNATURE_CHECKS_PER_BATCH = 40
"""Each costs about 110 µs: a flood of forged codes may not hold a batch up by more than some 4 ms. Beyond: RETRY."""

_ENTRY = gate_pb2.DIRECTION_ENTRY
_EXIT = gate_pb2.DIRECTION_EXIT
_DIGEST = gate_pb2.VERIFICATION_DIGEST


@dataclass(slots=True)
class Known:
    """How terms stand at a gate this minute, and what their admissions look like."""

    standing: Standing
    fresh: Admission | Reason
    """What a ticket that was never used here is told on a plain entry: most scans of a morning."""
    looks: dict[tuple[int, int, int, int, int, bool], Look] = field(default_factory=dict)


@dataclass(slots=True)
class Look:
    """Verdict and event of admissions that are alike; ticket, scan and times are filled in for each."""

    verdict: gate_pb2.Verdict
    event: bytes


@dataclass(frozen=True, slots=True)
class FirstEntry:
    """How a registered ticket that was never used enters at a gate, this minute."""

    alike: Alike
    capacity_limited: bool


class Minute:
    """What holds for every scan of one minute: rules, modes, and what was worked out from them so far."""

    __slots__ = ("day", "first_entries", "known", "minute", "modes", "rules")

    def __init__(self, rules: Rules, moment: Moment, modes: Mapping[int, Mode]) -> None:
        self.rules = rules
        self.day = moment.day
        self.minute = moment.minute
        self.modes = modes
        self.known: dict[tuple[Terms, int], Known] = {}
        self.first_entries: dict[bytes, FirstEntry | None] = {}
        """By gate and terms, as in a scan's head."""

    def holds(self, rules: Rules, moment: Moment, modes: Mapping[int, Mode]) -> bool:
        """Whether it still holds."""
        same_time = self.minute == moment.minute and self.day == moment.day
        return same_time and self.rules is rules and self.modes is modes


@dataclass(slots=True)
class Context:
    """What all scans of a batch share."""

    moment: Moment
    minute: Minute
    ring: tokens.KeyRing
    signature_checks_left: int = SIGNATURE_CHECKS_PER_BATCH
    full_zones: frozenset[tuple[str, int]] = frozenset()
    """(partition, zone) for which the capacity owner has said that nothing is left: while those are decided that had
    asked."""

    @property
    def rules(self) -> Rules:
        """The rules in force."""
        return self.minute.rules

    def known(self, terms: Terms, gate_number: int) -> Known:
        """How terms stand at a gate."""
        key = (terms, gate_number)
        known = self.minute.known.get(key)
        if known is None:
            stands = standing(terms, self.minute.rules, gate_number, self.moment)
            fresh = decide(terms, Lifecycle.ACTIVE, EMPTY_VISIT, stands, self.moment, PLAIN_ENTRY)
            known = self.minute.known[key] = Known(stands, fresh)
        return known

    def first_entry(self, at: bytes) -> FirstEntry | None:
        """How a ticket first enters at a gate and on terms, as in a scan's head; None if it does not, or not without
        being looked at closely."""
        modes, gate_number, found = self.minute.modes, gate_of(at), None
        if gate_number in self.rules.gate_zone and (modes.get(gate_number), False) not in MODE_REASON:
            known = self.known(terms_of(claims_of(at)), gate_number)
            rule, fresh = known.standing.rule, known.fresh
            if rule is not None and isinstance(fresh, Admission):
                event = event_of(rule, fresh, _DIGEST, first=True).SerializeToString(deterministic=True)
                found = FirstEntry(alike_of(event, rule.passage_timeout_ms), rule.capacity_limited)
        self.minute.first_entries[at] = found
        return found


def look_of(rule: Rule, admission: Admission, verification: int, first: bool) -> Look:
    event = event_of(rule, admission, verification, first)
    event.gate_number = rule.gate_number
    verdict = gate_pb2.Verdict()
    write_verdict(verdict, event)
    return Look(verdict, event.SerializeToString())


def event_of(rule: Rule, admission: Admission, verification: int, first: bool) -> events_pb2.ScanDecided:
    """The event of an admission, without scan, ticket, gate and times."""
    return events_pb2.ScanDecided(
        zone_number=rule.zone_number,
        product_number=rule.product_number,
        direction=_EXIT if admission.kind is Kind.EXIT else _ENTRY,
        decision=gate_pb2.DECISION_ADMIT,
        kind=int(admission.kind),  # type: ignore[arg-type]
        persons=admission.persons,
        verification=verification,  # type: ignore[arg-type]
        first_admission=first,
        counts_inside=rule.counts_inside,
        persons_remaining=admission.persons_remaining,
        entries_remaining=admission.entries_remaining,
    )
