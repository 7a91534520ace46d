"""Planted mistakes of an installation that loses its power: each must be found, or the row `power-cut` has no teeth.

`python -m tests.chaos.processes --fault power-cut --plant ledger-everysec` must end with violations.
"""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import redis

from tests.chaos.processes.park import Park

Plant = Callable[[Park], None]


def _ledger(appendfsync: str) -> Plant:
    """Valkey answers before what it wrote is on the disk."""

    def plant(park: Park) -> None:
        with redis.Redis.from_url(park.stack.endpoints.ledger_url) as client:
            client.config_set("appendfsync", appendfsync)

    return plant


def _books(park: Park) -> None:
    """Postgres says that a sale is done before it is on the disk."""
    with psycopg.connect(park.stack.endpoints.postgres_url, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET synchronous_commit = off")
        connection.execute("SELECT pg_reload_conf()")


PLANTS: dict[str, Plant] = {
    "ledger-everysec": _ledger("everysec"),
    "ledger-no": _ledger("no"),
    "books-async": _books,
}
