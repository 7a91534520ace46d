"""First admissions are kept as the log has them, a row a run, and which tickets are recognised as bits.

A row and an entry of a unique index for each were three quarters of what Postgres did for a scan (measured over worker
and Postgres, with runs of 250). The view `first_admissions` shows what the table of that name held.
"""

from pathlib import Path

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the tables, moves what is there into them, and puts the view in the place of the old table."""
    connection = op.get_bind().connection.dbapi_connection
    if connection is None:
        raise RuntimeError("the migration has no connection")
    connection.execute(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8"))


def downgrade() -> None:
    """The view shows what the table held."""
    raise NotImplementedError("the schema reporting is never taken back")
