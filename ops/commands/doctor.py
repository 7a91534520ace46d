"""`parkgate doctor`: what this machine lacks, and how to mend it."""

from typing import TYPE_CHECKING

import typer

from ops.commands.options import AsJson, Config, DataDir

if TYPE_CHECKING:
    from ops.doctor import Finding

MARKS = {"ok": "[green]✓[/green]", "warning": "[yellow]! warning[/yellow]", "fault": "[red]✗ fault[/red]"}


def doctor(data_dir: DataDir = None, config: Config = None, as_json: AsJson = False) -> None:
    """Check system, packages, disk, memory, ports, clock, printers and readers, and say how to mend each fault.

    Exit code 0 without a fault (warnings may be there), 1 with one.
    """
    from ops.commands.options import settings
    from ops.doctor import Level, examine
    from ops.screen import OUT

    if as_json:
        found = examine(settings(data_dir, config))
        _print_json(found)
    else:
        with OUT.status("Looking ..."):
            found = examine(settings(data_dir, config))
        _print_table(found)
    raise typer.Exit(1 if any(one.level is Level.FAULT for one in found) else 0)


def _print_json(found: "list[Finding]") -> None:
    import dataclasses
    import json

    print(json.dumps([dataclasses.asdict(one) for one in found], indent=1))


def _print_table(found: "list[Finding]") -> None:
    from rich.markup import escape

    from ops.doctor import Level
    from ops.screen import OUT, table

    rows = table(["Area", "Check", "", "Found"])
    area = ""
    for one in found:
        mend = f"\n[bold]→ {escape(one.mend)}[/bold]" if one.mend else ""
        rows.add_row("" if one.area == area else one.area, one.name, MARKS[one.level], escape(one.found) + mend)
        area = one.area
    OUT.print(rows)
    faults, warnings = (sum(one.level is level for one in found) for level in (Level.FAULT, Level.WARNING))
    OUT.print(f"\n{len(found) - faults - warnings} ok, {_count(warnings, 'warning')}, {_count(faults, 'fault')}.")


def _count(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
