"""A bundle's tickets are voided all or none, although each has an owner of its own that knows nothing of the others.

First each ticket is blocked: from then on no gate admits it, so one that was not used will not be. One that was used
may be given back, for a guest may turn back; so whoever settles the refund writes down first what becomes of the
bundle, and all others who settle it do the same. If none was used, all are voided, which nothing can stop any more;
if one was, those that were blocked are let free. Every change has an id that follows from the refund's row: killed
anywhere, the same questions are asked again and lead to the same end, and money moves only after it (I5).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from parkgate.cluster.v1 import control_pb2 as control
from parkgate.events.v1 import events_pb2 as events
from sales.context import Sales
from sales.tables import voids
from sales.usecases.issue import derive
from sales.usecases.voids import ask_owners
from ticketcore.errors import UnknownOutcomeError

FROZEN = frozenset({events.LIFECYCLE_BLOCKED, events.LIFECYCLE_REFUNDED})
"""Blocked now (by us or by staff), or voided by an earlier try of this refund."""
log = logging.getLogger(__name__)


async def ask_for_bundle(sales: Sales, rows: Sequence[Any]) -> dict[bytes, str]:
    """As `ask_owners`, for all requested rows of one bundle: the same new state for each.

    Raises:
        TransientError: the cluster is away; asked again later.
    """
    blocked = await _change(sales, rows, events.LIFECYCLE_BLOCKED, b"bundle-block")
    sales.seam("bundle.blocked")
    decision = await _decide(sales, rows, _wish(blocked))
    sales.seam("bundle.decided")
    if decision == "done":
        states = await ask_owners(sales, rows)
        if len(states) == len(rows) and len(set(states.values())) > 1:
            log.error("bundle %s: its tickets were voided in part: %s", rows[0].bundle, sorted(states.values()))
        return states
    ours = [
        row
        for row, result in zip(rows, blocked, strict=True)
        if result.outcome == control.CHANGE_OUTCOME_DONE and result.state.lifecycle == events.LIFECYCLE_BLOCKED
    ]
    if ours:
        await _change(sales, ours, events.LIFECYCLE_ACTIVE, b"bundle-free")
    sales.seam("bundle.freed")
    return dict.fromkeys((row.id for row in rows), decision)


def _wish(blocked: Sequence[control.ChangeResult]) -> str:
    """What should become of the bundle, as its owners have it now; a state of `voids`."""
    if any(result.state.persons_admitted for result in blocked):
        return "already_used"
    return "done" if all(result.state.lifecycle in FROZEN for result in blocked) else "not_allowed"


async def _decide(sales: Sales, rows: Sequence[Any], wish: str) -> str:
    """What becomes of the bundle: the wish of whoever comes first, for good."""
    ids = sorted(row.id for row in rows)
    of_bundle = sa.select(voids.c.decision).where(voids.c.id.in_(ids)).order_by(voids.c.id)
    async with sales.database.transaction() as connection:
        decided = set((await connection.execute(of_bundle.with_for_update())).scalars()) - {""}
        if decided:
            return str(decided.pop())
        await connection.execute(sa.update(voids).where(voids.c.id.in_(ids)).values(decision=wish))
    return wish


async def _change(
    sales: Sales, rows: Sequence[Any], to: events.Lifecycle.ValueType, purpose: bytes
) -> Sequence[control.ChangeResult]:
    wanted = [control.TicketChange(ticket_id=row.ticket_id, to=to, request_id=derive(purpose, row.id)) for row in rows]
    results = await sales.cluster.change_tickets(wanted)
    if [result.ticket_id for result in results] != [row.ticket_id for row in rows]:
        raise UnknownOutcomeError(f"the cluster answered {len(results)} of {len(rows)} changes of a bundle")
    return results
