"""A ticket's lifecycle, apart from its counters: the states, who may change what, and what the gate is told.

The whole machine is `CHANGES` below. UNKNOWN is a ticket that was never registered: voiding one is recorded all the
same, so that a token from a window that was cut off cannot be admitted after its refund.

Final states never change again. "Voiding" (REFUNDED, CANCELED, RESCHEDULED) also needs that no admission was counted:
that is how a refund and an admission of one entitlement never both succeed (I5).
"""

from __future__ import annotations

from enum import IntEnum

from ticketcore.reasons import Reason


class Lifecycle(IntEnum):
    """States; numbers of `parkgate.events.v1.Lifecycle`."""

    UNKNOWN = 0
    ACTIVE = 1
    UNPAID = 2
    NOT_ACTIVATED = 3
    BLOCKED = 4
    REVOKED = 5
    REFUNDED = 6
    CANCELED = 7
    RESCHEDULED = 8


VOIDING = frozenset({Lifecycle.REFUNDED, Lifecycle.CANCELED, Lifecycle.RESCHEDULED})
"""Only for tickets without a counted admission."""

FINAL = VOIDING | {Lifecycle.REVOKED}

_OPEN = frozenset({Lifecycle.UNKNOWN, Lifecycle.ACTIVE, Lifecycle.UNPAID, Lifecycle.NOT_ACTIVATED, Lifecycle.BLOCKED})

CHANGES: dict[Lifecycle, frozenset[Lifecycle]] = {
    # to            from
    Lifecycle.ACTIVE: frozenset({Lifecycle.UNPAID, Lifecycle.NOT_ACTIVATED, Lifecycle.BLOCKED}),
    Lifecycle.BLOCKED: _OPEN - {Lifecycle.BLOCKED},
    Lifecycle.REVOKED: _OPEN,
    Lifecycle.REFUNDED: _OPEN,
    Lifecycle.CANCELED: _OPEN,
    Lifecycle.RESCHEDULED: _OPEN,
}

REASON: dict[Lifecycle, Reason] = {
    Lifecycle.UNPAID: Reason.UNPAID,
    Lifecycle.NOT_ACTIVATED: Reason.NOT_ACTIVATED,
    Lifecycle.BLOCKED: Reason.BLOCKED,
    Lifecycle.REVOKED: Reason.REVOKED,
    Lifecycle.REFUNDED: Reason.REFUNDED,
    Lifecycle.CANCELED: Reason.CANCELED,
    Lifecycle.RESCHEDULED: Reason.RESCHEDULED,
}
"""What the gate is told of a ticket in that state; ACTIVE has none."""


class Change(IntEnum):
    """What becomes of a wanted change; numbers of `parkgate.cluster.v1.ChangeOutcome`."""

    DONE = 1
    ALREADY_USED = 2
    NOT_ALLOWED = 3


def judge_change(current: Lifecycle, to: Lifecycle, counted_admissions: int) -> Change:
    """Whether a ticket in `current` with that many counted person-entries may become `to`."""
    if to in VOIDING and counted_admissions and current in _OPEN:
        return Change.ALREADY_USED
    return Change.DONE if current in CHANGES.get(to, ()) else Change.NOT_ALLOWED
