"""The end of a day that was watched: waits until everything is counted, then compares every count with every other.

the watcher's own  what gates heard, what windows took
sales              its tables
ledger             a recount, event by event
Postgres           what reporting's workers aggregated

Where the park had books before the day, what they said then is taken off.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ops.errors import OpsError
from ops.window import money
from parkgate.reporting.v1 import reporting_pb2 as pb
from parkgate.sales.v1 import sales_pb2

if TYPE_CHECKING:
    from parkgate.reporting.v1.reporting_pb2_grpc import ReportingServiceAsyncStub
    from parkgate.sales.v1.sales_pb2_grpc import SalesServiceAsyncStub
    from ticketcore.catalogue import Catalogue

CATCH_UP_S = 40.0
POLL_S = 0.1
GROUPS = {
    "product": pb.DIMENSION_PRODUCT,
    "channel": pb.DIMENSION_CHANNEL,
    "window": pb.DIMENSION_WINDOW,
}


@dataclass(frozen=True, slots=True)
class Check:
    """Two counts that must be the same."""

    what: str
    expected: str
    actual: str

    @property
    def failure(self) -> str:
        """Empty if they are."""
        return "" if self.expected == self.actual else f"{self.what}: expected {self.expected}, got {self.actual}"


@dataclass(frozen=True, slots=True)
class Books:
    """Everything that reporting says of the day, and sales' own count."""

    verdicts: dict[tuple[str, str], int]
    occupancy: Sequence[pb.OccupancyRow]
    finance: dict[str, pb.QueryFinanceResponse]
    counts: pb.GetCountsResponse
    sales: sales_pb2.ReconcileResponse


@dataclass(slots=True)
class Takings:
    """What windows took and paid back, counted by whoever watched them."""

    tickets_sold: int = 0
    sold_minor: int = 0
    tickets_refunded: int = 0
    refunded_minor: int = 0
    cash_minor: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Seen:
    """The watcher's own count: `verdicts` by decision and reason, each scan once; persons `inside` by zone number."""

    catalogue: Catalogue
    verdicts: Mapping[tuple[str, str], int]
    inside: Mapping[int, int]
    takings: Takings

    def money(self, minor: int) -> str:
        """An amount with its currency."""
        return f"{money(minor, self.catalogue.venue.currency_digits)} {self.catalogue.venue.currency}"


def counted_zones(catalogue: Catalogue) -> frozenset[int]:
    """Numbers of the zones whose gates count who is inside."""
    return frozenset(catalogue.zones[gate.zone].number for gate in catalogue.gates.values() if gate.counts_inside)


async def catch_up(sales: SalesServiceAsyncStub, reporting: ReportingServiceAsyncStub) -> sales_pb2.ReconcileResponse:
    """Waits until sales have handed everything to the ledger and reporting has read all of it. Raises: OpsError."""
    deadline = time.monotonic() + CATCH_UP_S
    while (own := await sales.Reconcile(sales_pb2.ReconcileRequest())).outbox_waiting or own.voids_waiting:
        _in_time(deadline, f"{own.outbox_waiting} of sales' messages are not acknowledged")
        await asyncio.sleep(POLL_S)
    while (behind := await _behind(reporting)) != 0:
        _in_time(deadline, f"reporting is {behind} ledger entries behind")
        await asyncio.sleep(POLL_S)
    return own


async def _behind(stub: ReportingServiceAsyncStub) -> int:
    progress = await stub.GetProgress(pb.GetProgressRequest())
    return sum(one.lag_entries for one in progress.partitions) if progress.partitions else -1


def _in_time(deadline: float, what: str) -> None:
    if time.monotonic() > deadline:
        raise OpsError(f"The books did not close within {CATCH_UP_S:g} s: {what}.")


async def read(stub: ReportingServiceAsyncStub, own: sales_pb2.ReconcileResponse) -> Books:
    """All reports of the day."""
    by = [pb.DIMENSION_DECISION, pb.DIMENSION_REASON]
    scans = await stub.QueryScans(pb.QueryScansRequest(group_by=by))
    occupancy = await stub.QueryOccupancy(pb.QueryOccupancyRequest())
    finance = {name: await stub.QueryFinance(pb.QueryFinanceRequest(group_by=[by])) for name, by in GROUPS.items()}
    counts = await stub.GetCounts(pb.GetCountsRequest())
    verdicts = {(row.group.decision, row.group.reason): row.scans for row in scans.rows}
    return Books(verdicts, occupancy.rows, finance, counts, own)


