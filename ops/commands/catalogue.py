"""`parkgate catalogue`: what is sold, whether a folder's files are right, and putting them in force."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.commands.options import AsJson, Config, DataDir

if TYPE_CHECKING:
    from rich.table import Table

    from ops.settings import Settings
    from parkgate.sales.v1 import sales_pb2
    from ticketcore.catalogue import Bundle, Catalogue, Product

app = typer.Typer(help="Show, check and publish the park's catalogue.", no_args_is_help=True)
Folder = Annotated[
    Path | None, typer.Argument(help="A folder of .toml files.", show_default="the catalogue of the data folder")
]


@app.command()
def show(data_dir: DataDir = None, config: Config = None, as_json: AsJson = False) -> None:
    """The catalogue in force: products with their prices, slots, zones and gates; and whether gates decide by it."""
    import asyncio

    from ops.commands.options import settings
    from ops.screen import show_pending
    from ticketcore.catalogue_document import read_catalogue

    answer = asyncio.run(_get(settings(data_dir, config)))
    if as_json:
        print(answer.document.decode())
        return
    _print(answer.catalogue_version, read_catalogue(answer.document))
    show_pending(answer.catalogue_version, answer.pending)


@app.command()
def check(folder: Folder = None, data_dir: DataDir = None, config: Config = None) -> None:
    """Check the files of a folder; every fault is named with its file and line. Nothing is changed."""
    from ops.commands.options import settings
    from ops.screen import OUT
    from ops.services.catalogue import read_catalogue

    path = folder or settings(data_dir, config).catalogue_dir
    catalogue = read_catalogue(path)[1]
    sizes = f"{len(catalogue.products)} products, {len(catalogue.gates)} gates, {len(catalogue.zones)} zones"
    OUT.print(f"{path} is in order: {catalogue.venue.name}, {sizes}.", soft_wrap=True)


@app.command()
def publish(folder: Folder = None, data_dir: DataDir = None, config: Config = None) -> None:
    """Put the files of a folder in force, at once, for sales and gates. Tickets that were sold stay as they are.

    Exit code 1 when gates do not decide by it yet.
    """
    import asyncio

    from ops.commands.options import settings
    from ops.screen import OUT, show_pending
    from ops.services.catalogue import adopt, read_catalogue

    found = settings(data_dir, config)
    path = folder or found.catalogue_dir
    answer = asyncio.run(_publish(found, read_catalogue(path)[0]))
    if answer.changed:
        where = " for sales" if answer.pending else ""
        OUT.print(f"Catalogue {answer.catalogue_version} is in force{where}, from {path}.", soft_wrap=True)
    else:
        OUT.print(f"Nothing changed: catalogue {answer.catalogue_version} says the same as {path}.", soft_wrap=True)
    if not adopt(path, found):
        OUT.print(
            f"[yellow]The next start puts {found.catalogue_dir} in force again: change it there too.[/yellow]",
            soft_wrap=True,
        )
    show_pending(answer.catalogue_version, answer.pending)
    raise typer.Exit(1 if answer.pending else 0)


async def _get(settings: "Settings") -> "sales_pb2.GetCatalogueResponse":
    import grpc

    from ops.clients import sales
    from ops.running import require_running
    from ops.window import refused
    from parkgate.sales.v1 import sales_pb2

    require_running(settings.data_dir)
    async with sales(settings) as stub:
        try:
            return await stub.GetCatalogue(sales_pb2.GetCatalogueRequest())
        except grpc.aio.AioRpcError as error:
            raise refused(error) from error


async def _publish(settings: "Settings", document: dict[str, object]) -> "sales_pb2.PublishCatalogueResponse":
    import grpc

    from ops.clients import sales
    from ops.running import require_running
    from ops.window import new_id, refused
    from parkgate.sales.v1 import sales_pb2
    from ticketcore.catalogue_document import canonical_json

    require_running(settings.data_dir)
    request = sales_pb2.PublishCatalogueRequest(request_id=new_id(), document=canonical_json(document))
    async with sales(settings) as stub:
        try:
            return await stub.PublishCatalogue(request)
        except grpc.aio.AioRpcError as error:
            raise refused(error) from error


def _print(version: int, catalogue: "Catalogue") -> None:
    from ops.screen import OUT

    venue = catalogue.venue
    OUT.print(f"[bold]{venue.name}[/bold], catalogue {version}, {venue.time_zone}, prices in {venue.currency}\n")
    OUT.print(_price_table(catalogue))
    OUT.print("[dim]+ dearer on some dates[/dim]\n")
    if catalogue.bundles:
        OUT.print(_bundle_table(catalogue))
        OUT.print()
    OUT.print(_rights_table(catalogue))
    OUT.print()
    if catalogue.schedules:
        OUT.print(_slot_table(catalogue))
        OUT.print()
    OUT.print(_zone_table(catalogue))


def _price_table(catalogue: "Catalogue") -> "Table":
    from ops.screen import table

    concessions = [one for one in catalogue.concessions if any(_prices(p, one) for p in catalogue.products.values())]
    rows = table(["Product", "Name", *concessions], concessions)
    for product in catalogue.products.values():
        prices = [_lowest(product, one, catalogue.venue.currency_digits) for one in concessions]
        rows.add_row(product.id, product.name, *prices)
    return rows


def _bundle_table(catalogue: "Catalogue") -> "Table":
    from ops.screen import table

    concessions = [one for one in catalogue.concessions if any(_prices(b, one) for b in catalogue.bundles.values())]
    rows = table(["Bundle", "Of", *concessions], concessions)
    for bundle in catalogue.bundles.values():
        parts = " + ".join(f"{part.count} {part.product}" if part.count > 1 else part.product for part in bundle.parts)
        prices = [_lowest(bundle, one, catalogue.venue.currency_digits) for one in concessions]
        rows.add_row(bundle.id, parts, *prices)
    return rows


def _rights_table(catalogue: "Catalogue") -> "Table":
    from ops.screen import table

    numbers = ["Entries", "Persons", "Days"]
    rows = table(["Product", *numbers, "From", "Slots of", "Zones"], numbers)
    for product in catalogue.products.values():
        counts = (str(product.entries or "any"), str(product.persons), str(product.valid_days))
        opens = _clock(product.opens_minute) if product.opens_minute else "-"
        rows.add_row(product.id, *counts, opens, product.slot_schedule or "-", ", ".join(sorted(product.zones)))
    return rows


def _slot_table(catalogue: "Catalogue") -> "Table":
    from ops.screen import table

    rows = table(["Slots of", "Number", "From", "To", "Places"], ["Number", "Places"])
    for schedule in catalogue.schedules.values():
        for slot in schedule.slots:
            times = (_clock(slot.starts_minute), _clock(slot.ends_minute))
            rows.add_row(schedule.id, str(slot.number), *times, str(slot.quota))
    return rows


def _zone_table(catalogue: "Catalogue") -> "Table":
    from ops.screen import table

    rows = table(["Zone", "Name", "Capacity", "Gates"], ["Capacity"])
    for zone in catalogue.zones.values():
        gates = ", ".join(gate.id for gate in catalogue.gates.values() if gate.zone == zone.id)
        rows.add_row(zone.id, zone.name, str(zone.capacity or "-"), gates)
    return rows


def _prices(product: "Product | Bundle", concession: str) -> list[int]:
    return [price.price_minor for price in product.prices if price.concession == concession]


def _lowest(product: "Product | Bundle", concession: str, digits: int) -> str:
    from ops.window import money

    prices = _prices(product, concession)
    if not prices:
        return "-"
    return money(min(prices), digits) + ("+" if max(prices) > min(prices) else "")


def _clock(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"
