"""gRPC streams on a bare HTTP/2 connection: turnstiles for a generator that shares its cores with what it measures.

grpc.aio takes some 135 µs of CPU for a message each way, as much as all of Parkgate does for a scan, so that whoever
sends thousands a second from the same machine measures his own queue. On the wire this is the same: TLS with a client's
certificate, HTTP/2 with its flow control, gRPC's length-prefixed messages. It knows what a long stream needs and no
more: no deadlines, no compression, no second try.
"""

from __future__ import annotations

import asyncio
import ssl
import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from hpack import Decoder, Encoder

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HEAD = struct.Struct(">IBI")
"""Of a frame: length and type in one number, flags, stream."""
_PREFIX = struct.Struct(">?I")
"""Of a message: whether it is compressed, and its length."""
_SETTING = struct.Struct(">HI")
_NUMBER = struct.Struct(">I")

_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_ACK, _END_STREAM, _END_HEADERS, _PADDED, _PRIORITY = 1, 1, 4, 8, 32
_HEADER_TABLE_SIZE, _ENABLE_PUSH, _INITIAL_WINDOW_SIZE = 1, 2, 4
FIRST_WINDOW = 65_535
"""Bytes that either side may send before the other has said more, on a stream and on the connection."""
LARGEST_WINDOW = (1 << 31) - 1
MAX_FRAME = 16_384
"""Bytes of a frame that every peer takes."""

OnMessage = Callable[[bytes], None]


@dataclass(slots=True)
class _Stream:
    on_message: OnMessage
    window: int
    """Bytes that may still be sent on it."""
    partial: bytes = b""
    """The beginning of a message whose rest is in a later frame."""


class WireError(RuntimeError):
    """The connection or one of its streams has ended, or the peer speaks otherwise than expected."""


