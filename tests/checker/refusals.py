"""I7: whether a refusal is true, of a ticket as the log knows it at that place.

Reasons that follow from dates and modes are not judged: the history does not say them; nor are those of places, where
it does not say these. Where a scan may have asked for some of its party only, what depends on their number is not
judged either.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from parkgate.events.v1 import events_pb2 as pb
from parkgate.gate.v1 import gate_pb2 as gate
from tests.checker.history import History
from tests.checker.tickets import Entitlement, Terms, Ticket

OF_FORGERIES = {gate.REASON_MALFORMED_CODE, gate.REASON_UNSUPPORTED_VERSION, gate.REASON_BAD_SIGNATURE}
"""What no genuine code is told."""
OF_STRANGERS = {gate.REASON_UNKNOWN_KEY, gate.REASON_UNKNOWN_TICKET}
"""What no registered ticket is told."""
OF_PLACES = {gate.REASON_WRONG_GATE, gate.REASON_WRONG_PRODUCT}
"""What no ticket is told where its product is."""
LIFECYCLE_OF = {
    gate.REASON_REFUNDED: pb.LIFECYCLE_REFUNDED,
    gate.REASON_CANCELED: pb.LIFECYCLE_CANCELED,
    gate.REASON_REVOKED: pb.LIFECYCLE_REVOKED,
    gate.REASON_BLOCKED: pb.LIFECYCLE_BLOCKED,
    gate.REASON_RESCHEDULED: pb.LIFECYCLE_RESCHEDULED,
    gate.REASON_UNPAID: pb.LIFECYCLE_UNPAID,
    gate.REASON_NOT_ACTIVATED: pb.LIFECYCLE_NOT_ACTIVATED,
}


@dataclass(frozen=True, slots=True)
class Shown:
    """A code that was shown at a gate: first when, of which ticket, altered or not, and for how many (0: all)."""

    invoked: int
    ticket: int
    forged: bool
    persons: int


def shown_codes(history: History) -> dict[bytes, Shown]:
    """What was shown, by scan id."""
    shown: dict[bytes, Shown] = {}
    for scan in history.of("scan"):
        asked, key = scan.request, bytes.fromhex(scan.request["scan_id"])
        before = shown.get(key)
        if before is None or scan.invoked < before.invoked:
            shown[key] = Shown(scan.invoked, asked["ticket"], bool(asked.get("forged")), asked.get("persons", 0))
    return shown


def untrue_code(scan: pb.ScanDecided, code: Shown, registered: bool) -> bool:
    """Whether a genuine code is said to be none."""
    if code.forged:
        return False
    return scan.reason in OF_FORGERIES or (registered and scan.reason in OF_STRANGERS)


def untrue_use(scan: pb.ScanDecided, ticket: Ticket, terms: Terms, day: date, code: Shown | None) -> str:
    """What is known instead of what a ticket is refused for; empty if that is so, or is not judged."""
    wanted = LIFECYCLE_OF.get(scan.reason)
    if wanted is not None:
        return "" if ticket.lifecycle == wanted else f"it is {pb.Lifecycle.Name(ticket.lifecycle)}"
    if _is_used(scan, ticket.zones[scan.zone_number], terms, day, code is None or code.persons > 0):
        return ""
    zone = ticket.zones[scan.zone_number]
    return f"{zone.admitted} person-entries, {zone.by_day[day]} today, {zone.inside} inside"


def _is_used(scan: pb.ScanDecided, zone: Entitlement, terms: Terms, day: date, any_number: bool) -> bool:
    """Whether the counters agree with a reason; reasons that follow from no counter are not judged."""
    party, entries, daily = terms["party"], terms["entries"], terms.get("daily_entries", 0)
    none_left = 0 < entries * party <= zone.admitted
    match scan.reason:
        case gate.REASON_ALREADY_USED:
            return entries == 1 and none_left
        case gate.REASON_NO_ENTRIES_LEFT:
            return any_number or (entries > 1 and none_left)
        case gate.REASON_DAILY_LIMIT_REACHED:
            return 0 < daily * party <= zone.by_day[day]
        case gate.REASON_ALREADY_INSIDE:
            return zone.inside >= party
        case gate.REASON_NOT_INSIDE:
            return any_number or zone.inside <= 0
    return True
