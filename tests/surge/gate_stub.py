"""A gateway of one's own for streams: a real gRPC server whose answers a test decides, frame by frame."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Container
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc

from loadtest.surge.echo import admit
from loadtest.surge.stream import METHOD
from parkgate.gate.v1 import gate_pb2 as pb

__all__ = ["Answer", "Gateway", "PlainLine", "admit", "serving", "serving_over_tls", "until"]

Answer = Callable[[pb.ClientFrame], pb.ServerFrame | None]
"""None: the stream is aborted instead."""


class Gateway:
    """Keeps every frame that it was sent."""

    def __init__(self, answer: Answer, denied: Container[str] = ()) -> None:
        self._denied = denied
        self.frames: list[pb.ClientFrame] = []
        self.streams = 0
        self._answer = answer

    async def stream(self, _requests: object, context: Any) -> None:
        self.streams += 1
        hello = pb.ClientFrame.FromString(await context.read()).hello
        for gate in hello.gate_ids:
            if gate in self._denied:
                await context.abort(grpc.StatusCode.PERMISSION_DENIED, f"it does not speak for gate {gate!r}")
        await context.write(pb.ServerFrame(welcome=pb.Welcome(gateway="stub")).SerializeToString())
        while (raw := await context.read()) is not grpc.aio.EOF:
            frame = pb.ClientFrame.FromString(raw)
            self.frames.append(frame)
            answer = self._answer(frame)
            if answer is None:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "gone")
            await context.write(answer.SerializeToString())


class PlainLine:
    """A connection without TLS."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.aio.insecure_channel(address)

    async def channel(self) -> grpc.aio.Channel:
        return self._channel

    async def close(self) -> None:
        await self._channel.close()


@asynccontextmanager
async def serving(answer: Answer, *, denied: Container[str] = ()) -> AsyncIterator[tuple[Gateway, PlainLine]]:
    """The gateway, and a line to it. `denied`: gates for which it lets no device speak."""
    async with _server(gateway := Gateway(answer, denied)) as server:
        line = PlainLine(f"localhost:{server.add_insecure_port('localhost:0')}")
        await server.start()
        try:
            yield gateway, line
        finally:
            await line.close()


@asynccontextmanager
async def serving_over_tls(folder: Path, denied: Container[str]) -> AsyncIterator[str]:
    """The address of a gateway that admits everybody; its certificates are in a folder, as `alone` writes them."""
    ca, certificate, key = (folder.joinpath(name).read_bytes() for name in ("ca.pem", "server.pem", "server.key"))
    secret = grpc.ssl_server_credentials([(key, certificate)], ca, require_client_auth=True)
    async with _server(Gateway(admit, denied)) as server:
        port = server.add_secure_port("localhost:0", secret)
        await server.start()
        yield f"localhost:{port}"


@asynccontextmanager
async def _server(gateway: Gateway) -> AsyncIterator[grpc.aio.Server]:
    """Not started yet."""
    server = grpc.aio.server()
    service, method = METHOD.strip("/").split("/")
    handler = grpc.stream_stream_rpc_method_handler(gateway.stream)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
    try:
        yield server
    finally:
        await server.stop(0)


async def until(met: Callable[[], bool], timeout_s: float = 5.0) -> None:
    """Waits for it. Raises: TimeoutError."""
    async with asyncio.timeout(timeout_s):
        while not met():  # noqa: ASYNC110 - of a server's state
            await asyncio.sleep(0.002)
