"""What commands share on the screen: one console, one look of errors, tables without noise."""

import os
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from ops.errors import OpsError

PIPE_WIDTH = 200
"""For output that goes to a file or a program: nothing is cut off there for want of a screen."""
OUT = Console(highlight=False, width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else PIPE_WIDTH)
ERR = Console(stderr=True, highlight=False)


def show_error(error: OpsError) -> None:
    """One panel: what happened, and how to mend it. Plain text where nobody looks at colours."""
    body = Text(error.message)
    if error.mend:
        body.append(f"\n{error.mend}", style="bold")
    if sys.stderr.isatty():
        ERR.print(Panel(body, title="Error", title_align="left", border_style="red"))
    else:
        print(f"parkgate: {error}", file=sys.stderr)


def show_pending(catalogue_version: int, pending: str) -> None:
    """Says so where gates may not decide by the catalogue that windows sell by, and why."""
    if pending:
        OUT.print(
            f"[red]Windows sell by catalogue {catalogue_version}, and gates may decide by an earlier one: "
            f"{escape(pending)}.[/red] The cluster is told again until it has it, or until another is published.",
            soft_wrap=True,
        )


def table(columns: Sequence[str], right: Sequence[str] = ()) -> Table:
    """A table; the columns named in `right` hold numbers."""
    made = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return made


def duration(seconds: float) -> str:
    """In the two units that matter: 4 s, 12 min 5 s, 3 h 20 min, 2 d 4 h."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def size(count: int) -> str:
    """Bytes in the unit that leaves something before the point: 512 bytes, 120 kB, 45 MB, 3.2 GB."""
    if count >= 999.5e6:
        return f"{count / 1e9:.1f} GB"
    if count >= 999.5e3:
        return f"{count / 1e6:.0f} MB"
    return f"{count / 1e3:.0f} kB" if count >= 1000 else f"{count} bytes"
