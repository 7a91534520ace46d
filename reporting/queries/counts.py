"""The counts of a reconciliation: what Postgres holds, and what sales says. Same names as the recount's (I6)."""

from __future__ import annotations

from parkgate.events.v1 import events_pb2 as events
from parkgate.gate.v1 import gate_pb2 as gate
from reporting.database import Connection
from reporting.reconcile import SALES_KEEPS, Count, CountBook

# A refund may overtake the registration of its ticket; its product and price are known from the latter.
_TICKETS = """
SELECT CASE WHEN registered THEN 'registered' WHEN to_lifecycle = %(refunded)s THEN 'refunded' ELSE 'rescheduled' END
       || ' product=' || product_number, sum(tickets)::bigint, sum(price_minor)::bigint
FROM (
    SELECT registered, to_lifecycle, product_number, tickets, price_minor FROM reporting.ticket_days
    WHERE registered OR product_number <> 0
    UNION ALL
    SELECT false, c.to_lifecycle, coalesce(r.product_number, 0), 1, coalesce(r.price_minor, 0)
    FROM reporting.ticket_events c LEFT JOIN reporting.ticket_events r ON r.ticket_id = c.ticket_id AND r.registered
    WHERE NOT c.registered AND c.product_number = 0
) AS counted
WHERE registered OR to_lifecycle IN (%(refunded)s, %(rescheduled)s)
GROUP BY 1"""

_ADMITTED = """
SELECT 'admitted product=' || f.product_number, count(*), coalesce(sum(t.price_minor), 0)::bigint
FROM reporting.first_admissions f LEFT JOIN reporting.ticket_events t ON t.ticket_id = f.ticket_id AND t.registered
GROUP BY 1"""

_SCANS = """
SELECT decision, reason, kind, sum(scans)::bigint, sum(persons)::bigint FROM reporting.scan_minutes GROUP BY 1, 2, 3"""

_PASSAGES = (
    "SELECT outcome, sum(passages)::bigint, sum(persons_given_back)::bigint FROM reporting.passage_minutes GROUP BY 1"
)

_SALES = """
SELECT 'registered product=' || product_number, count(*), sum(price_minor)::bigint FROM sales.ticket_facts GROUP BY 1
UNION ALL
SELECT lifecycle || ' product=' || product_number, count(*), sum(price_minor)::bigint FROM sales.ticket_facts
WHERE lifecycle IN ('refunded', 'rescheduled') GROUP BY 1"""


async def postgres_book(connection: Connection) -> CountBook:
    """What the workers wrote."""
    lifecycles: dict[str, int] = {"refunded": events.LIFECYCLE_REFUNDED, "rescheduled": events.LIFECYCLE_RESCHEDULED}
    counts = await _named(connection, _TICKETS, lifecycles)
    counts |= await _named(connection, _ADMITTED)
    counts |= await _scans(connection)
    counts |= await _passages(connection)
    return CountBook("postgres", counts)


async def sales_book(connection: Connection) -> CountBook:
    """What sales says it issued, refunded and rescheduled."""
    return CountBook("sales", await _named(connection, _SALES), SALES_KEEPS)


async def _named(connection: Connection, statement: str, values: dict[str, int] | None = None) -> dict[str, Count]:
    cursor = await connection.execute(statement.encode(), values)
    return {str(name): Count(_int(units), _int(amount)) for name, units, amount in await cursor.fetchall()}


async def _scans(connection: Connection) -> dict[str, Count]:
    counts: dict[str, int] = {}
    cursor = await connection.execute(_SCANS.encode())
    for decision, reason, kind, scans, persons in await cursor.fetchall():
        if decision == gate.DECISION_ADMIT:
            name = gate.AdmissionKind.Name(_kind(kind)).removeprefix("ADMISSION_KIND_").lower()
            counts[f"scans {name}"] = counts.get(f"scans {name}", 0) + _int(scans)
            counts[f"persons {name}"] = counts.get(f"persons {name}", 0) + _int(persons)
        else:
            name = f"refused reason={gate.Reason.Name(_reason(reason)).removeprefix('REASON_')}"
            counts[name] = counts.get(name, 0) + _int(scans)
    return {name: Count(units) for name, units in counts.items() if units}


async def _passages(connection: Connection) -> dict[str, Count]:
    counts: dict[str, int] = {"persons given back": 0}
    cursor = await connection.execute(_PASSAGES.encode())
    for outcome, passages, given_back in await cursor.fetchall():
        name = gate.PassageOutcome.Name(_outcome(outcome)).removeprefix("PASSAGE_OUTCOME_").lower()
        counts[f"passages {name}"] = _int(passages)
        counts["persons given back"] += _int(given_back)
    return {name: Count(units) for name, units in counts.items() if units}


def _int(value: object) -> int:
    return int(str(value))


def _kind(value: object) -> gate.AdmissionKind.ValueType:
    return gate.AdmissionKind.ValueType(_int(value))


def _reason(value: object) -> gate.Reason.ValueType:
    return gate.Reason.ValueType(_int(value))


def _outcome(value: object) -> gate.PassageOutcome.ValueType:
    return gate.PassageOutcome.ValueType(_int(value))
