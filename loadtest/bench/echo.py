"""The floor: a bare grpc.aio server that answers every frame with a prepared one of the size that the system answers.

It parses nothing and decides nothing; same TLS, same client certificates, same messages.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import grpc
import uvloop

from parkgate.gate.v1 import gate_pb2


def answer_of(scans: int) -> bytes:
    """An answer of the usual size: one admitted verdict a scan."""
    frame = gate_pb2.ServerFrame()
    for _ in range(scans):
        frame.verdicts.add(
            scan_id=bytes(16),
            decision=gate_pb2.DECISION_ADMIT,
            persons_admitted=1,
            ticket_id=7 << 48,
            product_number=1,
            decided_by=gate_pb2.DECIDED_BY_CLUSTER,
            verification=gate_pb2.VERIFICATION_DIGEST,
            kind=gate_pb2.ADMISSION_KIND_ENTRY,
        )
    return frame.SerializeToString()


async def serve(scans: int, credentials: grpc.ServerCredentials) -> None:
    """Serves until killed; prints the port."""
    answer = answer_of(scans)

    async def stream(_requests: object, context: Any) -> None:
        while await context.read() is not grpc.aio.EOF:
            await context.write(answer)

    server = grpc.aio.server()
    handlers: dict[str, Any] = {"Stream": grpc.stream_stream_rpc_method_handler(stream)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("parkgate.gate.v1.GateService", handlers),))
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    print(port, flush=True)
    await asyncio.Event().wait()


def credentials_of(ca: Path, certificate: Path, key: Path) -> grpc.ServerCredentials:
    """Mutual TLS, as the gateway has it."""
    pair = (key.read_bytes(), certificate.read_bytes())
    return grpc.ssl_server_credentials([pair], ca.read_bytes(), require_client_auth=True)


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), credentials_of(*(Path(item) for item in sys.argv[2:5]))))
