"""The first schema: catalogue, orders, payments, tickets, voids, double-entry postings, outbox, views for reporting.

Revision: 0001
"""

from pathlib import Path

from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Runs the SQL beside this file; functions and triggers read better there than as Alembic calls."""
    connection = op.get_bind().connection.dbapi_connection
    if connection is None:
        raise RuntimeError("the migration has no connection")
    connection.execute(Path(__file__).with_suffix(".sql").read_text())


def downgrade() -> None:
    """Never."""
    raise NotImplementedError("books are restored from a backup, never migrated back")
