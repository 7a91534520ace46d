"""Inserting many rows with one statement of constant text, so that it is prepared once, whatever the number of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection


async def insert_rows(connection: AsyncConnection, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Inserts rows that all have the keys of the first. One statement, whose triggers see all rows at once."""
    if rows:
        columns = tuple(rows[0])
        await connection.execute(_statement(table, columns), {name: [row[name] for row in rows] for name in columns})


@lru_cache(maxsize=64)
def _statement(table: sa.Table, columns: tuple[str, ...]) -> sa.TextClause:
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    arrays = ", ".join(f"CAST(:{name} AS {table.c[name].type.compile(dialect)}[])" for name in columns)
    return sa.text(
        f"INSERT INTO {table.schema}.{table.name} ({', '.join(columns)}) SELECT * FROM unnest({arrays})"  # noqa: S608
    )
