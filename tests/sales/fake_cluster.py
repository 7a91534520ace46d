"""A cluster in memory: real quota arithmetic, and tickets that are voided or used once. Faults can be asked for."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from parkgate.cluster.v1 import control_pb2 as control
from parkgate.events.v1 import events_pb2 as events
from ticketcore.errors import ConflictError, UnavailableError, UnknownOutcomeError
from ticketcore.quota import HoldAnswer, HoldState, LimitedLine, Line, QuotaBook


@dataclass
class FakeCluster:
    """`away`: nothing is done. `deaf`: it is done and the answer is lost. `against`: what it has against catalogues, by
    version."""

    clock: Callable[[], datetime]
    away: bool = False
    deaf: bool = False
    book: QuotaBook = field(default_factory=QuotaBook)
    tokens: dict[int, bytes] = field(default_factory=dict)
    used: set[int] = field(default_factory=set)
    voided: dict[int, bytes] = field(default_factory=dict)
    blocked: set[int] = field(default_factory=set)
    answered: dict[bytes, control.ChangeOutcome] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    catalogue_version: int = 0
    against: dict[int, str] = field(default_factory=dict)

    def _call(self, name: str) -> None:
        self.calls[name] += 1
        if self.away:
            raise UnknownOutcomeError("away")
        for change in self.book.lapse_due(round(self.clock().timestamp() * 1000)):
            self.book.apply(change)

    def _answer(self, answer: HoldAnswer) -> control.HoldResponse:
        for change in answer.changes:
            self.book.apply(change)
        self.lose()
        return control.HoldResponse(
            outcome=int(answer.outcome),
            state=int(answer.state or 0),
            lapse_time_ms=answer.lapse_time_ms,
            short_quota_key=answer.short_key,
            units_left=answer.units_left,
        )

    def lose(self) -> None:
        if self.deaf:
            raise UnknownOutcomeError("the answer is lost")

    async def place_hold(self, request: control.PlaceHoldRequest) -> control.HoldResponse:
        self._call("place")
        lines = tuple(LimitedLine(line.quota_key, line.units, line.limit) for line in request.lines)
        lapse = round(self.clock().timestamp() * 1000) + request.time_to_live_ms
        return self._answer(self.book.place(request.hold_id, lines, lapse, request.catalogue_version))

    async def pin_hold(self, hold_id: bytes) -> control.HoldResponse:
        self._call("pin")
        return self._answer(self.book.move(hold_id, HoldState.PINNED))

    async def confirm_hold(self, hold_id: bytes) -> control.HoldResponse:
        self._call("confirm")
        return self._answer(self.book.move(hold_id, HoldState.CONFIRMED))

    async def release_hold(self, hold_id: bytes) -> control.HoldResponse:
        self._call("release")
        return self._answer(self.book.move(hold_id, HoldState.RELEASED))

    async def register_tickets(self, tickets: Sequence[control.IssuedTicket]) -> Sequence[int]:
        self._call("register")
        ids = [int.from_bytes(ticket.token[1:9], "big") for ticket in tickets]
        conflicts = [i for i, t in zip(ids, tickets, strict=True) if self.tokens.setdefault(i, t.token) != t.token]
        self.lose()
        return conflicts

    async def change_tickets(self, changes: Sequence[control.TicketChange]) -> Sequence[control.ChangeResult]:
        self._call("change")
        results = [
            control.ChangeResult(
                ticket_id=change.ticket_id, outcome=self._change(change), state=self._state(change.ticket_id)
            )
            for change in changes
        ]
        self.lose()
        return results

    async def inspect_tickets(self, ticket_ids: Sequence[int]) -> Sequence[control.TicketState]:
        self._call("inspect")
        return [self._state(ticket_id) for ticket_id in ticket_ids]

    def _state(self, ticket_id: int) -> control.TicketState:
        lifecycle = events.LIFECYCLE_BLOCKED if ticket_id in self.blocked else events.LIFECYCLE_ACTIVE
        if ticket_id in self.voided:
            lifecycle = events.LIFECYCLE_REFUNDED
        return control.TicketState(
            ticket_id=ticket_id, persons_admitted=int(ticket_id in self.used), lifecycle=lifecycle
        )

    def _change(self, change: control.TicketChange) -> control.ChangeOutcome:
        """A request is answered for good, done or refused."""
        if change.request_id not in self.answered:
            self.answered[change.request_id] = self._judge(change)
        return self.answered[change.request_id]

    def _judge(self, change: control.TicketChange) -> control.ChangeOutcome:
        """Blocking and freeing, besides voiding."""
        if change.to not in {events.LIFECYCLE_BLOCKED, events.LIFECYCLE_ACTIVE}:
            return self._void(change)
        blocking = change.to == events.LIFECYCLE_BLOCKED
        if change.ticket_id in self.voided or (change.ticket_id in self.blocked) is blocking:
            return control.CHANGE_OUTCOME_NOT_ALLOWED
        (self.blocked.add if blocking else self.blocked.remove)(change.ticket_id)
        return control.CHANGE_OUTCOME_DONE

    def _void(self, change: control.TicketChange) -> control.ChangeOutcome:
        if change.ticket_id in self.used:
            return control.CHANGE_OUTCOME_ALREADY_USED
        first = self.voided.setdefault(change.ticket_id, change.request_id)
        return control.CHANGE_OUTCOME_DONE if first == change.request_id else control.CHANGE_OUTCOME_NOT_ALLOWED

    def admit(self, ticket_id: int) -> bool:
        """A gate's scan: whether the ticket is let in."""
        if ticket_id in self.voided or ticket_id in self.used or ticket_id in self.blocked:
            return False
        self.used.add(ticket_id)
        return True

    async def return_units(self, request: control.ReturnUnitsRequest) -> None:
        self._call("return")
        for change in self.book.return_units(
            request.request_id, tuple(Line(line.quota_key, line.units) for line in request.lines)
        ):
            self.book.apply(change)
        self.lose()

    async def publish_catalogue(self, version: int, document: bytes) -> None:
        self._call("publish")
        if not document:
            raise ConflictError("no document")
        if version in self.against:
            raise UnavailableError(f"the ticket cluster refuses: {self.against[version]}")
        self.catalogue_version = max(self.catalogue_version, version)

    def sold(self, quota_key: str) -> int:
        """Units sold of a quota."""
        return self.book.counters[quota_key].sold
