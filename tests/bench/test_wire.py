"""The lean client's streams, against gRPC's own server: it must not know that this is no client of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import grpc
import pytest

from loadtest.bench.wire import MAX_FRAME, Wire, WireError, client_tls
from tests.gateclient.gate_certs import TestAuthority

METHOD = "/test.Echo/Stream"
ENOUGH_S = 20.0


async def echo(request_iterator: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
    """Answers a number with as many bytes, `stop` by refusing, all else with itself."""
    async for message in request_iterator:
        if message == b"stop":
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "no more, please")
        yield bytes(int(message)) if message.isdigit() else message


@pytest.fixture
def authority() -> TestAuthority:
    return TestAuthority()


@pytest.fixture
async def address(authority: TestAuthority) -> AsyncIterator[str]:
    server = grpc.aio.server()
    handler = grpc.stream_stream_rpc_method_handler(echo)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", {"Stream": handler}),))
    port = server.add_secure_port("127.0.0.1:0", authority.server_credentials())
    await server.start()
    yield f"localhost:{port}"
    await server.stop(None)


@pytest.fixture
def tls(authority: TestAuthority, tmp_path: Path) -> ssl.SSLContext:
    folder = authority.folder(tmp_path / "gate")
    return client_tls(folder / "ca.pem", folder / "device.pem", folder / "device.key")


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(ENOUGH_S):
        while not done():  # noqa: ASYNC110 - what is awaited has no event
            await asyncio.sleep(0.005)


async def test_messages_of_many_streams_come_back_each_to_its_own_in_order(address: str, tls: ssl.SSLContext) -> None:
    wire = await Wire.connect(address, tls)
    heard: list[list[bytes]] = [[] for _ in range(50)]
    streams = [wire.open(METHOD, messages.append) for messages in heard]
    sent = [[b"%d of stream %d" % (count, stream) for count in range(20)] for stream in streams]
    for messages in zip(*sent, strict=True):
        for stream, message in zip(streams, messages, strict=True):
            wire.send(stream, message)
    await until(lambda: sum(map(len, heard)) == 1_000)
    assert heard == sent
    wire.close()


async def test_an_answer_may_be_longer_than_a_frame_and_than_the_first_window(
    address: str, tls: ssl.SSLContext
) -> None:
    wire = await Wire.connect(address, tls)
    heard: list[bytes] = []
    stream = wire.open(METHOD, heard.append)
    for length in (b"0", b"16383", b"16384", b"300000", b"7"):
        wire.send(stream, length)
    await until(lambda: len(heard) == 5)
    assert [len(message) for message in heard] == [0, 16_383, 16_384, 300_000, 7]
    wire.close()


async def test_what_the_peer_has_no_room_for_waits_and_arrives(address: str, tls: ssl.SSLContext) -> None:
    """Five megabytes at once: HTTP/2's first window is 64 kB, on the stream and on the connection."""
    wire = await Wire.connect(address, tls)
    heard: list[bytes] = []
    stream = wire.open(METHOD, heard.append)
    sent = [b"x" + os.urandom(10_000) for _ in range(500)]
    for message in sent:
        wire.send(stream, message)
    await until(lambda: len(heard) == 500)
    assert heard == sent
    wire.close()


async def test_a_stream_that_the_server_ends_is_told_with_its_status(address: str, tls: ssl.SSLContext) -> None:
    wire = await Wire.connect(address, tls)
    wire.send(wire.open(METHOD, lambda _: None), b"stop")
    with pytest.raises(WireError, match=r"gRPC status 7 no more, please"):
        async with asyncio.timeout(ENOUGH_S):
            await wire.ended


async def test_a_method_that_there_is_not_is_told(address: str, tls: ssl.SSLContext) -> None:
    wire = await Wire.connect(address, tls)
    wire.open("/test.Echo/Other", lambda _: None)
    with pytest.raises(WireError, match="gRPC status 12"):
        async with asyncio.timeout(ENOUGH_S):
            await wire.ended


@pytest.mark.parametrize(("spoken", "told"), [(["h2"], "was lost"), (["http/1.1"], "does not speak HTTP/2")])
async def test_a_server_that_hangs_up_or_speaks_otherwise_is_told(
    authority: TestAuthority, tls: ssl.SSLContext, tmp_path: Path, spoken: list[str], told: str
) -> None:
    certificate, key = authority.issue()
    (tmp_path / "server.pem").write_bytes(certificate)
    (tmp_path / "server.key").write_bytes(key)
    server_tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server_tls.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")
    server_tls.set_alpn_protocols(spoken)

    async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0, ssl=server_tls) as server:
        wire = await Wire.connect(f"localhost:{server.sockets[0].getsockname()[1]}", tls)
        with pytest.raises(WireError, match=told):
            async with asyncio.timeout(ENOUGH_S):
                await wire.ended
        wire.close()


async def test_a_message_that_fits_no_frame_is_refused_before_it_is_sent(address: str, tls: ssl.SSLContext) -> None:
    wire = await Wire.connect(address, tls)
    stream = wire.open(METHOD, lambda _: None)
    with pytest.raises(ValueError, match="does not fit"):
        wire.send(stream, bytes(MAX_FRAME))
    wire.close()
