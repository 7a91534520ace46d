"""As much HTTP/1.1 as webhooks need: a server of bounded POST and GET requests, and a POST. One request a connection.

A web framework would be a dependency for two routes; everything a stranger can send is bounded here in size and time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from ticketcore.errors import UnavailableError

MAX_HEAD = 8 * 2**10
MAX_BODY = 64 * 2**10
TIMEOUT_S = 5.0
MAX_CONNECTIONS = 256
"""At once; a provider has a few. Others are closed unheard, and come again."""
REASONS = {200: "OK", 202: "Accepted", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 503: "Unavailable"}


@dataclass(frozen=True, slots=True)
class Request:
    """A request; header names in small letters."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Response:
    """A response with a short text or JSON; header names in small letters."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


Handler = Callable[[Request], Awaitable[Response]]


async def start(handler: Handler, address: str) -> asyncio.Server:
    """Serves `handler` on host:port until the server is closed."""
    host, port = split_address(address)
    open_now = 0

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal open_now
        open_now += 1
        try:
            if open_now > MAX_CONNECTIONS:
                return
            async with asyncio.timeout(2 * TIMEOUT_S):
                request = await _read_request(reader)
                response = Response(400) if request is None else await handler(request)
                writer.write(_encode(response))
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            pass  # the other side went away or is too slow; there is nobody to tell
        finally:
            open_now -= 1
            writer.close()

    return await asyncio.start_server(connected, host, port, limit=MAX_HEAD)


def split_address(address: str) -> tuple[str, int]:
    """Host and port of "host:port"."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def port_of(server: asyncio.Server) -> int:
    """The port a server listens on."""
    return int(server.sockets[0].getsockname()[1])


async def post(url: str, body: bytes, headers: Mapping[str, str]) -> Response:
    """POSTs and returns the response.

    Raises:
        UnavailableError: no answer; it may have arrived all the same.
    """
    parts = urlsplit(url)
    head = [
        f"POST {parts.path or '/'} HTTP/1.1",
        f"Host: {parts.netloc}",
        f"Content-Length: {len(body)}",
        "Content-Type: application/json",
        "Connection: close",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    try:
        async with asyncio.timeout(TIMEOUT_S):
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port or 80, limit=MAX_HEAD)
            try:
                writer.write("\r\n".join(head).encode("ascii") + b"\r\n\r\n" + body)
                await writer.drain()
                return await _read_response(reader)
            finally:
                writer.close()
    except (OSError, TimeoutError, ValueError, IndexError, EOFError, asyncio.LimitOverrunError) as error:
        raise UnavailableError(f"{parts.netloc} does not answer") from error


async def _read_request(reader: asyncio.StreamReader) -> Request | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("ascii").split("\r\n")
        method, path, _ = head[0].split(" ")
        headers = _headers(head[1:])
        length = int(headers.get("content-length", "0"))
    except (asyncio.LimitOverrunError, UnicodeDecodeError, ValueError):
        return None
    if not 0 <= length <= MAX_BODY:
        return None
    return Request(method, path, headers, await reader.readexactly(length))


def _headers(lines: Sequence[str]) -> dict[str, str]:
    return {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


async def _read_response(reader: asyncio.StreamReader) -> Response:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("ascii").split("\r\n")
    headers = _headers(head[1:])
    length = int(headers.get("content-length", "0"))
    if not 0 <= length <= MAX_BODY:
        raise ValueError(f"a body of {length} bytes")
    return Response(int(head[0].split()[1]), await reader.readexactly(length), headers)


def _encode(response: Response) -> bytes:
    head = [
        f"HTTP/1.1 {response.status} {REASONS.get(response.status, 'Status')}",
        f"Content-Length: {len(response.body)}",
        "Connection: close",
        *(f"{name}: {value}" for name, value in response.headers.items()),
    ]
    return "\r\n".join(head).encode("ascii") + b"\r\n\r\n" + response.body
