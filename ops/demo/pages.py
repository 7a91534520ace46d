"""The demo's two pages: the park in the morning, its books in the evening."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

from ops.books import Books, counted_zones, total_of
from ops.demo.scene import Scene
from ops.demo.screen import Screen, numbers
from parkgate.reporting.v1 import reporting_pb2 as pb
from ticketcore.catalogue import Catalogue

COLUMNS = ("sold", "refunded", "fees", "admitted", "deferred")


def opening(screen: Screen, catalogue: Catalogue, changes: Sequence[str]) -> None:
    """What this is, and the park from its files."""
    venue = catalogue.venue
    screen.title(
        "Parkgate · one park day, end to end",
        [
            f"{venue.name}: {len(catalogue.products)} products, {len(catalogue.gates)} gates, "
            f"{len(catalogue.zones)} zones, {len(catalogue.concessions)} concessions, from the files in catalogue/.",
            "Only for this demo: " + "; ".join(changes) + ".",
        ],
    )
    rows = numbers("Product", ())
    for heading in ("Zones", "From", "Entries", "Persons", "Special"):
        rows.add_column(heading)
    for product in catalogue.products.values():
        lowest = min(price.price_minor for price in product.prices)
        special = [
            "timed slots" if product.slot_schedule else "",
            "identity shown" if product.identity_required else "",
            f"{product.valid_days} days" if product.valid_days > 1 else "",
            f"from {product.opens_minute // 60}:00" if product.opens_minute else "",
        ]
        rows.add_row(
            product.name,
            ", ".join(sorted(product.zones)),
            f"{lowest / 10**venue.currency_digits:.2f}",
            str(product.entries or "any"),
            str(product.persons),
            ", ".join(text for text in special if text),
        )
    screen.table(rows)


def closing(screen: Screen, scene: Scene, books: Books) -> None:
    """Verdicts, occupancy, finance, and the three counts."""
    _verdicts(screen, books)
    _occupancy(screen, scene, books)
    for name, report in books.finance.items():
        _finance(screen, scene, name, report)
    _counts(screen, scene, books)


def _verdicts(screen: Screen, books: Books) -> None:
    rows = numbers("Verdict", ("scans",))
    rows.add_column(" ")
    rows.add_column("Verdict")
    rows.add_column("scans", justify="right")
    found = sorted(books.verdicts.items(), key=lambda item: -item[1])
    half = (len(found) + 1) // 2
    for left, right in zip_longest(found[:half], found[half:]):
        cells = [left[0][1] or left[0][0], str(left[1]), ""]
        rows.add_row(*cells, *((right[0][1] or right[0][0], str(right[1])) if right else ("", "")))
    screen.table(rows)
    screen.note("")


def _occupancy(screen: Screen, scene: Scene, books: Books) -> None:
    rows = numbers("Zone", ("in", "out", "inside", "capacity"))
    counted = counted_zones(scene.catalogue)
    for row in books.occupancy:
        zone = scene.catalogue.zone_by_number[row.zone_number]
        inside = str(row.persons_inside) if zone.number in counted else "not counted"
        rows.add_row(zone.name, str(row.persons_in), str(row.persons_out), inside, str(zone.capacity or "-"))
    screen.table(rows)
    screen.note("")


def _finance(screen: Screen, scene: Scene, name: str, report: pb.QueryFinanceResponse) -> None:
    rows = numbers(f"{scene.catalogue.venue.currency} by {name}", ("tickets", *COLUMNS))
    for row in report.rows:
        rows.add_row(_group(scene, name, row), *_cells(scene, row))
    rows.add_row("[bold]total[/bold]", *(f"[bold]{cell}[/bold]" for cell in _cells(scene, total_of(report))))
    screen.table(rows)
    screen.note("")


def _group(scene: Scene, name: str, row: pb.FinanceRow) -> str:
    if name == "product":
        found = scene.catalogue.product_by_number.get(row.group.product_number)
        return found.name if found else str(row.group.product_number)
    return (row.group.channel if name == "channel" else row.group.window_id) or "-"


def _cells(scene: Scene, row: pb.FinanceRow) -> list[str]:
    amounts = [scene.amount(getattr(row, f"{column}_minor")) for column in COLUMNS]
    return [str(row.tickets_sold), *amounts]


def _counts(screen: Screen, scene: Scene, books: Books) -> None:
    """The three counts side by side, summed by what is counted, and what the demo itself saw."""
    sums = [_summed(counts) for counts in (books.counts.sales, books.counts.ledger, books.counts.postgres)]
    seen = _seen(scene)
    rows = numbers("Three independent counts", ("sales", "ledger", "Postgres", "money", "windows and gates saw"))
    for what in dict.fromkeys(name for counts in sums for name in counts):
        units = [str(counts[what][0]) if what in counts else "-" for counts in sums]
        money = next(counts[what][1] for counts in sums if what in counts)
        rows.add_row(what, *units, scene.money(money) if money else "", seen.get(what, "-"))
    screen.table(rows)
    good = not books.counts.differences
    screen.line(
        "to the unit and the cent" if good else "the counts differ",
        *(books.counts.differences or [f"{len(books.counts.ledger)} numbers of the ledger", "no difference"]),
        good=good,
    )


def _seen(scene: Scene) -> dict[str, str]:
    admitted = sum(count for (decision, _), count in scene.heard.verdicts.items() if decision == "ADMIT")
    refused = sum(scene.heard.verdicts.values()) - admitted
    return {"scans": str(admitted), "refused": str(refused), "refunded": str(scene.takings.tickets_refunded)}


def _summed(counts: Sequence[pb.Count]) -> dict[str, tuple[int, int]]:
    found: dict[str, tuple[int, int]] = {}
    for one in counts:
        what = one.name.partition(" ")[0]
        units, money = found.get(what, (0, 0))
        found[what] = (units + one.units, money + one.amount_minor)
    return found
