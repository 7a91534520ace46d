"""Tables of reports for a screen: names for people where the books have numbers, and no digit ever cut off."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ops.window import money

MAX_WIDTH = 2_000
"""Columns of a table, at most: a dozen of twenty characters and their frame are far below."""
NUMBER = re.compile(r"-?[\d,.]+|–.*|\d+ · .*")
NOBODYS = {"product": "(no known ticket)", "gate": "(no gate)", "zone": "(no zone)"}
"""What number 0 means, for example the product of a code that nobody could read."""
FIELDS = {"day": "park_date", "hour": "start_text", "minute": "start_text", "window": "window_id"}
"""Fields of a group that are not called as their dimension is."""
BOOKS = ("sales", "ledger", "postgres")


@dataclass(frozen=True, slots=True)
class Shown:
    """A table's text."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    totals: Sequence[Sequence[str]] = ()


def measures_of(request: Any) -> list[str]:
    """The measures that a request's rows have and that mean something for it."""
    name = type(request).__name__.removeprefix("Query").removesuffix("Request").replace("Scans", "Scan") + "Row"
    refused = getattr(request, "selection", 0) == 2  # nobody passes on a refusal
    fields = [field.name for field in type(request).DESCRIPTOR.file.message_types_by_name[name].fields]
    return [field for field in fields if field != "group" and not (refused and field.startswith("persons"))]


def of_rows(
    title: str, by: Sequence[str], measures: Sequence[str], found: tuple[Sequence[Any], Sequence[Any]], digits: int
) -> Shown:
    """A report's rows, by what they were grouped by, and its totals."""
    rows = [[*(_group_cell(row.group, one) for one in by), *_cells(row, measures, digits)] for row in found[0]]
    heading = ["Total", *[""] * (len(by) - 1)]
    totals = [[*heading, *_cells(row, measures, digits)] for row in found[1]]
    return Shown(title, [*by, *(name.removesuffix("_minor") for name in measures)], rows, totals)


def of_occupancy(answer: Any) -> Shown:
    """A zone a row."""
    columns = ("persons_in", "persons_out", "persons_inside")
    rows = [
        [named("zone", row.zone_number, row.zone_name), *(str(getattr(row, name)) for name in columns)]
        for row in answer.rows
    ]
    return Shown(f"occupancy on {answer.park_date}", ("zone", *columns), rows)


def of_counts(answer: Any, digits: int) -> Shown:
    """An item a row, a set of books a column."""
    books = [{count.name: count for count in getattr(answer, name)} for name in BOOKS]
    labels = {name: _item_cell(count) for book in books for name, count in book.items()}
    rows = [[labels[item], *(_count_cell(book.get(item), digits) for book in books)] for item in sorted(labels)]
    return Shown("reconciliation", ("item", *BOOKS), rows)


def named(dimension: str, number: int, name: str) -> str:
    """A product, gate or zone as people know it; its number only where the catalogue has no name for it."""
    return name or (f"{dimension} {number}" if number else NOBODYS[dimension])


def show(shown: Shown) -> None:
    """Prints a table."""
    console = Console()
    if not shown.rows:
        console.print(f"{shown.title}: nothing in this period")
        return
    table = Table(title=shown.title, title_justify="left", show_footer=False)
    for column, heading in enumerate(shown.columns):
        numbers = all(NUMBER.fullmatch(row[column]) for row in shown.rows)
        table.add_column(heading.replace("_", " "), justify="right" if numbers else "left")
    for row in shown.rows:
        table.add_row(*map(escape, row))
    if shown.totals:
        table.add_section()
    for row in shown.totals:
        table.add_row(*map(escape, row), style="bold")
    # A narrow screen wraps a line; it never cuts a digit off.
    widest = console.measure(table, options=console.options.update(max_width=MAX_WIDTH)).maximum
    Console(width=max(console.width, widest)).print(table)


def say_as_of(answer: Any) -> None:
    """Up to when the books are counted."""
    if answer.as_of_time_ms:
        moment = datetime.fromtimestamp(answer.as_of_time_ms / 1000, UTC).astimezone()
        Console().print(f"counted up to {moment:%Y-%m-%d %H:%M:%S}", style="dim")


def _group_cell(group: Any, by: str) -> str:
    if by in NOBODYS:
        return named(by, getattr(group, f"{by}_number"), getattr(group, f"{by}_name"))
    return str(getattr(group, FIELDS.get(by, by)))


def _cells(row: Any, measures: Sequence[str], digits: int) -> list[str]:
    return [
        money(getattr(row, name), digits) if name.endswith("_minor") else str(getattr(row, name)) for name in measures
    ]


def _item_cell(count: Any) -> str:
    what, _, number = count.name.partition(" product=")
    return f"{what} {named('product', int(number), count.product_name)}" if number else str(count.name)


def _count_cell(count: Any, digits: int) -> str:
    if count is None:
        return "–"
    return f"{count.units}" + (f" · {money(count.amount_minor, digits)}" if count.amount_minor else "")
