"""The lifecycle's whole table, and a refund against an admission (I5)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.ticketcore.rules_of import DAY, at, rule
from ticketcore.admission import (
    Admission,
    Passing,
    Request,
    Standing,
    Terms,
    Visit,
    apply_passing,
    decide,
    undo_passing,
)
from ticketcore.lifecycle import CHANGES, FINAL, REASON, VOIDING, Change, Lifecycle, judge_change
from ticketcore.reasons import Decision, Reason, decision_for

STATES = ["UNKNOWN", "ACTIVE", "UNPAID", "NOT_ACTIVATED", "BLOCKED", "REVOKED", "REFUNDED", "CANCELED", "RESCHEDULED"]
TABLE = {
    # to             from, in the order of STATES: unused / used. d done, u already used, - not allowed
    "UNKNOWN": ("- - - - - - - - -", "- - - - - - - - -"),
    "ACTIVE": ("- - d d d - - - -", "- - d d d - - - -"),
    "UNPAID": ("- - - - - - - - -", "- - - - - - - - -"),
    "NOT_ACTIVATED": ("- - - - - - - - -", "- - - - - - - - -"),
    "BLOCKED": ("d d d d - - - - -", "d d d d - - - - -"),
    "REVOKED": ("d d d d d - - - -", "d d d d d - - - -"),
    "REFUNDED": ("d d d d d - - - -", "u u u u u - - - -"),
    "CANCELED": ("d d d d d - - - -", "u u u u u - - - -"),
    "RESCHEDULED": ("d d d d d - - - -", "u u u u u - - - -"),
}
LETTER = {Change.DONE: "d", Change.ALREADY_USED: "u", Change.NOT_ALLOWED: "-"}
TERMS = Terms(1, DAY, 1, 0, 2, 1, 0)
STANDING = Standing(rule(), Reason.NONE)


@pytest.mark.parametrize("to", STATES)
@pytest.mark.parametrize("used", [0, 1])
def test_every_change_from_every_state(to: str, used: int) -> None:
    found = " ".join(LETTER[judge_change(Lifecycle[state], Lifecycle[to], used)] for state in STATES)
    assert found == TABLE[to][used]


def test_the_table_names_every_state() -> None:
    assert [state.name for state in Lifecycle] == STATES == list(TABLE)


def test_final_states_never_change_and_only_they_are_final() -> None:
    for state in Lifecycle:
        leaves_to = {to for to, froms in CHANGES.items() if state in froms}
        assert (not leaves_to) == (state in FINAL)
    assert set(FINAL) == VOIDING | {Lifecycle.REVOKED}


@pytest.mark.parametrize("state", list(Lifecycle)[2:])
def test_only_an_active_ticket_is_admitted_and_each_other_state_has_its_reason(state: Lifecycle) -> None:
    outcome = decide(TERMS, state, Visit(), STANDING, at(), Request())
    assert outcome is REASON[state]
    assert decision_for(REASON[state]) is Decision.REJECT


@given(st.lists(st.sampled_from(["admit one", "admit", "give back", *sorted(VOIDING)]), max_size=12))
def test_a_refund_and_an_admission_never_both_succeed(steps: list[str | Lifecycle]) -> None:
    """I5, in the core: in any order, once a ticket is voided nobody is admitted on it, and as long as anybody is
    admitted it is not voided."""
    state, visit, held = Lifecycle.ACTIVE, Visit(), []
    for number, step in enumerate(steps):
        if isinstance(step, Lifecycle):
            if judge_change(state, step, visit.admitted) is Change.DONE:
                state = step
        elif step == "give back":
            if held:
                undo_passing(visit, held.pop())
        else:
            moment = at(DAY, 10, number)
            outcome = decide(TERMS, state, visit, STANDING, moment, Request(persons=step == "admit one"))
            if isinstance(outcome, Admission):
                passing = Passing(1, 1, 1, 11, outcome.kind, outcome.persons, moment.time_ms, DAY, True, False, 1)
                apply_passing(visit, passing)
                held.append(passing)
        assert not (state in VOIDING and visit.admitted)
