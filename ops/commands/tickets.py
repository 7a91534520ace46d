"""`parkgate tickets`: writes the tickets of an order that is paid again, and asks for no money."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.commands.options import AsJson, Config, DataDir

if TYPE_CHECKING:
    from ops.settings import Settings
    from ops.window import Sale
    from ticketcore.catalogue import Catalogue

OUT = Path("tickets")
WINDOW = "w1"
MAX_ID = 2**63 - 1


def tickets(  # noqa: PLR0913 - one argument a command-line option
    order_id: Annotated[int, typer.Argument(metavar="ORDER_ID", help="The order, as sold.", min=1, max=MAX_ID)],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder that gets the images.")] = OUT,
    pdf: Annotated[
        Path | None, typer.Option(metavar="FILE", help="One PDF of all tickets to print, instead of images.")
    ] = None,
    window: Annotated[str, typer.Option(help="The window that sold it; it sees its own orders only.")] = WINDOW,
    data_dir: DataDir = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Write the tickets of a paid order again: a printer jammed, a folder was full. Nobody pays twice.

    They are the same tickets with the same codes: each is still admitted once. What was refunded or moved to another
    date is left out.
    """
    import asyncio

    from ops.commands.options import settings
    from ops.errors import OpsError
    from ops.ticket_files import TicketFiles

    files = TicketFiles(out, pdf)
    catalogue, sale = asyncio.run(_read(settings(data_dir, config), window, order_id, draws_codes=pdf is None))
    files.try_out(len(sale.tickets))
    try:
        written = files.write(catalogue, order_id, sale.tickets)
    except OSError as error:
        raise OpsError(
            f"The tickets of order {order_id} cannot be written to {pdf or out}: {error.strerror}.",
            "They are kept: try another place.",
        ) from error
    show(catalogue, sale, written, as_json=as_json)


def again(window: str, data_dir: Path | None, config: Path | None) -> str:
    """The options with which the same window of the same installation is asked again."""
    import shlex

    given = {"--window": window if window != WINDOW else None, "--data-dir": data_dir, "--config": config}
    return "".join(f" {name} {shlex.quote(str(value))}" for name, value in given.items() if value is not None)


async def _read(settings: "Settings", window: str, order_id: int, *, draws_codes: bool) -> "tuple[Catalogue, Sale]":
    """Raises: OpsError for an order that is not paid, or has no ticket left."""
    from ops import running
    from ops.devices import window_folder
    from ops.errors import OpsError
    from ops.window import Sale, open_window
    from parkgate.sales.v1 import sales_pb2

    port = running.port(running.require_running(settings.data_dir), "sales_port")
    async with open_window(window_folder(settings.data_dir, window), port, window) as till:
        till.draws_codes = draws_codes
        order = await till.read(order_id)
        found = await till.tickets(order_id)
        good = tuple(one for one in found if one.lifecycle == sales_pb2.TICKET_LIFECYCLE_ACTIVE)
        if not good:
            raise OpsError(f"Order {order_id} {_why(order.state)}.")
        return await till.catalogue(), Sale(order, good, 0)


def _why(state: int) -> str:
    """Why an order has no tickets to write."""
    from parkgate.sales.v1 import sales_pb2 as pb

    said: dict[int, str] = {
        pb.ORDER_STATE_HELD: "is not paid: it has no tickets",
        pb.ORDER_STATE_PAYING: "is being paid: its tickets come with the payment",
        pb.ORDER_STATE_PAID: "is paid, and its tickets are not issued yet: ask again in a moment",
        pb.ORDER_STATE_CANCELED: "was canceled: it has no tickets",
        pb.ORDER_STATE_LAPSED: "was not paid in time: it has no tickets",
    }
    return said.get(state, "has no ticket that is still good: all were refunded or moved")


def show(catalogue: "Catalogue", sale: "Sale", files: dict[int, Path], *, as_json: bool) -> None:
    """An order and its files, for a person or a program."""
    if as_json:
        _print_json(sale, files)
    else:
        _print(catalogue, sale, files)


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
