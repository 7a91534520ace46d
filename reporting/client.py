"""Asks the reporting service: for the command line, and for whoever wants reports from Python."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from parkgate.reporting.v1 import reporting_pb2 as pb
from parkgate.reporting.v1 import reporting_pb2_grpc as pb_grpc
from ticketcore.errors import InvalidInputError, NotPermittedError, ParkgateError, UnavailableError

PAGE_SIZE = 5_000
TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class ReportServer:
    """Whom to ask: `address` is HOST:PORT, `cert_dir` a folder as enrolment leaves it (ca.pem, NAME.pem, NAME.key).

    `name`: which certificate, in a folder that holds several.
    """

    address: str
    cert_dir: Path
    server_name: str = ""
    name: str = "*"

    def channel(self) -> grpc.aio.Channel:
        """A channel.

        Raises:
            InvalidInputError: the folder is not as it must be.
        """
        options = [("grpc.ssl_target_name_override", self.server_name)] if self.server_name else []
        return grpc.aio.secure_channel(self.address, _credentials(self.cert_dir, self.name), options=options)


def _credentials(folder: Path, name: str) -> grpc.ChannelCredentials:
    keys = sorted(folder.glob(f"{name}.key")) if folder.is_dir() else []
    if len(keys) != 1:
        raise InvalidInputError(
            f"certificate folder {folder} must hold ca.pem, NAME.pem and one NAME.key; enrol a finance user to get one"
        )
    try:
        files = [path.read_bytes() for path in (folder / "ca.pem", keys[0], keys[0].with_suffix(".pem"))]
    except OSError as error:
        raise InvalidInputError(f"certificate folder {folder}: {error.filename}: {error.strerror}") from error
    return grpc.ssl_channel_credentials(*files)


async def rows_of(server: ReportServer, request: Any) -> tuple[list[Any], list[Any]]:
    """All rows of all pages of a QueryScans, QuerySales or QueryFinance request, and the totals.

    Raises:
        InvalidInputError, NotPermittedError, UnavailableError: as the service says.
    """
    rows: list[Any] = []
    request.page_size = PAGE_SIZE
    async with server.channel() as channel:
        ask = getattr(pb_grpc.ReportingServiceStub(channel), type(request).__name__.removesuffix("Request"))
        while True:
            response = await _answer(server, ask(request, timeout=TIMEOUT_S))
            rows += response.rows
            if not response.next_page_token:
                return rows, list(response.totals) if hasattr(response, "totals") else [response.total]
            request.page_token = response.next_page_token


async def ask_once(server: ReportServer, request: Any) -> Any:
    """The answer to a request that has one page. Raises as `rows_of` does."""
    async with server.channel() as channel:
        ask = getattr(pb_grpc.ReportingServiceStub(channel), type(request).__name__.removesuffix("Request"))
        return await _answer(server, ask(request, timeout=TIMEOUT_S))


async def export_to(server: ReportServer, request: pb.ExportRequest, path: Path, told: Callable[[int], None]) -> int:
    """Writes an export to a file, whole or not at all; answers its lines. Raises as `rows_of` does."""
    part = path.with_name(f"{path.name}.part")
    rows = 0
    try:
        with part.open("wb") as file:
            async for response in _pieces(server, request):
                file.write(response.content)
                rows = response.rows
                told(rows)
        part.replace(path)
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be written: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)
    return rows


async def _pieces(server: ReportServer, request: pb.ExportRequest) -> AsyncIterator[pb.ExportResponse]:
    async with server.channel() as channel:
        try:
            async for response in pb_grpc.ReportingServiceStub(channel).Export(request):
                yield response
        except grpc.aio.AioRpcError as error:
            raise _as_ours(server, error) from error


async def _answer(server: ReportServer, call: Any) -> Any:
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        raise _as_ours(server, error) from error


def _as_ours(server: ReportServer, error: grpc.aio.AioRpcError) -> ParkgateError:
    details = error.details() or ""
    if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
        return InvalidInputError(details)
    if error.code() is grpc.StatusCode.PERMISSION_DENIED:
        return NotPermittedError(f"{server.address} refuses: {details}")
    if error.code() is grpc.StatusCode.UNAVAILABLE and details.startswith("failed to connect"):
        why = details.rpartition(": ")[2]
        return UnavailableError(f"{server.address} cannot be reached ({why}); check --server, --cert and that it runs")
    return UnavailableError(f"{server.address}: {details or error.code().name}")
