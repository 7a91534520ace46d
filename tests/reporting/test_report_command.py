"""`parkgate report` as a person calls it: a process of its own against a service."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import psycopg
import redis
from test_service import a_day, authority, ledger, publish, served

from reporting.client import ReportServer
from reporting.config import ReportingConfig

__all__ = ["authority", "ledger", "served"]  # fixtures


async def call(server: ReportServer, *arguments: str) -> tuple[int, str]:
    return await run(
        "from ops.commands.report import app; app()",
        {"PARKGATE_REPORT_SERVER": server.address, "PARKGATE_REPORT_CERT": str(server.cert_dir)},
        *arguments,
    )


async def run(code: str, variables: dict[str, str], *arguments: str) -> tuple[int, str]:
    environment = {
        **os.environ,
        **variables,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "COLUMNS": "200",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        code,
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
        books.execute("DELETE FROM reporting.first_admission_runs WHERE 1 = ANY(ticket_ids)")
    code, said = await call(server, "reconcile")
    assert (code, "differs: admitted product=1" in said) == (1, True)


async def test_tables_show_names_and_files_the_numbers_beside_them(
    served: tuple[ReportServer, ReportingConfig], ledger: redis.Redis, tmp_path: Path
) -> None:
    server, config = served
    publish(config)
    await a_day(config, ledger)
    _, said = await call(server, "finance", "--by", "product")
    assert [name in said for name in ("Day ticket", "product 1", "│ 1 ")] == [True, False, False]
    _, said = await call(server, "admissions", "--by", "zone", "--by", "gate")
    assert ("Park" in said, "gate 2" in said) == (True, True)  # the gates of this day are not in the catalogue
    _, said = await call(server, "occupancy", "--day", "2026-05-01")
    assert ("Park" in said, "zone 1" in said) == (True, False)
    _, said = await call(server, "reconcile")
    assert "registered Day ticket" in said
    await call(server, "finance", "--format", "csv", "--out", str(tmp_path / "f.csv"))
    assert (tmp_path / "f.csv").read_text().splitlines()[1].startswith("1,Day ticket,EUR,")


async def test_a_server_that_is_named_needs_a_certificate_and_a_folder_where_nothing_runs_is_said_so(
    tmp_path: Path,
) -> None:
    """The installation's own certificate is shown to its own service only, and none is made where there is no park."""
    code, said = await run(MAIN, {}, "report", "sales", "--server", "reports.example:7445")
    assert (code, "--cert" in said, "reports.example:7445" in said) == (2, True, True)
    code, said = await run(MAIN, {}, "report", "sales", "--data-dir", str(tmp_path / "park"))
    assert (code, "Nothing runs on" in said, "parkgate up" in said) == (1, True, True)
    assert not (tmp_path / "park").exists()


MAIN = "from ops.cli import main; main()"
