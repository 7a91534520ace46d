"""The end of the day: waits until everything is counted, then compares every count with every other.

the demo's own     what gates heard, what windows took
sales              its tables, and its shifts
ledger             a recount, event by event
Postgres           what reporting's workers aggregated
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ops.clients import channel
from ops.demo.scene import FLOAT_MINOR, Scene
from ops.errors import OpsError
from parkgate.reporting.v1 import reporting_pb2 as pb
from parkgate.sales.v1 import sales_pb2

if TYPE_CHECKING:
    from parkgate.reporting.v1.reporting_pb2_grpc import ReportingServiceAsyncStub

CATCH_UP_S = 40.0
POLL_S = 0.1
GROUPS = {
    "product": pb.DIMENSION_PRODUCT,
    "channel": pb.DIMENSION_CHANNEL,
    "window": pb.DIMENSION_WINDOW,
}
EXPORTS = {
    "finance-by-product.xlsx": pb.ExportRequest(
        report=pb.REPORT_FINANCE, group_by=[pb.DIMENSION_PRODUCT], format=pb.FILE_FORMAT_XLSX
    ),
    "finance-by-window.csv": pb.ExportRequest(
        report=pb.REPORT_FINANCE, group_by=[pb.DIMENSION_CHANNEL, pb.DIMENSION_WINDOW], format=pb.FILE_FORMAT_CSV
    ),
    "scans-by-gate-and-reason.csv": pb.ExportRequest(
        report=pb.REPORT_SCANS, group_by=[pb.DIMENSION_GATE, pb.DIMENSION_REASON], format=pb.FILE_FORMAT_CSV
    ),
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


@asynccontextmanager
async def reporting(scene: Scene) -> AsyncIterator[ReportingServiceAsyncStub]:
    """The reporting service."""
    from parkgate.reporting.v1.reporting_pb2_grpc import ReportingServiceStub

    async with channel(scene.settings, scene.settings.reporting_port) as connection:
        yield ReportingServiceStub(connection)


async def close_tills(scene: Scene) -> list[Check]:
    """Every window counts its cash; the shift must agree with it."""
    checks = []
    for window, shift_id in scene.shifts.items():
        counted = FLOAT_MINOR + scene.takings.cash_minor[window]
        shift = await scene.windows[window].close_shift(shift_id, counted)
        checks.append(Check(f"cash in the till of {window}", scene.money(counted), scene.money(shift.expected_minor)))
    return checks


async def catch_up(scene: Scene, stub: ReportingServiceAsyncStub) -> sales_pb2.ReconcileResponse:
    """Waits until sales have handed everything to the ledger and reporting has read all of it. Raises: OpsError."""
    from ops.clients import sales

    deadline = time.monotonic() + CATCH_UP_S
    async with sales(scene.settings) as books:
        while (own := await books.Reconcile(sales_pb2.ReconcileRequest())).outbox_waiting or own.voids_waiting:
            _in_time(deadline, f"{own.outbox_waiting} of sales' messages are not acknowledged")
            await asyncio.sleep(POLL_S)
    while (behind := await _behind(stub)) != 0:
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


async def export(stub: ReportingServiceAsyncStub) -> dict[str, bytes]:
    """The reports as files, by name."""
    return {name: b"".join([part.content async for part in stub.Export(request)]) for name, request in EXPORTS.items()}


def compare(scene: Scene, books: Books) -> list[Check]:
    """Every comparison of the day's end."""
    return [*_scans(scene, books), *_occupancy(scene, books), *_finance(scene, books), *_counts(books)]


def _scans(scene: Scene, books: Books) -> list[Check]:
    keys = sorted(set(scene.heard.verdicts) | set(books.verdicts))
    return [
        Check(
            f"scans answered {reason or decision}",
            str(scene.heard.verdicts[decision, reason]),
            str(books.verdicts.get((decision, reason), 0)),
        )
        for decision, reason in keys
    ]


def _occupancy(scene: Scene, books: Books) -> list[Check]:
    counted = scene.counted_zones
    inside = {row.zone_number: row.persons_inside for row in books.occupancy}
    names = {number: scene.catalogue.zone_by_number[number].name for number in counted}
    return [
        Check(f"persons inside {names[number]}", str(scene.heard.inside[number]), str(inside.get(number, 0)))
        for number in sorted(counted)
    ]


def _finance(scene: Scene, books: Books) -> list[Check]:
    checks = []
    for name, report in books.finance.items():
        for row in [*report.rows, *report.totals]:
            foots = row.sold_minor - row.refunded_minor + row.moved_minor - row.fees_minor - row.admitted_minor
            checks.append(Check(f"finance by {name} foots", scene.money(foots), scene.money(row.deferred_minor)))
        checks += [*_totals(scene, name, report), *_sums(scene, name, report)]
    balance = sum(one.balance_minor for one in books.sales.balances)
    checks.append(Check("sum of all postings (I9)", scene.money(0), scene.money(balance)))
    return checks


def _totals(scene: Scene, name: str, report: pb.QueryFinanceResponse) -> list[Check]:
    total, took = total_of(report), scene.takings
    return [
        Check(f"money sold by {name}", scene.money(took.sold_minor), scene.money(total.sold_minor)),
        Check(f"money refunded by {name}", scene.money(took.refunded_minor), scene.money(total.refunded_minor)),
        Check(f"tickets sold by {name}", str(took.tickets_sold), str(total.tickets_sold)),
        Check(f"tickets refunded by {name}", str(took.tickets_refunded), str(total.tickets_refunded)),
    ]


def _sums(scene: Scene, name: str, report: pb.QueryFinanceResponse) -> list[Check]:
    total = total_of(report)
    return [
        Check(
            f"{column} rows by {name} add up",
            scene.money(sum(_cell(row, column) for row in report.rows)),
            scene.money(_cell(total, column)),
        )
        for column in ("sold", "refunded", "fees", "admitted", "deferred")
    ]


def _cell(row: Any, column: str) -> int:
    return int(getattr(row, f"{column}_minor"))


def total_of(report: pb.QueryFinanceResponse) -> pb.FinanceRow:
    """The one total: the demo's park has one currency."""
    return report.totals[0] if report.totals else pb.FinanceRow()


def _counts(books: Books) -> list[Check]:
    sizes = (len(books.counts.sales), len(books.counts.ledger), len(books.counts.postgres))
    checks = [Check("reconciliation has all three counts", "True", str(all(sizes)))]
    return checks + [Check("reconciliation", "no difference", text) for text in books.counts.differences]
