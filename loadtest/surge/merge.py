"""What several processes of the gates' part measured, as if one had: counts are added, single scans put together. Pure.

Nothing is averaged: percentiles are those of all scans. Only a half second's lateness and CPU stay each process's own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from loadtest.surge.ramp import Step
from loadtest.surge.samples import Samples, percentile

Result = Mapping[str, Any]
ADDED = (
    "persons_in", "tickets_admitted", "late_tickets", "skipped", "without_ticket", "unanswered", "unbooked", "cpu_s",
)  # fmt: skip
JOINED = ("refunded_heard", "admitted_refunders", "pulses")
WORST = frozenset({"day_s", "p99_ms", "lag_ms"})
"""Of the live line: what is no sum."""


def results(found: Sequence[Result]) -> dict[str, Any]:
    """The gates' results as one."""
    stopped = [one["stopped_at_s"] for one in found if one["stopped_at_s"] is not None]
    return {
        "processes": len(found),
        "samples": samples(one["samples"] for one in found).columns(),
        "verdicts": [[*key, number] for key, number in _added(found, "verdicts").items()],
        "wrong": _wrong(found),
        "inside": _inside(found),
        "delays_s": _by_entrance(found, "delays_s"),
        "full": _by_entrance(found, "full"),
        "traffic": _traffic([one["traffic"] for one in found]),
        "stopped_at_s": max(stopped, default=None),
        **{name: sum(one[name] for one in found) for name in ADDED},
        **{name: [item for one in found for item in one[name]] for name in JOINED},
    }


def samples(columns: Iterable[dict[str, Any]]) -> Samples:
    """All scans, in the order of their times."""
    rows = [
        (one.due_s[n], (one.late_ms[n], one.took_ms[n]), what, (one.entrance[n], one.persons[n]))
        for one in map(Samples.of, columns)
        for n, what in enumerate(one.answered())
    ]
    found = Samples()
    for row in sorted(rows, key=lambda row: row[0]):
        found.add(*row)
    return found


def _added(found: Sequence[Result], name: str) -> Counter[tuple[str, str]]:
    total: Counter[tuple[str, str]] = Counter()
    for one in found:
        for first, second, number, *_ in one[name]:
            total[first, second] += number
    return total


def _by_entrance(found: Sequence[Result], name: str) -> list[list[Any]]:
    """Rows of all, for each entrance."""
    return [sorted(row for one in found for row in one[name][entrance]) for entrance in range(len(found[0][name]))]


def _inside(found: Sequence[Result]) -> dict[str, int]:
    """By zone; one that is empty again is a count too, and is kept."""
    total: dict[str, int] = {}
    for one in found:
        for zone, persons in one["inside"].items():
            total[zone] = total.get(zone, 0) + persons
    return total


def _wrong(found: Sequence[Result]) -> list[list[Any]]:
    """With one example each."""
    examples = {(way, heard): ticket_id for one in found for way, heard, _, ticket_id in one["wrong"]}
    return [[*key, number, examples[key]] for key, number in _added(found, "wrong").items()]


def _traffic(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    last = next((one["last_error"] for one in found if one["last_error"]), "")
    return {name: last if name == "last_error" else sum(one[name] for one in found) for name in found[0]}


def progress(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The live line of all; its p99 is that of the process that fared worst."""
    names = dict.fromkeys(name for one in found for name in one)
    return {name: (max if name in WORST else sum)(one[name] for one in found if name in one) for name in names}


def step(per_s: float, found: Sequence[Result]) -> Step:
    """A step of the ramp that all fired at the same time."""
    took = sorted(value for one in found for value in one["took_ms"])
    late = sorted(value for one in found for value in one["late_ms"])
    return Step(
        per_s,
        max(one["seconds"] for one in found),
        sum(one["sent"] for one in found),
        sum(one["admitted"] for one in found),
        percentile(took, 0.5),
        percentile(took, 0.99),
        percentile(late, 0.99),
        max(one["cpu"] for one in found),
        max(one["busy"] for one in found),
    )
