"""Why a scan was not plainly admitted: the closed list, and what each reason means for the gate.

The numbers are those of `parkgate.gate.v1.Reason`; a test holds the two together.
"""

from __future__ import annotations

from enum import IntEnum


class Decision(IntEnum):
    """The answer to a scan; numbers of `parkgate.gate.v1.Decision`."""

    ADMIT = 1
    REJECT = 2
    NEEDS_ACTION = 3
    RETRY = 4


class Reason(IntEnum):
    """Why; numbers of `parkgate.gate.v1.Reason`. NONE is a plain ADMIT."""

    NONE = 0
    MALFORMED_CODE = 1
    """No Parkgate token, or a part of one."""
    UNSUPPORTED_VERSION = 2
    """A token format of a later version."""
    UNKNOWN_KEY = 3
    """Signed with a key that is not in the ring."""
    BAD_SIGNATURE = 4
    """The signature does not fit the claims: forged or altered."""
    CODE_EXPIRED = 5
    """The code itself (not the ticket) is out of date."""
    UNKNOWN_TICKET = 10
    """Well signed, but sales do not know it and the product may not be admitted on its signature alone."""
    WRONG_VENUE = 11
    """For another park."""
    WRONG_GATE = 12
    """The ticket does not open this gate."""
    WRONG_PRODUCT = 13
    """The product is not in the catalogue or not admitted here."""
    NOT_YET_VALID = 20
    """Its first day, or its time of day, has not come."""
    EXPIRED = 21
    """Its last day, or its time of day, is over."""
    OUTSIDE_TIME_SLOT = 22
    """Not the time slot it was sold for."""
    BLACKOUT_DATE = 23
    """The product is not valid on this date."""
    ALREADY_USED = 30
    """A single-entry ticket that was used; first use says when and where."""
    NO_ENTRIES_LEFT = 31
    """All entries of a ticket with several are used."""
    DAILY_LIMIT_REACHED = 32
    """All entries of today are used."""
    REENTRY_TOO_SOON = 33
    """Re-entry is allowed, but not this soon."""
    ALREADY_INSIDE = 34
    """Anti-passback: everyone on this ticket is inside."""
    NOT_INSIDE = 35
    """An exit of someone who is not inside."""
    GROUP_INCOMPLETE = 36
    """The ticket must be used by all its persons together."""
    REFUNDED = 40
    """Refunded."""
    CANCELED = 41
    """Cancelled."""
    REVOKED = 42
    """Revoked."""
    BLOCKED = 43
    """Blocked for now, by staff."""
    RESCHEDULED = 44
    """Moved to another date or slot; the guest has a newer code."""
    UNPAID = 45
    """Issued, not paid."""
    NOT_ACTIVATED = 46
    """Must be activated first."""
    ID_REQUIRED = 50
    """An identity must be shown."""
    ID_MISMATCH = 51
    """The identity shown is another's."""
    CONCESSION_PROOF_REQUIRED = 52
    """A proof of the concession (child, student, senior) must be shown."""
    CAPACITY_FULL = 60
    """The zone is full."""
    SLOT_FULL = 61
    """The slot's entries are full."""
    FLOW_LIMITED = 62
    """Too many per minute; try again shortly."""
    GATE_CLOSED = 63
    """The gate is closed."""
    ENTRY_SUSPENDED = 64
    """Entry is stopped."""
    EMERGENCY_MODE = 65
    """Emergency: exits only."""
    DEVICE_NOT_AUTHORIZED = 70
    """The device may not speak for this gate."""
    OPERATOR_NOT_AUTHORIZED = 71
    """The operator may not do this."""
    CLOCK_SKEW = 72
    """The device's clock is wrong, or the scan is too old to be decided now."""
    OFFLINE_NOT_PERMITTED = 73
    """The gate is off-line and the product may not be admitted off-line."""
    BACKPRESSURE = 80
    """Too much at once; with RETRY."""
    TIMEOUT = 81
    """No answer in time; with RETRY. The outcome is unknown and the same scan_id will tell."""
    INTERNAL_ERROR = 82
    """A fault of ours; with RETRY."""
    LATE_DUPLICATE = 90
    """On replay: the ticket had been used before the scan arrived."""
    LATE_REFUNDED = 91
    """On replay: the ticket had been refunded."""
    LATE_REVOKED = 92
    """On replay: the ticket had been revoked."""
    LATE_OVER_CAPACITY = 93
    """On replay: the zone was full."""
    FORGED_LATE = 94
    """On replay: the signature does not hold."""


FAULTS_OF_OURS = frozenset({Reason.BACKPRESSURE, Reason.TIMEOUT, Reason.INTERNAL_ERROR})
"""Never shown as a bad ticket: always RETRY (I7)."""

NEEDS_ACTION_REASONS = frozenset({Reason.ID_REQUIRED, Reason.CONCESSION_PROOF_REQUIRED})
"""An attendant can settle these on the spot."""

OVERRIDE_ALLOWED = frozenset(
    {
        Reason.OUTSIDE_TIME_SLOT,
        Reason.REENTRY_TOO_SOON,
        Reason.ALREADY_INSIDE,
        Reason.NOT_INSIDE,
        Reason.GROUP_INCOMPLETE,
        Reason.ID_REQUIRED,
        Reason.ID_MISMATCH,
        Reason.CONCESSION_PROOF_REQUIRED,
        Reason.CLOCK_SKEW,
    }
)
"""A supervisor may let these pass: the ticket is genuine and paid, and only a rule stands against it."""


def decision_for(reason: Reason) -> Decision:
    """The decision that goes with a reason."""
    if reason is Reason.NONE:
        return Decision.ADMIT
    if reason in FAULTS_OF_OURS:
        return Decision.RETRY
    if reason in NEEDS_ACTION_REASONS:
        return Decision.NEEDS_ACTION
    return Decision.REJECT
