"""What a turnstile shows for a verdict: the catalogue's texts from the Welcome, or plain ones of our own."""

from __future__ import annotations

from datetime import datetime, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from parkgate.gate.v1 import gate_pb2 as pb

_OWN: dict[int, tuple[pb.Lamp.ValueType, pb.Sound.ValueType, str, str]] = {
    pb.DECISION_ADMIT: (pb.LAMP_GREEN, pb.SOUND_ACCEPT, "Welcome!", ""),
    pb.DECISION_REJECT: (pb.LAMP_RED, pb.SOUND_REJECT, "Please see our staff.", ""),
    pb.DECISION_NEEDS_ACTION: (
        pb.LAMP_AMBER,
        pb.SOUND_ATTENTION,
        "Please show your proof to our staff.",
        "Look at the proof, confirm it, and scan again.",
    ),
    pb.DECISION_RETRY: (
        pb.LAMP_AMBER,
        pb.SOUND_ATTENTION,
        "One moment, please. Show your code again.",
        "No answer yet, for a fault of ours. The ticket is not to blame: scan it again.",
    ),
}
_FAREWELL = pb.Display(decision=pb.DECISION_ADMIT, lamp=pb.LAMP_GREEN, sound=pb.SOUND_ACCEPT, guest_text="Goodbye!")


class Displays:
    """Looks a verdict's display up."""

    def __init__(self, welcome: pb.Welcome) -> None:
        self._gates = dict(welcome.gate_names)
        self._products = dict(welcome.product_names)
        self._by_both = {(display.reason, display.decision): display for display in welcome.displays}
        self._by_reason = {display.reason: display for display in welcome.displays if display.reason}

    def gate(self, number: int) -> str:
        """A gate's name; its number where the catalogue has none."""
        return self._gates.get(number, f"gate {number}")

    def product(self, number: int) -> str:
        """A product's name; empty where it is not known."""
        return self._products.get(number, "")

    def of(self, verdict: pb.Verdict) -> pb.Display:
        """The display of a verdict. One that the catalogue gives for the reason with another decision is not taken for
        ADMIT or RETRY: green stays green, and a fault of ours stays one (I7)."""
        if verdict.kind == pb.ADMISSION_KIND_EXIT and verdict.decision == pb.DECISION_ADMIT:
            return _FAREWELL
        found = self._by_both.get((verdict.reason, verdict.decision))
        if found is None and verdict.decision in (pb.DECISION_REJECT, pb.DECISION_NEEDS_ACTION):
            found = self._by_reason.get(verdict.reason)
        return found or own_display(verdict)


def own_display(verdict: pb.Verdict) -> pb.Display:
    """What this software shows where the catalogue says nothing."""
    lamp, sound, guest_text, staff_text = _OWN.get(verdict.decision, _OWN[pb.DECISION_RETRY])
    return pb.Display(
        reason=verdict.reason,
        decision=verdict.decision,
        lamp=lamp,
        sound=sound,
        guest_text=guest_text,
        staff_text=staff_text or reason_words(verdict.reason),
    )


def reason_words(reason: pb.Reason.ValueType) -> str:
    """A reason as words for staff: `Already used`."""
    return name_of(pb.Reason, reason, "REASON_").replace("_", " ").capitalize() if reason else ""


def name_of(enum: object, number: int, prefix: str) -> str:
    """The name of an enum's number without its prefix; a number that this version does not know stays a number."""
    try:
        return str(enum.Name(number)).removeprefix(prefix)  # type: ignore[attr-defined]
    except ValueError:
        return str(number)


def zone_of(welcome: pb.Welcome, configured: tzinfo | None) -> tzinfo:
    """The zone to show times in: the configured one, else the park's, else this machine's."""
    if configured is not None:
        return configured
    try:
        return ZoneInfo(welcome.time_zone)
    except (ZoneInfoNotFoundError, ValueError):
        return datetime.now().astimezone().tzinfo or ZoneInfo("UTC")
