"""`parkgate surge`: rehearse a holiday, compare two rehearsals. Loaded by an entry point of `parkgate.commands`."""

import re
from pathlib import Path
from typing import Annotated

import typer

OUT = Path("surge-out")
EXTRA = re.compile(r"""extra\s*==\s*["']surge["']""")
app = typer.Typer(help="Rehearse a holiday before it comes.", invoke_without_command=True)


@app.callback()
def surge(  # noqa: PLR0913, PLR0917 - each is an option of the command
    context: typer.Context,
    scenario: Annotated[
        str, typer.Option("--scenario", "-s", help="Name of a shipped scenario, or a file.")
    ] = "quiet-weekday",
    out: Annotated[Path, typer.Option(help="Folder for the report; an earlier one is replaced at the end.")] = OUT,
    visitors: Annotated[int | None, typer.Option(help="How many come, instead of the scenario's.", min=1)] = None,
    seconds: Annotated[float | None, typer.Option(help="How long the day takes by the wall's clock.", min=1)] = None,
    seed: Annotated[int | None, typer.Option(help="Another day of the same kind.")] = None,
    fault: Annotated[
        list[str] | None,
        typer.Option(help="owner, gateway, network or postgres, at a time of the day: owner@11:30. Repeatable."),
    ] = None,
    gate_processes: Annotated[
        int | None,
        typer.Option(
            help="Processes that share the turnstiles, instead of the scenario's; 0: as there are cores to spare.",
            min=0,
            max=64,
        ),
    ] = None,
    ramp: Annotated[bool, typer.Option(help="Measure after the day how much the installation holds.")] = True,
    address: Annotated[
        list[str] | None,
        typer.Option(
            help="A system that runs elsewhere: a host with the standard ports, or gates=HOST:PORT, sales=HOST:PORT "
            "and reporting=HOST:PORT. Without it, a system of its own is started."
        ),
    ] = None,
    credentials: Annotated[
        Path | None, typer.Option(help="Folder with ca.pem and the certificates surge-gates and surge-shop.")
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Data folder of an installation that runs on this machine; it needs no certificates."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Sell and admit there; never at an open park.")] = False,
) -> None:
    """Rehearse a holiday: sales windows, a web shop and thousands of turnstiles, over one compressed day.

    Starts a system of its own unless an address is given, and leaves a report that opens in any browser.
    Exit code 0 when all answers were right and the books agree, 1 when not: the report says which.
    """
    if context.invoked_subcommand is not None:
        return
    import os

    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    require_packages("jinja2", "locust")
    from loadtest.surge.rehearse import Options, rehearse

    given = {"visitors": visitors, "seconds": seconds, "seed": seed, "gate_processes": gate_processes}
    changes = {name: value for name, value in given.items() if value is not None}
    options = Options(
        scenario,
        out.expanduser().absolute(),
        changes if ramp else changes | {"ramp": None},
        tuple(fault or ()),
        tuple(address or ()),
        credentials.expanduser().absolute() if credentials else None,
        data_dir.expanduser().absolute() if data_dir else None,
        yes,
    )
    raise typer.Exit(0 if rehearse(options) else 1)


def require_packages(*names: str) -> None:
    """Raises: OpsError when what only the rehearsal needs is not installed, before anything is started."""
    from importlib.util import find_spec

    from ops.errors import OpsError

    missing = [name for name in names if find_spec(name) is None]
    if missing:
        raise OpsError(
            f"The rehearsal needs {' and '.join(missing)}.",
            f"Install what it needs beside parkgate: pip install {' '.join(map(repr, extra()))}. "
            "In a checkout, make venv has it all in .venv, and so has pip install '.[surge]'.",
        )


def extra() -> list[str]:
    """What pip is asked for: it works also where parkgate itself came from no index."""
    from importlib.metadata import requires

    found = (text.partition(";") for text in requires("parkgate") or ())
    return [wanted.strip() for wanted, _, marker in found if EXTRA.search(marker)]


@app.command()
def scenarios() -> None:
    """The scenarios that come with Parkgate."""
    from loadtest.surge.scenario import load, shipped
    from ops.screen import OUT as SCREEN
    from ops.screen import table

    rows = table(["Scenario", "Guests", "Takes", "Story"], right=["Guests", "Takes"])
    for name in shipped():
        found = load(name)
        rows.add_row(name, f"{found.visitors:,}", f"{found.seconds:g} s", found.story)
    SCREEN.print(rows)


@app.command()
def compare(
    first: Annotated[Path, typer.Argument(help="A report, or the folder that it is in.")],
    second: Annotated[Path, typer.Argument(help="Another one.")],
    out: Annotated[Path, typer.Option(help="The page that is written.")] = Path("surge-compare.html"),
) -> None:
    """Two rehearsals side by side: what became better, what worse, and what is about the same."""
    require_packages("jinja2")
    from loadtest.surge.report.compare import write
    from ops.screen import OUT as SCREEN

    for line in write(first, second, out):
        SCREEN.print(line)


@app.command()
def generator(
    turnstiles: Annotated[int, typer.Option(help="So many streams, each one scan a frame.", min=1, max=5_000)] = 1_000,
    seconds: Annotated[float, typer.Option(help="How long each step lasts.", min=0.1, max=60)] = 3.0,
    echoes: Annotated[
        int | None, typer.Option(help="Processes that answer; else one less than there are cores.", min=1, max=64)
    ] = None,
) -> None:
    """How many scans a second one process of the generator sends on this machine, with TLS, against a bare echo.

    Takes a minute or two. Nothing of Parkgate runs behind the echo: where this ends, a rehearsal needs more processes.
    """
    import os

    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from loadtest.surge import alone

    alone.run(alone.Wanted(turnstiles, seconds, echoes or max(len(os.sched_getaffinity(0)) - 1, 1)))


@app.command()
def report(
    record: Annotated[Path, typer.Argument(help="The record.json of a rehearsal, or the folder that it is in.")],
    out: Annotated[Path, typer.Option(help="The page that is written.")] = Path("surge-report.html"),
) -> None:
    """Draw the report of an earlier rehearsal again."""
    require_packages("jinja2")
    from loadtest.surge.report.page import read, write
    from ops.screen import OUT as SCREEN

    write(read(record), out)
    SCREEN.print(f"written to {out}")
