"""The direct link between gateways and owners: length-prefixed protobuf over a Unix socket or TLS.

A frame is a 4-byte big-endian length and a LinkRequest (towards the owner) or a LinkResponse (from it). Against gRPC on
the same socket, frames cost a third of the CPU a batch, so they carry the scans. A broken link is an unknown outcome.

`LinkClient.call` is for everything that is asked one by one, `LinkClient.scan` for groups of scans: one that is alone
travels at once, groups that arrive within one turn of the event loop together, in a crowd those of two milliseconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import structlog
from google.protobuf.message import DecodeError

from parkgate.cluster.v1 import link_pb2
from ticketcore.errors import UnavailableError, UnknownOutcomeError

MAX_FRAME = 32 * 1024 * 1024
"""Bytes: a registration of 10,000 tickets is 1 MB, a batch of scans less; above is not from us."""
MAX_BATCH = 4 * 1024 * 1024
"""Bytes of frames and heads after which another link frame is begun: no crowd of gates can make one too large."""
MAX_UNSENT = 8 * 1024 * 1024
"""Bytes that may wait in a link's send buffer before callers, of scans and of all else, are told to retry."""
GATHER_S = 0.002
"""From one frame of scans to the next while a crowd waits for answers. Each frame wakes the owner and costs both sides
a system call; an owner appends every 5 ms in a crowd, so that what travels alone only waits there."""
FEW_GROUPS = 3
"""Waiting for answers: the guests of a turnstile or two, who are not made to wait for each other."""
CONNECT_TIMEOUT_S = 2.0
LOST_HOST_S = 10
"""Seconds after which the kernel breaks a connection to a host that acknowledges nothing any more; by itself it would
take a quarter of an hour, and without traffic for ever."""
KEEPALIVE_S = 3
"""Seconds from one of the kernel's questions on a quiet connection to the next."""
IDENTITY = "parkgate://service/cluster"
_LENGTH = 4
log = structlog.get_logger("cluster.link")


def _is_cluster(transport: asyncio.Transport) -> bool:
    """Gates, windows, finance and other services have certificates of the same CA; a link has the cluster's own on
    both ends: whoever speaks on it is believed."""
    certificate = transport.get_extra_info("peercert") or {}
    return ("URI", IDENTITY) in certificate.get("subjectAltName", ())


def _watch_host(transport: asyncio.Transport) -> None:
    """Has the kernel notice a lost host, as far as this one can: a link is as good without it, only longer in vain."""
    peer = transport.get_extra_info("socket")
    if peer is None or peer.family not in (socket.AF_INET, socket.AF_INET6):
        return
    with contextlib.suppress(OSError):
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_S)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_S)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, LOST_HOST_S * 1_000)


class _Framing(asyncio.Protocol):
    """Cuts the byte stream into frames. `on_frame` gets each, `on_lost` is called once."""

    def __init__(self, on_frame: Callable[[bytes], None], on_lost: Callable[[], None]) -> None:
        self._on_frame = on_frame
        self._on_lost = on_lost
        self._buffer = bytearray()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast, not a check: uvloop's transports are not instances of asyncio.Transport.
        stream = cast(asyncio.Transport, transport)
        if stream.get_extra_info("sslcontext") is not None and not _is_cluster(stream):
            stream.abort()
            return
        _watch_host(stream)
        self.transport = stream

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        start, end = 0, len(buffer)
        while end - start >= _LENGTH:
            length = int.from_bytes(buffer[start : start + _LENGTH], "big")
            if length > MAX_FRAME:
                assert self.transport is not None
                self.transport.abort()
                return
            stop = start + _LENGTH + length
            if stop > end:
                break
            self._on_frame(bytes(buffer[start + _LENGTH : stop]))
            start = stop
        if start:
            del buffer[:start]

    def connection_lost(self, exc: Exception | None) -> None:
        self._on_lost()

    def send(self, frame: bytes) -> None:
        """Sends one frame."""
        transport = self.transport
        if transport is not None and not transport.is_closing():
            transport.writelines((len(frame).to_bytes(_LENGTH, "big"), frame))

    @property
    def overfull(self) -> bool:
        """Whether the other side does not keep up."""
        return self.transport is None or self.transport.get_write_buffer_size() > MAX_UNSENT


