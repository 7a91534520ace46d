"""The counters of a visit against a model that keeps every person on a list (I1)."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.ticketcore import rules_of
from tests.ticketcore.rules_of import DAY
from ticketcore.admission import (
    Admission,
    Kind,
    Passing,
    Request,
    Standing,
    Terms,
    Visit,
    apply_passing,
    decide,
    undo_passing,
)
from ticketcore.lifecycle import Lifecycle
from ticketcore.reasons import Reason
from ticketcore.rules import Moment

NEVER = -1


@dataclass
class Person:
    """Somebody on the ticket. `left_on` is the day they went out, NEVER while inside."""

    left_on: int = NEVER


class Visits(RuleBasedStateMachine):
    """Entries, exits, re-entries, give-backs and nights, in any order."""

    @initialize(
        party=st.integers(1, 4),
        entries=st.integers(0, 3),
        daily=st.integers(0, 2),
        reentry=st.booleans(),
        wait_minutes=st.sampled_from([0, 15]),
    )
    def issue(self, party: int, entries: int, daily: int, reentry: bool, wait_minutes: int) -> None:
        self.terms = Terms(1, DAY, 30, 0, party, entries, 0)
        self.rule = rules_of.rule(
            daily_entries=daily, reentry=reentry, reentry_after_ms=wait_minutes * rules_of.MINUTE_MS
        )
        self.visit = Visit()
        self.day, self.minute = DAY, 600
        self.people: list[Person] = []
        self.entries_on: list[int] = []
        self.held: list[tuple[Passing, list[Person]]] = []
        self.last_exit_ms = 0

    # The model

    def inside(self) -> list[Person]:
        return [person for person in self.people if person.left_on == NEVER]

    def may_return(self) -> list[Person]:
        return [person for person in self.people if person.left_on == self.day] if self.rule.reentry else []

    def moment(self) -> Moment:
        return rules_of.at(self.day, 0, self.minute)

    def expected_of_one(self) -> Kind | Reason:
        """What one person who asks to come in must be told."""
        terms = self.terms
        if self.may_return() and len(self.inside()) < terms.party:
            soon = self.moment().time_ms - self.last_exit_ms < self.rule.reentry_after_ms
            return Reason.REENTRY_TOO_SOON if soon else Kind.REENTRY
        if terms.entries and len(self.entries_on) >= terms.entries * terms.party:
            return Reason.ALREADY_USED if terms.entries == 1 else Reason.NO_ENTRIES_LEFT
        if len(self.inside()) >= terms.party:
            return Reason.ALREADY_INSIDE
        if self.rule.daily_entries and self.entries_on.count(self.day) >= self.rule.daily_entries * terms.party:
            return Reason.DAILY_LIMIT_REACHED
        return Kind.ENTRY

    # What happens

    @rule(persons=st.sampled_from([0, 1, 1, 2, 3, 5]))
    def enter(self, persons: int) -> None:
        decided = self.ask(Request(persons=persons))
        if persons == 1:
            assert (decided.kind if isinstance(decided, Admission) else decided) == self.expected_of_one()
        if isinstance(decided, Reason):
            return
        assert decided.persons == (persons or decided.persons) > 0
        passing = self.passing(decided)
        apply_passing(self.visit, passing)
        if decided.kind is Kind.REENTRY:
            came = self.may_return()[: decided.persons]
            assert len(came) == decided.persons
            for person in came:
                person.left_on = NEVER
        else:
            came = [Person() for _ in range(decided.persons)]
            self.people += came
            self.entries_on += [self.day] * decided.persons
        self.held.append((passing, came))

    @rule(persons=st.integers(0, 5))
    def leave(self, persons: int) -> None:
        decided = self.ask(Request(is_exit=True, persons=persons))
        inside = self.inside()
        if not inside or persons > len(inside):
            assert decided is Reason.NOT_INSIDE
            return
        assert isinstance(decided, Admission)
        assert decided.persons == (persons or len(inside))
        apply_passing(self.visit, self.passing(decided))
        for person in inside[: decided.persons]:
            person.left_on = self.day
        self.last_exit_ms = self.moment().time_ms

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def not_passed(self, data: st.DataObject) -> None:
        passing, came = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        if len(self.inside()) < passing.persons:
            return  # they have been seen leaving: `Partition.may_be_given_back` says no
        undo_passing(self.visit, passing)
        gone = sorted(self.inside(), key=lambda person: person not in came)[: passing.persons]
        for person in gone:
            if passing.kind is Kind.ENTRY:
                self.people.remove(person)
            else:
                person.left_on = passing.day  # who came back had left on that same day
        if passing.kind is Kind.ENTRY:
            for _ in gone:
                self.entries_on.remove(passing.day)

    @precondition(lambda self: self.held)
    @rule()
    def passed(self) -> None:
        self.held.pop(0)

    @rule(minutes=st.sampled_from([1, 10, 15, 60]))
    def wait(self, minutes: int) -> None:
        self.minute = min(self.minute + minutes, 1439)

    @rule()
    def next_day(self) -> None:
        self.day, self.minute = self.day + 1, 1

    def ask(self, request: Request) -> Admission | Reason:
        moment = self.moment()
        return decide(self.terms, Lifecycle.ACTIVE, self.visit, Standing(self.rule, Reason.NONE), moment, request)

    def passing(self, decided: Admission) -> Passing:
        moment = self.moment()
        return Passing(1, 1, 1, 11, decided.kind, decided.persons, moment.time_ms, moment.day, True, False, 0)

    # What always holds

    @invariant()
    def counters_are_those_of_the_lists(self) -> None:
        visit, terms = self.visit, self.terms
        assert visit.admitted == len(self.entries_on)
        assert visit.inside == len(self.inside())
        if visit.day == self.day:
            assert visit.admitted_today == self.entries_on.count(self.day)
            if self.rule.reentry:
                assert visit.entered_today - visit.inside == len(self.may_return())
        assert 0 <= visit.inside <= terms.party
        assert visit.admitted >= 0
        assert not terms.entries or visit.admitted <= terms.entries * terms.party
        assert visit.entered_today >= visit.inside


TestVisits = Visits.TestCase
TestVisits.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
