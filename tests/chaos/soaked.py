"""A row of `make chaos`: thousands of clients that come and go, and what they leave behind (I8)."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from ops.embedded import EmbeddedValkey
from tests.chaos.rows import Row
from tests.soak.clients import REST_S, SLACK, come_and_go
from tests.soak.served import Held, served

VISITS, LONG_VISITS = 2_000, 10_000
WARM_UP = 200
GROWTH_MB = 20.0
"""Whatever their number: a connection that stayed would be 100 kB."""


def soak_row(visits: int) -> Row:
    """The row."""
    with tempfile.TemporaryDirectory(prefix="parkgate-soak-") as folder:
        before, after = asyncio.run(_soak(Path(folder), visits))
    says = (
        f"{visits:,} connections, ended in order, cancelled, cut off or silent; memory {before.rss_mb:.0f} to "
        f"{after.rss_mb:.0f} MB, files {before.fds} to {after.fds}, tasks {before.tasks} to {after.tasks}"
    )
    return Row("clients", "come and go", says, 1, visits, 0, 0, tuple(_broken(before, after)))


async def _soak(folder: Path, visits: int) -> tuple[Held, Held]:
    with EmbeddedValkey(folder / "valkey") as valkey, served(valkey.url, folder) as server:
        await come_and_go(server, WARM_UP)
        await asyncio.sleep(REST_S)
        before = server.held()
        await come_and_go(server, visits)
        await asyncio.sleep(REST_S)
        return before, server.held()


def _broken(before: Held, after: Held) -> list[str]:
    checks = (
        (after.streams == 0, f"I8: {after.streams} streams are left"),
        (after.tasks <= before.tasks + SLACK, f"I8: {after.tasks - before.tasks} tasks are left"),
        (after.fds <= before.fds + SLACK, f"I8: {after.fds - before.fds} files are left open"),
        (after.rss_mb - before.rss_mb < GROWTH_MB, f"I8: memory grew by {after.rss_mb - before.rss_mb:.0f} MB"),
    )
    return [broken for holds, broken in checks if not holds]
