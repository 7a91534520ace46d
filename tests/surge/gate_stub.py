"""A gateway of one's own for streams: a real gRPC server whose answers a test decides, frame by frame."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc

from loadtest.surge.echo import admit
from loadtest.surge.stream import METHOD
from parkgate.gate.v1 import gate_pb2 as pb

__all__ = ["Answer", "Gateway", "PlainLine", "admit", "serving", "until"]

Answer = Callable[[pb.ClientFrame], pb.ServerFrame | None]
"""None: the stream is aborted instead."""


class Gateway:
    """Keeps every frame that it was sent."""

    def __init__(self, answer: Answer, knows: bool = True) -> None:
        self._knows = knows
        self.frames: list[pb.ClientFrame] = []
        self.streams = 0
        self._answer = answer

    async def stream(self, _requests: object, context: Any) -> None:
        self.streams += 1
        await context.read()
        if not self._knows:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "it does not speak for gate 'main-1'")
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
async def serving(answer: Answer, *, knows: bool = True) -> AsyncIterator[tuple[Gateway, PlainLine]]:
    """The gateway, and a line to it. `knows`: whether it lets devices speak for their gates."""
    gateway, server = Gateway(answer, knows), grpc.aio.server()
    service, method = METHOD.strip("/").split("/")
    handler = grpc.stream_stream_rpc_method_handler(gateway.stream)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
    port = server.add_insecure_port("localhost:0")
    await server.start()
    line = PlainLine(f"localhost:{port}")
    try:
        yield gateway, line
    finally:
        await line.close()
        await server.stop(0)


async def until(met: Callable[[], bool], timeout_s: float = 5.0) -> None:
    """Waits for it. Raises: TimeoutError."""
    async with asyncio.timeout(timeout_s):
        while not met():  # noqa: ASYNC110 - of a server's state
            await asyncio.sleep(0.002)