@dataclass(frozen=True, slots=True)
class Address:
    """Where an owner listens: a Unix socket for its own node, host and port with TLS for others."""

    node: str
    path: str
    host: str
    port: int

    def encode(self) -> str:
        """As the ledger keeps it."""
        return f"{self.node}|{self.path}|{self.host}|{self.port}"

    @classmethod
    def decode(cls, text: str) -> Address:
        """As the ledger keeps it."""
        node, path, host, port = text.split("|")
        return cls(node, path, host, int(port))


ScanAnswer = Callable[[link_pb2.VerdictGroup | None], None]
"""Called once with the group's verdicts, or with None when the link broke: the outcome is unknown."""


class LinkClient:
    """One connection to one owner."""

    def __init__(self) -> None:
        self._framing = _Framing(self._received, self._lost)
        self._calls: dict[int, asyncio.Future[link_pb2.LinkResponse]] = {}
        self._groups: dict[int, ScanAnswer] = {}
        self._outgoing: list[link_pb2.LinkRequest] = []
        self._outgoing_bytes = 0
        self._flush_time = 0.0
        """When scans were last sent, by the loop's clock."""
        self._sent = 0
        """Groups of the last flush."""
        self._next_id = 1
        self.broken = False

    @classmethod
    async def connect(cls, address: Address, node: str, tls: ssl.SSLContext | None) -> LinkClient:
        """Connects by the Unix socket on the owner's own node, by TLS from another.

        Raises:
            UnavailableError: nobody answers there.
        """
        client = cls()
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                if address.node == node and address.path:
                    await loop.create_unix_connection(lambda: client._framing, address.path)
                else:
                    await loop.create_connection(lambda: client._framing, address.host, address.port, ssl=tls)
        except (OSError, TimeoutError) as error:
            raise UnavailableError(f"the owner at {address.encode()} does not answer: {error}") from error
        return client

    def scan(self, client_frame: bytes, heads: bytes, gate_numbers: list[int], answer: ScanAnswer) -> int:
        """Sends a group of scans; returns its id, with which `forget` drops it."""
        group_id = self._next_id
        self._next_id += 1
        if self.broken or self._framing.overfull:
            answer(None)
            return group_id
        self._groups[group_id] = answer
        first = not self._outgoing
        if first or self._outgoing_bytes > MAX_BATCH:
            self._outgoing.append(link_pb2.LinkRequest())
            self._outgoing_bytes = 0
        group = self._outgoing[-1].scans.groups.add()  # with its fields as arguments it would take twice as long
        group.group_id, group.client_frame = group_id, client_frame
        group.gate_numbers.extend(gate_numbers)
        if heads:
            group.heads = heads
        self._outgoing_bytes += len(client_frame) + len(heads)
        if len(self._groups) == 1 and self._sent <= FEW_GROUPS:
            self._flush()  # nobody else waits, nor did a moment ago: it is not the first of a crowd
        elif first:
            self._flush_soon()
        return group_id

    def forget(self, group_id: int) -> None:
        """Nobody waits for that group any more."""
        self._groups.pop(group_id, None)

    def _flush_soon(self) -> None:
        loop = asyncio.get_running_loop()
        early_s = self._flush_time + GATHER_S - loop.time() if len(self._groups) > FEW_GROUPS else 0.0
        if early_s > 0:
            loop.call_later(early_s, self._flush)
        else:
            loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_time = asyncio.get_running_loop().time()
        requests, self._outgoing = self._outgoing, []
        self._sent = sum(len(request.scans.groups) for request in requests)
        for request in requests:
            self._framing.send(request.SerializeToString())

    async def call(self, request: link_pb2.LinkRequest, timeout_s: float) -> link_pb2.LinkResponse:
        """Asks one thing.

        Raises:
            UnknownOutcomeError: the link broke, the time is over, or the owner could not do it. Ask again.
            UnavailableError: the owner does not keep up; nothing was sent. Ask again.
        """
        if self.broken or self._framing.transport is None:
            raise UnknownOutcomeError("the link to the owner is broken", 100)
        if self._framing.overfull:
            raise UnavailableError("the owner does not keep up; nothing was sent, ask again", 100)
        request.call_id = self._next_id
        self._next_id += 1
        future: asyncio.Future[link_pb2.LinkResponse] = asyncio.get_running_loop().create_future()
        self._calls[request.call_id] = future
        self._framing.send(request.SerializeToString())
        try:
            async with asyncio.timeout(timeout_s):
                response = await future
        except TimeoutError as error:
            raise UnknownOutcomeError(f"the owner did not answer within {timeout_s} s", 100) from error
        finally:
            self._calls.pop(request.call_id, None)
        if response.fault:
            raise UnknownOutcomeError(response.fault, 100)
        return response

    def _received(self, frame: bytes) -> None:
        try:
            response = link_pb2.LinkResponse.FromString(frame)
        except DecodeError as error:
            log.error("link closed: its owner sent what is no answer", error=str(error))
            self.close()
            return
        if response.WhichOneof("body") == "verdicts":
            for group in response.verdicts.groups:
                answer = self._groups.pop(group.group_id, None)
                if answer is not None:
                    answer(group)
            return
        future = self._calls.pop(response.call_id, None)
        if future is not None and not future.done():
            future.set_result(response)

    def _lost(self) -> None:
        self.broken = True
        groups, self._groups = self._groups, {}
        for answer in groups.values():
            answer(None)
        calls, self._calls = self._calls, {}
        for future in calls.values():
            if not future.done():
                future.set_exception(UnknownOutcomeError("the link to the owner broke", 100))

    def close(self) -> None:
        """Closes the connection; whoever waits is told that the outcome is unknown."""
        if self._framing.transport is not None:
            self._framing.transport.abort()
        self.broken = True


