"""`parkgate report`: sales, admissions, refusals, finance, occupancy, reconcile. A thin shell around the service."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.markup import escape

from ops.commands.options import Config, DataDir
from ticketcore.errors import InvalidInputError, ParkgateError

if TYPE_CHECKING:
    from reporting.client import ReportServer

app = typer.Typer(no_args_is_help=True)
Answer = TypeVar("Answer")


class Format(StrEnum):
    """How a report is given."""

    TABLE = "table"
    CSV = "csv"
    XLSX = "xlsx"


class By(StrEnum):
    """What a report is grouped by."""

    DAY = "day"
    HOUR = "hour"
    MINUTE = "minute"
    PRODUCT = "product"
    CHANNEL = "channel"
    WINDOW = "window"
    GATE = "gate"
    REASON = "reason"
    ZONE = "zone"
    DECISION = "decision"
    CONCESSION = "concession"
    KIND = "kind"


From = Annotated[str, typer.Option("--from", metavar="DATE", help="First civil day, for example 2026-05-01.")]
To = Annotated[str, typer.Option("--to", metavar="DATE", help="Last civil day, inclusive.")]
Groups = Annotated[list[By] | None, typer.Option("--by", help="What to group by; repeatable, in order.")]
As = Annotated[Format, typer.Option("--format", help="A table here, or a file.")]
Out = Annotated[Path | None, typer.Option("--out", metavar="FILE", help="The file of --format csv or xlsx.")]
Server = Annotated[
    str,
    typer.Option(
        metavar="HOST:PORT",
        envvar="PARKGATE_REPORT_SERVER",
        help="The reporting service; with --cert.",
        show_default="the stack of the data folder",
    ),
]
Cert = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        envvar="PARKGATE_REPORT_CERT",
        help="Folder of a finance certificate: ca.pem, NAME.pem and NAME.key.",
        show_default="this installation's own",
    ),
]
Digits = Annotated[int, typer.Option(help="Minor digits of the currency.", min=0, max=4)]
SERVICE = "operations"
"""The installation's own identity: a service, so it may ask for reports."""


@dataclass(frozen=True, slots=True)
class Whom:
    """Whom to ask, as given."""

    server: str
    cert: Path | None
    data_dir: Path | None
    config: Path | None


@app.callback()
def report() -> None:
    """Ask what was sold, admitted, refused, refunded and is owed."""


@app.command()
def sales(  # noqa: PLR0913, PLR0917 - one argument a command-line option
    first: From = "",
    last: To = "",
    by: Groups = None,
    form: As = Format.TABLE,
    out: Out = None,
    server: Server = "",
    cert: Cert = None,
    data_dir: DataDir = None,
    config: Config = None,
    digits: Digits = 2,
) -> None:
    """Tickets and money, by day, product, channel, window or concession."""
    whom = Whom(server, cert, data_dir, config)
    _report("SALES", by or [By.PRODUCT], (first, last), (form, out, digits), whom)


@app.command()
def finance(  # noqa: PLR0913, PLR0917
    first: From = "",
    last: To = "",
    by: Groups = None,
    form: As = Format.TABLE,
    out: Out = None,
    server: Server = "",
    cert: Cert = None,
    data_dir: DataDir = None,
    config: Config = None,
    digits: Digits = 2,
) -> None:
    """Sold − refunded + moved − fees − admitted = deferred, to the cent."""
    whom = Whom(server, cert, data_dir, config)
    _report("FINANCE", by or [By.PRODUCT], (first, last), (form, out, digits), whom)


@app.command()
def admissions(  # noqa: PLR0913, PLR0917
    first: From = "",
    last: To = "",
    by: Groups = None,
    form: As = Format.TABLE,
    out: Out = None,
    server: Server = "",
    cert: Cert = None,
    data_dir: DataDir = None,
    config: Config = None,
    digits: Digits = 2,
) -> None:
    """Persons in and out, by day, hour, minute, product, gate, zone or kind."""
    whom = Whom(server, cert, data_dir, config)
    _report("SCANS_ADMITTED", by or [By.GATE], (first, last), (form, out, digits), whom)


@app.command()
def refusals(  # noqa: PLR0913, PLR0917
    first: From = "",
    last: To = "",
    by: Groups = None,
    form: As = Format.TABLE,
    out: Out = None,
    server: Server = "",
    cert: Cert = None,
    data_dir: DataDir = None,
    config: Config = None,
    digits: Digits = 2,
) -> None:
    """Scans that were refused, by reason, gate, product, day, hour or minute."""
    whom = Whom(server, cert, data_dir, config)
    _report("SCANS_REFUSED", by or [By.REASON], (first, last), (form, out, digits), whom)


