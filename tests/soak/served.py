"""A cluster with its gateway in a process of its own, which is asked how much it holds: for soaks of hostile clients.

Clients are in the asking process, so that what they leak themselves is not counted.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import multiprocessing
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil
import structlog

from cluster import scan_memory
from cluster.config import TlsFiles
from ops.pki import Kind
from tests.cluster.harness import LocalCluster, example_document

TICKETS = 2_000
AT_ONCE = 10_000
"""Tickets of one registration."""
CAPACITY = 1_000_000
"""Of every zone that has one: it is granted in leases, and never the reason why somebody must wait."""
START_TIMEOUT_S = 30.0
SCANS_REMEMBERED = 5_000
"""Of a partition: a flood reaches this bound within a second, instead of minutes."""


@dataclass(frozen=True, slots=True)
class Held:
    """What a process holds."""

    rss_mb: float
    fds: int
    tasks: int
    streams: int
    shed: int
    scans: int
    blocks: int
    """Pieces of memory that Python's objects take, right after a collection: to the piece, whatever allocators keep."""


class Served:
    """The other process."""

    def __init__(self, pipe: Connection, pid: int, port: int, files: TlsFiles, tokens: list[bytes]) -> None:
        self.port, self.files, self.tokens = port, files, tokens
        self._pipe, self._process = pipe, psutil.Process(pid)

    def held(self) -> Held:
        """What it holds now."""
        self._pipe.send("held")
        answer: dict[str, int] = self._pipe.recv()
        return Held(self._process.memory_info().rss / 2**20, self._process.num_fds(), **answer)


@contextmanager
def served(ledger_url: str, folder: Path, tickets: int = TICKETS) -> Iterator[Served]:
    """Starts it, with so many day tickets registered, and ends it."""
    context = multiprocessing.get_context("spawn")
    near, far = context.Pipe()
    process = context.Process(target=_main, args=(far, ledger_url, folder, tickets))
    process.start()
    try:
        if not near.poll(START_TIMEOUT_S):
            raise TimeoutError("the cluster did not start")
        yield Served(near, process.pid or 0, *near.recv())
    finally:
        near.send("stop")
        process.join(START_TIMEOUT_S)
        process.kill()


def _main(pipe: Connection, ledger_url: str, folder: Path, tickets: int) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    scan_memory.MAX_SINGLE_VERDICTS = SCANS_REMEMBERED
    asyncio.run(_serve(pipe, ledger_url, folder, tickets))


async def _serve(pipe: Connection, ledger_url: str, folder: Path, tickets: int) -> None:
    cluster = LocalCluster(ledger_url, folder)
    await cluster.start(_spacious(example_document()))
    files = cluster.pki.client(Kind.GATE, "device", ["main-1"])
    tokens = [cluster.token("day") for _ in range(tickets)]
    for start in range(0, tickets, AT_ONCE):
        await cluster.register(*tokens[start : start + AT_ONCE])
    pipe.send((cluster.gateway.port, files, tokens))
    while await asyncio.to_thread(pipe.recv) == "held":
        gc.collect()
        pipe.send(_counts(cluster))
    await cluster.stop()


def _spacious(document: dict[str, Any]) -> dict[str, Any]:
    for zone in document["zones"]:
        zone["capacity"] = CAPACITY if zone.get("capacity") else 0
    return document


def _counts(cluster: LocalCluster) -> dict[str, Any]:
    counters = cluster.owners[0].owner.counters
    gates = cluster.gateway.gates
    return {
        "tasks": len(asyncio.all_tasks()),
        "streams": gates.streams + len(gates._outboxes) + len(gates._callers),
        "shed": counters.shed,
        "scans": counters.scans,
        "blocks": sys.getallocatedblocks(),
    }
