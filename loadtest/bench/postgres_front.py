"""The peer most parks would build: the same gRPC front, and a conditional UPDATE in Postgres for each scan.

One statement redeems a ticket if it was not redeemed; a pool of connections, prepared statements, fsync on.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import grpc
import uvloop
from psycopg_pool import AsyncConnectionPool

from loadtest.bench.echo import credentials_of
from parkgate.gate.v1 import gate_pb2

CONNECTIONS = 16
"""The best of 8, 16, 32 and 64 on two cores."""
REDEEM = "UPDATE tickets SET used_time = now() WHERE ticket_id = %b AND used_time IS NULL"


async def serve(url: str, credentials: grpc.ServerCredentials) -> None:
    """Serves until killed; prints the port."""
    pool = AsyncConnectionPool(url, min_size=CONNECTIONS, max_size=CONNECTIONS, open=False, kwargs={"autocommit": True})
    await pool.open(wait=True)

    async def stream(_requests: object, context: Any) -> None:
        while (raw := await context.read()) is not grpc.aio.EOF:
            await context.write(await _answer(pool, raw))

    server = grpc.aio.server()
    handlers: dict[str, Any] = {"Stream": grpc.stream_stream_rpc_method_handler(stream)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("parkgate.gate.v1.GateService", handlers),))
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    print(port, flush=True)
    await asyncio.Event().wait()


async def _answer(pool: AsyncConnectionPool[Any], raw: bytes) -> bytes:
    answer = gate_pb2.ServerFrame()
    for scan in gate_pb2.ClientFrame.FromString(raw).scans:
        ticket_id = int.from_bytes(scan.token[1:9], "big")
        async with pool.connection() as connection:
            cursor = await connection.execute(REDEEM, (ticket_id,), prepare=True)
        decision = gate_pb2.DECISION_ADMIT if cursor.rowcount == 1 else gate_pb2.DECISION_REJECT
        answer.verdicts.add(scan_id=scan.scan_id, decision=decision, ticket_id=ticket_id)
    return answer.SerializeToString()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1], credentials_of(*(Path(item) for item in sys.argv[2:5]))))
