"""The first version of the schema `reporting`; the SQL is beside this file."""

from pathlib import Path

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes every table. The driver runs the whole file at once, as SQLAlchemy would not."""
    connection = op.get_bind().connection.dbapi_connection
    if connection is None:
        raise RuntimeError("the migration has no connection")
    connection.execute(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8"))


def downgrade() -> None:
    """Reports can be made again from the ledger only while its log is whole, so nothing is ever dropped."""
    raise NotImplementedError("the schema reporting is never taken back")
