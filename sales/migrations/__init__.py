"""Alembic's environment for the schema `sales`; run through `sales.database.migrate`."""