class Wire(asyncio.Protocol):
    """One connection. What is sent within one turn of the event loop travels in one TLS record.

    `ended` is done, with a WireError, once the connection is lost or one of its streams has ended.
    """

    def __init__(self, authority: str) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._authority = authority
        self._transport: asyncio.Transport | None = None
        self._encoder, self._decoder = Encoder(), Decoder()
        self._streams: dict[int, _Stream] = {}
        self._next_stream = 1
        self._window = FIRST_WINDOW
        self._first_window = FIRST_WINDOW
        self._received = 0
        """Bytes of messages since the peer was last told that there is room for more."""
        self._rest = b""
        self._outgoing: list[bytes] = []
        self._blocked: deque[tuple[int, bytes]] = deque()
        """Streams and messages that wait for room at the peer, in order."""

    @classmethod
    async def connect(cls, address: str, tls: ssl.SSLContext) -> Wire:
        """Connects to `host:port`. `tls` is of `client_tls`.

        Raises:
            OSError: nobody listens there, or TLS was refused.
        """
        host, _, port = address.rpartition(":")
        loop = asyncio.get_running_loop()
        _, wire = await loop.create_connection(lambda: cls(address), host, int(port), ssl=tls)
        return wire

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast, not a check: uvloop's transports are not instances of asyncio.Transport.
        self._transport = cast(asyncio.Transport, transport)
        spoken = self._transport.get_extra_info("ssl_object")
        if spoken is None or spoken.selected_alpn_protocol() != "h2":
            self._end(f"{self._authority} does not speak HTTP/2")
            self._transport.abort()
            return
        settings = _SETTING.pack(_ENABLE_PUSH, 0) + _SETTING.pack(_INITIAL_WINDOW_SIZE, LARGEST_WINDOW)
        self._write(PREFACE)
        self._write_frame(_SETTINGS, 0, 0, settings)
        self._write_frame(_WINDOW_UPDATE, 0, 0, _NUMBER.pack(LARGEST_WINDOW - FIRST_WINDOW))

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(f"the connection to {self._authority} was lost: {exc or 'the other side has closed it'}")

    def close(self) -> None:
        """Closes the connection, and with it all streams."""
        self._end("closed")
        if self._transport is not None:
            self._transport.close()

    def _end(self, why: str) -> None:
        if not self.ended.done():
            self.ended.set_exception(WireError(why))
            self.ended.exception()  # whoever has all answers need not look

    # Sending

    def open(self, path: str, on_message: OnMessage) -> int:
        """Opens a stream of a method, `/package.Service/Method`; returns its number."""
        number, self._next_stream = self._next_stream, self._next_stream + 2
        self._streams[number] = _Stream(on_message, self._first_window)
        fields = [
            (":method", "POST"),
            (":scheme", "https"),
            (":path", path),
            (":authority", self._authority),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
        ]
        self._write_frame(_HEADERS, _END_HEADERS, number, self._encoder.encode(fields))
        return number

    def send(self, number: int, message: bytes) -> None:
        """Sends a message of up to 16 KB, at once or as soon as the peer has room for it."""
        if len(message) + _PREFIX.size > MAX_FRAME:
            raise ValueError(f"a message of {len(message)} bytes does not fit into one frame of {MAX_FRAME}")
        payload = _PREFIX.pack(False, len(message)) + message
        if self._blocked or not self._has_room(number, payload):
            self._blocked.append((number, payload))
        else:
            self._send(number, payload)

    def _has_room(self, number: int, payload: bytes) -> bool:
        return len(payload) <= self._window and len(payload) <= self._streams[number].window

    def _send(self, number: int, payload: bytes) -> None:
        self._window -= len(payload)
        self._streams[number].window -= len(payload)
        self._write_frame(_DATA, 0, number, payload)

    def _send_blocked(self) -> None:
        while self._blocked and self._has_room(*self._blocked[0]):
            self._send(*self._blocked.popleft())

    def _write_frame(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        self._write(_HEAD.pack(len(payload) << 8 | kind, flags, number) + payload)

    def _write(self, data: bytes) -> None:
        if not self._outgoing:
            asyncio.get_running_loop().call_soon(self._flush)
        self._outgoing.append(data)

    def _flush(self) -> None:
        outgoing, self._outgoing = self._outgoing, []
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"".join(outgoing))

    # Receiving

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        start, end = 0, len(data)
        while end - start >= _HEAD.size:
            length_and_kind, flags, number = _HEAD.unpack_from(data, start)
            begin = start + _HEAD.size
            stop = begin + (length_and_kind >> 8)
            if stop > end:
                break
            self._frame(length_and_kind & 0xFF, flags, number, data[begin:stop])
            start = stop
        self._rest = data[start:]

    def _frame(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        match kind:
            case 0:  # DATA, the commonest by far
                self._message(number, flags, payload)
            case 1:  # HEADERS
                self._headers(number, flags, payload)
            case 3:  # RST_STREAM
                self._end(f"{self._authority} has reset a stream, error {_NUMBER.unpack(payload)[0]}")
            case 4 if not flags & _ACK:  # SETTINGS
                self._settings(payload)
            case 6 if not flags & _ACK:  # PING
                self._write_frame(_PING, _ACK, 0, payload)
            case 7:  # GOAWAY
                self._end(f"{self._authority} takes no more: {payload[8:].decode(errors='replace') or 'GOAWAY'}")
            case 8:  # WINDOW_UPDATE
                self._window_update(number, _NUMBER.unpack(payload)[0])

    def _message(self, number: int, flags: int, payload: bytes) -> None:
        stream = self._streams.get(number)
        if stream is None or flags & _PADDED:
            self._end(f"{self._authority} sent data that was not expected, on stream {number}")
            return
        self._make_room(len(payload))
        data = stream.partial + payload
        start, end = 0, len(data)
        while end - start >= _PREFIX.size:
            compressed, length = _PREFIX.unpack_from(data, start)
            begin = start + _PREFIX.size
            if compressed:
                self._end(f"{self._authority} sent a compressed message, which is not read here")
                return
            if begin + length > end:
                break
            start = begin + length
            stream.on_message(data[begin:start])
        stream.partial = data[start:]

    def _make_room(self, received: int) -> None:
        """Streams have room for two GB each; the connection's is told anew."""
        self._received += received
        if self._received > LARGEST_WINDOW // 2:
            self._write_frame(_WINDOW_UPDATE, 0, 0, _NUMBER.pack(self._received))
            self._received = 0

    def _headers(self, number: int, flags: int, payload: bytes) -> None:
        if not flags & _END_HEADERS or flags & _PADDED:
            self._end(f"{self._authority} sent headers in a form that is not read here, on stream {number}")
            return
        block = payload[5:] if flags & _PRIORITY else payload
        fields = {str(name): str(value) for name, value in self._decoder.decode(block)}
        if flags & _END_STREAM:
            status, said = fields.get("grpc-status", "none"), fields.get("grpc-message", "")
            self._end(f"{self._authority} has ended a stream: gRPC status {status} {said}".rstrip())

    def _settings(self, payload: bytes) -> None:
        for name, value in _SETTING.iter_unpack(payload):
            if name == _INITIAL_WINDOW_SIZE:
                for stream in self._streams.values():
                    stream.window += value - self._first_window
                self._first_window = value
            elif name == _HEADER_TABLE_SIZE:
                self._encoder.header_table_size = min(value, self._encoder.header_table_size)
        self._write_frame(_SETTINGS, _ACK, 0, b"")
        self._send_blocked()

    def _window_update(self, number: int, more: int) -> None:
        if number == 0:
            self._window += more
        elif number in self._streams:
            self._streams[number].window += more
        self._send_blocked()


def client_tls(ca: Path, certificate: Path, key: Path) -> ssl.SSLContext:
    """TLS for HTTP/2 with a client's certificate, from PEM files."""
    context = ssl.create_default_context(cafile=ca)
    context.load_cert_chain(certificate, key)
    context.set_alpn_protocols(["h2"])
    return context
