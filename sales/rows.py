"""Inserting many rows with one statement of constant text, so that it is prepared once, whatever the number of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection

from sales.database import Driver


async def insert_rows(connection: AsyncConnection, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Inserts rows that all have the keys of the first. One statement, whose triggers see all rows at once."""
    if rows:
        columns = tuple(rows[0])
        await connection.execute(_statement(table, columns), {name: [row[name] for row in rows] for name in columns})


async def send_rows(driver: Driver, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """As `insert_rows`, on psycopg's own connection: in a pipeline it is not waited for."""
    if rows:
        columns = tuple(rows[0])
        values = {name: [row[name] for row in rows] for name in columns}
        await driver.execute(_psycopg_statement(table, columns), values)


@lru_cache(maxsize=64)
def _statement(table: sa.Table, columns: tuple[str, ...]) -> sa.TextClause:
    return sa.text(_insert(table, columns, ":{}"))


@lru_cache(maxsize=64)
def _psycopg_statement(table: sa.Table, columns: tuple[str, ...]) -> bytes:
    return _insert(table, columns, "%({})s").encode()


def _insert(table: sa.Table, columns: tuple[str, ...], placeholder: str) -> str:
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    arrays = ", ".join(
        f"CAST({placeholder.format(name)} AS {table.c[name].type.compile(dialect)}[])" for name in columns
    )
    return f"INSERT INTO {table.schema}.{table.name} ({', '.join(columns)}) SELECT * FROM unnest({arrays})"  # noqa: S608
