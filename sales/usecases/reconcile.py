"""Sales' own count of tickets and money, from its own books, to be held against the ledger's and reporting's."""

from __future__ import annotations

from datetime import date

import sqlalchemy as sa

from parkgate.sales.v1 import sales_pb2 as pb
from sales.context import Sales
from sales.identity import Caller
from sales.wire import parse_date

_TOTALS = sa.text(
    """
    SELECT product_number, product_id, concession, channel, window_id,
           sum(sold) AS sold, sum(issued) AS issued, sum(refunded) AS refunded, sum(rescheduled) AS rescheduled,
           sum(sold_minor) AS sold_minor, sum(refunded_minor) AS refunded_minor, sum(fee_minor) AS fee_minor,
           sum(difference_minor) AS difference_minor
    FROM (
        SELECT product_number, product_id, concession, channel, window_id,
               (replaces_ticket_id IS NULL)::int AS sold, 1 AS issued, 0 AS refunded, 0 AS rescheduled,
               CASE WHEN replaces_ticket_id IS NULL THEN price_minor ELSE 0 END AS sold_minor,
               0 AS refunded_minor, 0 AS fee_minor, 0 AS difference_minor
        FROM sales.tickets WHERE park_date BETWEEN :first AND :last
        UNION ALL
        SELECT t.product_number, t.product_id, t.concession, t.channel, t.window_id,
               0, 0, (v.kind = 'refund')::int, (v.kind = 'reschedule')::int, 0,
               CASE WHEN v.kind = 'refund' THEN v.refund_minor ELSE 0 END,
               CASE WHEN v.kind = 'refund' THEN v.fee_minor ELSE 0 END, v.difference_minor
        FROM sales.voids v JOIN sales.tickets t ON t.id = v.ticket_id
        WHERE v.state = 'done' AND v.park_date BETWEEN :first AND :last
    ) lines
    GROUP BY product_number, product_id, concession, channel, window_id
    ORDER BY product_number, concession, channel, window_id
    """
)
_BALANCES = sa.text(
    """
    SELECT p.account, sum(p.amount_minor) AS balance
    FROM sales.postings p JOIN sales.transactions x ON x.id = p.transaction_id
    WHERE x.park_date BETWEEN :first AND :last GROUP BY p.account ORDER BY p.account
    """
)
_WAITING = sa.text(
    """
    SELECT (SELECT count(*) FROM sales.outbox) AS outbox,
           (SELECT count(*) FROM sales.voids WHERE state = 'requested') AS voids
    """
)


async def reconcile(sales: Sales, caller: Caller, request: pb.ReconcileRequest) -> pb.ReconcileResponse:
    """Counts, in one snapshot of the books."""
    caller.check_reads_all("reconcile")
    days = {
        "first": parse_date(request.first_date, "first_date") if request.first_date else date.min,
        "last": parse_date(request.last_date, "last_date") if request.last_date else date(9999, 12, 31),
    }
    published = await sales.catalogues.current()
    async with sales.database.transaction() as connection:
        await connection.execute(sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
        totals = (await connection.execute(_TOTALS, days)).all()
        balances = (await connection.execute(_BALANCES, days)).all()
        waiting = (await connection.execute(_WAITING)).one()
    return pb.ReconcileResponse(
        totals=[
            pb.SalesTotal(
                product_number=row.product_number,
                product_id=row.product_id,
                concession=row.concession,
                channel=row.channel,
                window_id=row.window_id,
                sold_tickets=row.sold,
                issued_tickets=row.issued,
                refunded_tickets=row.refunded,
                rescheduled_tickets=row.rescheduled,
                sold_minor=int(row.sold_minor),
                refunded_minor=int(row.refunded_minor),
                fee_minor=int(row.fee_minor),
                difference_minor=int(row.difference_minor),
            )
            for row in totals
        ],
        currency=published.catalogue.venue.currency,
        balances=[pb.AccountBalance(account=row.account, balance_minor=int(row.balance)) for row in balances],
        outbox_waiting=waiting.outbox,
        voids_waiting=waiting.voids,
    )
