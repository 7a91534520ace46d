"""`parkgate report` as a person calls it: a process of its own against a service."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import psycopg
import redis
from test_service import a_day, authority, ledger, served

from reporting import ReportingConfig
from reporting.client import ReportServer

__all__ = ["authority", "ledger", "served"]  # fixtures


async def call(server: ReportServer, *arguments: str) -> tuple[int, str]:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "PARKGATE_REPORT_SERVER": server.address,
        "PARKGATE_REPORT_CERT": str(server.cert_dir),
        "COLUMNS": "200",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from ops.commands.report import app; app()",
        *arguments,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


async def test_the_command_prints_writes_and_ends_with_its_code(
    served: tuple[ReportServer, ReportingConfig], ledger: redis.Redis, tmp_path: Path
) -> None:
    server, config = served
    await a_day(config, ledger)
    code, said = await call(server, "finance", "--by", "product")
    total = next(line for line in said.splitlines() if "Total" in line)
    assert (code, "158.33" in total, "33.34" in total) == (0, True, True)
    code, said = await call(server, "refusals", "--format", "csv", "--out", str(tmp_path / "r.csv"))
    assert (code, (tmp_path / "r.csv").read_text().splitlines()[1]) == (0, "ALREADY_USED,1,0,0,0")
    assert await call(server, "sales", "--from", "soon") == (2, "error: 'soon' is not a date like 2026-05-01\n")
    code, said = await call(server, "sales", "--format", "csv")
    assert (code, "needs --out" in said) == (2, True)
    code, said = await call(server, "sales", "--format", "csv", "--out", str(tmp_path / "none" / "x.csv"))
    assert (code, "cannot be written" in said) == (2, True)


async def test_reconcile_ends_with_one_when_the_books_differ(
    served: tuple[ReportServer, ReportingConfig], ledger: redis.Redis
) -> None:
    """I6: a broken promise is seen by whoever runs it."""
    server, config = served
    await a_day(config, ledger)
    code, said = await call(server, "reconcile")
    assert (code, "agree to the unit and the cent" in said) == (0, True)
    with psycopg.connect(config.postgres_url) as books:
        books.execute("DELETE FROM reporting.first_admissions WHERE ticket_id = 1")
    code, said = await call(server, "reconcile")
    assert (code, "differs: admitted product=1" in said) == (1, True)
