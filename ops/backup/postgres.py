"""Postgres in a backup: an instant at which sales stand still, and dump and restore by Postgres' own programs."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict

from ops.embedded.postgres import binary
from ops.errors import OpsError

LOCK = "LOCK TABLE sales.orders, sales.tickets, sales.voids, sales.outbox IN SHARE MODE"
LOCK_TIMEOUT_MS = 500
"""Below Postgres' deadlock timeout of 1 s: where we and a sale wait for each other, it is we who give way."""
ATTEMPTS = 40
VARIABLES = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD", "dbname": "PGDATABASE"}
VARIABLES |= {"sslmode": "PGSSLMODE", "sslrootcert": "PGSSLROOTCERT", "sslcert": "PGSSLCERT", "sslkey": "PGSSLKEY"}


@dataclass(frozen=True, slots=True)
class View:
    """What Postgres held at an instant: the name by which a dump can see it, and reporting's offsets in it."""

    snapshot: str
    offsets: dict[str, int]


@contextmanager
def sales_held(url: str) -> Iterator[None]:
    """Nothing of sales is written in here. Raises: OpsError when it never comes to rest."""
    with psycopg.connect(plain(url)) as holder:
        for _ in range(ATTEMPTS):
            try:
                holder.execute(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}".encode())
                holder.execute(LOCK)
                break
            except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
                holder.rollback()
        else:
            raise OpsError("Sales do not come to rest for a moment; some transaction of theirs hangs.", "Try again.")
        yield
        holder.rollback()


@contextmanager
def view(url: str) -> Iterator[View]:
    """What Postgres holds as this is entered, for as long as it is not left."""
    with psycopg.connect(plain(url)) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        rows = connection.execute("SELECT partition, sequence FROM reporting.offsets").fetchall()
        name = connection.execute("SELECT pg_export_snapshot()").fetchone()
        assert name is not None
        yield View(str(name[0]), {str(partition): int(sequence) for partition, sequence in rows})
        connection.rollback()


def dump(url: str, snapshot: str, path: Path) -> None:
    """Writes all that a view holds."""
    _run("pg_dump", url, [f"--snapshot={snapshot}", "--format=custom", "--no-owner", "--no-acl", f"--file={path}"])


def restore(url: str, path: Path) -> None:
    """Fills an empty database from a dump, whole or not at all."""
    arguments = ["--single-transaction", "--exit-on-error", "--no-owner", "--no-acl"]
    _run("pg_restore", url, [*arguments, f"--dbname={_variables(url)['PGDATABASE']}", str(path)])


def plain(url: str) -> str:
    """An address as libpq wants it, without a driver's name."""
    scheme, rest = url.split("://", 1)
    return f"{scheme.partition('+')[0]}://{rest}"


def _run(program: str, url: str, arguments: list[str]) -> None:
    """The password is in the environment, where only this user's processes see it; a command line is seen by all."""
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC", **_variables(url)}
    done = subprocess.run(
        [str(binary(program)), "--no-password", *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise OpsError(f"Postgres' {program} failed: {done.stderr.strip()[-500:]}", "Look at the disk space.")


def _variables(url: str) -> dict[str, str]:
    parts = conninfo_to_dict(plain(url))
    return {variable: str(parts[name]) for name, variable in VARIABLES.items() if parts.get(name)}
