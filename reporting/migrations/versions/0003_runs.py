"""Scans and passages are kept as the log has them: a row a run, with arrays.

The views `scan_events` and `passage_events` show one row a scan and a passage, with the columns of the tables that had
these names.
"""

from pathlib import Path

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the tables of runs, moves what is there into them, and puts the views in the place of the old tables."""
    connection = op.get_bind().connection.dbapi_connection
    if connection is None:
        raise RuntimeError("the migration has no connection")
    connection.execute(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8"))


def downgrade() -> None:
    """The views show what the tables held."""
    raise NotImplementedError("the schema reporting is never taken back")
