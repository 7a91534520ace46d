"""I4: whether "full" and "sold out" are true. Only what is certain is told: room enough at every instant at which the
answer may have been worked out.

Of a zone each partition knows its own part, at a time of its own between the first question and the answer. So the zone
had room if even the most that each partition counted meanwhile would leave some, though never at one instant.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from parkgate.gate.v1 import gate_pb2 as gate
from tests.checker.catalogues import ALWAYS, Catalogues
from tests.checker.ledger import Fact
from tests.checker.refusals import Shown
from tests.checker.tickets import Terms
from tests.checker.violation import Violation

SLOT_MS = 100
"""Peaks are kept by slots of this length; a window is widened to whole ones."""


@dataclass(slots=True)
class _Slot:
    number: int
    peak: int
    last: int


@dataclass(slots=True)
class Peaks:
    """How many were inside at most, by zone and partition."""

    _slots: dict[tuple[int, str], list[_Slot]] = field(default_factory=dict)

    def note(self, zone: int, partition: str, inside: int, ms: int | None) -> None:
        """So many are inside from now on; times never fall, or are not known."""
        number = (ms or 0) // SLOT_MS
        slots = self._slots.setdefault((zone, partition), [_Slot(ALWAYS, 0, 0)])
        last = slots[-1]
        if last.number < number:
            slots.append(_Slot(number, max(last.last, inside), inside))
        else:
            last.peak, last.last = max(last.peak, inside), inside

    def most(self, zone: int, since_ms: int) -> int:
        """Of each partition the most since then, together."""
        return sum(_most(slots, since_ms // SLOT_MS) for (number, _), slots in self._slots.items() if number == zone)


def _most(slots: list[_Slot], since: int) -> int:
    most = slots[-1].last
    for slot in reversed(slots):
        if slot.number < since:
            return max(most, slot.last)
        most = max(most, slot.peak)
    return most


class Fullness:
    """Whether a zone had no room for those who were told so."""

    def __init__(
        self, catalogues: Catalogues, peaks: Peaks, terms: Mapping[int, Terms], shown: Mapping[bytes, Shown]
    ) -> None:
        self._catalogues, self._peaks, self._terms, self._shown = catalogues, peaks, terms, shown
        self._later: list[Fact] = []

    def take(self, facts: Sequence[Fact]) -> Iterator[Violation]:
        """Judges one entry, once it and all before it are counted. No answer is older than the guest's question."""
        for fact in facts:
            if _is_full(fact):
                code = self._shown.get(fact.body.scan_id)
                yield from self._judge(fact, code.invoked if code is not None else ALWAYS)

    def later(self, facts: Sequence[Fact]) -> Iterator[Violation]:
        """Keeps an entry until all are counted: nobody knows what others counted meanwhile."""
        self._later += [fact for fact in facts if _is_full(fact)]
        yield from ()

    def end(self) -> Iterator[Violation]:
        """Judges what was kept."""
        for fact in self._later:
            yield from self._judge(fact, ALWAYS)

    def _judge(self, fact: Fact, since_ms: int) -> Iterator[Violation]:
        scan, terms = fact.body, self._terms.get(fact.body.ticket_id)
        limits = self._catalogues.capacities(scan.zone_number, since_ms, fact.durable_ms)
        if terms is None or not limits:
            return
        limit = min(limits)
        most, persons = self._peaks.most(scan.zone_number, since_ms), terms["party"]
        if not limit or most + persons <= limit:
            what = f"{persons} persons were told that it is full, with at most {most} inside all the while, of {limit}"
            yield Violation("I4", f"zone {scan.zone_number}", what, f"ticket {scan.ticket_id}: {fact.where}")


def _is_full(fact: Fact) -> bool:
    return fact.kind == "scan_decided" and fact.body.reason == gate.REASON_CAPACITY_FULL


@dataclass(slots=True)
class Taken:
    """How many units of a quota were taken, change by change."""

    limit: int
    _times: list[int] = field(default_factory=lambda: [ALWAYS])
    _taken: list[int] = field(default_factory=lambda: [0])
    _timed: bool = True
    _short: dict[int, list[int]] = field(default_factory=dict)
    """By units asked for: at each change, the last one up to it that left too few; -1 for none."""

    def note(self, taken: int, ms: int | None) -> None:
        """So many are taken from now on."""
        self._timed = self._timed and ms is not None
        self._times.append(ms or 0)
        self._taken.append(taken)

    def was_short(self, units: int, since_ms: int, until_ms: int) -> bool:
        """Whether so many may have been too many at some instant; to be asked after the last change."""
        short = self._short.get(units)
        if short is None:
            short = self._short[units] = []
            for number, taken in enumerate(self._taken):
                too_few = taken + units > self.limit
                short.append(number if too_few else short[-1] if short else -1)
        if not self._timed:
            return short[-1] >= 0
        first = max(bisect_left(self._times, since_ms) - 1, 0)
        return short[bisect_right(self._times, until_ms) - 1] >= first
