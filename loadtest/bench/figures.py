"""From results to figures, ratios and bars; the tables on the screen and `build/bench.json`."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from loadtest.bench import orders
from loadtest.bench.client import Result


@dataclass(frozen=True, slots=True)
class Bar:
    """What a figure should reach: at least, or at most, `limit`."""

    limit: float
    at_most: bool = False
    unit: str = ""

    def met(self, value: float) -> bool:
        """Whether a value reaches it; what was not measured does not."""
        return value <= self.limit if self.at_most else value >= self.limit


BARS = {
    "frames_vs_redis_lua": Bar(2.5, unit="times"),
    "single_vs_echo": Bar(0.7, unit="times"),
    "single_vs_postgres": Bar(3.0, unit="times"),
    "lone_vs_floor": Bar(2.0, at_most=True, unit="times"),
    "half_load_p99_ms": Bar(25.0, at_most=True, unit="ms"),
    "half_load_p99_vs_p50": Bar(4.0, at_most=True, unit="times"),
    "orders_per_s": Bar(400.0, unit="a second"),
    "reporting_per_s": Bar(60_000.0, unit="a second"),
    "reporting_lag_p99_s": Bar(1.0, at_most=True, unit="s"),
    "cpu_per_scan_spread": Bar(0.20, at_most=True, unit="of the mean"),
    "bytes_per_ticket": Bar(120.0, at_most=True, unit="bytes"),
    "bulk_issue_s": Bar(3.0, at_most=True, unit="s"),
    "cold_start_s": Bar(15.0, at_most=True, unit="s"),
}

OWN_CLIENT = (
    "driven by a client of its own (loadtest/bench/wire.py), which takes a quarter of the CPU of gRPC's; the "
    "scenarios, and so the saturation of which half a load is half, are driven by gRPC's: compare with none of them"
)
NOTES = dict.fromkeys(
    ("half_load_p99_ms", "half_load_p99_vs_p50", "reporting_lag_p99_s", "cpu_per_scan_spread"), OWN_CLIENT
)
"""What a reader of the file must know of a figure."""


def summary(results: Mapping[str, list[Result]]) -> dict[str, Result]:
    """The median of each figure over the rounds."""
    medians: dict[str, Result] = {}
    for name, rounds in results.items():
        values = {
            key: statistics.median(getattr(result, key) for result in rounds) for key in ("per_s", "p50_ms", "p99_ms")
        }
        medians[name] = replace(rounds[-1], retried=sum(result.retried for result in rounds), **values)
    return medians


Rounds = Mapping[str, Sequence[float]]
"""A figure of each round, by name."""


def of_rounds(results: Mapping[str, list[Result]]) -> Rounds:
    """The ratios of each round, of what was measured minutes apart; one that could not be measured is left out."""
    best = max(orders.FORMS, key=lambda form: statistics.median(run.per_s for run in results[f"orders_{form}"]))
    rounds = [
        _of_round(dict(zip(results, round_, strict=True)), best) for round_ in zip(*results.values(), strict=True)
    ]
    return {name: [found[name] for found in rounds] for name in rounds[0]}


def medians_of(rounds: Rounds) -> dict[str, float]:
    """Of each ratio the median of its rounds: a machine that is slow for a minute spoils one round, and no more."""
    return {name: statistics.median(values) for name, values in rounds.items()}


def _of_round(figures: Mapping[str, Result], best: str) -> dict[str, float]:
    redis = [figure.per_s for name, figure in figures.items() if name.startswith("redis_lua")]
    found = {
        "single_vs_echo": figures["system_single_400"].per_s / figures["echo_400"].per_s,
        "single_vs_echo_polling": figures["system_single_400"].per_s / figures["echo_400_polling"].per_s,
        "single_vs_postgres": figures["system_single_400"].per_s / figures["postgres_400"].per_s,
        "orders_per_s": figures[f"orders_{best}"].per_s,
        "reporting_per_s": figures["reporting_catch_up"].per_s,
    }
    if redis:
        found["frames_vs_redis_lua"] = figures["system_frames_200"].per_s / max(redis)
        floor_ms = figures["echo_lone"].p50_ms + figures["redis_lone"].p50_ms
        found["lone_vs_floor"] = figures["system_lone"].p50_ms / floor_ms
    return found


def show(console: Console, figures: Mapping[str, Result], found: Mapping[str, float], rounds: Rounds) -> None:
    """Prints both tables."""
    table = Table(
        "scenario",
        title="Scans (or orders, or events of reporting) per second, fsync always, client included",
        title_justify="left",
    )
    for column in ("per second", "p50 ms", "p99 ms", "retried"):
        table.add_column(column, justify="right")
    for name, figure in figures.items():
        latencies = (f"{value:.2f}" if value else "–" for value in (figure.p50_ms, figure.p99_ms))
        table.add_row(name, f"{figure.per_s:,.0f}", *latencies, str(figure.retried))
    console.print(table)
    bars = Table("figure", title="Against the bars", title_justify="left")
    for column in ("measured", "of the rounds", "bar", ""):
        bars.add_column(column, justify="right")
    for name, bar in BARS.items():
        value = found.get(name, math.nan)
        limit = f"{'≤' if bar.at_most else '≥'} {bar.limit:,g} {bar.unit}"
        verdict = (
            "not measured" if math.isnan(value) else "[green]met[/green]" if bar.met(value) else "[red]missed[/red]"
        )
        of_round = rounds.get(name, ())
        span = f"{min(of_round):,.2f} to {max(of_round):,.2f}" if of_round else "–"
        bars.add_row(name, f"{value:,.2f}", span, limit, verdict)
    console.print(bars)
    console.print(f"Against an echo that polls as we do: {found.get('single_vs_echo_polling', math.nan):.2f} (no bar)")
    console.print(
        f"While its peers are measured Parkgate is at rest, and takes {found.get('idle_cpu_share', math.nan):.0%} of a "
        "core of theirs (in no ratio)"
    )


def write(path: Path, figures: Mapping[str, Result], found: Mapping[str, float], rounds: Rounds) -> None:
    """Writes `build/bench.json`."""
    scenarios = [
        {"name": name, "per_s": figure.per_s, "p50_ms": figure.p50_ms or None, "p99_ms": figure.p99_ms or None}
        for name, figure in figures.items()
    ]
    known = {name: value for name, value in found.items() if not math.isnan(value)}
    notes = {name: text for name, text in NOTES.items() if name in known}
    file = {"scenarios": scenarios, "ratios": known, "rounds": rounds, "notes": notes}
    path.write_text(json.dumps(file, indent=1) + "\n")


def all_met(found: Mapping[str, float]) -> bool:
    """Whether every bar was measured and reached."""
    return all(bar.met(found.get(name, math.nan)) for name, bar in BARS.items())
