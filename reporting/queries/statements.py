"""Builds the statement of a report: one SELECT, grouped as asked. Names are ours, values are parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from parkgate.reporting.v1 import reporting_pb2 as pb
from ticketcore.errors import InvalidInputError

Dimension: TypeAlias = "pb.Dimension.ValueType"

_SCAN_GROUPS: Mapping[Dimension, str] = {
    pb.DIMENSION_DAY: "park_date::text",
    pb.DIMENSION_HOUR: "date_trunc('hour', minute, %(zone)s)",
    pb.DIMENSION_MINUTE: "minute",
    pb.DIMENSION_PRODUCT: "product_number",
    pb.DIMENSION_GATE: "gate_number",
    pb.DIMENSION_REASON: "reason",
    pb.DIMENSION_ZONE: "zone_number",
    pb.DIMENSION_DECISION: "decision",
    pb.DIMENSION_KIND: "kind",
}
_SALES_GROUPS: Mapping[Dimension, str] = {
    pb.DIMENSION_DAY: "park_date::text",
    pb.DIMENSION_PRODUCT: "product_number",
    pb.DIMENSION_CHANNEL: "channel",
    pb.DIMENSION_WINDOW: "window_id",
    pb.DIMENSION_CONCESSION: "concession",
}

_SCAN_LINES = """
SELECT park_date, minute, gate_number, zone_number, product_number, decision, reason, kind, scans,
       CASE WHEN kind IN (1, 2) THEN persons ELSE 0 END AS persons_in,
       CASE WHEN kind = 3 THEN persons ELSE 0 END AS persons_out, 0::bigint AS persons_given_back
FROM reporting.scan_minutes
UNION ALL
SELECT park_date, minute, gate_number, zone_number, product_number, 1, 0, kind, 0, 0, 0, persons_given_back
FROM reporting.passage_minutes WHERE persons_given_back <> 0"""

_FINANCE_LINES = """
SELECT park_date, product_number, channel, window_id, concession, currency,
       CASE kind WHEN 'sold' THEN amount_minor ELSE 0 END AS sold_minor,
       CASE kind WHEN 'refund' THEN -amount_minor ELSE 0 END AS refunded_minor,
       CASE kind WHEN 'reschedule' THEN amount_minor ELSE 0 END AS moved_minor,
       CASE kind WHEN 'fee' THEN amount_minor ELSE 0 END AS fees_minor, 0::bigint AS admitted_minor,
       (kind = 'sold')::int AS tickets_sold, (kind = 'refund')::int AS tickets_refunded, 0 AS tickets_admitted
FROM sales.finance_lines
UNION ALL
SELECT f.park_date, f.product_number, coalesce(t.channel, ''), coalesce(t.window_id, ''), coalesce(t.concession, ''),
       coalesce(t.currency, ''), 0, 0, 0, 0, coalesce(t.price_minor, 0), 0, 0, 1
FROM reporting.first_admissions f LEFT JOIN sales.ticket_facts t USING (ticket_id)"""

_SCAN_MEASURES = {name: f"sum({name})::bigint" for name in ("scans", "persons_in", "persons_out", "persons_given_back")}
_SALES_MEASURES = {
    name: f"sum({name})::bigint" for name in ("tickets_sold", "sold_minor", "tickets_refunded", "refunded_minor")
}
_FINANCE_MEASURES = {
    **{name: f"sum({name})::bigint" for name in ("sold_minor", "refunded_minor", "moved_minor", "fees_minor")},
    "admitted_minor": "sum(admitted_minor)::bigint",
    "recognised_minor": "sum(fees_minor + admitted_minor)::bigint",
    "deferred_minor": "sum(sold_minor - refunded_minor + moved_minor - fees_minor - admitted_minor)::bigint",
    **{name: f"sum({name})::bigint" for name in ("tickets_sold", "tickets_refunded", "tickets_admitted")},
}


@dataclass(frozen=True, slots=True)
class Statement:
    """A report's SQL. Its columns are the dimensions, then the currency if money is in it, then the measures."""

    text: str
    total_text: str
    values: dict[str, object]
    dimensions: tuple[Dimension, ...]
    labels: tuple[str, ...]
    measures: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Filter:
    """What a report is narrowed to. Dates are checked ISO strings or empty; empty lists mean all."""

    from_date: str = ""
    to_date: str = ""
    zone: str = "UTC"
    selection: pb.ScanSelection.ValueType = pb.SCAN_SELECTION_UNSPECIFIED
    gate_numbers: Sequence[int] = ()
    product_numbers: Sequence[int] = ()


