"""What the demo shows. Lines that stay, a bar while many guests pass; plain text where nobody looks at colours."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

WIDTH = 100
TITLE_WIDTH = 40
MARGIN = 6
BETWEEN = " · "


class Screen:
    """The demo's console: at most 100 columns wide."""

    def __init__(self, console: Console | None = None) -> None:
        wide = Console(highlight=False).width if sys.stdout.isatty() else WIDTH
        self.console = console or Console(highlight=False, width=min(wide, WIDTH))
        self._began = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        """Since the demo began."""
        return time.monotonic() - self._began

    def title(self, heading: str, lines: Sequence[str]) -> None:
        """What this is."""
        self.console.print(Panel("\n".join(lines), title=heading, title_align="left", border_style="cyan"))

    def section(self, text: str) -> None:
        """A part of the day begins."""
        self.console.print(f"\n[bold cyan]{text}[/bold cyan] [dim]· {self.elapsed_s:.0f} s[/dim]")

    def line(self, title: str, *said: str, good: bool = True) -> None:
        """Something that was done, and what came of it: pieces that are not torn where they fit in a line."""
        grid = Table.grid(padding=(0, 1))
        grid.add_column(width=1)
        grid.add_column(width=TITLE_WIDTH)
        grid.add_column(overflow="fold")
        style = "dim" if good else "red"
        text = "\n".join(fill(said, self.console.width - TITLE_WIDTH - MARGIN))
        grid.add_row("[green]✓[/green]" if good else "[red]✗[/red]", escape(title), Text(text, style))
        self.console.print(Padding(grid, (0, 0, 0, 2)))

    def note(self, text: str) -> None:
        """A remark."""
        self.console.print(Padding(f"[dim]{escape(text)}[/dim]", (0, 0, 0, 4)))

    def table(self, rows: Table) -> None:
        """A table of a report."""
        self.console.print(Padding(rows, (0, 0, 0, 4)))

    @contextmanager
    def busy(self, text: str) -> Iterator[None]:
        """Something is going on that has nothing to count."""
        with self.console.status(f"{escape(text)} ..."):
            yield

    @contextmanager
    def bar(self, text: str, total: int) -> Iterator[Bar]:
        """Something is going on that is counted."""
        columns = (TextColumn("  {task.description}"), BarColumn(bar_width=40), MofNCompleteColumn())
        with Progress(*columns, console=self.console, transient=True, disable=not self.console.is_terminal) as progress:
            yield Bar(progress, progress.add_task(text, total=total))

    def held(self, seconds: float, checks: int, folder: str) -> None:
        """All is well."""
        text = (
            f"[bold green]All promises held[/bold green]: {checks} checks in {seconds:.0f} s. Nothing is left running."
        )
        self.console.print(Panel(f"{text}\n{escape(folder)}", border_style="green"))

    def broken(self, failures: Sequence[str], folder: str) -> None:
        """Something is not."""
        heading = f"{len(failures)} promise{'s' if len(failures) > 1 else ''} broken"
        body = "\n".join(f"✗ {escape(failure)}" for failure in failures)
        self.console.print(Panel(f"{body}\n[dim]{escape(folder)}[/dim]", title=heading, border_style="red"))


class Bar:
    """A count that goes up."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def advance(self, count: int = 1) -> None:
        """So many more are done."""
        self._progress.advance(self._task, count)


def fill(pieces: Sequence[str], width: int) -> list[str]:
    """Pieces joined by dots, broken between pieces. One that is longer than a line is left to be folded."""
    lines: list[str] = []
    for piece in pieces:
        if lines and len(lines[-1]) + len(BETWEEN) + len(piece) <= width:
            lines[-1] += BETWEEN + piece
        else:
            lines.append(piece)
    return lines


def numbers(heading: str, columns: Sequence[str]) -> Table:
    """A table whose first column is text and whose other columns are numbers."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", title_justify="left")
    for index, column in enumerate((heading, *columns)):
        made.add_column(column, justify="right" if index else "left", no_wrap=True)
    return made