@app.command()
def occupancy(
    day: Annotated[str, typer.Option(metavar="DATE", help="The civil day; today if not given.")] = "",
    server: Server = "",
    cert: Cert = None,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Who came in, went out and is inside, by zone. Rides, which only count entries, have no part in it."""
    from ops import report_tables as tables
    from parkgate.reporting.v1 import reporting_pb2 as pb
    from reporting.client import ask_once

    request = pb.QueryOccupancyRequest(park_date=day)
    answer = _run(ask_once(_server(Whom(server, cert, data_dir, config)), request))
    tables.show(tables.of_occupancy(answer))
    tables.say_as_of(answer)


@app.command()
def reconcile(
    server: Server = "",
    cert: Cert = None,
    data_dir: DataDir = None,
    config: Config = None,
    digits: Digits = 2,
) -> None:
    """Compare the counts of sales, ledger and Postgres, to the unit and the cent. Ends with 1 if they differ."""
    from ops import report_tables as tables
    from parkgate.reporting.v1 import reporting_pb2 as pb
    from reporting.client import ask_once

    answer = _run(ask_once(_server(Whom(server, cert, data_dir, config)), pb.GetCountsRequest()))
    tables.show(tables.of_counts(answer, digits))
    for difference in answer.differences:
        _say(f"differs: {difference}")
    if answer.differences:
        raise typer.Exit(1)
    Console().print("[green]The three books agree to the unit and the cent.[/]")


def _report(
    kind: str, by: Sequence[By], period: tuple[str, str], shape: tuple[Format, Path | None, int], whom: Whom
) -> None:
    from parkgate.reporting.v1 import reporting_pb2 as pb

    form, out, digits = shape
    if form is not Format.TABLE and out is None:
        _fail(InvalidInputError(f"--format {form} needs --out FILE"))
    name, _, selection = kind.partition("_")
    common: dict[str, Any] = {
        "period": pb.Period(from_date=period[0], to_date=period[1]),
        "group_by": [pb.Dimension.Value(f"DIMENSION_{one.value.upper()}") for one in by],
    }
    if selection:
        common["selection"] = pb.ScanSelection.Value(f"SCAN_SELECTION_{selection}")
    server = _server(whom)
    if out is None or form is Format.TABLE:
        request = {"SALES": pb.QuerySalesRequest, "FINANCE": pb.QueryFinanceRequest, "SCANS": pb.QueryScansRequest}
        _print_rows(server, request[name](**common), by, (kind.lower().replace("_", " "), digits))
        return
    file_format = pb.FileFormat.Value(f"FILE_FORMAT_{form.value.upper()}")
    _export(server, pb.ExportRequest(**common, report=pb.Report.Value(f"REPORT_{name}"), format=file_format), out)


def _server(whom: Whom) -> ReportServer:
    """The service that was named, or that of the installation in the data folder, asked as the installation itself."""
    from ops.errors import BadInput
    from ops.running import port, require_running
    from reporting.client import ReportServer

    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    if whom.server and whom.cert is not None:
        return ReportServer(whom.server, whom.cert)
    if whom.server:
        raise BadInput(
            f"Reports of {whom.server} need a certificate of its park.",
            "Name its folder with --cert; there, `parkgate enroll finance NAME --out DIR` makes one.",
        )
    folder = _installation(whom)
    address = f"localhost:{port(require_running(folder), 'reporting_port')}"
    if whom.cert is not None:
        return ReportServer(address, whom.cert)
    return ReportServer(address, _own_certificate(folder), name=SERVICE)


def _installation(whom: Whom) -> Path:
    from ops.commands.options import settings

    return settings(whom.data_dir, whom.config).data_dir


def _own_certificate(folder: Path) -> Path:
    """The folder of the installation's own certificate. Whoever may read its private key may ask as it; nobody else
    is handed it, and it goes to no service but the installation's own."""
    from ops.errors import OpsError
    from ops.services.identities import service_identity

    try:
        return service_identity(folder, SERVICE).key.parent
    except PermissionError as error:
        raise OpsError(
            f"The certificates of the installation in {folder} are not for this user to read.",
            "Run it as the installation's user, or name a certificate of yours with --cert.",
        ) from error


def _export(server: Any, export: Any, out: Path) -> None:
    from reporting.client import export_to

    with Console(stderr=True).status("asking") as status:
        rows = _run(export_to(server, export, out, lambda count: status.update(f"{count} lines")))
    Console().print(f"{rows} lines in {out}")


def _print_rows(server: Any, request: Any, by: Sequence[By], shape: tuple[str, int]) -> None:
    from ops import report_tables as tables
    from reporting.client import rows_of

    title, digits = shape
    with Console(stderr=True).status("asking"):
        rows, totals = _run(rows_of(server, request))
    tables.show(tables.of_rows(title, [one.value for one in by], tables.measures_of(request), (rows, totals), digits))


def _run(work: Coroutine[Any, Any, Answer]) -> Answer:
    try:
        return asyncio.run(work)
    except ParkgateError as error:
        _fail(error)


def _fail(error: ParkgateError) -> NoReturn:
    _say(str(error))
    raise typer.Exit(2 if isinstance(error, InvalidInputError) else 1)


def _say(text: str) -> None:
    Console(stderr=True).print(f"[bold red]error:[/] {escape(text)}", highlight=False)
