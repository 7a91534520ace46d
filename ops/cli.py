"""The `parkgate` command. Here: the groups of commands and how errors end. What a command does is in `ops.commands`.

Modules of commands import only typer and the standard library at their top, the rest inside the functions, so that
`parkgate --help` is there at once (a test holds them to it).
"""

import os
import sys

import typer

from ops.commands import (
    backup,
    catalogue,
    config,
    demo,
    doctor,
    down,
    enroll,
    gate,
    rebalance,
    refund,
    report,
    sell,
    status,
    tickets,
    up,
)
from ops.errors import EXIT_FAILURE, OpsError
from ops.plugins import add_commands
from ops.polling import prefer_plain_polling

STACK, PARK, MACHINE = "The stack", "The park", "This installation"
EPILOG = """
[bold]Examples[/bold]

[cyan]parkgate up[/cyan] · start everything here; Ctrl-C stops it in order

[cyan]parkgate up --detach[/cyan] · the same in the background, until [cyan]parkgate down[/cyan]

[cyan]parkgate sell --product day --count 2[/cyan] · sell tickets there, with their QR codes as images

[cyan]parkgate gate run --gate main-1 --source file:tickets[/cyan] · show them at a gate

[cyan]parkgate demo[/cyan] · one park day by itself, on a stack of its own

[cyan]parkgate surge[/cyan] · a holiday rehearsed before it comes, with a report

[cyan]parkgate doctor[/cyan] · what this machine lacks, and how to mend it

[cyan]parkgate enroll gate north-1 --gates main-1 --out usb/[/cyan] · a certificate for a turnstile

[bold]Exit codes[/bold] · 0 done · 1 it could not be done here and now · 2 wrong usage, flag, file or setting

[bold]Settings[/bold] · flags, then PARKGATE_* variables, then parkgate.toml in the data folder
"""

app = typer.Typer(
    name="parkgate",
    help="Tickets for theme parks: sale, admission at the gates, and books that foot.",
    epilog=EPILOG,
    rich_markup_mode="rich",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command(rich_help_panel=STACK)(up.up)
app.command(rich_help_panel=STACK)(status.status)
app.command(rich_help_panel=STACK)(down.down)
app.command(rich_help_panel=STACK)(rebalance.rebalance)
app.command(rich_help_panel=PARK)(demo.demo)
app.command(rich_help_panel=PARK)(sell.sell)
app.command(rich_help_panel=PARK)(tickets.tickets)
app.command(rich_help_panel=PARK)(refund.refund)
app.add_typer(catalogue.app, name="catalogue", rich_help_panel=PARK)
app.command(rich_help_panel=MACHINE)(doctor.doctor)
app.add_typer(enroll.app, name="enroll", rich_help_panel=MACHINE)
app.add_typer(config.app, name="config", rich_help_panel=MACHINE)
app.command(rich_help_panel=MACHINE)(backup.backup)
app.command(rich_help_panel=MACHINE)(backup.restore)
app.add_typer(gate.app, name="gate", rich_help_panel=PARK)
app.add_typer(report.app, name="report", rich_help_panel=PARK)
add_commands(app, PARK)


@app.callback(invoke_without_command=True)
def root(version: bool = typer.Option(False, "--version", help="Show the version and end.", is_eager=True)) -> None:
    if version:
        from importlib.metadata import version as installed

        print(f"parkgate {installed('parkgate')}")
        raise typer.Exit


def main() -> None:
    """The entry point: no traceback reaches a user, except with PARKGATE_DEBUG=1."""
    prefer_plain_polling()
    try:
        app()
    except OpsError as error:
        if os.environ.get("PARKGATE_DEBUG"):
            raise
        from ops.screen import show_error

        show_error(error)
        sys.exit(error.exit_code)
    except BrokenPipeError:  # `parkgate status | head`: nobody reads any more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_FAILURE)
    except Exception as error:  # the last resort of a person at a keyboard
        if os.environ.get("PARKGATE_DEBUG"):
            raise
        name = type(error).__name__
        print(f"parkgate: unexpected {name}: {error}. Run it with PARKGATE_DEBUG=1 and report it.", file=sys.stderr)
        sys.exit(EXIT_FAILURE)


if __name__ == "__main__":
    main()
