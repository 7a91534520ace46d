"""Two rehearsals side by side: what became better, what worse, and what is about the same (`judge`)."""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import floor
from pathlib import Path
from typing import Any

from loadtest.surge.clock import of_day
from loadtest.surge.ramp import LIMIT_MS
from loadtest.surge.record import FORMAT
from loadtest.surge.report.charts import Chart, Limit, Line, draw
from loadtest.surge.report.judge import HELD, Figure, Verdict, figure_of, judge, measure_of, name_of, pair_of
from loadtest.surge.report.page import asset, environment, hundredths, put
from loadtest.surge.report.verdict import MUCH_ELSE, said_rate
from ops.errors import BadInput

EMBEDDED = re.compile(r'<script type="application/json" id="surge">(.*?)</script>', re.DOTALL)
WHOLE_FROM = 1_000
WHOLE_POINTS = 10
FAULT_S = 600.0
"""Of the park's clock, which runs hundreds of times as fast: an order is carried out a moment after its time."""
MUCH_SLOWER = 1.1
"""Of what a fixed piece of work takes: machines that differ by more are told of."""


Faults = Sequence[tuple[float, str]]
"""When each struck, and what it was."""


@dataclass(frozen=True, slots=True)
class Row:
    """One number of both, in words. `change` in percent, where it means something; `counts_from`: from which difference
    on it is one."""

    name: str
    first: str
    second: str
    change: str
    counts_from: str
    verdict: Verdict


def summary_of(path: Path) -> dict[str, Any]:
    """What a report says, from its page, or from the folder that it is in. Raises: BadInput."""
    file = path / "report.html" if path.is_dir() else path
    try:
        found = EMBEDDED.search(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"Cannot read {file}: {error}.", "Name a report.html, or its folder.") from error
    if found is None:
        raise BadInput(f"{file} is no report of a rehearsal.", "Name a report.html, or its folder.")
    summary: dict[str, Any] = json.loads(found[1])
    if summary.get("format") != FORMAT:
        raise BadInput(
            f"{file} is of format {summary.get('format')}, this is {FORMAT}.", "Draw it again from its record."
        )
    return summary


def rows(one: Mapping[str, Any], two: Mapping[str, Any]) -> Iterator[Row]:
    """Every number that both summaries have; and how much is held, if one of them has it."""
    pair, first, second = pair_of(one, two), one["numbers"], two["numbers"]
    for key in dict.fromkeys([HELD, *first]):
        if (key in first and key in second) or (key == HELD and (key in first or key in second)):
            measure, sides = measure_of(key), (figure_of(key, one), figure_of(key, two))
            yield Row(
                name_of(key),
                said(key, sides[0], measure.unit),
                said(key, sides[1], measure.unit),
                _change(key, first.get(key), second.get(key)),
                pair.counts_from(measure),
                judge(measure, *sides, pair),
            )


def said(key: str, figure: Figure, unit: str) -> str:
    """A number with its unit. A ramp that held no step has no number, and neither has one that was not run."""
    value = figure.value
    if key == HELD and not value:
        return "no ramp" if value is None else "held no step"
    if key == HELD:
        return f"≥ {said_rate(value or 0.0, floor)}" if figure.at_least else said_rate(value or 0.0)
    if key == "within_limit":
        return f"{hundredths((value or 0.0) / 100)} %"
    digits = 0 if value == int(value or 0) or (value or 0) >= WHOLE_FROM else 2 if (value or 0) < 1 else 1
    return f"{value:,.{digits}f} {unit}".rstrip()


def _change(key: str, first: float | None, second: float | None) -> str:
    if first is None or second is None:
        return ""
    if measure_of(key).unit == "%":
        points = second - first
        return f"{points:+.{0 if abs(points) >= WHOLE_POINTS else 1}f} points" if round(points, 1) else "0 points"
    if not first or (key == HELD and not second):
        return ""
    percent = round((second - first) / first * 100)
    return f"{percent:+d} %" if percent else "0 %"


