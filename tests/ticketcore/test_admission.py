"""The admission machine as a catalogue: what a ticket is told, before, at and after each boundary (I1)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import pytest

from tests.ticketcore.rules_of import DAY, MINUTE_MS, at, rule
from ticketcore import admission
from ticketcore.admission import (
    MODE_REASON,
    Admission,
    Kind,
    Mode,
    Passing,
    Request,
    Terms,
    Visit,
    apply_passing,
    decide,
    standing,
    undo_passing,
)
from ticketcore.lifecycle import Lifecycle
from ticketcore.reasons import Reason
from ticketcore.rules import Moment, Rule, Rules
from ticketcore.token import Flags

ONE = Terms(product_number=1, first_day=DAY, valid_days=1, slot=0, party=1, entries=1, flags=0)
FAMILY = replace(ONE, party=4)
THREE_DAYS = replace(ONE, valid_days=3, entries=3)
TEN_RIDES = replace(ONE, entries=10)
PASS = replace(ONE, valid_days=365, entries=0)
BACK = Request(is_exit=True)
ADMIT = Reason.NONE


def told(
    terms: Terms,
    moment: Moment | None = None,
    visit: Visit | None = None,
    request: Request | None = None,
    state: Lifecycle = Lifecycle.ACTIVE,
    **of_rule: Any,
) -> Admission | Reason:
    """What a ticket is told at a gate whose rule is plain but for `of_rule`."""
    moment = moment or at()
    stands = standing(terms, rules(rule(**of_rule)), 11, moment)
    return decide(terms, state, visit or Visit(), stands, moment, request or Request())


def rules(*there: Rule) -> Rules:
    pairs = {item.product_number << 16 | item.gate_number: item for item in there}
    return Rules(1, None, pairs, {item.product_number: (1,) for item in there}, {11: 1, 12: 1})  # type: ignore[arg-type]


def reason(outcome: Admission | Reason) -> Reason:
    return outcome if isinstance(outcome, Reason) else ADMIT


def used(terms: Terms, *steps: tuple[str, int, Moment], counts_inside: bool = True) -> Visit:
    """A visit after entries ("in"), re-entries ("back") and exits ("out") of so many persons."""
    visit = Visit()
    kinds = {"in": Kind.ENTRY, "back": Kind.REENTRY, "out": Kind.EXIT}
    for what, persons, moment in steps:
        apply_passing(visit, passing(kinds[what], persons, moment, counts_inside))
    return visit


def passing(kind: Kind, persons: int, moment: Moment, counts_inside: bool = True) -> Passing:
    return Passing(1, 1, 1, 11, kind, persons, moment.time_ms, moment.day, counts_inside, False, 0)


class Case(NamedTuple):
    name: str
    terms: Terms
    moment: Moment
    of_rule: dict[str, Any]
    expected: Reason


EVENING = {"opens_minute": 16 * 60, "closes_minute": 22 * 60}
SLOTS = {"slot_required": True, "slots": {3: (19 * 60 - 45, 21 * 60), 9: (23 * 60, 24 * 60 + 30)}}
SLOT_3, SLOT_9, NO_SLOT = (replace(ONE, slot=number) for number in (3, 9, 0))
NOT_YET, EXPIRED, WRONG_SLOT = Reason.NOT_YET_VALID, Reason.EXPIRED, Reason.OUTSIDE_TIME_SLOT

DATES_AND_TIMES = [
    Case("the minute before the first day", THREE_DAYS, at(DAY - 1, 23, 59), {}, NOT_YET),
    Case("the first minute of the first day", THREE_DAYS, at(DAY, 0, 0), {}, ADMIT),
    Case("a day in between", THREE_DAYS, at(DAY + 1), {}, ADMIT),
    Case("the last minute of the last day", THREE_DAYS, at(DAY + 2, 23, 59), {}, ADMIT),
    Case("the first minute after the last day", THREE_DAYS, at(DAY + 3, 0, 0), {}, EXPIRED),
    Case("evening ticket, a minute before it opens", ONE, at(DAY, 15, 59), EVENING, NOT_YET),
    Case("evening ticket, as it opens", ONE, at(DAY, 16, 0), EVENING, ADMIT),
    Case("evening ticket, the last minute", ONE, at(DAY, 21, 59), EVENING, ADMIT),
    Case("evening ticket, as it closes", ONE, at(DAY, 22, 0), EVENING, EXPIRED),
    Case("the day before a blackout", PASS, at(DAY + 4), {"blackout_days": frozenset({DAY + 5})}, ADMIT),
    Case("a blackout", PASS, at(DAY + 5), {"blackout_days": frozenset({DAY + 5})}, Reason.BLACKOUT_DATE),
    Case("the day after a blackout", PASS, at(DAY + 6), {"blackout_days": frozenset({DAY + 5})}, ADMIT),
    Case("slot, a minute before entry opens", SLOT_3, at(DAY, 18, 14), SLOTS, WRONG_SLOT),
    Case("slot, as entry opens", SLOT_3, at(DAY, 18, 15), SLOTS, ADMIT),
    Case("slot, the last minute", SLOT_3, at(DAY, 20, 59), SLOTS, ADMIT),
    Case("slot, as it ends", SLOT_3, at(DAY, 21, 0), SLOTS, WRONG_SLOT),
    Case("slot, the day before", SLOT_3, at(DAY - 1, 20, 0), SLOTS, NOT_YET),
    Case("slot, the day after", SLOT_3, at(DAY + 1, 20, 0), SLOTS, EXPIRED),
    Case("night slot, before midnight", SLOT_9, at(DAY, 23, 59), SLOTS, ADMIT),
    Case("night slot, at midnight", SLOT_9, at(DAY + 1, 0, 0), SLOTS, ADMIT),
    Case("night slot, its last minute", SLOT_9, at(DAY + 1, 0, 29), SLOTS, ADMIT),
    Case("night slot, as it ends after midnight", SLOT_9, at(DAY + 1, 0, 30), SLOTS, EXPIRED),
    Case("night slot, after midnight of the day before", SLOT_9, at(DAY, 0, 10), SLOTS, WRONG_SLOT),
    Case(
        "slot, a blackout of its first day", SLOT_3, at(DAY, 20), SLOTS | {"blackout_days": {DAY}}, Reason.BLACKOUT_DATE
    ),
    Case("no slot where one is required", NO_SLOT, at(DAY, 20), SLOTS, Reason.WRONG_PRODUCT),
    Case("a slot that the schedule has no more", replace(ONE, slot=4), at(DAY, 20), SLOTS, Reason.WRONG_PRODUCT),
]


@pytest.mark.parametrize("case", DATES_AND_TIMES, ids=lambda case: case.name)
def test_dates_and_times(case: Case) -> None:
    assert reason(told(case.terms, case.moment, **case.of_rule)) is case.expected


MORNING, NOON, NIGHT, NEXT = at(DAY, 9), at(DAY, 12), at(DAY, 23), at(DAY + 1, 9)
SAME_DAY = {"reentry": True}
WAIT = {"reentry": True, "reentry_after_ms": 15 * MINUTE_MS}
RIDE = {"counts_inside": False}
ONCE_A_DAY = {"daily_entries": 1}


class Use(NamedTuple):
    name: str
    terms: Terms
    before: tuple[tuple[str, int, Moment], ...]
    moment: Moment
    of_rule: dict[str, Any]
    expected: Reason | tuple[Kind, int, int, int]  # kind, persons, persons remaining, entries remaining
    persons: int = 0


def minutes_after(moment: Moment, minutes: int, ms: int = 0) -> Moment:
    return Moment(moment.time_ms + minutes * MINUTE_MS + ms, moment.day, moment.minute + minutes)


OUT = (("in", 1, MORNING), ("out", 1, NOON))
IN_4_OUT_2 = (("in", 4, MORNING), ("out", 2, NOON))
USES = [
    Use("a single entry, first time", ONE, (), NOON, {}, (Kind.ENTRY, 1, 0, 0)),
    Use("a single entry, second time", ONE, OUT, NIGHT, {}, Reason.ALREADY_USED),
    Use("a single entry, while inside", ONE, (("in", 1, MORNING),), NOON, {}, Reason.ALREADY_USED),
    Use("three entries, the last", THREE_DAYS, OUT * 2, NIGHT, {}, (Kind.ENTRY, 1, 0, 0)),
    Use("three entries, one too many", THREE_DAYS, OUT * 3, NIGHT, {}, Reason.NO_ENTRIES_LEFT),
    Use("ten rides, the tenth", TEN_RIDES, (("in", 1, NOON),) * 9, NIGHT, RIDE, (Kind.ENTRY, 1, 0, 0)),
    Use("ten rides, the eleventh", TEN_RIDES, (("in", 1, NOON),) * 10, NIGHT, RIDE, Reason.NO_ENTRIES_LEFT),
    Use("a ride has nobody inside to come in twice", TEN_RIDES, (("in", 1, NOON),), NOON, RIDE, (Kind.ENTRY, 1, 0, 8)),
    Use("uncounted entries, the thousandth", PASS, OUT * 999, NIGHT, {}, (Kind.ENTRY, 1, 0, 0)),
    Use("once a day, again today", THREE_DAYS, OUT, NIGHT, ONCE_A_DAY, Reason.DAILY_LIMIT_REACHED),
    Use("once a day, tomorrow", THREE_DAYS, OUT, NEXT, ONCE_A_DAY, (Kind.ENTRY, 1, 0, 1)),
    Use("twice a day, the second", THREE_DAYS, OUT, NIGHT, {"daily_entries": 2}, (Kind.ENTRY, 1, 0, 1)),
    Use("all entries used says so rather than the day's", ONE, OUT, NIGHT, ONCE_A_DAY, Reason.ALREADY_USED),
    Use("anti-passback: handed back over the fence", PASS, (("in", 1, MORNING),), NOON, {}, Reason.ALREADY_INSIDE),
    Use("anti-passback: after the exit", PASS, OUT, NIGHT, {}, (Kind.ENTRY, 1, 0, 0)),
    Use("anti-passback: slept inside", PASS, (("in", 1, MORNING),), NEXT, {}, Reason.ALREADY_INSIDE),
    Use("a family all at once", FAMILY, (), NOON, {}, (Kind.ENTRY, 4, 0, 0)),
    Use("a family, the first two", FAMILY, (), NOON, {}, (Kind.ENTRY, 2, 2, 0), 2),
    Use("a family, the rest by themselves", FAMILY, (("in", 2, MORNING),), NOON, {}, (Kind.ENTRY, 2, 0, 0)),
    Use("a family, exactly the rest", FAMILY, (("in", 3, MORNING),), NOON, {}, (Kind.ENTRY, 1, 0, 0), 1),
    Use("a family, one more than the rest", FAMILY, (("in", 3, MORNING),), NOON, {}, Reason.NO_ENTRIES_LEFT, 2),
    Use("a family, five of four", FAMILY, (), NOON, {}, Reason.NO_ENTRIES_LEFT, 5),
    Use(
        "a family of entries two, begun: its rest",
        replace(FAMILY, entries=2),
        (("in", 3, NOON),),
        NIGHT,
        {},
        (Kind.ENTRY, 1, 0, 1),
    ),
    Use("a group together, one missing", FAMILY, (), NOON, {"all_together": True}, Reason.GROUP_INCOMPLETE, 3),
    Use("a group together, complete", FAMILY, (), NOON, {"all_together": True}, (Kind.ENTRY, 4, 0, 0), 4),
    Use("a group together, without a number", FAMILY, (), NOON, {"all_together": True}, (Kind.ENTRY, 4, 0, 0)),
    Use("re-entry, none allowed", ONE, OUT, NIGHT, {}, Reason.ALREADY_USED),
    Use("re-entry, the same day", ONE, OUT, NIGHT, SAME_DAY, (Kind.REENTRY, 1, 0, 0)),
    Use("re-entry, the next day", replace(ONE, valid_days=2), OUT, NEXT, SAME_DAY, Reason.ALREADY_USED),
    Use("re-entry, a millisecond too soon", ONE, OUT, minutes_after(NOON, 15, -1), WAIT, Reason.REENTRY_TOO_SOON),
    Use("re-entry, as soon as allowed", ONE, OUT, minutes_after(NOON, 15), WAIT, (Kind.REENTRY, 1, 0, 0)),
    Use("re-entry, a minute later", ONE, OUT, minutes_after(NOON, 16), WAIT, (Kind.REENTRY, 1, 0, 0)),
    Use("re-entry of those who left", FAMILY, IN_4_OUT_2, NIGHT, SAME_DAY, (Kind.REENTRY, 2, 0, 0)),
    Use("re-entry of one of two", FAMILY, IN_4_OUT_2, NIGHT, SAME_DAY, (Kind.REENTRY, 1, 1, 0), 1),
    Use("re-entry of three of two", FAMILY, IN_4_OUT_2, NIGHT, SAME_DAY, Reason.ALREADY_USED, 3),
    Use(
        "a re-entry counts no entry of the day", THREE_DAYS, OUT, NIGHT, SAME_DAY | ONCE_A_DAY, (Kind.REENTRY, 1, 0, 0)
    ),
]


@pytest.mark.parametrize("case", USES, ids=lambda case: case.name)
def test_uses(case: Use) -> None:
    visit = used(case.terms, *case.before, counts_inside=case.of_rule.get("counts_inside", True))
    outcome = told(case.terms, case.moment, visit, Request(persons=case.persons), **case.of_rule)
    if isinstance(case.expected, Reason):
        assert outcome is case.expected
    else:
        assert outcome == Admission(*case.expected)


@pytest.mark.parametrize(
    ("persons", "expected"),
    [(0, (Kind.EXIT, 3, 0, 0)), (1, (Kind.EXIT, 1, 2, 0)), (3, (Kind.EXIT, 3, 0, 0)), (4, Reason.NOT_INSIDE)],
)
def test_an_exit_lets_out_who_is_inside(persons: int, expected: Any) -> None:
    visit = used(FAMILY, ("in", 3, NOON))
    outcome = told(FAMILY, NIGHT, visit, Request(is_exit=True, persons=persons))
    assert outcome == (expected if isinstance(expected, Reason) else Admission(*expected))


@pytest.mark.parametrize("state", list(Lifecycle)[1:])
def test_an_exit_is_open_to_whoever_is_inside_whatever_became_of_the_ticket(state: Lifecycle) -> None:
    """Nobody is locked in: not after the last day, not on a blackout, not when the ticket is blocked meanwhile."""
    visit = used(ONE, ("in", 1, NOON))
    late = at(DAY + 9, 3)
    outcome = told(ONE, late, visit, BACK, state, blackout_days=frozenset({DAY + 9}))
    assert outcome == Admission(Kind.EXIT, 1, 0, 0)
    assert told(ONE, late, Visit(), BACK, state) is Reason.NOT_INSIDE


@pytest.mark.parametrize(
    ("flags", "proof_seen", "expected"),
    [
        (Flags.NONE, False, ADMIT),
        (Flags.CONCESSION_PROOF, False, Reason.CONCESSION_PROOF_REQUIRED),
        (Flags.CONCESSION_PROOF, True, ADMIT),
        (Flags.IDENTITY, False, Reason.ID_REQUIRED),
        (Flags.IDENTITY, True, ADMIT),
        (Flags.IDENTITY | Flags.CONCESSION_PROOF, False, Reason.ID_REQUIRED),
        (Flags.IDENTITY | Flags.CONCESSION_PROOF, True, ADMIT),
    ],
)
def test_a_proof_is_asked_for_until_the_attendant_has_seen_it(flags: Flags, proof_seen: bool, expected: Reason) -> None:
    terms = replace(ONE, flags=int(flags))
    assert reason(told(terms, request=Request(proof_seen=proof_seen))) is expected


@pytest.mark.parametrize(
    ("product", "gate", "expected"), [(1, 11, ADMIT), (1, 12, Reason.WRONG_GATE), (2, 11, Reason.WRONG_PRODUCT)]
)
def test_a_gate_that_is_not_the_products_and_a_product_that_nobody_knows(
    product: int, gate: int, expected: Reason
) -> None:
    terms = replace(ONE, product_number=product)
    stands = standing(terms, rules(rule()), gate, at())
    assert reason(decide(terms, Lifecycle.ACTIVE, Visit(), stands, at(), Request())) is expected


FAULTS: list[tuple[Reason, dict[str, Any]]] = [
    # In the order of the checks; each alone gives its reason.
    (Reason.BLOCKED, {"state": Lifecycle.BLOCKED}),
    (Reason.EXPIRED, {"moment": at(DAY + 1)}),
    (Reason.BLACKOUT_DATE, {"blackout_days": frozenset({DAY, DAY + 1})}),
    (Reason.ALREADY_USED, {"visit": used(FAMILY, ("in", 4, MORNING))}),
    (Reason.GROUP_INCOMPLETE, {"all_together": True, "request": Request(persons=3)}),
    (Reason.ID_REQUIRED, {"flags": int(Flags.IDENTITY)}),
]


@pytest.mark.parametrize("first", range(len(FAULTS)))
@pytest.mark.parametrize("second", range(len(FAULTS)))
def test_a_ticket_with_two_faults_is_told_the_first(first: int, second: int) -> None:
    """Lifecycle, validity, place, counters, person: the order is fixed."""
    expected = FAULTS[min(first, second)][0]
    fields = FAULTS[first][1] | FAULTS[second][1]
    terms = replace(FAMILY, flags=fields.pop("flags", 0))
    assert reason(told(terms, **fields)) is expected


def test_dates_are_told_before_the_wrong_gate() -> None:
    """Who comes on the wrong day is not sent to another gate to hear it there."""
    for moment, expected in ((at(DAY - 1), NOT_YET), (at(DAY), Reason.WRONG_GATE), (at(DAY + 1), EXPIRED)):
        stands = standing(ONE, rules(rule()), 12, moment)
        assert decide(ONE, Lifecycle.ACTIVE, Visit(), stands, moment, Request()) is expected


def test_the_modes_of_a_gate_and_what_they_stop() -> None:
    expected = {
        (Mode.OPEN, False): None,
        (Mode.OPEN, True): None,
        (Mode.CLOSED, False): Reason.GATE_CLOSED,
        (Mode.CLOSED, True): Reason.GATE_CLOSED,
        (Mode.SUSPENDED, False): Reason.ENTRY_SUSPENDED,
        (Mode.SUSPENDED, True): None,
        (Mode.EMERGENCY, False): Reason.EMERGENCY_MODE,
        (Mode.EMERGENCY, True): None,
    }
    assert {(mode, is_exit): MODE_REASON.get((mode, is_exit)) for mode in Mode for is_exit in (False, True)} == expected


def test_an_entry_given_back_leaves_no_trace_of_it() -> None:
    visit = Visit()
    entry = passing(Kind.ENTRY, 1, NOON)
    apply_passing(visit, entry)
    undo_passing(visit, entry)
    assert visit == Visit(day=DAY)


def test_first_and_last_use_say_when_and_where() -> None:
    visit = used(FAMILY, ("in", 1, MORNING), ("in", 1, NOON), ("out", 1, NIGHT))
    assert (visit.first_ms, visit.first_gate) == (MORNING.time_ms, 11)
    assert (visit.last_ms, visit.last_gate) == (NOON.time_ms, 11)
    assert visit.last_exit_ms == NIGHT.time_ms


@pytest.mark.parametrize(
    ("party", "entries", "days", "slot", "flags"), [(1, 0, 1, 0, 0), (64, 63, 512, 255, 3), (2, 1, 366, 7, 2)]
)
def test_terms_are_what_the_token_says(party: int, entries: int, days: int, slot: int, flags: int) -> None:
    """`terms_of` reads claims a second time, for speed: it must read what the one decoder reads."""
    from datetime import timedelta

    from ticketcore import token as tokens

    claims = tokens.Claims(
        3, 77, 65535, tokens.EPOCH_DAY + timedelta(days=65535), days, slot, party, entries, Flags(flags)
    )
    terms = admission.terms_of(tokens.encode_claims(claims))
    assert (terms.product_number, terms.first_day, terms.valid_days) == (65535, 65535, days)
    assert (terms.slot, terms.party, terms.entries, terms.flags) == (slot, party, entries, flags)
