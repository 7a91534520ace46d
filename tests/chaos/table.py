"""The table of `make chaos`, for people."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from rich.console import Console
from rich.table import Table

from tests.chaos.rows import PlantedBug, Row

SHOWN = 10
"""Violations of one row that are printed; all are in build/chaos.json."""

TELL_EVERY_S = 20.0


def teller(console: Console, on_screen: Callable[[str], None], clock: Callable[[], float]) -> Callable[[str], None]:
    """Says how far it is: on a screen in place, in a log in a line now and then."""
    if console.is_terminal:
        return on_screen
    began, told = clock(), float("-inf")

    def tell(text: str) -> None:
        nonlocal told
        if clock() - told >= TELL_EVERY_S:
            told = clock()
            console.print(f"{told - began:.0f} s: {text}", markup=False, highlight=False)

    return tell


def show(console: Console, rows: list[Row], bugs: list[PlantedBug]) -> None:
    """Prints faults, planted bugs and every violation."""
    console.print(_faults(rows))
    console.print(_bugs(bugs))
    for line in _violations(rows):
        console.print(line, markup=False, highlight=False)


def _faults(rows: list[Row]) -> Table:
    table = Table(title="Faults")
    table.add_column("fault")
    table.add_column("what happens", overflow="fold")
    for name in ("runs", "operations", "unknown", "admitted", "violations", "recovery"):
        table.add_column(name, justify="right")
    for row in rows:
        numbers = (row.runs, row.operations, row.unknown, row.admitted)
        recovery = f"{row.recovery_ms / 1_000:.1f} s" if row.recovery_ms is not None else "-"
        bad = f"[red]{len(row.violations)}[/red]" if row.failed else "0"
        table.add_row(f"{row.layer}: {row.fault}", row.says, *(f"{number:,}" for number in numbers), bad, recovery)
    return table


def _bugs(bugs: list[PlantedBug]) -> Table:
    table = Table(title="Planted bugs")
    for name in ("bug", "what it does", "caught by"):
        table.add_column(name, overflow="fold")
    table.add_column("days", justify="right")
    for bug in bugs:
        table.add_row(bug.bug, bug.says, bug.caught_by or "[red]missed[/red]", str(bug.tried))
    return table


def _violations(rows: list[Row]) -> Iterator[str]:
    for row in rows:
        yield from row.violations[:SHOWN]
        if len(row.violations) > SHOWN:
            yield f"... and {len(row.violations) - SHOWN} more under {row.layer}: {row.fault}"
