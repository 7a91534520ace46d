"""A tiny gateway on a real grpc.aio server with mTLS, over the TinyCluster, that can be told to misbehave."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator

import grpc
from gate_certs import TestAuthority
from seeded_link import TinyCluster

from parkgate.gate.v1 import gate_pb2 as pb
from parkgate.gate.v1 import gate_pb2_grpc


class TinyGateway(gate_pb2_grpc.GateServiceServicer):
    """Answers each frame; `swallow` replies are lost, and `end_after` frames end the stream with UNAVAILABLE."""

    def __init__(self, name: str, cluster: TinyCluster | None = None) -> None:
        self.name = name
        self.cluster = cluster or TinyCluster(random.Random(1))
        self.swallow = 0
        self.end_after = -1
        self.refuse: tuple[grpc.StatusCode, str] | None = None
        self.displays: list[pb.Display] = []
        self.frames: list[pb.ClientFrame] = []
        self.port = 0
        self._server: grpc.aio.Server | None = None

    async def start(self, authority: TestAuthority, host: str = "localhost", port: int = 0) -> TinyGateway:
        self._server = grpc.aio.server()
        gate_pb2_grpc.add_GateServiceServicer_to_server(self, self._server)
        self.port = self._server.add_secure_port(f"127.0.0.1:{port}", authority.server_credentials(host))
        await self._server.start()
        return self

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(0)

    async def Stream(  # type: ignore[override]
        self, request_iterator: AsyncIterator[pb.ClientFrame], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.ServerFrame]:
        if self.refuse is not None:
            await context.abort(*self.refuse)
        async for frame in request_iterator:
            self.frames.append(frame)
            answer = self.cluster.answer(frame)
            if answer.HasField("welcome"):
                answer.welcome.gateway = self.name
                answer.welcome.displays.extend(self.displays)
            elif self.end_after == 0:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "going down")
            elif self.swallow > 0:
                self.swallow -= 1
                continue
            else:
                self.end_after -= 1
            yield answer