def scans_statement(dimensions: Sequence[Dimension], chosen: Filter) -> Statement:
    """Scans and persons.

    Raises:
        InvalidInputError: scans cannot be grouped by that.
    """
    return _statement(_SCAN_LINES, _SCAN_GROUPS, _SCAN_MEASURES, dimensions, chosen)


def sales_statement(dimensions: Sequence[Dimension], chosen: Filter) -> Statement:
    """Tickets and money from the books of sales. Raises as `scans_statement` does."""
    return _statement(_FINANCE_LINES, _SALES_GROUPS, _SALES_MEASURES, dimensions, chosen)


def finance_statement(dimensions: Sequence[Dimension], chosen: Filter) -> Statement:
    """Sold, refunded, recognised, deferred. Raises as `scans_statement` does."""
    return _statement(_FINANCE_LINES, _SALES_GROUPS, _FINANCE_MEASURES, dimensions, chosen)


def _statement(
    lines: str,
    groups: Mapping[Dimension, str],
    measures: Mapping[str, str],
    dimensions: Sequence[Dimension],
    chosen: Filter,
) -> Statement:
    _check(dimensions, groups)
    labels = ("currency",) if lines is _FINANCE_LINES else ()
    keys = [*(groups[dimension] for dimension in dimensions), *labels]
    marks = ", ".join(str(number) for number in range(1, len(keys) + 1))
    conditions, values = _conditions(chosen, scans=lines is _SCAN_LINES)
    source = f"FROM ({lines}) AS lines WHERE {conditions}"
    having = " HAVING " + " OR ".join(f"sum({name}) <> 0" for name in _plain(measures))
    ordered = f" GROUP BY {marks}{having} ORDER BY {marks}" if keys else having
    totals = f" GROUP BY 1{having} ORDER BY 1" if labels else ""
    return Statement(
        text=f"SELECT {', '.join([*keys, *measures.values()])} {source}{ordered}",
        total_text=f"SELECT {', '.join([*labels, *measures.values()])} {source}{totals}",
        values=values,
        dimensions=tuple(dimensions),
        labels=labels,
        measures=tuple(measures),
    )


def _plain(measures: Mapping[str, str]) -> list[str]:
    return [name for name, expression in measures.items() if expression == f"sum({name})::bigint"]


def _check(dimensions: Sequence[Dimension], groups: Mapping[Dimension, str]) -> None:
    for dimension in dimensions:
        if dimension not in groups:
            known = ", ".join(dimension_name(known) for known in groups)
            raise InvalidInputError(f"this report cannot be grouped by {dimension_name(dimension)}; it can by {known}")
    if len(set(dimensions)) != len(dimensions):
        raise InvalidInputError("the same dimension is given twice")


def dimension_name(dimension: Dimension) -> str:
    """A dimension as people write it; a number that this version does not know stays a number."""
    try:
        return pb.Dimension.Name(dimension).removeprefix("DIMENSION_").lower()
    except ValueError:
        return str(dimension)


def _conditions(chosen: Filter, *, scans: bool) -> tuple[str, dict[str, object]]:
    values: dict[str, object] = {"zone": chosen.zone}
    conditions = ["true"]
    for name, sign in (("from_date", ">="), ("to_date", "<=")):
        if getattr(chosen, name):
            conditions.append(f"park_date {sign} %({name})s::date")
            values[name] = getattr(chosen, name)
    for name in ("gate_number", "product_number"):
        if getattr(chosen, f"{name}s"):
            conditions.append(f"{name} = ANY(%({name}s)s)")
            values[f"{name}s"] = list(getattr(chosen, f"{name}s"))
    if scans and chosen.selection == pb.SCAN_SELECTION_ADMITTED:
        conditions.append("decision = 1")
    if scans and chosen.selection == pb.SCAN_SELECTION_REFUSED:
        conditions.append("decision IN (2, 3)")
    return " AND ".join(conditions), values
