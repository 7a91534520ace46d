"""Runs statements, and puts their rows into messages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import datetime
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

from parkgate.gate.v1 import gate_pb2 as gate
from parkgate.reporting.v1 import reporting_pb2 as pb
from reporting.database import Connection
from reporting.queries.park import Park
from reporting.queries.statements import Dimension, Statement, dimension_name

CURSOR_ROWS = 2_000
NAMED: dict[Dimension, str] = {
    pb.DIMENSION_PRODUCT: "product_name",
    pb.DIMENSION_GATE: "gate_name",
    pb.DIMENSION_ZONE: "zone_name",
}
"""Dimensions that the books keep by number, and the field and column of their names."""
Row = TypeVar("Row", pb.ScanRow, pb.SalesRow, pb.FinanceRow)


async def page_of(connection: Connection, statement: Statement, size: int, start: int) -> list[tuple[object, ...]]:
    """`size` rows from `start`, and one more if there are more."""
    cursor = await connection.execute(
        f"{statement.text} LIMIT %(limit)s OFFSET %(start)s".encode(),
        {**statement.values, "limit": size + 1, "start": start},
    )
    return await cursor.fetchall()


async def totals_of(connection: Connection, statement: Statement) -> list[tuple[object, ...]]:
    """The sums over all rows, one a currency."""
    cursor = await connection.execute(statement.total_text.encode(), statement.values)
    return await cursor.fetchall()


async def all_rows(connection: Connection, statement: Statement) -> AsyncIterator[tuple[object, ...]]:
    """Every row, without holding them all."""
    async with connection.cursor(name="report") as cursor:
        cursor.itersize = CURSOR_ROWS
        await cursor.execute(statement.text.encode(), statement.values)
        async for row in cursor:
            yield row


async def as_of_ms(connection: Connection) -> int:
    """Up to when every partition is counted; 0 when nothing is."""
    cursor = await connection.execute("SELECT min(entry_time) FROM reporting.offsets WHERE sequence > 0")
    row = await cursor.fetchone()
    return _milliseconds(row[0]) if row and row[0] is not None else 0


def fill(message: Row, statement: Statement, row: Sequence[Any], park: Park) -> Row:
    """Sets a message from a row of `statement.text`."""
    for dimension, value in zip(statement.dimensions, row, strict=False):
        _set_group(message.group, dimension, value, str(statement.values["zone"]))
        if dimension in NAMED:
            setattr(message.group, NAMED[dimension], name_of(park, dimension, value))
    return fill_measures(message, statement, row[len(statement.dimensions) :])


def fill_measures(message: Row, statement: Statement, row: Sequence[Any]) -> Row:
    """Sets a message from a row of `statement.total_text`."""
    for name, value in zip((*statement.labels, *statement.measures), row, strict=True):
        setattr(message, name, value or ("" if name == "currency" else 0))
    return message


def _set_group(group: pb.Group, dimension: Dimension, value: Any, zone: str) -> None:
    if _FIELDS[dimension] == "start_time_ms":
        group.start_time_ms = _milliseconds(value)
        group.start_text = f"{value.astimezone(ZoneInfo(zone)):%Y-%m-%d %H:%M}"
    else:
        setattr(group, _FIELDS[dimension], shown(dimension, value))


def name_of(park: Park, dimension: Dimension, number: Any) -> str:
    """The name of a product, gate or zone; empty for what the catalogues do not know."""
    names = {pb.DIMENSION_PRODUCT: park.products, pb.DIMENSION_GATE: park.gates, pb.DIMENSION_ZONE: park.zones}
    return names[dimension].get(number, "")


def keys_of(statement: Statement, row: Sequence[Any], park: Park) -> Iterator[Any]:
    """The dimensions of a row for a file: numbers with their names beside them."""
    for dimension, value in zip(statement.dimensions, row, strict=False):
        yield shown(dimension, value)
        if dimension in NAMED:
            yield name_of(park, dimension, value)


def key_columns(statement: Statement) -> Iterator[str]:
    """The headings of `keys_of`."""
    for dimension in statement.dimensions:
        yield dimension_name(dimension)
        if dimension in NAMED:
            yield NAMED[dimension]


def shown(dimension: Dimension, value: Any) -> Any:
    """A dimension's value as people and files show it: reasons and the like by name."""
    if dimension == pb.DIMENSION_REASON:
        return gate.Reason.Name(value).removeprefix("REASON_") if value else ""
    if dimension == pb.DIMENSION_DECISION:
        return gate.Decision.Name(value).removeprefix("DECISION_")
    if dimension == pb.DIMENSION_KIND:
        return gate.AdmissionKind.Name(value).removeprefix("ADMISSION_KIND_") if value else ""
    return value


def _milliseconds(value: object) -> int:
    assert isinstance(value, datetime)
    return int(value.timestamp() * 1000)


_FIELDS: dict[Dimension, str] = {
    pb.DIMENSION_DAY: "park_date",
    pb.DIMENSION_HOUR: "start_time_ms",
    pb.DIMENSION_MINUTE: "start_time_ms",
    pb.DIMENSION_PRODUCT: "product_number",
    pb.DIMENSION_GATE: "gate_number",
    pb.DIMENSION_REASON: "reason",
    pb.DIMENSION_CHANNEL: "channel",
    pb.DIMENSION_WINDOW: "window_id",
    pb.DIMENSION_ZONE: "zone_number",
    pb.DIMENSION_DECISION: "decision",
    pb.DIMENSION_CONCESSION: "concession",
    pb.DIMENSION_KIND: "kind",
}