class Connection:
    """The owner's side of one link."""

    def __init__(self, on_request: Callable[[Connection, link_pb2.LinkRequest], None]) -> None:
        self.framing = _Framing(self._received, self._lost)
        self._on_request = on_request
        self.lost = False

    def _received(self, frame: bytes) -> None:
        try:
            self._on_request(self, link_pb2.LinkRequest.FromString(frame))
        except DecodeError as error:
            log.error("link closed: its gateway sent what is no request", error=str(error))
            if self.framing.transport is not None:
                self.framing.transport.abort()

    def _lost(self) -> None:
        self.lost = True

    def send(self, response: link_pb2.LinkResponse) -> None:
        """Answers."""
        self.framing.send(response.SerializeToString())


class LinkServer:
    """Listens on a Unix socket, and on TLS where other nodes must reach it."""

    def __init__(self, on_request: Callable[[Connection, link_pb2.LinkRequest], None]) -> None:
        self._on_request = on_request
        self._servers: list[asyncio.Server] = []
        self._connections: list[Connection] = []

    async def listen(self, path: str, host: str, tls: ssl.SSLContext | None) -> int:
        """Starts listening; returns the TLS port, 0 without TLS."""
        loop = asyncio.get_running_loop()
        if path:
            self._servers.append(await loop.create_unix_server(self._accept, path))
        if tls is None:
            return 0
        server = await loop.create_server(self._accept, host, 0, ssl=tls)
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    def _accept(self) -> asyncio.Protocol:
        connection = Connection(self._on_request)
        self._connections = [known for known in self._connections if not known.lost]
        self._connections.append(connection)
        return connection.framing

    async def close(self) -> None:
        """Stops listening and breaks all links."""
        for server in self._servers:
            server.close()
        for connection in self._connections:
            if connection.framing.transport is not None:
                connection.framing.transport.abort()
        await asyncio.sleep(0)
