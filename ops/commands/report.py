"""`parkgate report`: sales, admissions, refusals, finance, occupancy, reconcile. A thin shell around the service."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Coroutine, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

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
        help="The reporting service.",
        show_default="localhost, with the port of the settings",
    ),
]
Cert = Annotated[
    Path, typer.Option(metavar="DIR", envvar="PARKGATE_REPORT_CERT", help="Folder of a finance certificate.")
]
Digits = Annotated[int, typer.Option(help="Minor digits of the currency.", min=0, max=4)]
SERVER = ""
CERT = Path("finance")
MAX_WIDTH = 2_000
"""Columns of a table, at most: a dozen of twenty characters and their frame are far below."""


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
    server: Server = SERVER,
    cert: Cert = CERT,
    digits: Digits = 2,
) -> None:
    """Tickets and money, by day, product, channel, window or concession."""
    _report("SALES", by or [By.PRODUCT], (first, last), (form, out, digits), (server, cert))


@app.command()
def finance(  # noqa: PLR0913, PLR0917
    first: From = "",
    last: To = "",
    by: Groups = None,
    form: As = Format.TABLE,
    out: Out = None,
    server: Server = SERVER,
    cert: Cert = CERT,
    digits: Digits = 2,
) -> None:
    """Sold − refunded + moved − fees − admitted = deferred, to the cent."""
    _report("FINANCE", by or [By.PRODUCT], (first, last), (form, out, digits), (server, cert))


@app.command()
def admissions(  # noqa: PLR0913, PLR0917
    first: From = "",
    last: To = "",
    by: Groups = None,
    form: As = Format.TABLE,
    out: Out = None,
    server: Server = SERVER,
    cert: Cert = CERT,
    digits: Digits = 2,
) -> None:
    """Persons in and out, by day, hour, minute, product, gate, zone or kind."""
    _report("SCANS_ADMITTED", by or [By.GATE], (first, last), (form, out, digits), (server, cert))


@app.command()
def refusals(  # noqa: PLR0913, PLR0917
    first: From = "",
    last: To = "",
    by: Groups = None,
    form: As = Format.TABLE,
    out: Out = None,
    server: Server = SERVER,
    cert: Cert = CERT,
    digits: Digits = 2,
) -> None:
    """Scans that were refused, by reason, gate, product, day, hour or minute."""
    _report("SCANS_REFUSED", by or [By.REASON], (first, last), (form, out, digits), (server, cert))


@app.command()
def occupancy(
    day: Annotated[str, typer.Option(metavar="DATE", help="The civil day; today if not given.")] = "",
    server: Server = SERVER,
    cert: Cert = CERT,
) -> None:
    """Who came in, went out and is inside, by zone."""
    from parkgate.reporting.v1 import reporting_pb2 as pb
    from reporting.client import ask_once

    answer = _run(ask_once(_server(server, cert), pb.QueryOccupancyRequest(park_date=day)))
    columns = ("zone_number", "persons_in", "persons_out", "persons_inside")
    _show(
        f"occupancy on {answer.park_date}", columns, [[getattr(row, name) for name in columns] for row in answer.rows]
    )
    _say_as_of(answer)


@app.command()
def reconcile(server: Server = SERVER, cert: Cert = CERT, digits: Digits = 2) -> None:
    """Compare the counts of sales, ledger and Postgres, to the unit and the cent. Ends with 1 if they differ."""
    from parkgate.reporting.v1 import reporting_pb2 as pb
    from reporting.client import ask_once

    answer = _run(ask_once(_server(server, cert), pb.GetCountsRequest()))
    books = {name: {count.name: count for count in getattr(answer, name)} for name in ("sales", "ledger", "postgres")}
    rows = []
    for item in sorted({name for book in books.values() for name in book}):
        counts = [book.get(item) for book in books.values()]
        rows.append([item, *(_count_cell(count, digits) for count in counts)])
    _show("reconciliation", ("item", *books), rows)
    for difference in answer.differences:
        _say(f"differs: {difference}")
    if answer.differences:
        raise typer.Exit(1)
    Console().print("[green]The three books agree to the unit and the cent.[/]")


def _report(
    kind: str, by: Sequence[By], period: tuple[str, str], shape: tuple[Format, Path | None, int], who: tuple[str, Path]
) -> None:
    from parkgate.reporting.v1 import reporting_pb2 as pb

    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    form, out, digits = shape
    server = _server(*who)
    common: dict[str, Any] = {
        "period": pb.Period(from_date=period[0], to_date=period[1]),
        "group_by": [pb.Dimension.Value(f"DIMENSION_{one.value.upper()}") for one in by],
    }
    name, _, selection = kind.partition("_")
    if selection:
        common["selection"] = pb.ScanSelection.Value(f"SCAN_SELECTION_{selection}")
    if form is Format.TABLE:
        request = {"SALES": pb.QuerySalesRequest, "FINANCE": pb.QueryFinanceRequest, "SCANS": pb.QueryScansRequest}
        _print_rows(server, request[name](**common), by, (kind.lower().replace("_", " "), digits))
        return
    if out is None:
        _fail(InvalidInputError(f"--format {form} needs --out FILE"))
    export = pb.ExportRequest(
        **common,
        report=pb.Report.Value(f"REPORT_{name}"),
        format=pb.FileFormat.Value(f"FILE_FORMAT_{form.value.upper()}"),
    )
    _export(server, export, out)


def _server(address: str, cert: Path) -> ReportServer:
    """Whom to ask; without an address the service of this installation, by its settings."""
    from ops.commands.options import settings
    from reporting.client import ReportServer

    return ReportServer(address or f"localhost:{settings(None, None).reporting_port}", cert)


def _export(server: Any, export: Any, out: Path | None) -> None:
    from reporting.client import export_to

    assert out is not None
    with Console(stderr=True).status("asking") as status:
        rows = _run(export_to(server, export, out, lambda count: status.update(f"{count} lines")))
    Console().print(f"{rows} lines in {out}")


def _print_rows(server: Any, request: Any, by: Sequence[By], shape: tuple[str, int]) -> None:
    from reporting.client import rows_of

    title, digits = shape
    with Console(stderr=True).status("asking"):
        rows, totals = _run(rows_of(server, request))
    measures = [field.name for field in type(request).DESCRIPTOR.file.message_types_by_name[_row_name(request)].fields]
    refused = getattr(request, "selection", 0) == 2  # nobody passes on a refusal
    measures = [name for name in measures if name != "group" and not (refused and name.startswith("persons"))]
    lines = [[*(_group_cell(row.group, one) for one in by), *_cells(row, measures, digits)] for row in rows]
    sums = [[*["Total", *[""] * (len(by) - 1)], *_cells(row, measures, digits)] for row in totals]
    _show(title, (*by, *(name.removesuffix("_minor") for name in measures)), lines, sums)


def _row_name(request: Any) -> str:
    return type(request).__name__.removeprefix("Query").removesuffix("Request").replace("Scans", "Scan") + "Row"


def _cells(row: Any, measures: Sequence[str], digits: int) -> list[str]:
    return [
        _money(getattr(row, name), digits) if name.endswith("_minor") else str(getattr(row, name)) for name in measures
    ]


def _group_cell(group: Any, by: By) -> str:
    if by in (By.HOUR, By.MINUTE):
        return str(group.start_text)
    names = {By.DAY: "park_date", By.WINDOW: "window_id"}
    number = f"{by.value}_number"
    return str(getattr(group, number)) if hasattr(group, number) else str(getattr(group, names.get(by, by.value)))


def _count_cell(count: Any, digits: int) -> str:
    if count is None:
        return "–"
    return f"{count.units}" + (f" · {_money(count.amount_minor, digits)}" if count.amount_minor else "")


def _money(minor: int, digits: int) -> str:
    sign, whole = ("-" if minor < 0 else ""), str(abs(minor)).rjust(digits + 1, "0")
    return sign + (f"{int(whole[:-digits]):,}.{whole[-digits:]}" if digits else f"{int(whole):,}")


def _show(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], totals: Sequence[Sequence[object]] = ()
) -> None:
    table = Table(title=title, title_justify="left", show_footer=False)
    for column in columns:
        numbers = all(re.fullmatch(r"-?[\d,.]+|–.*|\d+ · .*", str(row[len(table.columns)])) for row in rows)
        table.add_column(column.replace("_", " "), justify="right" if rows and numbers else "left")
    for row in rows:
        table.add_row(*(escape(str(cell)) for cell in row))
    if totals:
        table.add_section()
    for row in totals:
        table.add_row(*(escape(str(cell)) for cell in row), style="bold")
    console = Console()
    if not rows:
        console.print(f"{title}: nothing in this period")
        return
    # A narrow screen wraps a line; it never cuts a digit off.
    widest = console.measure(table, options=console.options.update(max_width=MAX_WIDTH)).maximum
    Console(width=max(console.width, widest)).print(table)


def _say_as_of(answer: Any) -> None:
    if answer.as_of_time_ms:
        moment = datetime.fromtimestamp(answer.as_of_time_ms / 1000, UTC).astimezone()
        Console().print(f"counted up to {moment:%Y-%m-%d %H:%M:%S}", style="dim")


def _run(work: Coroutine[Any, Any, Answer]) -> Answer:
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        return asyncio.run(work)
    except ParkgateError as error:
        _fail(error)


def _fail(error: ParkgateError) -> NoReturn:
    _say(str(error))
    raise typer.Exit(2 if isinstance(error, InvalidInputError) else 1)


def _say(text: str) -> None:
    Console(stderr=True).print(f"[bold red]error:[/] {escape(text)}", highlight=False)
