"""The evening of the rehearsal: its own count of scans, guests and money against the books, as after a demo."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc

from loadtest.surge.lines import credentials
from loadtest.surge.parts import Certificate
from loadtest.surge.record import Count
from ops import books
from ops.books import Books, Seen, Takings
from ops.errors import OpsError
from ops.window import money, refused
from parkgate.reporting.v1.reporting_pb2_grpc import ReportingServiceStub
from parkgate.sales.v1 import sales_pb2
from parkgate.sales.v1.sales_pb2_grpc import SalesServiceStub
from ticketcore.catalogue import Catalogue
from ticketcore.catalogue_document import read_catalogue

if TYPE_CHECKING:
    from loadtest.surge.target import Target
    from parkgate.reporting.v1.reporting_pb2_grpc import ReportingServiceAsyncStub
    from parkgate.sales.v1.sales_pb2_grpc import SalesServiceAsyncStub


@asynccontextmanager
async def offices(target: Target) -> AsyncIterator[tuple[SalesServiceAsyncStub, ReportingServiceAsyncStub]]:
    """Sales and reporting."""
    secret = secret_of(target.service)
    async with (
        grpc.aio.secure_channel(target.sales, secret) as sales,
        grpc.aio.secure_channel(target.reporting, secret) as reporting,
    ):
        yield SalesServiceStub(sales), ReportingServiceStub(reporting)


async def catalogue_at(address: str, service: Certificate) -> Catalogue:
    """The catalogue in force at a sales service. Raises: OpsError."""
    async with grpc.aio.secure_channel(address, secret_of(service)) as channel:
        try:
            answer = await SalesServiceStub(channel).GetCatalogue(sales_pb2.GetCatalogueRequest())
        except grpc.aio.AioRpcError as error:
            why = refused(error)
            raise OpsError(f"Sales at {address}: {why.message}", why.mend) from error
    return read_catalogue(answer.document)


def secret_of(files: Certificate) -> grpc.ChannelCredentials:
    """A client's own certificate. Raises: OSError."""
    return credentials(Path(files.ca), Path(files.certificate), Path(files.key))


async def read_books(target: Target) -> Books:
    """The books once everything is counted. Raises: OpsError when they do not close in time."""
    async with offices(target) as (sales, reporting):
        own = await books.catch_up(sales, reporting)
        return await books.read(reporting, own)


def seen(target: Target, gates: dict[str, Any], shop: dict[str, Any]) -> Seen:
    """The rehearsal's own count."""
    verdicts = {(decision, reason): number for decision, reason, number in gates["verdicts"]}
    inside = {int(zone): persons for zone, persons in gates["inside"].items()}
    takings = Takings(shop["tickets_sold"], shop["sold_minor"], shop["tickets_refunded"], shop["refunded_minor"])
    return Seen(target.catalogue, verdicts, inside, takings)


def compare(
    target: Target, results: tuple[dict[str, Any], dict[str, Any]], now: Books, before: Books | None
) -> list[Count]:
    """Every comparison: the books', the tills', and what no guest may ever have both of (I5)."""
    gates, shop = results
    own = seen(target, gates, shop)
    found = [Count(one.what, one.expected, one.actual) for one in books.compare(own, now, before)]
    found += [
        Count(f"cash in the till of {name}", own.money(counted), own.money(expected))
        for name, counted, expected in shop["tills"]
    ]
    both = set(gates["admitted_refunders"]) & set(shop["refunded"])
    gone = set(gates["refunded_heard"]) - set(shop["refunded"])
    admitted, fees = tickets(now, before)["admitted"], _of_day(now, before, "fees_minor")
    return [
        *found,
        Count("fees kept, by the windows and by finance", own.money(shop["fee_minor"]), own.money(fees)),
        Count("tickets both refunded and admitted (I5)", "0", str(len(both))),
        Count("tickets refused as refunded that no window refunded", "0", str(len(gone))),
        Count("tickets admitted, by the gates and by finance", str(gates["tickets_admitted"]), str(admitted)),
        Count("scans that were never answered", "0", str(gates["unanswered"])),
        Count("passages that were never booked", "0", str(gates["unbooked"])),
    ]


def tickets(now: Books, before: Books | None) -> dict[str, int]:
    """What became of the tickets of the day: sold = admitted + refunded + unused."""
    sold, admitted, refunded = (_of_day(now, before, f"tickets_{what}") for what in ("sold", "admitted", "refunded"))
    issued = _issued(now) - (_issued(before) if before else 0)
    return {
        "sold": sold,
        "issued": issued,
        "admitted": admitted,
        "refunded": refunded,
        "unused": sold - admitted - refunded,
    }


def _of_day(now: Books, before: Books | None, column: str) -> int:
    """Of finance's total: what it says now, less what it said before the day."""
    earlier = getattr(books.total_of(before.finance["product"]), column) if before else 0
    return int(getattr(books.total_of(now.finance["product"]), column)) - int(earlier)


def _issued(found: Books) -> int:
    return sum(row.issued_tickets for row in found.sales.totals)


def amounts(target: Target, now: Books, before: Books | None) -> dict[str, str]:
    """The day's money, in words."""
    venue = target.catalogue.venue
    names = ("sold", "refunded", "fees", "admitted", "deferred")
    values = {name: _of_day(now, before, f"{name}_minor") for name in names}
    return {name: f"{money(value, venue.currency_digits)} {venue.currency}" for name, value in values.items()}
