"""Shows verdicts: as a turnstile would, with lamp and text, or as JSON lines for machines. Never a token."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Protocol, TextIO

from rich.console import Console, Group
from rich.panel import Panel
from rich.text import Text

from gateclient.readers import ReadCode
from gateclient.texts import Displays, name_of, zone_of
from parkgate.gate.v1 import gate_pb2 as pb

_COLOURS = {pb.LAMP_GREEN: "green", pb.LAMP_RED: "red", pb.LAMP_AMBER: "yellow"}
_MARKS = {pb.LAMP_GREEN: "✔ ", pb.LAMP_RED: "✘ ", pb.LAMP_AMBER: "● "}


@dataclass(frozen=True, slots=True)
class Shown:
    """A verdict and what it was given for."""

    gate_id: str
    code: ReadCode
    verdict: pb.Verdict
    elapsed_ms: float


class Display(Protocol):
    """Where a gate shows things."""

    def link(self, state: pb.Welcome | str) -> None:
        """The link opened, or why there is none."""

    def command(self, command: pb.Command) -> None:
        """The cluster asks for something."""

    def verdict(self, shown: Shown) -> None:
        """A scan was decided."""

    def passage(self, gate_id: str, scan_id: bytes, outcome: pb.PassageOutcome.ValueType) -> None:
        """What the barrier saw."""

    def problem(self, text: str) -> None:
        """Something could not be read."""


class PanelDisplay:
    """For people: a coloured panel a scan. Times are the park's local time."""

    def __init__(self, console: Console, time_zone: tzinfo | None) -> None:
        self._console = console
        self._configured_zone = time_zone
        self._time_zone = zone_of(pb.Welcome(), time_zone)
        self._displays = Displays(pb.Welcome())

    def link(self, state: pb.Welcome | str) -> None:
        """See Display."""
        if isinstance(state, str):
            self._console.print(Text(f"No link to the cluster: {state}", "yellow"))
            return
        self._displays = Displays(state)
        self._time_zone = zone_of(state, self._configured_zone)
        modes = ", ".join(name_of(pb.GateMode, mode, "GATE_MODE_").lower() for mode in state.modes)
        self._console.print(
            Text(f"Linked to {state.gateway} · catalogue {state.catalogue_version} · {modes or 'open'}", "dim")
        )

    def command(self, command: pb.Command) -> None:
        """See Display."""
        if command.message:
            self._console.print(Text(f"Message: {command.message}", "bold"))
        if command.modes:
            modes = ", ".join(name_of(pb.GateMode, mode, "GATE_MODE_").lower() for mode in command.modes)
            self._console.print(Text(f"Gates are now: {modes}", "bold"))

    def verdict(self, shown: Shown) -> None:
        """See Display."""
        display = self._displays.of(shown.verdict)
        colour = _COLOURS.get(display.lamp, "yellow")
        lines = [Text(_MARKS.get(display.lamp, "") + display.guest_text, f"bold {colour}")]
        lines += [Text(line) for line in (self._persons(shown.verdict), self._use(shown.verdict)) if line]
        if display.staff_text:
            lines.append(Text(f"Staff: {display.staff_text}", "dim"))
        if shown.verdict.override_allowed and shown.verdict.decision != pb.DECISION_ADMIT:
            lines.append(Text("A supervisor may let them pass.", "dim"))
        heading = name_of(pb.Decision, shown.verdict.decision, "DECISION_")
        if shown.verdict.reason:
            heading += f" · {name_of(pb.Reason, shown.verdict.reason, 'REASON_')}"
        self._console.print(
            Panel(
                Group(*lines),
                title=Text(f"{shown.gate_id} · {heading}"),
                subtitle=Text(f"{shown.code.origin} · {shown.elapsed_ms:.1f} ms"),
                title_align="left",
                subtitle_align="right",
                border_style=colour,
                width=min(self._console.width, 76),
            )
        )

    def passage(self, gate_id: str, scan_id: bytes, outcome: pb.PassageOutcome.ValueType) -> None:
        """See Display."""
        if outcome == pb.PASSAGE_OUTCOME_NOT_PASSED:
            self._console.print(Text(f"{gate_id}: nobody went through; the entry is given back", "yellow"))

    def problem(self, text: str) -> None:
        """See Display."""
        self._console.print(Text(text, "red"))

    def _persons(self, verdict: pb.Verdict) -> str:
        parts = []
        if verdict.persons_admitted:
            way = "out" if verdict.kind == pb.ADMISSION_KIND_EXIT else "in"
            back = " (back)" if verdict.kind == pb.ADMISSION_KIND_REENTRY else ""
            parts.append(f"{_count(verdict.persons_admitted, 'person', 'persons')} {way}{back}")
        if verdict.persons_remaining:
            parts.append(f"{verdict.persons_remaining} still to come")
        if verdict.entries_remaining:
            parts.append(f"{_count(verdict.entries_remaining, 'entry', 'entries')} left")
        product = self._displays.product(verdict.product_number)
        return " · ".join([product, *parts] if product else parts)

    def _use(self, verdict: pb.Verdict) -> str:
        if verdict.decision == pb.DECISION_ADMIT or not verdict.HasField("first_use"):
            return ""
        moment = datetime.fromtimestamp(verdict.first_use.admit_time_ms / 1000, self._time_zone)
        return f"First used {moment:%a %d %b %Y, %H:%M:%S} at {self._displays.gate(verdict.first_use.gate_number)}"


