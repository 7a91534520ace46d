"""`parkgate gate`: runs turnstiles. A thin shell around `gateclient.run_gate`."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from ops.commands.options import Config, DataDir
from ticketcore.errors import CallerError, InvalidInputError, NotPermittedError, TransientError

app = typer.Typer(
    help="Run turnstiles and handhelds: read codes, ask the cluster, show verdicts.", no_args_is_help=True
)

_ENDS = "Ends with 0 when every code read was decided, 1 when one was not or the cluster refused, 2 on wrong use."


@app.callback()
def gate() -> None:
    """Run turnstiles and handhelds: read codes, ask the cluster, show verdicts."""


@app.command(epilog=_ENDS)
def run(  # noqa: PLR0913, PLR0917 - one argument a command-line option
    gates: Annotated[list[str], typer.Option("--gate", metavar="ID", help="A gate's id in the catalogue; repeatable.")],
    servers: Annotated[
        list[str] | None,
        typer.Option(
            "--server",
            metavar="HOST:PORT",
            help="A gateway; several are tried in turn.",
            show_default="the stack of the data folder",
        ),
    ] = None,
    cert: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="This device's folder: ca.pem, NAME.pem and NAME.key.",
            show_default="enrolled here at first use",
        ),
    ] = None,
    source: Annotated[
        str,
        typer.Option(
            metavar="SOURCE",
            help="stdin · file:PATH (text, PNG, JPEG or a folder) · serial:/dev/ttyUSB0[:BAUD] · "
            "simulate:N[:FILE OF CODES]. A line may begin with a gate's id and a tab.",
        ),
    ] = "stdin",
    exits: Annotated[bool, typer.Option("--exit", help="Guests leave here.")] = False,
    persons: Annotated[int, typer.Option(help="Persons who pass on a scan; 0: all who are due.", min=0, max=64)] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line, for machines.")] = False,
    no_passage: Annotated[
        bool, typer.Option("--no-passage", help="Do not report whether guests went through.")
    ] = False,
    proof_seen: Annotated[bool, typer.Option("--proof-seen", help="Confirm every proof that is asked for.")] = False,
    turn_back: Annotated[
        float, typer.Option(help="Share of admitted guests who turn back (simulated turnstile).", min=0, max=1)
    ] = 0.0,
    patience: Annotated[float, typer.Option(help="Seconds before a guest is told to try again.")] = 4.0,
    connect: Annotated[float, typer.Option(help="Seconds to find a gateway at the start.")] = 15.0,
    seed: Annotated[int, typer.Option(help="Seed of simulated guests.")] = 1,
    time_zone: Annotated[str, typer.Option(help="Time zone to show times in; the park's if not given.")] = "",
    server_name: Annotated[str, typer.Option(help="Name in the server's certificate, if it is not the host.")] = "",
    data_dir: DataDir = None,
    settings_file: Config = None,
) -> None:
    """Run one or more gates on a source of codes, until it ends or Ctrl-C.

    On the machine of an embedded stack a gate's id is enough: server, certificate and time zone are found.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from gateclient import GateConfig

    if not servers or cert is None:
        servers, cert, time_zone = _of_this_stack((data_dir, settings_file), gates, (servers, cert, time_zone))
    config = GateConfig(
        gate_ids=tuple(gates),
        servers=tuple(servers),
        cert_dir=cert,
        source=source,
        exits=exits,
        persons=persons,
        as_json=as_json,
        report_passages=not no_passage,
        proof_seen=proof_seen,
        not_passed_share=turn_back,
        patience_s=patience,
        connect_s=connect,
        seed=seed,
        time_zone=time_zone,
        server_name=server_name,
    )
    console = Console(stderr=True)
    try:
        succeeded = asyncio.run(_run(config, console))
    except InvalidInputError as error:
        _say(console, str(error))
        raise typer.Exit(2) from None
    except NotPermittedError as error:
        _say(console, str(error))  # it says what the certificate lacks
        raise typer.Exit(1) from None
    except (CallerError, TransientError) as error:
        _say(console, f"{error}\nCheck --server, that the cluster runs, and --cert.")
        raise typer.Exit(1) from None
    raise typer.Exit(0 if succeeded else 1)


def _of_this_stack(
    options: tuple[Path | None, Path | None], gates: list[str], given: tuple[list[str] | None, Path | None, str]
) -> tuple[list[str], Path, str]:
    """Server, certificate folder and time zone as given, and those that were not from the stack that runs here."""
    from ops.commands.options import settings
    from ops.devices import gate_folder
    from ops.running import port, require_running
    from ops.services.catalogue import read_catalogue, require_gates

    servers, cert, time_zone = given
    if servers and cert is None:
        raise typer.BadParameter("goes with --server: this device's folder", param_hint="--cert")
    found = settings(*options)
    running = require_running(found.data_dir)
    catalogue = read_catalogue(found.catalogue_dir)[1]
    require_gates(catalogue, gates)
    return (
        servers or [f"localhost:{port(running, 'gate_port')}"],
        cert or gate_folder(found.data_dir, gates),
        time_zone or str(catalogue.venue.time_zone),
    )


async def _run(config: object, console: Console) -> bool:
    from gateclient import GateConfig, run_gate

    assert isinstance(config, GateConfig)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    summary = await run_gate(config, stop)
    counts = ", ".join(f"{count} {name}" for name, count in sorted(summary.tally.decisions.items())) or "no scans"
    reasons = ", ".join(f"{count} {name}" for name, count in summary.tally.reasons.most_common())
    console.print(f"{counts} · {summary.tally.persons} persons" + (f" · {escape(reasons)}" if reasons else ""))
    if summary.tally.undecided:
        _say(console, f"{summary.tally.undecided} codes were not decided; scan them again.")
    if summary.unreceipted:
        _say(
            console, f"{summary.unreceipted} passage reports were not receipted; the cluster will count them as passed."
        )
    return summary.succeeded


def _say(console: Console, text: str) -> None:
    console.print(f"[bold red]error:[/] {escape(text)}", highlight=False)
