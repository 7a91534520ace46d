"""The reporting service: translates calls into queries. mTLS, health, reflection. No rule lives here."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import grpc
import redis.asyncio as redis
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection

from parkgate.reporting.v1 import reporting_pb2 as pb
from parkgate.reporting.v1 import reporting_pb2_grpc as pb_grpc
from reporting.access import caller_of, serial_of
from reporting.config import ReportingConfig
from reporting.database import Connection, Pool, make_pool, migrate, reading
from reporting.export import CsvWriter, Table, XlsxWriter
from reporting.log_reader import LogReader, make_client
from reporting.queries.counts import postgres_book, sales_book
from reporting.queries.park import Park, refresh
from reporting.queries.places import occupancy, progress
from reporting.queries.rows import (
    Row,
    all_rows,
    as_of_ms,
    fill,
    fill_measures,
    key_columns,
    keys_of,
    page_of,
    totals_of,
)
from reporting.queries.statements import (
    Filter,
    Statement,
    finance_statement,
    sales_statement,
    scans_statement,
)
from reporting.reconcile import CountBook, compare
from reporting.recount import recount
from ticketcore.errors import (
    DamagedDataError,
    InvalidInputError,
    NotPermittedError,
    ParkgateError,
    TransientError,
    UnavailableError,
)

NAME = "parkgate.reporting.v1.ReportingService"
HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
PAGE_SIZE = 1_000
MAX_PAGE_SIZE = 10_000
CHUNK_BYTES = 64 * 1024
MAX_CALLS = 64
"""Questions at once, four of which Postgres answers at a time. Beyond: RESOURCE_EXHAUSTED, ask again."""
OPTIONS = [("grpc.so_reuseport", 0), ("grpc.max_concurrent_streams", 100), ("grpc.server_handshake_timeout_ms", 10_000)]
STATUS = {
    InvalidInputError: grpc.StatusCode.INVALID_ARGUMENT,
    NotPermittedError: grpc.StatusCode.PERMISSION_DENIED,
    TransientError: grpc.StatusCode.UNAVAILABLE,
    DamagedDataError: grpc.StatusCode.DATA_LOSS,
}
Context = grpc.aio.ServicerContext[Any, Any]


class ReportingServicer(pb_grpc.ReportingServiceServicer):
    """Answers reports from Postgres; only counts and progress ask the ledger too."""

    def __init__(self, config: ReportingConfig, pool: Pool, ledger: redis.Redis) -> None:
        self._config = config
        self._pool = pool
        self._ledger = ledger
        self._park = Park()

    async def QueryScans(self, request: pb.QueryScansRequest, context: Context) -> pb.QueryScansResponse:
        """See the protocol."""
        async with guarded(context, self._config):
            chosen = self._filter(request.period, request.selection, request.gate_numbers, request.product_numbers)
            statement = scans_statement(request.group_by, chosen)
            response = pb.QueryScansResponse()
            totals = await self._page(request, statement, response, pb.ScanRow)
            for row in totals:
                fill_measures(response.total, statement, row)
            return response

    async def QuerySales(self, request: pb.QuerySalesRequest, context: Context) -> pb.QuerySalesResponse:
        """See the protocol."""
        async with guarded(context, self._config):
            statement = sales_statement(request.group_by, self._filter(request.period))
            response = pb.QuerySalesResponse()
            totals = await self._page(request, statement, response, pb.SalesRow)
            response.totals.extend(fill_measures(pb.SalesRow(), statement, row) for row in totals)
            return response

    async def QueryFinance(self, request: pb.QueryFinanceRequest, context: Context) -> pb.QueryFinanceResponse:
        """See the protocol."""
        async with guarded(context, self._config):
            statement = finance_statement(request.group_by, self._filter(request.period))
            response = pb.QueryFinanceResponse()
            totals = await self._page(request, statement, response, pb.FinanceRow)
            response.totals.extend(fill_measures(pb.FinanceRow(), statement, row) for row in totals)
            return response

    async def QueryOccupancy(self, request: pb.QueryOccupancyRequest, context: Context) -> pb.QueryOccupancyResponse:
        """See the protocol."""
        async with guarded(context, self._config):
            day = checked_date(request.park_date) or self._today()
            async with reading(self._pool) as connection:
                rows = await occupancy(connection, day, await self._known(connection))
                return pb.QueryOccupancyResponse(rows=rows, park_date=day, as_of_time_ms=await as_of_ms(connection))

    async def GetCounts(self, request: pb.GetCountsRequest, context: Context) -> pb.GetCountsResponse:
        """See the protocol."""
        async with guarded(context, self._config):
            async with reading(self._pool) as connection:
                books = [await sales_book(connection), await postgres_book(connection)]
                park = await self._known(connection)
            try:
                books.append(await recount(self._ledger, self._config.partitions))
            except (redis.RedisError, OSError) as error:
                raise UnavailableError("the ledger is away; ask again shortly") from error
            sales, postgres, ledger = (_counts(book, park) for book in books)
            differences = [str(difference) for difference in compare(books)]
            return pb.GetCountsResponse(sales=sales, postgres=postgres, ledger=ledger, differences=differences)

    async def GetProgress(self, request: pb.GetProgressRequest, context: Context) -> pb.GetProgressResponse:
        """See the protocol."""
        async with guarded(context, self._config):
            async with reading(self._pool) as connection:
                known = {row.partition: row for row in await progress(connection)}
            response = pb.GetProgressResponse()
            for partition in self._config.partitions:
                row = known.get(partition, pb.PartitionProgress(partition=partition))
                row.ledger_sequence = await LogReader(self._ledger, partition).last_sequence()
                row.lag_entries = max(0, row.ledger_sequence - row.reported_sequence)
                response.partitions.append(row)
            return response

    async def Export(self, request: pb.ExportRequest, context: Context) -> AsyncIterator[pb.ExportResponse]:
        """See the protocol."""
        async with guarded(context, self._config):
            statement = self._exported(request)
            table = Table(
                [*key_columns(statement), *statement.labels, *statement.measures],
                self._config.currency_digits,
                ZoneInfo(self._config.time_zone),
            )
            with tempfile.TemporaryDirectory(prefix="parkgate-export-") as folder:
                writer = _writer(request, table, Path(folder) / "report.xlsx")
                async for response in self._written(statement, writer):
                    yield response

    async def _written(self, statement: Statement, writer: CsvWriter | XlsxWriter) -> AsyncIterator[pb.ExportResponse]:
        rows, width = 0, len(statement.dimensions)
        async with reading(self._pool) as connection:
            park = await self._known(connection)
            async for row in all_rows(connection, statement):
                writer.write([*keys_of(statement, row, park), *row[width:]])
                rows += 1
                if rows % 500 == 0:
                    yield pb.ExportResponse(content=writer.take(), rows=rows)
            for total in await totals_of(connection, statement):
                writer.write_total([*("" for _ in key_columns(statement)), *total])
        rest = await asyncio.to_thread(writer.finish)
        for start in range(0, max(len(rest), 1), CHUNK_BYTES):
            yield pb.ExportResponse(content=rest[start : start + CHUNK_BYTES], rows=rows)

    async def _page(self, request: Any, statement: Statement, response: Any, row_type: Callable[[], Row]) -> list[Any]:
        """Fills a page; answers the totals. One view of the books for both."""
        size, start = _page_bounds(request.page_size, request.page_token)
        async with reading(self._pool) as connection:
            rows = await page_of(connection, statement, size, start)
            totals = await totals_of(connection, statement)
            park = await self._known(connection)
            if hasattr(response, "as_of_time_ms"):
                response.as_of_time_ms = await as_of_ms(connection)
        response.rows.extend(fill(row_type(), statement, row, park) for row in rows[:size])
        response.next_page_token = str(start + size) if len(rows) > size else ""
        return totals

    async def _known(self, connection: Connection) -> Park:
        """The park as sales have published it up to now."""
        await refresh(self._park, connection)
        return self._park

    def _exported(self, request: pb.ExportRequest) -> Statement:
        chosen = self._filter(request.period, request.selection)
        if request.report == pb.REPORT_SCANS:
            return scans_statement(request.group_by, chosen)
        if request.report == pb.REPORT_SALES:
            return sales_statement(request.group_by, chosen)
        if request.report == pb.REPORT_FINANCE:
            return finance_statement(request.group_by, chosen)
        raise InvalidInputError("report must be SCANS, SALES or FINANCE to be exported")

    def _filter(
        self,
        period: pb.Period,
        selection: pb.ScanSelection.ValueType = pb.SCAN_SELECTION_UNSPECIFIED,
        gates: Any = (),
        products: Any = (),
    ) -> Filter:
        first, last = checked_date(period.from_date), checked_date(period.to_date)
        if first and last and first > last:
            raise InvalidInputError(f"the period ends ({last}) before it begins ({first})")
        return Filter(first, last, self._config.time_zone, selection, tuple(gates), tuple(products))

    def _today(self) -> str:
        return datetime.now(UTC).astimezone(ZoneInfo(self._config.time_zone)).date().isoformat()


def checked_date(text: str) -> str:
    """An ISO date, or nothing.

    Raises:
        InvalidInputError: it is neither.
    """
    try:
        return date.fromisoformat(text).isoformat() if text else ""
    except ValueError as error:
        raise InvalidInputError(f"{text!r} is not a date like 2026-05-01") from error


def _page_bounds(size: int, token: str) -> tuple[int, int]:
    if size > MAX_PAGE_SIZE:
        raise InvalidInputError(f"page_size is {size}; at most {MAX_PAGE_SIZE} rows fit a page")
    if token and not (token.isascii() and token.isdigit() and len(token) < 12):
        raise InvalidInputError("page_token is not one that this service gave")
    return size or PAGE_SIZE, int(token or 0)


def _writer(request: pb.ExportRequest, table: Table, path: Path) -> CsvWriter | XlsxWriter:
    if request.format == pb.FILE_FORMAT_CSV:
        return CsvWriter(table)
    if request.format == pb.FILE_FORMAT_XLSX:
        return XlsxWriter(table, path, pb.Report.Name(request.report).removeprefix("REPORT_").capitalize())
    raise InvalidInputError("format must be CSV or XLSX")


def _counts(book: CountBook, park: Park) -> list[pb.Count]:
    return [
        pb.Count(name=name, units=count.units, amount_minor=count.amount_minor, product_name=_product_name(name, park))
        for name, count in sorted(book.counts.items())
    ]


def _product_name(item: str, park: Park) -> str:
    _, _, number = item.partition(" product=")
    return park.products.get(int(number), "") if number else ""


@contextlib.asynccontextmanager
async def guarded(context: Context, config: ReportingConfig) -> AsyncIterator[None]:
    """Lets only finance and services in, and turns errors into statuses."""
    try:
        certificate = next(iter(context.auth_context().get("x509_pem_cert", ())), b"")
        if not caller_of(certificate):
            raise NotPermittedError("reports are for certificates of finance or of a service")
        if config.is_revoked is not None and config.is_revoked(serial_of(certificate)):
            raise NotPermittedError("this certificate was revoked: enrol again")
        yield
    except ParkgateError as error:
        status = next((code for kind, code in STATUS.items() if isinstance(error, kind)), grpc.StatusCode.INTERNAL)
        await context.abort(status, str(error))


async def start_server(config: ReportingConfig, pool: Pool, ledger: redis.Redis) -> tuple[grpc.aio.Server, int]:
    """Starts serving; answers the server and its port.

    Raises:
        InvalidInputError: the port cannot be had.
    """
    server = grpc.aio.server(options=OPTIONS, maximum_concurrent_rpcs=MAX_CALLS)
    pb_grpc.add_ReportingServiceServicer_to_server(ReportingServicer(config, pool, ledger), server)
    health = HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    reflection.enable_server_reflection((NAME, reflection.SERVICE_NAME, HEALTH), server)
    credentials = grpc.ssl_server_credentials([(config.key, config.cert)], config.ca, require_client_auth=True)
    try:
        port = server.add_secure_port(f"{config.host}:{config.port}", credentials)
    except RuntimeError as error:
        raise InvalidInputError(f"reports cannot be served on {config.host}:{config.port}: {error}") from error
    await server.start()
    for name in ("", NAME):
        await health.set(name, health_pb2.HealthCheckResponse.SERVING)
    return server, port


async def serve(config: ReportingConfig, ready: Callable[[int], None] = lambda _: None) -> None:
    """Serves reports until cancelled; tells `ready` the port. Workers are started apart.

    Raises:
        UnavailableError: Postgres is away at the start.
        InvalidInputError: the port cannot be had.
    """
    await migrate(config.postgres_url)
    ledger, pool = make_client(config.redis_url), make_pool(config.postgres_url)
    await pool.open()
    server, port = await start_server(config, pool, ledger)
    try:
        ready(port)
        await server.wait_for_termination()
    finally:
        await server.stop(1)
        await pool.close()
        await ledger.aclose()
