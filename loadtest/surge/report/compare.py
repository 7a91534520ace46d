"""Two rehearsals side by side: what became better, what worse, what is the same within the noise of a machine."""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtest.surge.ramp import LIMIT_MS
from loadtest.surge.record import FORMAT
from loadtest.surge.report.charts import Chart, Limit, Line, draw
from loadtest.surge.report.page import asset, environment, hundredths, put
from ops.errors import BadInput

NOISE = 0.1
"""Runs of the same on one machine differ by this share; less is no difference."""
EMBEDDED = re.compile(r'<script type="application/json" id="surge">(.*?)</script>', re.DOTALL)
HELD = "guests_a_minute"
MORE_IS_BETTER = {HELD, "within_limit"}
WHOLE_FROM = 1_000
NEITHER = {"scans", "generator_share"}
NAMES = {
    HELD: ("guests a minute held", ""),
    "p50_ms": ("half of the scans within", "ms"),
    "p99_ms": ("99 of 100 scans within", "ms"),
    "slowest_ms": ("the slowest scan", "ms"),
    "within_limit": (f"scans within {LIMIT_MS:.0f} ms", "%"),
    "scans": ("scans", ""),
    "wrong": ("wrong answers", ""),
    "sale_p99_ms": ("99 of 100 sales within", "ms"),
    "system_cpu_s": ("CPU of the system", "s"),
    "generator_share": ("the generator's share of all CPU", "%"),
    "differences": ("counts that do not agree", ""),
}


@dataclass(frozen=True, slots=True)
class Row:
    """One number of both, in words. `change` in percent, where it means something; `verdict`: better, worse, same, or
    nothing to judge."""

    name: str
    first: str
    second: str
    change: str
    verdict: str


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


def rows(first: Mapping[str, float], second: Mapping[str, float]) -> Iterator[Row]:
    """Every number that both have; and how much is held, if one of them has it."""
    for key in dict.fromkeys([HELD, *first]):
        if (key in first and key in second) or (key == HELD and (key in first or key in second)):
            name, unit = NAMES.get(key) or (f"longest wait, {key.partition(' ')[2]}", "min")
            one, two = first.get(key), second.get(key)
            yield Row(name, said(key, one, unit), said(key, two, unit), _change(key, one, two), judged(key, one, two))


def said(key: str, value: float | None, unit: str) -> str:
    """A number with its unit. A ramp that held no step has no number, and neither has one that was not run."""
    if key == HELD and not value:
        return "no ramp" if value is None else "held no step"
    if key == "within_limit":
        return f"{hundredths((value or 0.0) / 100)} %"
    digits = 0 if value == int(value or 0) or (value or 0) >= WHOLE_FROM else 1
    return f"{value:,.{digits}f} {unit}".rstrip()


def _change(key: str, first: float | None, second: float | None) -> str:
    if not first or second is None or (key == HELD and not second):
        return ""
    percent = round((second - first) / first * 100)
    return f"{percent:+d} %" if percent else "0 %"


def judged(key: str, first: float | None, second: float | None) -> str:
    """Whether the second is better."""
    if key in NEITHER or first is None or second is None:
        return ""
    if abs(second - first) <= NOISE * max(abs(first), abs(second)):
        return "same"
    return "better" if (second > first) == (key in MORE_IS_BETTER) else "worse"


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
    return found


def _plain(value: object) -> str:
    return f"{value:,.0f}" if isinstance(value, int | float) else str(value)


def write(first: Path, second: Path, out: Path) -> list[str]:
    """Writes the page; answers the same in a few lines."""
    one, two = summary_of(first), summary_of(second)
    found = list(rows(one["numbers"], two["numbers"]))
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
            noise=f"{NOISE * 100:.0f}",
        )
    )
    put(out, page)
    return [
        *warnings(one, two),
        *(_told(row) for row in found if row.verdict in {"better", "worse"}),
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
