"""`parkgate sell`: sells tickets at a window of this installation, and leaves their QR codes as images."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.commands.options import AsJson, Config, DataDir

if TYPE_CHECKING:
    from ops.errors import OpsError
    from ops.settings import Settings
    from ops.ticket_files import TicketFiles
    from ops.window import Pay as How
    from ops.window import Sale, Window
    from parkgate.sales.v1 import sales_pb2
    from ticketcore.catalogue import Catalogue

OUT = Path("tickets")
TICKETS_A_BUNDLE = 4


class Pay(StrEnum):
    """How it is paid; the values are those of `ops.window.Pay`."""

    CASH = "cash"
    PROVIDER = "provider"


def sell(  # noqa: PLR0913, PLR0917 - one argument a command-line option
    product: Annotated[str, typer.Option(help="The product's id; `parkgate catalogue show` lists them.")],
    concession: Annotated[str, typer.Option(help="Who it is for.")] = "adult",
    count: Annotated[int, typer.Option(help="How many tickets.", min=1, max=1000)] = 1,
    date: Annotated[
        str, typer.Option(metavar="YYYY-MM-DD", help="First day of validity.", show_default="today in the park")
    ] = "",
    slot: Annotated[int, typer.Option(help="The slot's number, for products with slots.", min=0, max=255)] = 0,
    pay: Annotated[Pay, typer.Option(help="The provider is a sandbox here.")] = Pay.CASH,
    tendered: Annotated[
        str, typer.Option(metavar="AMOUNT", help="Cash that the guest gives, 200.00.", show_default="the exact sum")
    ] = "",
    window: Annotated[str, typer.Option(help="The window that sells; its certificate is made at first use.")] = "w1",
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder that gets the images.")] = OUT,
    pdf: Annotated[
        Path | None, typer.Option(metavar="FILE", help="One PDF of all tickets to print, instead of images.")
    ] = None,
    data_dir: DataDir = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Sell tickets on the running stack: order, payment, and a PNG with the QR code of each ticket, or one PDF."""
    import asyncio

    from ops.commands.options import settings
    from ops.commands.tickets import again, show
    from ops.ticket_files import TicketFiles
    from ops.window import Pay as How
    from parkgate.sales.v1 import sales_pb2

    line = sales_pb2.OrderLine(product_id=product, concession=concession, count=count, visit_date=date, slot=slot)
    found = settings(data_dir, config)
    files = TicketFiles(out, pdf)
    _try_out(files, count)
    asked_again = again(window, data_dir, config)
    catalogue, sale = asyncio.run(_sell((found, window, asked_again), line, (How(pay.value), tendered), files))
    show(catalogue, sale, _written(files, catalogue, sale, asked_again), as_json=as_json)


def _try_out(files: "TicketFiles", count: int) -> None:
    """Before anything is sold. A bundle has several tickets: room for some more is asked for."""
    from ops.errors import OpsError

    try:
        files.try_out(count * TICKETS_A_BUNDLE)
    except OpsError as error:
        raise type(error)(error.message, f"Nothing was sold. {error.mend}".rstrip()) from error


def _written(files: "TicketFiles", catalogue: "Catalogue", sale: "Sale", asked_again: str) -> dict[int, Path]:
    """Raises: OpsError that says how the tickets are had without paying again."""
    from ops.errors import OpsError

    order_id = sale.order.order_id
    try:
        return files.write(catalogue, order_id, sale.tickets)
    except OSError as error:
        raise OpsError(
            f"Order {order_id} is paid, and its tickets cannot be written to {files.pdf or files.out}: "
            f"{error.strerror}.",
            "They are kept: do not sell them again. Write them elsewhere with "
            f"`parkgate tickets {order_id} {files.option}{asked_again}`.",
        ) from error


async def _sell(
    where: "tuple[Settings, str, str]", line: "sales_pb2.OrderLine", paid: "tuple[How, str]", files: "TicketFiles"
) -> "tuple[Catalogue, Sale]":
    from datetime import datetime

    from ops import running
    from ops.devices import window_folder
    from ops.window import Pay as How
    from ops.window import open_window

    (settings, window, asked_again), (how, tendered) = where, paid
    port = running.port(running.require_running(settings.data_dir), "sales_port")
    async with open_window(window_folder(settings.data_dir, window), port, window) as till:
        till.draws_codes = files.pdf is None
        catalogue = await till.catalogue()
        line.visit_date = line.visit_date or datetime.now(catalogue.venue.time_zone).date().isoformat()
        given = _amount(tendered, how is How.CASH, catalogue)
        order = await till.order([line])
        if given and given < order.total_minor:
            await till.cancel(order)
            raise _too_little(tendered, order, catalogue)
        return catalogue, await _paid(till, order, (how, given), asked_again)


async def _paid(till: "Window", order: "sales_pb2.Order", paid: "tuple[How, int]", asked_again: str) -> "Sale":
    """Raises: OpsError; where nobody knows whether the money was taken, it says how to learn it."""
    from ops.errors import BadInput, OpsError

    try:
        return await till.pay(order, *paid)
    except BadInput:
        raise
    except OpsError as error:
        asks = f"`parkgate tickets {order.order_id}{asked_again}` says whether order {order.order_id} is paid, and "
        raise OpsError(error.message, f"{error.mend} {asks}writes its tickets.".lstrip()) from error


def _amount(text: str, cash: bool, catalogue: "Catalogue") -> int:
    from ops.errors import BadInput
    from ticketcore.errors import InvalidInputError
    from ticketcore.money import parse_minor

    if not text:
        return 0
    if not cash:
        raise BadInput("--tendered goes with --pay cash only.")
    try:
        return parse_minor(text, catalogue.venue.currency_digits)
    except InvalidInputError as error:
        raise BadInput(f"--tendered: {error}.") from error


def _too_little(tendered: str, order: "sales_pb2.Order", catalogue: "Catalogue") -> "OpsError":
    from ops.errors import BadInput
    from ops.window import money

    price = f"{money(order.total_minor, catalogue.venue.currency_digits)} {order.currency}"
    return BadInput(f"--tendered {tendered} is less than the price, {price}.", "Nothing was sold.")
