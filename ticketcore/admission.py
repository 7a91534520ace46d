"""The admission machine: may these persons pass, and what changes if they do.

An **entitlement** is a ticket in one zone. Its counters are a `Visit`; everything else a decision needs (the ticket's
facts, the rule of product and gate, the moment) is an argument. Nothing here reads a clock or writes anything.

Checks, in this order; the first that fails is the reason shown. Idempotency, device and token are settled before
(`cluster` knows scan ids, certificates and digests); capacity and commit come after.

    mode       -> GATE_CLOSED, ENTRY_SUSPENDED, EMERGENCY_MODE          mode_reason
    lifecycle  -> UNPAID .. RESCHEDULED                                 lifecycle.REASON
    validity   -> NOT_YET_VALID, EXPIRED, OUTSIDE_TIME_SLOT, BLACKOUT   _validity
    place      -> WRONG_GATE, WRONG_PRODUCT                             Rules.find
    counters   -> ALREADY_USED .. GROUP_INCOMPLETE                      _count_entry, _count_exit
    person     -> ID_REQUIRED, CONCESSION_PROOF_REQUIRED                _person
    capacity   -> CAPACITY_FULL                                         the zone's lease, at the owner

Counters count persons. With `party` persons on the code and `entries` entries (0: uncounted):

    admitted        person-entries ever counted            <= entries * party
    admitted_today  of these, on `day`                     <= daily_entries * party
    entered_today   persons who came in on `day`, re-entries not counted again
    inside          persons inside now                     <= party
    outside         entered_today - inside: who may come back in, where re-entry is allowed, up to `party` inside

    event        admitted  admitted_today  entered_today  inside
    entry of k     +k           +k              +k          +k
    re-entry of k                                           +k
    exit of k                                               -k
    not passed: the exact opposite of its entry or re-entry; if a day has begun since, also entered_today -k

At a gate that does not count who is inside (rides), `inside` and `entered_today` stay as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from ticketcore import lifecycle
from ticketcore.lifecycle import Lifecycle
from ticketcore.reasons import Reason
from ticketcore.rules import Moment, Rule, Rules, minutes_since_first_day
from ticketcore.token import CLAIMS_LENGTH, Flags

UNCOUNTED = 1 << 30
"""Stands for "no limit" in sums of persons; far above any count of one ticket."""


class Kind(IntEnum):
    """What an admission was; numbers of `parkgate.gate.v1.AdmissionKind`."""

    ENTRY = 1
    REENTRY = 2
    EXIT = 3


class Mode(IntEnum):
    """What a gate does at all; numbers of `parkgate.gate.v1.GateMode`."""

    OPEN = 1
    CLOSED = 2
    SUSPENDED = 3
    EMERGENCY = 4


MODE_REASON = {
    (Mode.CLOSED, False): Reason.GATE_CLOSED,
    (Mode.CLOSED, True): Reason.GATE_CLOSED,
    (Mode.SUSPENDED, False): Reason.ENTRY_SUSPENDED,
    (Mode.EMERGENCY, False): Reason.EMERGENCY_MODE,
}
"""(mode, is an exit) -> reason; pairs that are not here pass."""


@dataclass(frozen=True, slots=True, eq=False)
class Terms:
    """What a ticket entitles to by its claims. Tickets that are alike share one object, so that what follows from it
    can be kept by its identity. `first_day` counts from 2020-01-01."""

    product_number: int
    first_day: int
    valid_days: int
    slot: int
    party: int
    entries: int
    flags: int


def terms_of(claims: bytes) -> Terms:
    """The terms in 17 bytes of claims, whose form was checked before."""
    word = int.from_bytes(claims[13:CLAIMS_LENGTH], "big")
    return Terms(
        int.from_bytes(claims[9:11], "big"),
        int.from_bytes(claims[11:13], "big"),
        (word >> 23) + 1,
        word >> 15 & 255,
        (word >> 9 & 63) + 1,
        word >> 3 & 63,
        word & 3,
    )


@dataclass(slots=True)
class Visit:
    """Counters of one entitlement. Times are UTC milliseconds, 0 for never; gates are numbers of the catalogue."""

    admitted: int = 0
    admitted_today: int = 0
    entered_today: int = 0
    inside: int = 0
    day: int = 0
    first_ms: int = 0
    first_gate: int = 0
    last_ms: int = 0
    last_gate: int = 0
    last_exit_ms: int = 0


@dataclass(frozen=True, slots=True)
class Request:
    """What a scan asks: `persons` 0 means all who are still due."""

    is_exit: bool = False
    persons: int = 0
    proof_seen: bool = False


@dataclass(slots=True)
class Admission:
    """A decision to let `persons` pass, and what is left after it."""

    kind: Kind
    persons: int
    persons_remaining: int
    entries_remaining: int


_ACTIVE = int(Lifecycle.ACTIVE)
PLAIN_ENTRY = Request()
EMPTY_VISIT = Visit()
"""Stands for an entitlement that was never used; never changed."""


@dataclass(slots=True)
class Standing:
    """How terms stand at a gate in one minute: the rule of the place, if there is one, and what is against an entry.
    Without one, `way_out` is how guests leave who are inside all the same."""

    rule: Rule | None
    reason: Reason
    way_out: Rule | None = None


def standing(terms: Terms, rules: Rules, gate_number: int, moment: Moment) -> Standing:
    """Validity and place. Good for the whole minute of `moment`, and for all tickets of these terms."""
    found = rules.find(terms.product_number, gate_number)
    if isinstance(found, Reason):
        dates = _dates(terms, moment)
        way_out = rules.way_out(terms.product_number, gate_number)
        return Standing(None, found if dates is Reason.NONE else dates, way_out)
    return Standing(found, _validity(terms, found, moment))


def decide(
    terms: Terms, state: int, visit: Visit, stands: Standing, moment: Moment, request: Request
) -> Admission | Reason:
    """Decides lifecycle `state`, validity, place, counters and person, in that order."""
    rule = stands.rule
    if request.is_exit:
        has_place = rule is not None or (stands.way_out is not None and visit.inside > 0)
        return _count_exit(visit, request.persons) if has_place else stands.reason
    if state != _ACTIVE:
        return lifecycle.REASON[Lifecycle(state)]
    if stands.reason is not Reason.NONE or rule is None:
        return stands.reason
    counted = _count_entry(terms, visit, rule, moment, request.persons)
    if terms.flags and not request.proof_seen and isinstance(counted, Admission):
        return _person(terms.flags)
    return counted


def _dates(terms: Terms, moment: Moment) -> Reason:
    if moment.day < terms.first_day:
        return Reason.NOT_YET_VALID
    return Reason.EXPIRED if moment.day >= terms.first_day + terms.valid_days else Reason.NONE


def _validity(terms: Terms, rule: Rule, moment: Moment) -> Reason:
    if rule.slot_required:
        return _slot_time(terms, rule, moment)
    reason = _dates(terms, moment)
    if reason is not Reason.NONE:
        return reason
    if moment.day in rule.blackout_days:
        return Reason.BLACKOUT_DATE
    if moment.minute < rule.opens_minute:
        return Reason.NOT_YET_VALID
    return Reason.EXPIRED if moment.minute >= rule.closes_minute else Reason.NONE


def _slot_time(terms: Terms, rule: Rule, moment: Moment) -> Reason:
    """A slot belongs to the first valid day, and may end after midnight."""
    window = rule.slots.get(terms.slot)
    if window is None:
        return Reason.WRONG_PRODUCT
    if terms.first_day in rule.blackout_days:
        return Reason.BLACKOUT_DATE
    minutes = minutes_since_first_day(moment, terms.first_day)
    if window[0] <= minutes < window[1]:
        return Reason.NONE
    dates = _dates(terms, moment)
    return Reason.OUTSIDE_TIME_SLOT if dates is Reason.NONE else dates


def _count_entry(terms: Terms, visit: Visit, rule: Rule, moment: Moment, wanted: int) -> Admission | Reason:
    today = visit.day == moment.day
    # On a ticket with several entries, others may have come in since: never more inside than its party.
    outside = min(visit.entered_today, terms.party) - visit.inside if rule.reentry and today else 0
    not_yet_in = terms.party - (visit.entered_today if today else 0)
    if outside > 0 and (wanted <= outside if wanted else not_yet_in <= 0):
        return _reentry(visit, rule, moment, wanted or outside, outside)
    return _fresh_entry(terms, visit, rule, wanted, visit.admitted_today if today else 0)


def _reentry(visit: Visit, rule: Rule, moment: Moment, persons: int, outside: int) -> Admission | Reason:
    if moment.time_ms - visit.last_exit_ms < rule.reentry_after_ms:
        return Reason.REENTRY_TOO_SOON
    return Admission(Kind.REENTRY, persons, outside - persons, 0)


def _fresh_entry(terms: Terms, visit: Visit, rule: Rule, wanted: int, admitted_today: int) -> Admission | Reason:
    party = terms.party
    left = terms.entries * party - visit.admitted if terms.entries else UNCOUNTED
    if left <= 0:
        return Reason.ALREADY_USED if terms.entries == 1 else Reason.NO_ENTRIES_LEFT
    # Of the entry that has begun, those who have not come in yet; when it is complete, a new one begins.
    due = party - visit.admitted % party
    if rule.counts_inside:
        if visit.inside >= party:
            return Reason.ALREADY_INSIDE
        due = min(due, party - visit.inside)
    if rule.daily_entries:
        today_left = rule.daily_entries * party - admitted_today
        if today_left <= 0:
            return Reason.DAILY_LIMIT_REACHED
        due = min(due, today_left)
    due = min(due, left)
    persons = wanted or due
    if persons > due:
        return Reason.NO_ENTRIES_LEFT
    if rule.all_together and persons < party:
        return Reason.GROUP_INCOMPLETE
    return Admission(Kind.ENTRY, persons, due - persons, (left - persons) // party if terms.entries else 0)


def _count_exit(visit: Visit, wanted: int) -> Admission | Reason:
    if visit.inside <= 0 or wanted > visit.inside:
        return Reason.NOT_INSIDE
    persons = wanted or visit.inside
    return Admission(Kind.EXIT, persons, visit.inside - persons, 0)


def _person(flags: int) -> Reason:
    return Reason.ID_REQUIRED if flags & Flags.IDENTITY else Reason.CONCESSION_PROOF_REQUIRED


@dataclass(slots=True)
class Passing:
    """An admission as a fact: what passes where and when. Recovery applies the same facts as the live decision.

    `first_admission`: of the ticket, in any zone. `deadline_ms`: until then a passage report is awaited; 0: none is.
    """

    ticket_id: int
    zone_number: int
    product_number: int
    gate_number: int
    kind: Kind
    persons: int
    time_ms: int
    day: int
    counts_inside: bool
    first_admission: bool
    deadline_ms: int


def apply_passing(visit: Visit, passing: Passing) -> None:
    """Counts an admission."""
    if visit.day != passing.day:
        visit.day, visit.admitted_today = passing.day, 0
        # Who slept inside is still inside, and came in "today" as far as re-entry goes.
        visit.entered_today = visit.inside
    if passing.kind is Kind.EXIT:
        visit.inside -= passing.persons
        visit.last_exit_ms = passing.time_ms
        return
    if passing.kind is Kind.ENTRY:
        visit.admitted += passing.persons
        visit.admitted_today += passing.persons
        if passing.counts_inside:
            visit.entered_today += passing.persons
    if passing.counts_inside:
        visit.inside += passing.persons
    if not visit.first_ms:
        visit.first_ms, visit.first_gate = passing.time_ms, passing.gate_number
    visit.last_ms, visit.last_gate = passing.time_ms, passing.gate_number


def undo_passing(visit: Visit, passing: Passing) -> None:
    """Gives an entry or re-entry back: nobody went through. Applied once, by whoever settles the hold."""
    same_day = visit.day == passing.day
    if passing.counts_inside:
        visit.inside -= passing.persons
        if passing.kind is Kind.ENTRY or not same_day:
            # If a day has begun since, it counted them as having slept inside; they must not become re-entrants of it.
            visit.entered_today -= passing.persons
    if passing.kind is not Kind.ENTRY:
        return
    visit.admitted -= passing.persons
    if same_day:
        visit.admitted_today -= passing.persons
    if visit.admitted == 0:
        visit.first_ms = visit.first_gate = visit.last_ms = visit.last_gate = 0
