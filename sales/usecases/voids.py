"""Refunds and reschedules as the books keep them: requested, then the owner is asked, then settled (I5).

A row is written as `requested` before the cluster hears of it, under an id that the cluster is always asked with.
Whatever is lost or killed after that, the same question is asked again until it is answered, and only then is money
moved. So a refund and an admission never both succeed, and a refund is never forgotten half-way.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from parkgate.cluster.v1 import control_pb2 as control
from parkgate.events.v1 import events_pb2 as events
from sales import outbox
from sales.context import Sales
from sales.outbox import backoff_ms
from sales.tables import tickets, voids
from sales.usecases.issue import derive
from ticketcore.errors import InvalidInputError, InvalidInputsError, NotFoundError, UnknownOutcomeError

MAX_VOIDS = 1_000
"""Tickets of one call."""
OUTCOMES = {
    control.CHANGE_OUTCOME_DONE: "done",
    control.CHANGE_OUTCOME_ALREADY_USED: "already_used",
    control.CHANGE_OUTCOME_NOT_ALLOWED: "not_allowed",
}
TARGETS = {"refund": events.LIFECYCLE_REFUNDED, "reschedule": events.LIFECYCLE_RESCHEDULED}


def check_ids(ticket_ids: Sequence[int]) -> None:
    """Raises InvalidInputError unless there are 1 to 1,000 ids, each once and within 63 bits."""
    if not 1 <= len(ticket_ids) <= MAX_VOIDS:
        raise InvalidInputError(f"ticket_ids: are {len(ticket_ids)}, expected 1 to {MAX_VOIDS}")
    if len(set(ticket_ids)) != len(ticket_ids):
        raise InvalidInputError("ticket_ids: names a ticket twice")


async def load_tickets(connection: AsyncConnection, ticket_ids: Sequence[int], *, lock: bool) -> dict[int, Any]:
    """Tickets by id, locked in the order of ids so that two calls cannot wait for each other.

    Raises:
        NotFoundError: one does not exist.
    """
    wanted = [ticket_id for ticket_id in ticket_ids if ticket_id < 2**63]
    query = sa.select(tickets).where(tickets.c.id.in_(wanted)).order_by(tickets.c.id)
    rows = (await connection.execute(query.with_for_update() if lock else query)).all()
    found = {row.id: row for row in rows}
    missing = [ticket_id for ticket_id in ticket_ids if ticket_id not in found]
    if len(missing) == 1:
        raise NotFoundError(f"ticket {missing[0]} does not exist")
    if missing:
        raise NotFoundError(str(InvalidInputsError("tickets", [f"{ticket} does not exist" for ticket in missing[:20]])))
    return found


async def ask_owners(sales: Sales, rows: Sequence[Any]) -> dict[bytes, str]:
    """Asks the owners to void the tickets of `requested` rows. Asking again gets the same answer.

    Returns the new state by the row's id; rows that the cluster did not answer are left out.

    Raises:
        TransientError: nothing was answered.
    """
    answer = await sales.cluster.change_tickets(
        [control.TicketChange(ticket_id=row.ticket_id, to=TARGETS[row.kind], request_id=row.id) for row in rows]
    )
    if len(answer) != len(rows):
        raise UnknownOutcomeError(f"the cluster answered {len(answer)} of {len(rows)} changes")
    return {
        row.id: OUTCOMES[result.outcome]
        for row, result in zip(rows, answer, strict=True)
        if result.ticket_id == row.ticket_id and result.outcome in OUTCOMES
    }


async def claim_waiting(sales: Sales, limit: int) -> Sequence[Any]:
    """Requested rows whose time has come; each is put off by its back-off, so that nobody else asks meanwhile."""
    now = sales.clock()
    due = (
        sa.select(voids)
        .where(voids.c.state == "requested", voids.c.next_attempt_time <= now)
        .order_by(voids.c.next_attempt_time)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    async with sales.database.transaction() as connection:
        rows = (await connection.execute(due)).all()
        for row in rows:
            wait = timedelta(milliseconds=backoff_ms(row.attempts))
            await connection.execute(
                sa.update(voids)
                .where(voids.c.id == row.id)
                .values(attempts=row.attempts + 1, next_attempt_time=now + wait)
            )
    return rows


async def rows_of_request(sales: Sales, request_id: bytes) -> Sequence[Any]:
    """The voids that a call asked for, in its order."""
    query = sa.select(voids).where(voids.c.request_id == request_id).order_by(voids.c.position)
    async with sales.database.reading() as connection:
        return (await connection.execute(query)).all()


def return_rows(void_id: bytes, quota_keys: str, persons: int, now: datetime) -> list[dict[str, Any]]:
    """The outbox row that gives a voided ticket's units back, if it took any."""
    if not quota_keys:
        return []
    body = control.ReturnUnitsRequest(
        request_id=derive(b"return", void_id),
        lines=[events.QuotaLine(quota_key=key, units=persons) for key in quota_keys.split()],
    )
    return [outbox.row(void_id, outbox.Kind.RETURN_UNITS, body.SerializeToString(), now)]
