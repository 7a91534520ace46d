"""What a gate shows for a decision, unless the catalogue says it in the park's own words: lamp, sound, two texts.

The guest's text never blames the guest, least of all for a fault of ours; the staff's says what it means and what to
do.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from ticketcore.reasons import Decision, Reason, decision_for


class Lamp(IntEnum):
    """Numbers of `parkgate.gate.v1.Lamp`."""

    GREEN = 1
    RED = 2
    AMBER = 3


class Sound(IntEnum):
    """Numbers of `parkgate.gate.v1.Sound`."""

    ACCEPT = 1
    REJECT = 2
    ATTENTION = 3


@dataclass(frozen=True, slots=True)
class Display:
    """What is shown."""

    decision: Decision
    reason: Reason
    lamp: Lamp
    sound: Sound
    guest_text: str
    staff_text: str


LOOKS: dict[Decision, tuple[Lamp, Sound]] = {
    Decision.ADMIT: (Lamp.GREEN, Sound.ACCEPT),
    Decision.REJECT: (Lamp.RED, Sound.REJECT),
    Decision.NEEDS_ACTION: (Lamp.AMBER, Sound.ATTENTION),
    Decision.RETRY: (Lamp.AMBER, Sound.ATTENTION),
}

TEXTS: dict[Reason, tuple[str, str]] = {
    Reason.NONE: ("Welcome", "Admitted."),
    Reason.MALFORMED_CODE: (
        "Please show your ticket's code again",
        "No ticket code, or a part of one. Smooth the paper.",
    ),
    Reason.UNSUPPORTED_VERSION: ("Please ask our staff", "A newer code format: this gate's software is out of date."),
    Reason.UNKNOWN_KEY: ("Please ask our staff", "Signed with a key that is not ours, or no longer: maybe a forgery."),
    Reason.BAD_SIGNATURE: ("Please ask our staff", "The signature does not hold: forged or altered. Call security."),
    Reason.CODE_EXPIRED: ("Please refresh your code", "The code is out of date: have the guest open the ticket again."),
    Reason.UNKNOWN_TICKET: ("Please ask our staff", "Well signed, but not registered. Send to the help desk."),
    Reason.WRONG_VENUE: ("This ticket is for another park", "For another park: see the ticket's park."),
    Reason.WRONG_GATE: ("This ticket is for another entrance", "Not for this gate. Show the way by the product."),
    Reason.WRONG_PRODUCT: ("Please ask our staff", "The product is not in the catalogue in force."),
    Reason.NOT_YET_VALID: ("This ticket is for a later time", "Not valid yet: look at date and time of day."),
    Reason.EXPIRED: ("This ticket's time is over", "No longer valid: look at date and time of day."),
    Reason.OUTSIDE_TIME_SLOT: ("Please come at your time slot", "Another time slot. A supervisor may let them in."),
    Reason.BLACKOUT_DATE: ("This ticket is not for today", "The product is not valid on this date."),
    Reason.ALREADY_USED: ("This ticket has been used", "Used before: first use is shown."),
    Reason.NO_ENTRIES_LEFT: ("No entries are left on this ticket", "All entries, or all persons, are used."),
    Reason.DAILY_LIMIT_REACHED: ("Today's entries are used", "Today's entries are used; valid again tomorrow."),
    Reason.REENTRY_TOO_SOON: ("Please wait a little before coming back", "Re-entry is not allowed this soon."),
    Reason.ALREADY_INSIDE: (
        "This ticket is inside already",
        "Everyone on it is inside. Maybe handed back: look closely.",
    ),
    Reason.NOT_INSIDE: ("Please ask our staff", "Nobody on this ticket is inside. Let them out, and note it."),
    Reason.GROUP_INCOMPLETE: ("Please come in together", "All persons of this ticket must enter together."),
    Reason.REFUNDED: ("This ticket was refunded", "Refunded. The guest needs a new ticket."),
    Reason.CANCELED: ("This ticket was cancelled", "Cancelled. Send to the help desk."),
    Reason.REVOKED: ("This code is no longer valid", "Revoked, or replaced by a newer code: ask for the newer."),
    Reason.BLOCKED: ("Please ask our staff", "Blocked by staff: call the supervisor."),
    Reason.RESCHEDULED: ("This ticket was moved: show the new code", "Moved to another date: ask for the new code."),
    Reason.UNPAID: ("Please pay at the window", "Not paid."),
    Reason.NOT_ACTIVATED: ("Please activate your ticket", "Must be activated at the window first."),
    Reason.ID_REQUIRED: ("Please show an identity card", "Compare the name, confirm, scan again."),
    Reason.ID_MISMATCH: ("Please ask our staff", "The identity is another's."),
    Reason.CONCESSION_PROOF_REQUIRED: ("Please show your proof", "Look at the proof, confirm, scan again."),
    Reason.CAPACITY_FULL: ("We are full just now, please wait", "The zone is full. Guests get in as others leave."),
    Reason.SLOT_FULL: ("This time slot is full", "The slot's entries are full."),
    Reason.FLOW_LIMITED: ("One moment, please", "Too many per minute: scan again shortly."),
    Reason.GATE_CLOSED: ("This gate is closed", "The gate is closed."),
    Reason.ENTRY_SUSPENDED: ("Entry is paused", "Entry is stopped for now. Exits work."),
    Reason.EMERGENCY_MODE: ("Please do not enter", "Emergency: nobody enters, everybody may leave."),
    Reason.DEVICE_NOT_AUTHORIZED: ("Please use another gate", "The device may not speak for this gate: call technics."),
    Reason.OPERATOR_NOT_AUTHORIZED: ("Please ask our staff", "The operator may not do this."),
    Reason.CLOCK_SKEW: ("One moment, please", "The scan is too old, or the device's clock is wrong: scan again."),
    Reason.OFFLINE_NOT_PERMITTED: ("Please ask our staff", "Off-line, and this product needs the cluster."),
    Reason.BACKPRESSURE: ("One moment, please", "Very busy: the gate tries again by itself."),
    Reason.TIMEOUT: ("One moment, please", "No answer in time: the gate tries again by itself."),
    Reason.INTERNAL_ERROR: ("One moment, please", "A fault of ours: the gate tries again by itself."),
    Reason.LATE_DUPLICATE: ("", "Replay: it had been used before."),
    Reason.LATE_REFUNDED: ("", "Replay: it had been refunded."),
    Reason.LATE_REVOKED: ("", "Replay: it had been revoked."),
    Reason.LATE_OVER_CAPACITY: ("", "Replay: the zone was full."),
    Reason.FORGED_LATE: ("", "Replay: the signature does not hold."),
}
"""Reason -> guest's and staff's text; a test sees to it that every reason is here."""


def default_display(reason: Reason) -> Display:
    """What is shown for a reason, in Parkgate's own words."""
    decision = decision_for(reason)
    lamp, sound = LOOKS[decision]
    return Display(decision, reason, lamp, sound, *TEXTS[reason])