def compare(seen: Seen, books: Books, before: Books | None = None) -> list[Check]:
    """Every comparison of the day's end. `before`: the books that the park had when the day began."""
    return [
        *_scans(seen, books, before),
        *_occupancy(seen, books, before),
        *_finance(seen, books, before),
        *_counts(books),
    ]


def _scans(seen: Seen, books: Books, before: Books | None) -> list[Check]:
    counted = dict(books.verdicts)
    for key, count in before.verdicts.items() if before else ():
        counted[key] = counted.get(key, 0) - count
    keys = sorted(set(seen.verdicts) | {key for key, count in counted.items() if count})
    return [
        Check(
            f"scans answered {reason or decision}",
            str(seen.verdicts.get((decision, reason), 0)),
            str(counted.get((decision, reason), 0)),
        )
        for decision, reason in keys
    ]


def _occupancy(seen: Seen, books: Books, before: Books | None) -> list[Check]:
    inside = Counter({row.zone_number: row.persons_inside for row in books.occupancy})
    inside.subtract({row.zone_number: row.persons_inside for row in before.occupancy} if before else {})
    names = {number: seen.catalogue.zone_by_number[number].name for number in counted_zones(seen.catalogue)}
    return [
        Check(f"persons inside {name}", str(seen.inside.get(number, 0)), str(inside[number]))
        for number, name in sorted(names.items())
    ]


def _finance(seen: Seen, books: Books, before: Books | None) -> list[Check]:
    checks = []
    for name, report in books.finance.items():
        named = [(row, _row_name(name, row)) for row in report.rows] + [(row, "in total") for row in report.totals]
        for row, which in named:
            foots = row.sold_minor - row.refunded_minor + row.moved_minor - row.fees_minor - row.admitted_minor
            checks.append(Check(f"finance by {name} foots, {which}", seen.money(foots), seen.money(row.deferred_minor)))
        earlier = total_of(before.finance[name]) if before else pb.FinanceRow()
        checks += [*_totals(seen, name, (total_of(report), earlier)), *_sums(seen, name, report)]
    balance = sum(one.balance_minor for one in books.sales.balances)
    checks.append(Check("sum of all postings (I9)", seen.money(0), seen.money(balance)))
    return checks


def _row_name(by: str, row: pb.FinanceRow) -> str:
    """Whose row it is, by what the report is grouped by."""
    group = row.group
    product = group.product_name or (f"product {group.product_number}" if group.product_number else "")
    return {"product": product, "channel": group.channel, "window": group.window_id}[by] or f"no {by}"


def _totals(seen: Seen, name: str, totals: tuple[pb.FinanceRow, pb.FinanceRow]) -> list[Check]:
    (total, earlier), took = totals, seen.takings
    sold, refunded = total.sold_minor - earlier.sold_minor, total.refunded_minor - earlier.refunded_minor
    count, back = total.tickets_sold - earlier.tickets_sold, total.tickets_refunded - earlier.tickets_refunded
    return [
        Check(f"money sold by {name}", seen.money(took.sold_minor), seen.money(sold)),
        Check(f"money refunded by {name}", seen.money(took.refunded_minor), seen.money(refunded)),
        Check(f"tickets sold by {name}", str(took.tickets_sold), str(count)),
        Check(f"tickets refunded by {name}", str(took.tickets_refunded), str(back)),
    ]


def _sums(seen: Seen, name: str, report: pb.QueryFinanceResponse) -> list[Check]:
    total = total_of(report)
    return [
        Check(
            f"{column} rows by {name} add up",
            seen.money(sum(_cell(row, column) for row in report.rows)),
            seen.money(_cell(total, column)),
        )
        for column in ("sold", "refunded", "fees", "admitted", "deferred")
    ]


def _cell(row: Any, column: str) -> int:
    return int(getattr(row, f"{column}_minor"))


def total_of(report: pb.QueryFinanceResponse) -> pb.FinanceRow:
    """The one total: a park has one currency."""
    return report.totals[0] if report.totals else pb.FinanceRow()


def _counts(books: Books) -> list[Check]:
    sizes = (len(books.counts.sales), len(books.counts.ledger), len(books.counts.postgres))
    checks = [Check("reconciliation has all three counts", "True", str(all(sizes)))]
    return checks + [Check("reconciliation", "no difference", text) for text in books.counts.differences]
