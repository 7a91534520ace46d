"""Alembic's entry: migrates over the connection that `reporting.database.migrate` hands in."""

from alembic import context

from reporting.database import SCHEMA

context.configure(
    connection=context.config.attributes["connection"],
    version_table="alembic_version",
    version_table_schema=SCHEMA,
    include_schemas=True,
)
with context.begin_transaction():
    context.run_migrations()
