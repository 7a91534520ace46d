"""The tables of the schema `sales`, for SQLAlchemy Core. The migrations make them; a test compares the two."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import BYTEA, JSONB, TEXT, TIMESTAMP

SCHEMA = "sales"
metadata = sa.MetaData(schema=SCHEMA)
TIME = TIMESTAMP(timezone=True)


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, TEXT, nullable=False)


def _time(name: str) -> sa.Column[object]:
    return sa.Column(name, TIME, nullable=False)


def _minor(name: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=nullable)


def _integer(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer, nullable=False)


catalogues = sa.Table(
    "catalogues",
    metadata,
    sa.Column("version", sa.BigInteger, primary_key=True),
    _text("document"),
    _time("publish_time"),
)

requests = sa.Table(
    "requests",
    metadata,
    sa.Column("request_id", BYTEA, primary_key=True),
    _text("method"),
    sa.Column("body_hash", BYTEA, nullable=False),
    sa.Column("answer", BYTEA),
    _time("create_time"),
)

shifts = sa.Table(
    "shifts",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    _text("window_id"),
    _text("operator"),
    _time("open_time"),
    sa.Column("close_time", TIME),
    _minor("float_minor"),
    _minor("expected_minor", nullable=True),
    _minor("counted_minor", nullable=True),
    _minor("difference_minor", nullable=True),
)

orders = sa.Table(
    "orders",
    metadata,
    sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
    _text("state"),
    _text("channel"),
    _text("window_id"),
    sa.Column("catalogue_version", sa.BigInteger, nullable=False),
    _text("currency"),
    _minor("total_minor"),
    _integer("ticket_count"),
    sa.Column("lines", JSONB, nullable=False),
    sa.Column("hold_id", BYTEA),
    _time("hold_lapse_time"),
    _time("create_time"),
    sa.Column("pay_time", TIME),
    sa.Column("payment_method", TEXT),
    sa.Column("payment_id", BYTEA),
    _minor("refunded_minor"),
    _integer("refunded_count"),
)

payments = sa.Table(
    "payments",
    metadata,
    sa.Column("id", BYTEA, primary_key=True),
    sa.Column("order_id", sa.BigInteger, sa.ForeignKey("sales.orders.id"), nullable=False),
    _text("method"),
    _text("state"),
    _minor("amount_minor"),
    _minor("tendered_minor"),
    _text("currency"),
    _text("window_id"),
    sa.Column("shift_id", sa.BigInteger, sa.ForeignKey("sales.shifts.id")),
    _time("create_time"),
    sa.Column("capture_time", TIME),
    sa.Column("next_ask_time", TIME),
    _integer("asked"),
)

payment_events = sa.Table(
    "payment_events",
    metadata,
    sa.Column("event_id", TEXT, primary_key=True),
    sa.Column("payment_id", BYTEA, nullable=False),
    _text("kind"),
    _text("effect"),
    _time("event_time"),
    _time("receive_time"),
)

tickets = sa.Table(
    "tickets",
    metadata,
    sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("order_id", sa.BigInteger, sa.ForeignKey("sales.orders.id"), nullable=False),
    _integer("line_number"),
    _integer("product_number"),
    _text("product_id"),
    _text("concession"),
    _text("channel"),
    _text("window_id"),
    sa.Column("visit_date", sa.Date, nullable=False),
    _integer("valid_days"),
    _integer("slot"),
    _integer("persons"),
    _minor("price_minor"),
    _text("currency"),
    sa.Column("catalogue_version", sa.BigInteger, nullable=False),
    _text("quota_keys"),
    _time("sold_time"),
    _time("paid_time"),
    sa.Column("park_date", sa.Date, nullable=False),
    _text("lifecycle"),
    sa.Column("replaces_ticket_id", sa.BigInteger, sa.ForeignKey("sales.tickets.id")),
    sa.Column(
        "replaced_by_ticket_id",
        sa.BigInteger,
        sa.ForeignKey("sales.tickets.id", deferrable=True, initially="DEFERRED"),
    ),
    sa.Column("token", BYTEA, nullable=False),
    _text("bundle_id"),
    _integer("bundle_number"),
)

voids = sa.Table(
    "voids",
    metadata,
    sa.Column("id", BYTEA, primary_key=True),
    sa.Column("request_id", BYTEA, nullable=False),
    _integer("position"),
    _text("kind"),
    sa.Column("ticket_id", sa.BigInteger, sa.ForeignKey("sales.tickets.id"), nullable=False),
    _text("state"),
    _text("refusal"),
    _text("reason"),
    _text("window_id"),
    _minor("price_minor"),
    _minor("fee_minor"),
    _minor("refund_minor"),
    sa.Column("visit_date", sa.Date),
    sa.Column("slot", sa.Integer),
    sa.Column("catalogue_version", sa.BigInteger, nullable=False),
    sa.Column("new_ticket_id", sa.BigInteger, sa.ForeignKey("sales.tickets.id")),
    sa.Column("shift_id", sa.BigInteger, sa.ForeignKey("sales.shifts.id")),
    _minor("cash_minor"),
    _minor("difference_minor"),
    _text("bundle"),
    _text("decision"),
    _time("request_time"),
    sa.Column("settle_time", TIME),
    sa.Column("park_date", sa.Date),
    _integer("attempts"),
    _time("next_attempt_time"),
)

transactions = sa.Table(
    "transactions",
    metadata,
    sa.Column("id", BYTEA, primary_key=True),
    _text("kind"),
    sa.Column("order_id", sa.BigInteger, sa.ForeignKey("sales.orders.id"), nullable=False),
    _time("booked_time"),
    sa.Column("park_date", sa.Date, nullable=False),
)

postings = sa.Table(
    "postings",
    metadata,
    sa.Column("transaction_id", BYTEA, sa.ForeignKey("sales.transactions.id"), primary_key=True),
    sa.Column("line", sa.Integer, primary_key=True, autoincrement=False),
    _text("account"),
    _minor("amount_minor"),
    _text("currency"),
    sa.Column("ticket_id", sa.BigInteger),
    sa.Column("product_number", sa.Integer),
    _time("sold_time"),
    _time("paid_time"),
    sa.Column("visit_date", sa.Date),
)

outbox = sa.Table(
    "outbox",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("aggregate", BYTEA, nullable=False),
    _text("kind"),
    sa.Column("payload", BYTEA, nullable=False),
    _time("create_time"),
    _integer("attempts"),
    _time("next_attempt_time"),
    _text("last_error"),
)
