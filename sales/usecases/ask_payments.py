"""A payment provider that stays silent is asked what became of a payment, until it says so.

Webhooks get lost, and providers have bad days. A payment that is pending for too long is asked for, ever less often;
what the provider answers is settled as if it had come by webhook, under the same event id, so that of the two only one
acts. Until then the order stays PAYING and its hold pinned: no clock decides what happened to a guest's money.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from sales import metrics, provider
from sales.context import Sales
from sales.tables import payments
from sales.usecases.settle_payment import settle_payment
from ticketcore.errors import CallerError, TransientError

SWEPT = 50
"""Payments a sweep; each is one call of the provider."""
MAX_WAIT = timedelta(minutes=10)
log = logging.getLogger(__name__)


async def ask_payments(sales: Sales) -> int:
    """Asks for the payments whose time has come; returns how many were asked for."""
    rows = await _claim(sales)
    for row in rows:
        await _ask(sales, row)
    return len(rows)


def wait(first: timedelta, asked: int) -> timedelta:
    """How long until a payment is asked for again, after it was asked for so often."""
    doubled: timedelta = first * 2 ** min(asked, 16)
    return min(MAX_WAIT, doubled)


async def _claim(sales: Sales) -> Sequence[Any]:
    """Due payments, each put off before it is asked for, so that nobody else asks meanwhile and a crash loses none."""
    now = sales.clock()
    due = (
        sa.select(payments)
        .where(payments.c.state == "pending", payments.c.next_ask_time <= now)
        .order_by(payments.c.next_ask_time)
        .limit(SWEPT)
        .with_for_update(skip_locked=True)
    )
    first = timedelta(milliseconds=sales.config.ask_payment_after_ms)
    async with sales.database.transaction() as connection:
        rows = (await connection.execute(due)).all()
        for row in rows:
            later = {"asked": row.asked + 1, "next_ask_time": now + wait(first, row.asked + 1)}
            await connection.execute(sa.update(payments).where(payments.c.id == row.id).values(later))
    return rows


async def _ask(sales: Sales, row: Any) -> None:
    try:
        event = await provider.ask(sales.config, row.id, sales.clock())
        effect = "pending" if event is None else await settle_payment(sales, event)
    except TransientError as error:
        effect = "silent"
        log.warning("payment %s of order %d: %s", row.id.hex(), row.order_id, error)
    except CallerError as error:
        effect = "refused"
        log.error("what the provider says of payment %s cannot be used: %s", row.id.hex(), error)
    metrics.PAYMENTS_ASKED.labels(effect).inc()
