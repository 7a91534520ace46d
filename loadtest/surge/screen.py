"""What a rehearsal shows while it runs: the day as it passes, in place on a screen, elsewhere line by line."""

from __future__ import annotations

import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from loadtest.surge.clock import of_day
from loadtest.surge.parts import Phase
from loadtest.surge.plan import Plan

WIDTH = 100
TITLE_WIDTH = 28
INDENT = len("  ✓ ") + TITLE_WIDTH + 1
LINE_EVERY_S = 5.0
SLOW_MS = 100.0
LAGGING_MS = 50.0
CLOCKS = {Phase.EVENING: "close", Phase.RAMP: "ramp "}
MARKS = {True: "[green]✓[/green]", False: "[red]✗[/red]", None: "[dim]–[/dim]"}
PICTURED = {Phase.EVENING: "the last answers of the day", Phase.RAMP: "the ramp: how much does it hold?"}


class Screen:
    """A console of at most 100 columns."""

    def __init__(self) -> None:
        wide = Console(highlight=False).width if sys.stdout.isatty() else WIDTH
        self.console = Console(highlight=False, width=min(wide, WIDTH))
        self._began = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        """Since it began."""
        return time.monotonic() - self._began

    def panel(self, heading: str, lines: Sequence[str], style: str = "cyan") -> None:
        """A frame with a heading."""
        self.console.print(Panel("\n".join(lines), title=heading, title_align="left", border_style=style))

    def section(self, text: str) -> None:
        """A part of it begins."""
        self.console.print(f"\n[bold cyan]{text}[/bold cyan] [dim]· {self.elapsed_s:.0f} s[/dim]")

    def line(self, title: str, *said: str, good: bool | None = True) -> None:
        """Something that was done. `good` None: neither good nor bad, it was not measured."""
        mark = MARKS[good]
        first, *more = textwrap.wrap(" · ".join(said), self.console.width - INDENT) or [""]
        self.console.print(f"  {mark} {escape(title):<{TITLE_WIDTH}} [dim]{escape(first)}[/dim]", soft_wrap=True)
        for text in more:
            self.console.print(f"{'':{INDENT}}[dim]{escape(text)}[/dim]", soft_wrap=True)

    @contextmanager
    def busy(self, text: str) -> Iterator[None]:
        """Something is going on that has nothing to count."""
        with self.console.status(f"{escape(text)} ..."):
            yield

    @contextmanager
    def selling(self) -> Iterator[Callable[[float], None]]:
        """Tickets are sold ahead; the block says how many there are."""
        told = time.monotonic()
        with self.console.status("Selling tickets ahead ...") as status:

            def show(sold: float) -> None:
                nonlocal told
                text = f"{sold:,.0f} tickets sold ahead ..."
                if self.console.is_terminal:
                    status.update(text)
                elif time.monotonic() - told >= LINE_EVERY_S:
                    told = time.monotonic()
                    self.console.print(f"  {text}", soft_wrap=True)

            yield show

    @contextmanager
    def day(self, plan: Plan) -> Iterator[Day]:
        """The day as it passes."""
        if not self.console.is_terminal:
            yield Day(plan, self.console, None)
            return
        with Live(console=self.console, refresh_per_second=4, transient=True) as live:
            yield Day(plan, self.console, live)


class Day:
    """The live view."""

    def __init__(self, plan: Plan, console: Console, live: Live | None) -> None:
        self._plan = plan
        self._console = console
        self._live = live
        self._told = 0.0

    def update(self, gates: Mapping[str, float], shop: Mapping[str, float], phase: Phase) -> None:
        """The newest that both parts said."""
        if not gates:
            return
        if self._live is not None:
            self._live.update(self._picture(gates, shop, phase))
        elif time.monotonic() - self._told >= LINE_EVERY_S:
            self._told = time.monotonic()
            self._console.print(f"  {self._line(gates, shop, phase)}", soft_wrap=True)

    @staticmethod
    def _line(gates: Mapping[str, float], shop: Mapping[str, float], phase: Phase) -> str:
        clock = CLOCKS.get(phase) or of_day(gates["day_s"])
        p99 = f"{gates['p99_ms']:,.1f}" if "p99_ms" in gates else "-"
        return (
            f"{clock}  {gates['per_s']:>5,.0f} scans/s  p99 {p99:>6} ms  inside {gates['inside']:>6,.0f}  "
            f"let through {gates['admitted']:>7,.0f}  "
            f"refused {gates['refused']:>5,.0f}  sold {shop.get('sold', 0):>6,.0f}"
        )

    def _picture(self, gates: Mapping[str, float], shop: Mapping[str, float], phase: Phase) -> Group:
        length = self._plan.ends_s - self._plan.starts_s
        bar = ProgressBar(total=length, completed=min(gates["day_s"] - self._plan.starts_s, length), width=60)
        grid = Table.grid(padding=(0, 3))
        for _ in range(4):
            grid.add_column()
        clock = PICTURED.get(phase) or f"{of_day(gates['day_s'])} in the park"
        p99 = _warned(gates["p99_ms"], SLOW_MS, "p99 {:,.1f} ms") if "p99_ms" in gates else ""
        grid.add_row(Text(clock, "bold"), bar)
        grid.add_row(f"{gates['per_s']:,.0f} scans/s", p99)
        grid.add_row(
            f"{gates['inside']:,.0f} inside", f"{gates['admitted']:,.0f} let in or out, {gates['refused']:,.0f} refused"
        )
        grid.add_row(f"{shop.get('sold', 0):,.0f} tickets sold", f"{devices(gates['connected'])} connected")
        grid.add_row("the generator", _warned(gates["lag_ms"], LAGGING_MS, "its loop was late by {:,.0f} ms"))
        return Group(Panel(grid, border_style="cyan", title=escape(self._plan.scenario.name), title_align="left"))


def devices(count: float) -> str:
    """So many, in words."""
    return "1 device" if count == 1 else f"{count:,.0f} devices"


def _warned(value: float, limit: float, text: str) -> Text:
    return Text(text.format(value), "yellow" if value > limit else "")
