"""The end of the demo's day: tills are counted, reports written, and its own count is held against the books.

What is compared with what is in `ops.books`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from ops import books
from ops.books import Books, Check, Seen, read
from ops.clients import channel, sales
from ops.demo.scene import FLOAT_MINOR, Scene
from parkgate.reporting.v1 import reporting_pb2 as pb
from parkgate.sales.v1 import sales_pb2

if TYPE_CHECKING:
    from parkgate.reporting.v1.reporting_pb2_grpc import ReportingServiceAsyncStub

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
    """Waits until everything is counted. Raises: OpsError."""
    async with sales(scene.settings) as windows:
        return await books.catch_up(windows, stub)


async def export(stub: ReportingServiceAsyncStub) -> dict[str, bytes]:
    """The reports as files, by name."""
    return {name: b"".join([part.content async for part in stub.Export(request)]) for name, request in EXPORTS.items()}


def compare(scene: Scene, found: Books) -> list[Check]:
    """Every comparison of the day's end."""
    return books.compare(Seen(scene.catalogue, scene.heard.verdicts, scene.heard.inside, scene.takings), found)


__all__ = ["Books", "Check", "catch_up", "close_tills", "compare", "export", "read", "reporting"]
