"""The fast peer: one Lua check-and-redeem a call, from the C client redis-benchmark, fsync always."""

from __future__ import annotations

import asyncio
import csv
import shutil
from urllib.parse import urlsplit

import redis.asyncio

from loadtest.bench.client import Result

SCRIPT = "if redis.call('GET', KEYS[1]) == '1' then return 0 end redis.call('SET', KEYS[1], '1') return 1"
ENTRY_BYTES = 150
"""About what an owner's log entry of one admission takes."""
KEYSPACE = 1_000_000_000
"""Random keys of so many: almost every call redeems a new ticket."""


def available() -> bool:
    """Whether the C client is installed."""
    return shutil.which("redis-benchmark") is not None


async def measure(url: str, clients: int, calls: int) -> Result:
    """Runs redis-benchmark once against the server at `url`."""
    async with redis.asyncio.Redis.from_url(url) as client:
        durable = (await client.config_get("appendfsync"))["appendfsync"]
        if durable != "always":
            raise RuntimeError(f"the peer must be measured with appendfsync always, not {durable}")
        digest = await client.script_load(SCRIPT)
    call = ("-r", str(KEYSPACE), "EVALSHA", str(digest), "1", "ticket:__rand_int__")
    return await _run(url, clients, calls, call)


async def measure_write(url: str, calls: int) -> Result:
    """One client that appends to a stream, one entry after the other: what an fsync'd write costs at least."""
    return await _run(url, 1, calls, ("XADD", "floor", "*", "entry", "x" * ENTRY_BYTES))


async def _run(url: str, clients: int, calls: int, call: tuple[str, ...]) -> Result:
    parts = urlsplit(url)
    command = ["redis-benchmark", "-h", str(parts.hostname), "-p", str(parts.port), "-n", str(calls)]
    # redis-benchmark takes the password from nowhere else; it is of a server that lives for this run, on loopback.
    command += ["-a", parts.password or "", "-c", str(clients), "--csv", *call]
    process = await asyncio.create_subprocess_exec(
        *command,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"redis-benchmark failed: {err.decode().strip()}")
    header, row = list(csv.reader(out.decode().splitlines()))[-2:]
    values = dict(zip(header, row, strict=True))
    return Result(
        per_s=float(values["rps"]),
        p50_ms=float(values["p50_latency_ms"]),
        p99_ms=float(values["p99_latency_ms"]),
        admitted=calls,
        not_admitted=0,
        ran_out=False,
        retried=0,
        reasons={},
        client_cpu_share=float("nan"),
    )
