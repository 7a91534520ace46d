"""`parkgate sell`: sells tickets at a window of this installation, and leaves their QR codes as images."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.commands.options import AsJson, Config, DataDir

if TYPE_CHECKING:
    from ops.errors import OpsError
    from ops.settings import Settings
    from ops.window import Pay as How
    from ops.window import Sale
    from parkgate.sales.v1 import sales_pb2
    from sales.ticket_sheets import PrintedTicket
    from ticketcore.catalogue import Catalogue

OUT = Path("tickets")


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
    from ops.errors import BadInput
    from ops.window import Pay as How
    from parkgate.sales.v1 import sales_pb2

    line = sales_pb2.OrderLine(product_id=product, concession=concession, count=count, visit_date=date, slot=slot)
    found = settings(data_dir, config)
    if pdf is not None and pdf.is_dir():  # told before anything is sold
        raise BadInput(f"--pdf names a file, and {pdf} is a folder.", f"Name a file in it: {pdf / 'tickets.pdf'}.")
    _make(pdf.absolute().parent if pdf else out)
    catalogue, sale = asyncio.run(_sell(found, window, line, (How(pay.value), tendered), draws_codes=not pdf))
    files = _write_pdf(pdf, catalogue, sale) if pdf else _write(out, sale)
    if as_json:
        _print_json(sale, files)
    else:
        _print(catalogue, sale, files)


async def _sell(
    settings: "Settings", window: str, line: "sales_pb2.OrderLine", paid: "tuple[How, str]", draws_codes: bool
) -> "tuple[Catalogue, Sale]":
    from datetime import datetime

    from ops import running
    from ops.devices import window_folder
    from ops.window import Pay as How
    from ops.window import open_window

    how, tendered = paid
    port = running.port(running.require_running(settings.data_dir), "sales_port")
    async with open_window(window_folder(settings.data_dir, window), port, window) as till:
        till.draws_codes = draws_codes
        catalogue = await till.catalogue()
        line.visit_date = line.visit_date or datetime.now(catalogue.venue.time_zone).date().isoformat()
        given = _amount(tendered, how is How.CASH, catalogue)
        order = await till.order([line])
        if given and given < order.total_minor:
            await till.cancel(order)
            raise _too_little(tendered, order, catalogue)
        return catalogue, await till.pay(order, how, given)


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


def _make(out: Path) -> None:
    """Before anything is sold."""
    import os

    from ops.errors import OpsError

    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OpsError(f"The folder {out} cannot be made: {error.strerror}.", "Nothing was sold.") from error
    if not os.access(out, os.W_OK | os.X_OK):
        raise OpsError(f"The folder {out} cannot be written by this user.", "Nothing was sold.")


def _write_pdf(pdf: Path, catalogue: "Catalogue", sale: "Sale") -> dict[int, Path]:
    from ops.errors import OpsError
    from sales.ticket_sheets import ticket_sheets

    data = ticket_sheets(f"Order {sale.order.order_id}", (_printed(catalogue, ticket) for ticket in sale.tickets))
    try:
        pdf.write_bytes(data)
    except OSError as error:
        raise OpsError(
            f"Order {sale.order.order_id} is sold, and {pdf} cannot be written: {error.strerror}."
        ) from error
    return dict.fromkeys((ticket.ticket_id for ticket in sale.tickets), pdf)


def _printed(catalogue: "Catalogue", ticket: "sales_pb2.Ticket") -> "PrintedTicket":
    from ops.window import money
    from sales.ticket_sheets import PrintedTicket

    slot = f", slot {ticket.slot}" if ticket.slot else ""
    price = f"{money(ticket.price_minor, catalogue.venue.currency_digits)} {catalogue.venue.currency}"
    who = f"{ticket.concession}, {ticket.persons} persons" if ticket.persons > 1 else ticket.concession
    lines = (catalogue.venue.name, f"{ticket.visit_date}{slot}", f"{who}, {price}", f"No. {ticket.ticket_id}")
    return PrintedTicket(ticket.token, catalogue.products[ticket.product_id].name, lines)


def _write(out: Path, sale: "Sale") -> dict[int, Path]:
    from ops.errors import OpsError

    paths = {ticket.ticket_id: out / f"{ticket.ticket_id}.png" for ticket in sale.tickets}
    try:
        for ticket in sale.tickets:
            paths[ticket.ticket_id].write_bytes(ticket.qr_png)
    except OSError as error:
        raise OpsError(
            f"Order {sale.order.order_id} is sold, and its images cannot be written to {out}: {error.strerror}."
        ) from error
    return paths


def _print_json(sale: "Sale", files: dict[int, Path]) -> None:
    import json

    from parkgate.sales.v1 import sales_pb2
    from ticketcore.token import to_qr_text

    tickets = [
        {
            "ticket_id": str(ticket.ticket_id),
            "product_id": ticket.product_id,
            "concession": ticket.concession,
            "visit_date": ticket.visit_date,
            "slot": ticket.slot,
            "persons": ticket.persons,
            "price_minor": ticket.price_minor,
            "code": to_qr_text(ticket.token),
            "image": str(files[ticket.ticket_id]),
        }
        for ticket in sale.tickets
    ]
    order = {
        "order_id": sale.order.order_id,
        "state": sales_pb2.OrderState.Name(sale.order.state).removeprefix("ORDER_STATE_"),
        "total_minor": sale.order.total_minor,
        "change_minor": sale.change_minor,
        "currency": sale.order.currency,
        "tickets": tickets,
    }
    print(json.dumps(order, indent=1))


def _print(catalogue: "Catalogue", sale: "Sale", files: dict[int, Path]) -> None:
    from ops.screen import OUT as SCREEN
    from ops.screen import table
    from ops.window import money
    from ticketcore.token import to_qr_text

    digits = catalogue.venue.currency_digits
    line = sale.order.lines[0]
    free = f", {line.free_count} of them free" if line.free_count else ""
    text = f"Order {sale.order.order_id}: {line.line.count} × {line.line.product_id} {line.line.concession}{free}"
    text += f", {money(sale.order.total_minor, digits)} {sale.order.currency}"
    SCREEN.print(text + (f", change {money(sale.change_minor, digits)}" if sale.change_minor else ""))
    file = files[sale.tickets[0].ticket_id]
    if file.suffix == ".pdf":
        SCREEN.print(f"{len(sale.tickets):,} tickets to print and cut: [cyan]{file}[/cyan]", soft_wrap=True)
        return
    rows = table(["Ticket", "Valid", "Price", "Image"], ["Price"])
    for ticket in sale.tickets:
        valid = ticket.visit_date + (f", slot {ticket.slot}" if ticket.slot else "")
        price = money(ticket.price_minor, digits)
        rows.add_row(str(ticket.ticket_id), valid, price, str(files[ticket.ticket_id]))
    SCREEN.print(rows)
    for ticket in sale.tickets[:1] if len(sale.tickets) > 5 else sale.tickets:
        SCREEN.print(f"[dim]Code of {ticket.ticket_id}:[/dim] ", end="")
        SCREEN.print(to_qr_text(ticket.token), markup=False, soft_wrap=True)
    gate = _a_gate(catalogue, line.line.product_id)
    folder = file.parent
    SCREEN.print(f"\nScan: [cyan]parkgate gate run --gate {gate} --source file:{folder}[/cyan]", soft_wrap=True)


def _a_gate(catalogue: "Catalogue", product_id: str) -> str:
    """A gate that the product opens."""
    product = catalogue.products[product_id]
    named = sorted(product.gates)
    return named[0] if named else next(gate.id for gate in catalogue.gates.values() if gate.zone in product.zones)