def warnings(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """Why the two may not be compared."""
    said = {
        "name": "They are of different scenarios",
        "visitors": "Not as many guests came",
        "seed": "They are different days of the same kind",
        "speed": "One day was compressed more than the other",
    }
    found = [
        f"{text}: {_plain(first[key])} and {_plain(second[key])}."
        for key, text in said.items()
        if first[key] != second[key]
    ]
    if first["machine"] != second["machine"]:
        found.append("They ran on different machines or versions.")
    return [*found, *_not_the_same_day(first, second), *_disturbances(first, second)]


def _not_the_same_day(first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[str]:
    """What befell one of the two. Reports of before this was kept say nothing of it."""
    for which, summary in (("first", first), ("second", second)):
        if summary.get("interrupted"):
            yield f"The {which} was interrupted: its numbers are those of a part of the day."
    one, two = first.get("faults", []), second.get("faults", [])
    if not _same_faults(one, two):
        yield f"Not the same faults were ordered: {_listed(one)} in the first, {_listed(two)} in the second."


def _same_faults(one: Faults, two: Faults) -> bool:
    """In whatever order those of one time were carried out."""
    first, second = (sorted(faults, key=lambda fault: (fault[1], fault[0])) for faults in (one, two))
    return [says for _, says in first] == [says for _, says in second] and all(
        abs(at_s - other_s) <= FAULT_S for (at_s, _), (other_s, _) in zip(first, second, strict=True)
    )


def _listed(faults: Faults) -> str:
    return "; ".join(f"{of_day(at_s)} {says}" for at_s, says in faults) or "none"


def _disturbances(first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[str]:
    """What else was not the same: how fast the machine was, who else used it, whether the generator was the limit."""
    paces = first["pace_ms"], second["pace_ms"]
    if pair_of(first, second).slower != 1.0 and max(paces) > min(paces) * MUCH_SLOWER:
        which = "second" if paces[1] > paces[0] else "first"
        yield (
            f"The machine was slower in the {which}: a fixed piece of work took {paces[0]:.2f} and {paces[1]:.2f} ms. "
            "What hangs on its speed counts only beyond that."
        )
    both = ("first", first), ("second", second)
    busy = [
        f"{others * 100:.0f} % {when} of the {which}"
        for which, summary in both
        for when, others in summary["others"].items()
        if others > MUCH_ELSE
    ]
    if busy:
        yield (
            f"Other programs used much of the machine: {', '.join(busy)}. What hangs on its speed counts only from "
            "twice as large a difference."
        )
    for which, summary in both:
        if summary["generator_was_limit"]["on the day"]:
            yield f"On the day of the {which} the generator was the limit: its latencies are partly its own."


def _plain(value: object) -> str:
    return f"{value:,.0f}" if isinstance(value, int | float) else str(value)


def write(first: Path, second: Path, out: Path) -> list[str]:
    """Writes the page; answers the same in a few lines."""
    one, two = summary_of(first), summary_of(second)
    found = list(rows(one, two))
    page = (
        environment()
        .get_template("compare.html.j2")
        .render(
            one=one,
            two=two,
            rows=found,
            warnings=warnings(one, two),
            chart=draw(_chart(one, two)),
            css=asset("page.css"),
            script=asset("page.js"),
        )
    )
    put(out, page)
    differing = [row for row in found if row.verdict in {Verdict.BETTER, Verdict.WORSE}]
    return [
        *warnings(one, two),
        *(_told(row) for row in differing),
        *([] if differing else ["about the same: nothing differs by more than chance and the machine do"]),
        f"written to {out}",
    ]


def _told(row: Row) -> str:
    return f"{row.verdict}: {row.name} {row.first} → {row.second} {row.change}".rstrip()


def _at(summary: Mapping[str, Any], at_s: float) -> float | None:
    """What held at a time of the day; None where that day was over, or had not begun."""
    times = summary["at_s"]
    number = bisect_right(times, at_s) - 1
    width_s = times[1] - times[0] if len(times) > 1 else 0.0
    value: float | None = summary["p99_ms"][number] if number >= 0 and at_s <= times[number] + width_s else None
    return value


def _chart(one: Mapping[str, Any], two: Mapping[str, Any]) -> Chart:
    """99 of 100 over the day, of both; the second on the first's clock."""
    lines = [Line("first", one["p99_ms"], 1), Line("second", [_at(two, at_s) for at_s in one["at_s"]], 2)]
    limit = Limit(LIMIT_MS, f"{LIMIT_MS:.0f} ms")
    return Chart("99 of 100 scans answered within", "real ms", one["at_s"], lines, [limit], log=True, digits=1)
