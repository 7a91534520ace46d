"""A gateway that decides nothing: it lets everybody in and books every passage, over the gateway's TLS.

What the generator sends against it is the generator's own limit, and not a system's (`alone`).
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import grpc
import uvloop

from loadtest.surge.stream import METHOD
from parkgate.gate.v1 import gate_pb2 as pb


def admit(frame: pb.ClientFrame) -> pb.ServerFrame:
    """The answer to a frame."""
    answer = pb.ServerFrame()
    for scan in frame.scans:
        answer.verdicts.add(scan_id=scan.scan_id, decision=pb.DECISION_ADMIT, persons_admitted=1)
    for report in frame.passages:
        answer.receipts.add(scan_id=report.scan_id, recorded=report.outcome)
    return answer


async def stream(_requests: object, context: Any) -> None:
    """One device's day."""
    await context.read()
    await context.write(pb.ServerFrame(welcome=pb.Welcome(gateway="echo")).SerializeToString())
    while (raw := await context.read()) is not grpc.aio.EOF:
        await context.write(admit(pb.ClientFrame.FromString(raw)).SerializeToString())


async def serve(credentials: grpc.ServerCredentials) -> None:
    """Serves until it is killed; prints its port."""
    server = grpc.aio.server()
    service, method = METHOD.strip("/").split("/")
    handler: Any = grpc.stream_stream_rpc_method_handler(stream)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
    port = server.add_secure_port("localhost:0", credentials)
    await server.start()
    print(port, flush=True)
    await asyncio.Event().wait()


def main() -> None:
    """Called with the files of the authority, the server's certificate and its key."""
    ca, certificate, key = (Path(name).read_bytes() for name in sys.argv[1:4])
    uvloop.run(serve(grpc.ssl_server_credentials([(key, certificate)], ca, require_client_auth=True)))


if __name__ == "__main__":
    main()