class JsonDisplay:
    """For machines: one JSON object a line, with an `event`. Ids are hexadecimal or decimal strings."""

    def __init__(self, stream: TextIO, time_zone: tzinfo | None) -> None:
        self._stream = stream
        self._configured_zone = time_zone
        self._time_zone = zone_of(pb.Welcome(), time_zone)
        self._displays = Displays(pb.Welcome())

    def link(self, state: pb.Welcome | str) -> None:
        """See Display."""
        if isinstance(state, str):
            self._write({"event": "link_lost", "detail": state})
            return
        self._displays = Displays(state)
        self._time_zone = zone_of(state, self._configured_zone)
        self._write({"event": "linked", "gateway": state.gateway, "catalogue_version": state.catalogue_version})

    def command(self, command: pb.Command) -> None:
        """See Display."""
        modes = [name_of(pb.GateMode, mode, "GATE_MODE_") for mode in command.modes]
        self._write({"event": "command", "message": command.message, "modes": modes})

    def verdict(self, shown: Shown) -> None:
        """See Display."""
        verdict, display = shown.verdict, self._displays.of(shown.verdict)
        self._write(
            {
                "event": "verdict",
                "gate": shown.gate_id,
                "origin": shown.code.origin,
                "scan_id": verdict.scan_id.hex(),
                "ticket_id": str(verdict.ticket_id) if verdict.ticket_id else None,
                "decision": name_of(pb.Decision, verdict.decision, "DECISION_"),
                "reason": name_of(pb.Reason, verdict.reason, "REASON_") if verdict.reason else None,
                "kind": name_of(pb.AdmissionKind, verdict.kind, "ADMISSION_KIND_") if verdict.kind else None,
                "persons_admitted": verdict.persons_admitted,
                "persons_remaining": verdict.persons_remaining,
                "entries_remaining": verdict.entries_remaining,
                "product_number": verdict.product_number,
                "first_use": self._use(verdict.first_use) if verdict.HasField("first_use") else None,
                "last_use": self._use(verdict.last_use) if verdict.HasField("last_use") else None,
                "override_allowed": verdict.override_allowed,
                "decided_by": name_of(pb.DecidedBy, verdict.decided_by, "DECIDED_BY_"),
                "lamp": name_of(pb.Lamp, display.lamp, "LAMP_").lower(),
                "guest_text": display.guest_text,
                "staff_text": display.staff_text,
                "elapsed_ms": round(shown.elapsed_ms, 2),
            }
        )

    def passage(self, gate_id: str, scan_id: bytes, outcome: pb.PassageOutcome.ValueType) -> None:
        """See Display."""
        name = name_of(pb.PassageOutcome, outcome, "PASSAGE_OUTCOME_")
        self._write({"event": "passage", "gate": gate_id, "scan_id": scan_id.hex(), "outcome": name})

    def problem(self, text: str) -> None:
        """See Display."""
        self._write({"event": "problem", "detail": text})

    def _use(self, use: pb.Use) -> dict[str, object]:
        moment = datetime.fromtimestamp(use.admit_time_ms / 1000, self._time_zone)
        return {
            "time": moment.isoformat(timespec="milliseconds"),
            "gate_number": use.gate_number,
            "gate_name": self._displays.gate(use.gate_number),
        }

    def _write(self, line: dict[str, object]) -> None:
        self._stream.write(json.dumps(line, ensure_ascii=False) + "\n")
        self._stream.flush()


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
