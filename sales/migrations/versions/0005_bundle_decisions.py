"""What is decided of a bundle as a whole.

Revision: 0005
"""

from pathlib import Path

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Runs the SQL beside this file."""
    connection = op.get_bind().connection.dbapi_connection
    if connection is None:
        raise RuntimeError("the migration has no connection")
    connection.execute(Path(__file__).with_suffix(".sql").read_text())


def downgrade() -> None:
    """Never."""
    raise NotImplementedError("books are restored from a backup, never migrated back")
